//! One function an op, on dense f32. Shapes were inferred when the graph was built, so a misfit here is a bug and panics.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

use crate::op::{Binary, FakeQuant, Granularity, Rope, Unary, Visible};
use crate::tensor::Tensor;

/// The floats of a tensor that inference made f32.
pub(super) fn f32s(x: &Tensor) -> &[f32] {
    x.as_f32().expect("inference made it f32")
}

/// `out = a · b` with `a[m, k]`, and `b[k, n]` or, transposed, `b[n, k]`.
fn gemm(a: &[f32], b: &[f32], b_transposed: bool, [m, k, n]: [usize; 3], out: &mut [f32]) {
    let a = ArrayView2::from_shape((m, k), a).expect("m·k floats");
    let mut out = ArrayViewMut2::from_shape((m, n), out).expect("m·n floats");
    match b_transposed {
        false => general_mat_mul(1.0, &a, &ArrayView2::from_shape((k, n), b).expect("k·n floats"), 0.0, &mut out),
        true => general_mat_mul(1.0, &a, &ArrayView2::from_shape((n, k), b).expect("n·k floats").t(), 0.0, &mut out),
    }
}

pub(super) fn matmul(a: &Tensor, b: &Tensor) -> Tensor {
    let ([a_lead @ .., m, k], [b_lead @ .., _, n]) = (a.shape(), b.shape()) else {
        unreachable!("inference made both of rank 2 or more")
    };
    let (m, k, n) = (*m, *k, *n);
    let lead = broadcast_shape(a_lead, b_lead);
    let (a_at, b_at) = (Strided::new(a_lead, &lead), Strided::new(b_lead, &lead));
    let mut out = vec![0.0; lead.iter().product::<usize>() * m * n];
    for (i, out) in out.chunks_mut((m * n).max(1)).enumerate() {
        let (a_i, b_i) = (a_at.offset(i, &lead), b_at.offset(i, &lead));
        gemm(&f32s(a)[a_i * m * k..][..m * k], &f32s(b)[b_i * k * n..][..k * n], false, [m, k, n], out);
    }
    Tensor::f32([&lead[..], &[m, n]].concat(), out)
}

pub(super) fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let (n, k) = (w.shape()[0], w.shape()[1]);
    let m = x.shape().iter().rev().skip(1).product();
    let mut out = vec![0.0; m * n];
    gemm(f32s(x), f32s(w), true, [m, k, n], &mut out);
    if let Some(bias) = bias {
        for row in out.chunks_mut(n.max(1)) {
            row.iter_mut().zip(f32s(bias)).for_each(|(x, b)| *x += b);
        }
    }
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("inference made x of rank 1 or more") = n;
    Tensor::f32(shape, out)
}

pub(super) fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Tensor {
    let f = |x: f32, y: f32| match op {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
    };
    let shape = broadcast_shape(a.shape(), b.shape());
    let (xs, ys) = (f32s(a), f32s(b));
    let out = if a.shape() == b.shape() {
        xs.iter().zip(ys).map(|(x, y)| f(*x, *y)).collect()
    } else {
        let at = [Strided::new(a.shape(), &shape), Strided::new(b.shape(), &shape)];
        let mut out = Vec::with_capacity(shape.iter().product());
        each_row(&shape, [&at[0], &at[1]], |[a, b], width| match [at[0].last(), at[1].last()] {
            [1, 1] => out.extend(xs[a..a + width].iter().zip(&ys[b..]).map(|(x, y)| f(*x, *y))),
            [1, 0] => out.extend(xs[a..a + width].iter().map(|x| f(*x, ys[b]))),
            [s, t] => out.extend((0..width).map(|i| f(xs[a + i * s], ys[b + i * t]))),
        });
        out
    };
    Tensor::f32(shape, out)
}

pub(super) fn unary(op: Unary, x: &Tensor) -> Tensor {
    let f = |x: f32| match op {
        Unary::Relu => x.max(0.0),
        Unary::Tanh => x.tanh(),
        Unary::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => {
            const SQRT_2_OVER_PI: f32 = 0.797_884_6;
            0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh())
        }
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    };
    Tensor::f32(x.shape(), f32s(x).iter().map(|x| f(*x)).collect())
}

