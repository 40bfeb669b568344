//! What looks at a whole row: softmax and norms.

use super::strided::f32s;
use crate::arithmetic;
use crate::eval::tensor::Tensor;

pub(in crate::eval) fn softmax(x: &Tensor) -> Tensor {
    let mut out = f32s(x).to_vec();
    let width = x.shape().last().copied().unwrap_or(1).max(1);
    out.chunks_mut(width).for_each(softmax_row);
    Tensor::f32(x.shape(), out)
}

pub(in crate::eval) fn softmax_row(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        // Nothing is visible; a NaN is no -inf and stays below.
        if row.iter().all(|x| !x.is_nan()) {
            row.fill(0.0);
        }
        return;
    }
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = arithmetic::exp(*x - max);
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

pub(in crate::eval) fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Tensor {
    let mut out = f32s(x).to_vec();
    rms_norm_rows(&mut out, f32s(w), eps);
    Tensor::f32(x.shape(), out)
}

pub(in crate::eval) fn rms_norm_rows(rows: &mut [f32], w: &[f32], eps: f32) {
    for row in rows.chunks_mut(w.len().max(1)) {
        // In f64: the sum of a wide row would lose the bits that it is compared by.
        let mean = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / w.len() as f64;
        let scale = 1.0 / (mean as f32 + eps).sqrt();
        row.iter_mut().zip(w).for_each(|(x, w)| *x = *x * scale * w);
    }
}

pub(in crate::eval) fn layer_norm(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, eps: f32) -> Tensor {
    let mut out = f32s(x).to_vec();
    layer_norm_rows(&mut out, f32s(w), bias.map(f32s), eps);
    Tensor::f32(x.shape(), out)
}

pub(in crate::eval) fn layer_norm_rows(rows: &mut [f32], w: &[f32], bias: Option<&[f32]>, eps: f32) {
    for row in rows.chunks_mut(w.len().max(1)) {
        normalize(row, eps);
        row.iter_mut().zip(w).for_each(|(x, w)| *x *= w);
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    }
}

pub(in crate::eval) fn group_norm(x: &Tensor, w: &Tensor, bias: &Tensor, groups: usize, eps: f32) -> Tensor {
    let channels = x.shape()[1];
    let places: usize = x.shape()[2..].iter().product();
    let mut out = f32s(x).to_vec();
    out.chunks_mut((channels / groups * places).max(1)).for_each(|group| normalize(group, eps));
    for (i, channel) in out.chunks_mut(places.max(1)).enumerate() {
        let (w, b) = (f32s(w)[i % channels], f32s(bias)[i % channels]);
        channel.iter_mut().for_each(|x| *x = *x * w + b);
    }
    Tensor::f32(x.shape(), out)
}

/// The sums are in f64, as those of norms.
pub(in crate::eval) fn mean(x: &Tensor, axis: usize) -> Tensor {
    let (places, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
    let mut out = Vec::with_capacity(x.len() / places.max(1));
    for block in f32s(x).chunks((places * inner).max(1)) {
        let column = |i: usize| block[i..].iter().step_by(inner).map(|x| f64::from(*x)).sum::<f64>();
        out.extend((0..inner).map(|i| (column(i) / places as f64) as f32));
    }
    let mut shape = x.shape().to_vec();
    shape[axis] = 1;
    Tensor::f32(shape, out)
}

/// `(x - mean) / sqrt(var + eps)`, with the sums in f64: those of a wide row would lose the bits that it is compared by.
fn normalize(row: &mut [f32], eps: f32) {
    let n = row.len() as f64;
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    row.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) * scale) as f32);
}
