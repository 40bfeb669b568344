//! Products of matrices.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::strided::{Strided, broadcast_shape, f32s};
use crate::arithmetic::product;
use crate::eval::tensor::Tensor;

/// `out = a · b` with `a[m, k]`, and `b[k, n]` or, transposed, `b[n, k]`.
pub(super) fn gemm(a: &[f32], b: &[f32], b_transposed: bool, [m, k, n]: [usize; 3], out: &mut [f32]) {
    let a = ArrayView2::from_shape((m, k), a).expect("m·k floats");
    let mut out = ArrayViewMut2::from_shape((m, n), out).expect("m·n floats");
    match b_transposed {
        false => product(1.0, &a, &ArrayView2::from_shape((k, n), b).expect("k·n floats"), 0.0, &mut out),
        true => product(1.0, &a, &ArrayView2::from_shape((n, k), b).expect("n·k floats").t(), 0.0, &mut out),
    }
}

pub(in crate::eval) fn matmul(a: &Tensor, b: &Tensor) -> Tensor {
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

pub(in crate::eval) fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
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

/// As a product of matrices: the windows of the input, side by side, times the kernel.
pub(in crate::eval) fn conv(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    pad: usize,
) -> Option<Tensor> {
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

/// The same along two axes, a group of channels at a time. Both kinds of kernels fill windows with it.
pub(in crate::eval) struct Windows {
    /// Of the kernel: channels of a group, then its two lengths.
    kernel: [usize; 3],
    input: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
    /// How many there are along each axis.
    count: [usize; 2],
}

impl Windows {
    /// Those of `w[o, c, k, l]` on the last two axes of `x[b, c, n, m]`, which inference has found to be long enough.
    pub(in crate::eval) fn new(x: &Tensor, w: &Tensor, stride: [usize; 2], pad: [usize; 2]) -> Windows {
        let ([_, _, n, m], [_, c, k, l]) = (x.shape(), w.shape()) else {
            unreachable!("inference made both of rank 4")
        };
        let count = |axis: usize, n: usize, k: usize| (n + 2 * pad[axis] - k) / stride[axis] + 1;
        Windows { kernel: [*c, *k, *l], input: [*n, *m], stride, pad, count: [count(0, *n, *k), count(1, *m, *l)] }
    }

    /// How many there are along each axis.
    pub(in crate::eval) fn count(&self) -> [usize; 2] {
        self.count
    }

    /// Numbers in one.
    pub(in crate::eval) fn depth(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Window number `window`, row by row, of the channels `x[c, n, m]` of a group.
    pub(in crate::eval) fn fill(&self, x: &[f32], window: usize, cells: &mut [f32]) {
        let ([_, k, l], [n, m]) = (self.kernel, self.input);
        let first = [window / self.count[1] * self.stride[0], window % self.count[1] * self.stride[1]];
        for (i, cell) in cells.iter_mut().enumerate() {
            let (channel, row, column) = (i / (k * l), i / l % k, i % l);
            let at = |axis: usize, place: usize, len: usize| {
                (first[axis] + place).checked_sub(self.pad[axis]).filter(|at| *at < len)
            };
            *cell = match (at(0, row, n), at(1, column, m)) {
                (Some(row), Some(column)) => x[(channel * n + row) * m + column],
                _ => 0.0,
            };
        }
    }
}

/// As products of matrices, one a group.
pub(in crate::eval) fn conv2d(x: &Tensor, w: &Tensor, stride: [usize; 2], pad: [usize; 2], groups: usize) -> Tensor {
    let windows = Windows::new(x, w, stride, pad);
    let ([rows, columns], depth) = (windows.count(), windows.depth());
    let (batch, outputs) = (x.shape()[0], w.shape()[0]);
    let (count, of_group) = (rows * columns, outputs / groups);
    let mut out = vec![0.0; batch * outputs * count];
    let mut side_by_side = vec![0.0; count * depth];
    let inputs = f32s(x).chunks((x.len() / (batch * groups).max(1)).max(1));
    for (i, (x, out)) in inputs.zip(out.chunks_mut((of_group * count).max(1))).enumerate() {
        for (window, cells) in side_by_side.chunks_mut(depth.max(1)).enumerate() {
            windows.fill(x, window, cells);
        }
        let w = &f32s(w)[i % groups * of_group * depth..][..of_group * depth];
        gemm(w, &side_by_side, true, [of_group, depth, count], out);
    }
    Tensor::f32([batch, outputs, rows, columns], out)
}