pub(super) fn softmax(x: &Tensor) -> Tensor {
    let mut out = f32s(x).to_vec();
    let width = x.shape().last().copied().unwrap_or(1).max(1);
    out.chunks_mut(width).for_each(softmax_row);
    Tensor::f32(x.shape(), out)
}

pub(super) fn softmax_row(row: &mut [f32]) {
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
        *x = (*x - max).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

pub(super) fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Tensor {
    let mut out = f32s(x).to_vec();
    rms_norm_rows(&mut out, f32s(w), eps);
    Tensor::f32(x.shape(), out)
}

pub(super) fn rms_norm_rows(rows: &mut [f32], w: &[f32], eps: f32) {
    for row in rows.chunks_mut(w.len().max(1)) {
        // In f64: the sum of a wide row would lose the bits that it is compared by.
        let mean = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / w.len() as f64;
        let scale = 1.0 / (mean as f32 + eps).sqrt();
        row.iter_mut().zip(w).for_each(|(x, w)| *x = *x * scale * w);
    }
}

pub(super) fn layer_norm(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, eps: f32) -> Tensor {
    let mut out = f32s(x).to_vec();
    layer_norm_rows(&mut out, f32s(w), bias.map(f32s), eps);
    Tensor::f32(x.shape(), out)
}

pub(super) fn layer_norm_rows(rows: &mut [f32], w: &[f32], bias: Option<&[f32]>, eps: f32) {
    for row in rows.chunks_mut(w.len().max(1)) {
        normalize(row, eps);
        row.iter_mut().zip(w).for_each(|(x, w)| *x *= w);
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    }
}

pub(super) fn group_norm(x: &Tensor, w: &Tensor, bias: &Tensor, groups: usize, eps: f32) -> Tensor {
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

/// `(x - mean) / sqrt(var + eps)`, with the sums in f64: those of a wide row would lose the bits that it is compared by.
fn normalize(row: &mut [f32], eps: f32) {
    let n = row.len() as f64;
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    row.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) * scale) as f32);
}

/// As a product of matrices: the windows of the input, side by side, times the kernel.
pub(super) fn conv(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, stride: usize, pad: usize) -> Option<Tensor> {
    let ([batch, channels, n], [outputs, _, k]) = (x.shape(), w.shape()) else {
        unreachable!("inference made both of rank 3")
    };
    let windows = (n + 2 * pad).checked_sub(*k)? / stride + 1;
    let mut out = vec![0.0; batch * outputs * windows];
    let mut side_by_side = vec![0.0; windows * channels * k];
    for (x, out) in f32s(x).chunks((channels * n).max(1)).zip(out.chunks_mut((outputs * windows).max(1))) {
        for (i, cell) in side_by_side.iter_mut().enumerate() {
            let (window, channel, place) = (i / (channels * k), i / k % channels, i % k);
            let at = (window * stride + place).checked_sub(pad).filter(|at| at < n);
            *cell = at.map_or(0.0, |at| x[channel * n + at]);
        }
        gemm(f32s(w), &side_by_side, true, [*outputs, channels * k, windows], out);
        if let Some(bias) = bias {
            for (row, b) in out.chunks_mut(windows).zip(f32s(bias)) {
                row.iter_mut().for_each(|x| *x += b);
            }
        }
    }
    Some(Tensor::f32([*batch, *outputs, windows], out))
}

pub(super) fn rope(x: &Tensor, positions: &Tensor, rope: &Rope) -> Tensor {
    let width = x.shape()[3];
    let frequencies = rope.frequencies();
    let positions = positions.as_i64().expect("inference made it i64");
    // Angles are rounded to f32 before their sine is taken, as in the reference.
    let turns: Vec<Vec<(f32, f32)>> =
        positions.iter().map(|p| frequencies.iter().map(|f| (*p as f32 * f).sin_cos()).collect()).collect();
    let mut out = f32s(x).to_vec();
    for (i, head) in out.chunks_mut(width.max(1)).enumerate() {
        for (pair, (sin, cos)) in turns[i % positions.len()].iter().enumerate() {
            let [a, b] = rope.pair(pair);
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
        }
    }
    Tensor::f32(x.shape(), out)
}

pub(super) fn select(choice: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = broadcast_shape(&broadcast_shape(choice.shape(), a.shape()), b.shape());
    let choices = choice.as_i64().expect("inference made it i64");
    let [at, a_at, b_at] = [choice, a, b].map(|x| Strided::new(x.shape(), &shape));
    let (xs, ys) = (f32s(a), f32s(b));
    let mut out = Vec::with_capacity(shape.iter().product());
    each_row(&shape, [&at, &a_at, &b_at], |[c, a, b], width| {
        out.extend((0..width).map(|i| match choices[c + i * at.last()] {
            0 => ys[b + i * b_at.last()],
            _ => xs[a + i * a_at.last()],
        }));
    });
    Tensor::f32(shape, out)
}

pub(super) fn positions(start: usize, len: usize) -> Tensor {
    Tensor::i64([len], (0..len).map(|i| (start + i) as i64).collect())
}

/// The elements of `x` at the places that strides lead to, under another shape.
fn picked(x: &Tensor, shape: Vec<usize>, at: &Strided) -> Tensor {
    match x.as_f32() {
        Some(xs) => Tensor::f32(&shape[..], gathered(xs, &shape, at)),
        None => Tensor::i64(&shape[..], gathered(x.as_i64().expect("a tensor is f32 or i64"), &shape, at)),
    }
}

fn gathered<T: Copy>(xs: &[T], shape: &[usize], at: &Strided) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    each_row(shape, [at], |[from], width| match at.last() {
        1 => out.extend_from_slice(&xs[from..from + width]),
        step => out.extend((0..width).map(|i| xs[from + i * step])),
    });
    out
}

pub(super) fn broadcast(x: &Tensor, to: Vec<usize>) -> Tensor {
    let at = Strided::new(x.shape(), &to);
    picked(x, to, &at)
}

/// `None`: the places reach past the end.
pub(super) fn slice(x: &Tensor, axis: usize, start: usize, step: usize, len: usize) -> Option<Tensor> {
    let n = x.shape()[axis];
    if len > 0 && start + (len - 1) * step >= n {
        return None;
    }
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let mut shape = x.shape().to_vec();
    shape[axis] = len;
    let outer = x.shape()[..axis].iter().product();
    Some(match x.as_f32() {
        Some(xs) => Tensor::f32(shape, sliced(xs, [outer, n, inner], start, step, len)),
        None => {
            Tensor::i64(shape, sliced(x.as_i64().expect("a tensor is f32 or i64"), [outer, n, inner], start, step, len))
        }
    })
}

fn sliced<T: Copy>(xs: &[T], [outer, n, inner]: [usize; 3], start: usize, step: usize, len: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(outer * len * inner);
    for i in 0..outer {
        for place in 0..len {
            out.extend_from_slice(&xs[(i * n + start + place * step) * inner..][..inner]);
        }
    }
    out
}

pub(super) fn transpose(x: &Tensor, perm: &[usize]) -> Tensor {
    let shape: Vec<usize> = perm.iter().map(|&i| x.shape()[i]).collect();
    let mut strides = vec![1; perm.len()];
    for i in (0..perm.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * x.shape()[i + 1];
    }
    picked(x, shape, &Strided(perm.iter().map(|&i| strides[i]).collect()))
}

pub(super) fn concat(args: &[Tensor], axis: usize) -> Tensor {
    let mut shape = args[0].shape().to_vec();
    shape[axis] = args.iter().map(|x| x.shape()[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let run = |x: &Tensor| x.shape()[axis..].iter().product::<usize>();
    if args[0].as_f32().is_some() {
        let mut out = Vec::with_capacity(shape.iter().product());
        for i in 0..outer {
            args.iter().for_each(|x| out.extend_from_slice(&f32s(x)[i * run(x)..(i + 1) * run(x)]));
        }
        Tensor::f32(shape, out)
    } else {
        let mut out = Vec::with_capacity(shape.iter().product());
        for i in 0..outer {
            for x in args {
                out.extend_from_slice(&x.as_i64().expect("inference made all i64")[i * run(x)..(i + 1) * run(x)]);
            }
        }
        Tensor::i64(shape, out)
    }
}

pub(super) fn mask(visible: Visible, start: usize, q: usize, k: usize, hidden: f32) -> Tensor {
    let cell = |i: usize| if visible.sees(start + i / k, i % k) { 0.0 } else { hidden };
    Tensor::f32([q, k], (0..q * k).map(cell).collect())
}

pub(super) fn padding_mask(mask: &Tensor, hidden: f32) -> Tensor {
    let cells = mask.as_i64().expect("inference made it i64").iter();
    let out = cells.map(|m| if *m != 0 { 0.0 } else { hidden }).collect();
    Tensor::f32([mask.shape()[0], 1, 1, mask.shape()[1]], out)
}

/// The row of T5's bias table for a distance `key - query` (`_relative_position_bucket`, modeling_t5.py).
///
/// Half of the buckets (of each direction's share) are exact distances, the others grow logarithmically up to
/// `max_distance`, all in f32 as in the original, because a bucket's edge may fall on a whole number.
pub fn relative_bucket(distance: i64, buckets: usize, max_distance: usize, bidirectional: bool) -> usize {
    let (buckets, offset, distance) = match bidirectional {
        true => (buckets / 2, if distance > 0 { buckets / 2 } else { 0 }, distance.unsigned_abs() as usize),
        false => (buckets, 0, usize::try_from(-distance).unwrap_or(0)),
    };
    let max_exact = buckets / 2;
    if distance < max_exact {
        return offset + distance;
    }
    let ratio = (distance as f32 / max_exact as f32).ln() / (max_distance as f64 / max_exact as f64).ln() as f32;
    let large = max_exact + (ratio * (buckets - max_exact) as f32) as usize;
    offset + large.min(buckets - 1)
}

pub(super) fn relative_bias(table: &Tensor, start: usize, q: usize, k: usize, bucket: impl Fn(i64) -> usize) -> Tensor {
    let (heads, floats) = (table.shape()[1], f32s(table));
    let mut out = vec![0.0; heads * q * k];
    for query in 0..q {
        for key in 0..k {
            let row = bucket(key as i64 - (start + query) as i64) * heads;
            for head in 0..heads {
                out[(head * q + query) * k + key] = floats[row + head];
            }
        }
    }
    Tensor::f32([1, heads, q, k], out)
}

pub(super) fn dynamic_quant(granularity: Granularity, x: &Tensor) -> Tensor {
    let mut out = f32s(x).to_vec();
    match granularity {
        Granularity::Tensor => {
            let (low, high) = out.iter().fold((0.0f32, 0.0f32), |(low, high), x| (low.min(*x), high.max(*x)));
            let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
            let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
            for x in &mut out {
                *x = (((*x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero) * scale;
            }
        }
        Granularity::Token => {
            let width = x.shape().last().copied().unwrap_or(1).max(1);
            for row in out.chunks_mut(width) {
                let max = row.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                // compressed-tensors divides by half of the range -128..127.
                let scale = if max == 0.0 { f32::EPSILON } else { max / 127.5 };
                row.iter_mut().for_each(|x| *x = (*x / scale).round_ties_even().clamp(-128.0, 127.0) * scale);
            }
        }
        Granularity::Block(block) => {
            let width = x.shape().last().copied().unwrap_or(1).max(1);
            for block in out.chunks_mut(width).flat_map(|row| row.chunks_mut(block)) {
                let max = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                // MLAS multiplies by the inverse, which is rounded once more than a quotient (`QuantizeARow_CompInt8`).
                let (scale, inverse) = (max / 127.0, if max == 0.0 { 0.0 } else { 127.0 / max });
                block.iter_mut().for_each(|x| *x = (*x * inverse).round_ties_even().clamp(-128.0, 127.0) * scale);
            }
        }
    }
    Tensor::f32(x.shape(), out)
}

pub(super) fn fake_quant(steps: &FakeQuant, x: &Tensor) -> Tensor {
    Tensor::f32(x.shape(), f32s(x).iter().map(|x| steps.apply(*x)).collect())
}

pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    scale: f32,
    softcap: Option<f32>,
) -> Tensor {
    let [batch, heads, queries, width] = *q.shape() else { unreachable!("inference made q of rank 4") };
    let [_, groups, keys, value_width] = *v.shape() else { unreachable!("inference made v of rank 4") };
    let scores_shape = [batch, heads, queries, keys];
    let bias_at = bias.map(|bias| (f32s(bias), Strided::new(bias.shape(), &scores_shape)));
    let mut out = vec![0.0; batch * heads * queries * value_width];
    let mut scores = vec![0.0; queries * keys];
    for (i, out) in out.chunks_mut((queries * value_width).max(1)).enumerate() {
        let (b, h) = (i / heads, i % heads);
        // Neighbouring query heads share a key head.
        let group = b * groups + h * groups / heads;
        let q = &f32s(q)[i * queries * width..][..queries * width];
        let k = &f32s(k)[group * keys * width..][..keys * width];
        let v = &f32s(v)[group * keys * value_width..][..keys * value_width];
        gemm(q, k, true, [queries, width, keys], &mut scores);
        for (j, score) in scores.iter_mut().enumerate() {
            *score *= scale;
            if let Some(cap) = softcap {
                *score = (*score / cap).tanh() * cap;
            }
            if let Some((bias, at)) = &bias_at {
                *score += bias[at.offset(i * queries * keys + j, &scores_shape)];
            }
        }
        scores.chunks_mut(keys.max(1)).for_each(softmax_row);
        gemm(&scores, v, false, [queries, keys, value_width], out);
    }
    Tensor::f32([batch, heads, queries, value_width], out)
}

pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let axis = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (1, n) | (n, _) => n,
        })
        .collect()
}

/// `each(offsets, width)` for every row of the last axis of `shape`, first to last: where it begins in each of some tensors
/// that are seen under that shape. A shape without axes is one row of one.
fn each_row<const N: usize>(shape: &[usize], at: [&Strided; N], mut each: impl FnMut([usize; N], usize)) {
    let (outer, width) = match shape {
        [outer @ .., width] => (outer, *width),
        [] => (&[][..], 1),
    };
    let rows: usize = outer.iter().product();
    let (mut index, mut offsets) = (vec![0; outer.len()], [0; N]);
    for _ in 0..rows {
        each(offsets, width);
        // The next row, axes to the right first.
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            for (offset, at) in offsets.iter_mut().zip(at) {
                *offset += at.0[axis];
            }
            if index[axis] < outer[axis] {
                break;
            }
            for (offset, at) in offsets.iter_mut().zip(at) {
                *offset -= outer[axis] * at.0[axis];
            }
            index[axis] = 0;
        }
    }
}

/// Element strides of a tensor seen under a broadcast shape; a stretched axis has stride 0.
pub(super) struct Strided(Vec<usize>);

impl Strided {
    pub(super) fn new(shape: &[usize], to: &[usize]) -> Strided {
        let mut strides = vec![0; to.len()];
        let mut stride = 1;
        for (i, length) in shape.iter().enumerate().rev() {
            let axis = i + to.len() - shape.len();
            if *length != 1 {
                strides[axis] = stride;
            }
            stride *= length;
        }
        Strided(strides)
    }

    /// The stride of the last axis.
    pub(super) fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// Offset of the element that stands at flat index `i` of the broadcast shape `to`.
    pub(super) fn offset(&self, mut i: usize, to: &[usize]) -> usize {
        let mut offset = 0;
        for (length, stride) in to.iter().zip(&self.0).rev() {
            offset += i % length * stride;
            i /= length;
        }
        offset
    }
}
