//! The same ops for long work: weights packed once for the processor's widest product, rows and heads shared by threads.
//!
//! Every result is a sum in one fixed order, whatever the number of threads and whichever way a weight is held: a column of
//! a product is the work of one task, and its terms are added from the first to the last by [`rten_gemm`]'s kernel. That
//! order is not the interpreter's, so the two agree within the noise of f32 and not bit for bit.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::SimdUnaryOp;
use rten_tensor::{Layout, Matrix, NdTensorView};

use super::kernels::linear::Windows;
use super::kernels::norm::{layer_norm_rows, rms_norm_rows, softmax_row};
use super::kernels::strided::{Strided, broadcast_shape, f32s};
use super::math;
use super::tensor::Tensor;
use crate::arithmetic::{PORTABLE, is_portable};
use crate::ir::op::{Op, Unary};
use crate::weights::{Weight, WeightError};

/// Columns of a product that are one task: a multiple of every kernel's tile, and so few that rten-gemm does not cut them
/// itself, by a rule that looks at the number of threads.
const SLAB: usize = 128;

/// Rows that one call of rten-gemm gets, which is its own block: more would be shared out by it among threads.
const ROWS: usize = 64;

/// Numbers of a narrow weight that are widened at a time, so that they are still in the core's cache when they are packed.
const WIDENED: usize = 1 << 16;

/// Products below which waking another thread costs more than it saves: a tenth of a millisecond of one thread. A neighbour
/// that keeps the other core busy makes the wake-up longer than that.
const WORTH_SPLITTING: usize = 1 << 20;

/// Numbers of an elementwise op that are one task.
const PIECE: usize = 1 << 14;

thread_local! {
    /// Of each thread, because it may not be sent to another; all take the same kernel.
    static GEMM: GemmExecutor = GemmExecutor::default();
    /// Widened rows of a narrow weight on their way into panels.
    static UNPACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The matrix kernels of this processor: of the prepared kernels, by which values are computed, and of `matrixmultiply` 0.3
/// (its `sgemm_kernel.rs`), by which their moments are. Sums of products are rounded in another order, or fused, by another
/// one, so that what follows from them may differ in its last bits.
///
/// [`PORTABLE`] while arithmetic is the same on every processor.
pub fn kernel() -> String {
    if is_portable() {
        return PORTABLE.to_owned();
    }
    format!("rten-gemm {}, matrixmultiply {}", kernel_name(), matrixmultiply())
}

fn matrixmultiply() -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512f";
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            return "fma avx2";
        }
        if is_x86_feature_detected!("avx") {
            return "avx";
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return "neon";
    }
    "without vectors"
}

/// The kernel that [`rten_gemm`] takes on this processor.
fn kernel_name() -> String {
    GEMM.with(|gemm| gemm.kernel_name().to_owned())
}

fn packed(b: Matrix<f32>) -> PackedBMatrix<f32> {
    GEMM.with(|gemm| gemm.prepack_b(b))
}

/// A weight of a Linear as the kernel reads it: `wᵀ[k, n]`, [`SLAB`] columns a panel.
pub(super) struct Panels(Vec<PackedBMatrix<f32>>);

impl Panels {
    /// Errors: the weight cannot be read.
    pub(super) fn pack(weight: &Weight) -> Result<Panels, WeightError> {
        let [n, _] = weight.matrix();
        slabs(n, SLAB).map(|columns| packed_rows(weight, columns)).collect::<Result<_, _>>().map(Panels)
    }

    fn slab(&self, columns: &Range<usize>) -> &PackedBMatrix<f32> {
        &self.0[columns.start / SLAB]
    }
}

/// Where a Linear finds its weight.
pub(super) enum Matrices<'g> {
    /// Packed and held.
    Panels(Arc<Panels>),
    /// Held as it is stored, and widened at each use.
    Stored(Arc<Weight>),
    /// Read at each use.
    Unheld(&'g Weight),
}

/// An op that has a kernel of its own here; `None` for one that is the interpreter's, and `Some(None)` where its input is too
/// short for it.
pub(super) fn op(op: &Op, args: &[Tensor], split: bool) -> Option<Option<Tensor>> {
    let x = || &args[0];
    let weight = |arg: &Tensor| f32s(arg).len();
    Some(Some(match op {
        Op::MatMul => matmul(x(), &args[1], split),
        Op::Attention { scale, softcap } => attention([x(), &args[1], &args[2]], args.get(3), *scale, *softcap, split),
        Op::Conv { stride, pad, .. } => return Some(conv(x(), &args[1], args.get(2), *stride, *pad, split)),
        Op::Conv2d { stride, pad, groups } => conv2d(x(), &args[1], *stride, *pad, *groups, split),
        Op::Softmax => softmax(x(), split),
        Op::Unary(op) => unary(*op, x(), split),
        Op::RmsNorm { eps } if weight(&args[1]) > 0 => {
            by_rows(x(), split, |rows| rms_norm_rows(rows, f32s(&args[1]), *eps))
        }
        Op::LayerNorm { eps } if weight(&args[1]) > 0 => {
            by_rows(x(), split, |rows| layer_norm_rows(rows, f32s(&args[1]), args.get(2).map(f32s), *eps))
        }
        // A Linear here has no weight but a value; what only moves numbers or makes few of them is not worth a second kernel.
        Op::Linear
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::GroupNorm { .. }
        | Op::Mean { .. }
        | Op::Embed
        | Op::Binary(_)
        | Op::Broadcast(_)
        | Op::Slice { .. }
        | Op::Select
        | Op::Positions { .. }
        | Op::Rope(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Concat { .. }
        | Op::Mask { .. }
        | Op::PaddingMask { .. }
        | Op::RelativeBias { .. }
        | Op::DynamicQuant(_)
        | Op::FakeQuant(_) => return None,
    }))
}

fn slabs(n: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(width).map(move |from| from..n.min(from + width))
}

/// Rows of a weight as columns of a product.
fn packed_rows(weight: &Weight, rows: Range<usize>) -> Result<PackedBMatrix<f32>, WeightError> {
    let ([_, k], count) = (weight.matrix(), rows.len());
    UNPACKED.with_borrow_mut(|floats| {
        weight.rows(rows, floats)?;
        Ok(packed(NdTensorView::from_data([count, k], &floats[..]).transposed()))
    })
}

/// `out[m, n] = a[m, k] · b[k, n]`, for `n` up to [`SLAB`] and `k` above 0.
fn product(a: &[f32], k: usize, b: GemmInputB<'_, f32>, n: usize, out: &mut [f32]) {
    GEMM.with(|gemm| {
        for (a, out) in a.chunks(ROWS * k).zip(out.chunks_mut(ROWS * n)) {
            let a = GemmInputA::Unpacked(NdTensorView::from_data([a.len() / k, k], a));
            gemm.gemm(out, a, b, GemmOptions::default()).expect("rows, columns and depth agree");
        }
    });
}

/// `f32[m, n]` from tasks that make some of its columns each: `piece(columns, f32[m, columns])`.
fn by_columns<E: Send>(
    [m, n]: [usize; 2],
    width: usize,
    split: bool,
    piece: impl Fn(Range<usize>, &mut [f32]) -> Result<(), E> + Sync,
) -> Result<Vec<f32>, E> {
    let mut out = vec![0.0; m * n];
    if out.is_empty() {
        return Ok(out);
    }
    let columns = |i: usize| i * width..n.min((i + 1) * width);
    if m == 1 {
        match split {
            false => out.chunks_mut(width).enumerate().try_for_each(|(i, out)| piece(columns(i), out))?,
            true => out.par_chunks_mut(width).enumerate().try_for_each(|(i, out)| piece(columns(i), out))?,
        }
        return Ok(out);
    }
    let mut place = |columns: Range<usize>, found: &[f32]| {
        for (out, found) in out.chunks_mut(n).zip(found.chunks(columns.len())) {
            out[columns.clone()].copy_from_slice(found);
        }
    };
    if split {
        let task = |i: usize| {
            let mut found = vec![0.0; m * columns(i).len()];
            piece(columns(i), &mut found).map(|()| found)
        };
        let found: Vec<Vec<f32>> = (0..n.div_ceil(width)).into_par_iter().map(task).collect::<Result<_, E>>()?;
        found.iter().enumerate().for_each(|(i, found)| place(columns(i), found));
    } else {
        let mut found = vec![0.0; m * width.min(n)];
        for columns in slabs(n, width) {
            let found = &mut found[..m * columns.len()];
            piece(columns.clone(), found)?;
            place(columns, found);
        }
    }
    Ok(out)
}

/// Errors: the weight cannot be read.
pub(super) fn linear(
    x: &Tensor,
    n: usize,
    w: &Matrices,
    bias: Option<&Tensor>,
    split: bool,
) -> Result<Tensor, WeightError> {
    let k = x.shape().last().copied().expect("inference made x of rank 1 or more");
    let (xs, mut shape) = (f32s(x), x.shape().to_vec());
    *shape.last_mut().expect("just read") = n;
    let m = shape.iter().rev().skip(1).product::<usize>();
    let split = split && m * n * k >= WORTH_SPLITTING;
    let widening = |weight: &Weight, columns: Range<usize>, out: &mut [f32]| {
        let width = columns.len();
        let packed = packed_rows(weight, columns)?;
        product(xs, k, GemmInputB::Packed(&packed), width, out);
        Ok(())
    };
    let narrow = (WIDENED / k.max(1) / 32 * 32).clamp(32, SLAB);
    let mut out = match w {
        // Sums of nothing.
        _ if k == 0 => vec![0.0; m * n],
        Matrices::Panels(panels) => by_columns([m, n], SLAB, split, |columns, out: &mut [f32]| {
            product(xs, k, GemmInputB::Packed(panels.slab(&columns)), columns.len(), out);
            Ok::<(), WeightError>(())
        })?,
        Matrices::Stored(weight) => {
            by_columns([m, n], narrow, split, |columns, out: &mut [f32]| widening(weight, columns, out))?
        }
        Matrices::Unheld(weight) => {
            by_columns([m, n], narrow, split, |columns, out: &mut [f32]| widening(weight, columns, out))?
        }
    };
    if let Some(bias) = bias {
        for row in out.chunks_mut(n.max(1)) {
            row.iter_mut().zip(f32s(bias)).for_each(|(x, b)| *x += b);
        }
    }
    Ok(Tensor::f32(shape, out))
}

/// The right side of many products: `b[k, n]`, packed when more than one row reads it.
enum Right<'a> {
    Packed(Vec<PackedBMatrix<f32>>, usize),
    Read(Matrix<'a, f32>),
}

impl<'a> Right<'a> {
    fn new(b: Matrix<'a, f32>, rows: usize) -> Right<'a> {
        match rows {
            // Sums of nothing have no panels.
            _ if b.is_empty() => Right::Read(b),
            0 | 1 => Right::Read(b),
            _ => {
                Right::Packed(slabs(b.size(1), SLAB).map(|columns| packed(b.slice((.., columns)))).collect(), b.size(1))
            }
        }
    }

    /// `out[m, n] = a[m, k] · b`.
    fn product(&self, a: &[f32], k: usize, out: &mut [f32]) {
        match self {
            _ if out.is_empty() => {}
            _ if k == 0 => out.fill(0.0),
            Right::Read(b) => {
                for (columns, out) in slabs(b.size(1), SLAB).zip(out.chunks_mut(SLAB)) {
                    product(a, k, GemmInputB::Unpacked(b.slice((.., columns.clone()))), columns.len(), out);
                }
            }
            Right::Packed(slab, n) if *n <= SLAB => product(a, k, GemmInputB::Packed(&slab[0]), *n, out),
            Right::Packed(packed, n) => {
                let m = a.len() / k;
                let mut found = vec![0.0; m * SLAB];
                for (columns, slab) in slabs(*n, SLAB).zip(packed) {
                    let found = &mut found[..m * columns.len()];
                    product(a, k, GemmInputB::Packed(slab), columns.len(), found);
                    for (out, found) in out.chunks_mut(*n).zip(found.chunks(columns.len())) {
                        out[columns.clone()].copy_from_slice(found);
                    }
                }
            }
        }
    }
}

/// `each(i, chunk)` for all chunks of `out`, side by side when `split` says so.
fn each_chunk(out: &mut [f32], len: usize, split: bool, each: impl Fn(usize, &mut [f32]) + Sync) {
    match split {
        false => out.chunks_mut(len.max(1)).enumerate().for_each(|(i, chunk)| each(i, chunk)),
        true => out.par_chunks_mut(len.max(1)).enumerate().for_each(|(i, chunk)| each(i, chunk)),
    }
}

pub(super) fn matmul(a: &Tensor, b: &Tensor, split: bool) -> Tensor {
    let ([a_lead @ .., m, k], [b_lead @ .., _, n]) = (a.shape(), b.shape()) else {
        unreachable!("inference made both of rank 2 or more")
    };
    let (m, k, n) = (*m, *k, *n);
    let lead = broadcast_shape(a_lead, b_lead);
    let (a_at, b_at) = (Strided::new(a_lead, &lead), Strided::new(b_lead, &lead));
    let mut out = vec![0.0; lead.iter().product::<usize>() * m * n];
    let split = split && out.len() * k >= WORTH_SPLITTING;
    each_chunk(&mut out, m * n, split, |i, out| {
        let a = &f32s(a)[a_at.offset(i, &lead) * m * k..][..m * k];
        let b = &f32s(b)[b_at.offset(i, &lead) * k * n..][..k * n];
        Right::new(NdTensorView::from_data([k, n], b), m).product(a, k, out);
    });
    Tensor::f32([&lead[..], &[m, n]].concat(), out)
}

/// As a product of matrices: the kernel times windows of the input, [`SLAB`] of them side by side at a time.
///
/// `None`: the kernel is longer than the input.
pub(super) fn conv(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    pad: usize,
    split: bool,
) -> Option<Tensor> {
    let ([batch, channels, n], [outputs, _, k]) = (x.shape(), w.shape()) else {
        unreachable!("inference made both of rank 3")
    };
    let windows = (n + 2 * pad).checked_sub(*k)? / stride + 1;
    let depth = channels * k;
    let split = split && outputs * windows * depth >= WORTH_SPLITTING;
    let mut out = Vec::with_capacity(batch * outputs * windows);
    for item in 0..*batch {
        let x = &f32s(x)[item * channels * n..][..channels * n];
        let of_windows = |which: Range<usize>, out: &mut [f32]| {
            let mut side_by_side = vec![0.0; which.len() * depth];
            for (window, cells) in which.clone().zip(side_by_side.chunks_mut(depth.max(1))) {
                let first = window * stride;
                // Places of the kernel that lie on the input.
                let on = pad.saturating_sub(first).min(*k)..(n + pad).saturating_sub(first).min(*k);
                for (cells, x) in cells.chunks_mut(*k).zip(x.chunks(*n)) {
                    if on.start < on.end {
                        cells[on.clone()].copy_from_slice(&x[first + on.start - pad..][..on.len()]);
                    }
                }
            }
            let right = NdTensorView::from_data([which.len(), depth], &side_by_side[..]).transposed();
            Right::new(right, *outputs).product(f32s(w), depth, out);
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(found) = by_columns([*outputs, windows], SLAB, split, of_windows);
        out.extend(found);
    }
    if let Some(bias) = bias {
        for (row, b) in out.chunks_mut(windows).zip(f32s(bias).iter().cycle()) {
            row.iter_mut().for_each(|x| *x += b);
        }
    }
    Some(Tensor::f32([*batch, *outputs, windows], out))
}

/// The same along two axes, a group of channels at a time.
pub(super) fn conv2d(
    x: &Tensor,
    w: &Tensor,
    stride: [usize; 2],
    pad: [usize; 2],
    groups: usize,
    split: bool,
) -> Tensor {
    let windows = Windows::new(x, w, stride, pad);
    let ([rows, columns], depth) = (windows.count(), windows.depth());
    let (batch, outputs) = (x.shape()[0], w.shape()[0]);
    let (count, of_group) = (rows * columns, outputs / groups);
    let split = split && of_group * count * depth >= WORTH_SPLITTING;
    let mut out = Vec::with_capacity(batch * outputs * count);
    for (i, x) in f32s(x).chunks((x.len() / (batch * groups).max(1)).max(1)).enumerate() {
        let w = &f32s(w)[i % groups * of_group * depth..][..of_group * depth];
        let of_windows = |which: Range<usize>, out: &mut [f32]| {
            let mut side_by_side = vec![0.0; which.len() * depth];
            for (window, cells) in which.clone().zip(side_by_side.chunks_mut(depth.max(1))) {
                windows.fill(x, window, cells);
            }
            let right = NdTensorView::from_data([which.len(), depth], &side_by_side[..]).transposed();
            Right::new(right, of_group).product(w, depth, out);
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(found) = by_columns([of_group, count], SLAB, split, of_windows);
        out.extend(found);
    }
    Tensor::f32([batch, outputs, rows, columns], out)
}

pub(super) fn attention(
    [q, k, v]: [&Tensor; 3],
    bias: Option<&Tensor>,
    scale: f32,
    softcap: Option<f32>,
    split: bool,
) -> Tensor {
    let [batch, heads, queries, width] = *q.shape() else { unreachable!("inference made q of rank 4") };
    let [_, groups, keys, value_width] = *v.shape() else { unreachable!("inference made v of rank 4") };
    let scores_shape = [batch, heads, queries, keys];
    let bias_at = bias.map(|bias| (f32s(bias), Strided::new(bias.shape(), &scores_shape)));
    let mut out = vec![0.0; batch * heads * queries * value_width];
    let split = split && out.len() * keys >= WORTH_SPLITTING;
    each_chunk(&mut out, queries * value_width, split, |i, out| {
        let (b, h) = (i / heads, i % heads);
        // Neighbouring query heads share a key head.
        let group = b * groups + h * groups / heads;
        let q = &f32s(q)[i * queries * width..][..queries * width];
        let k = &f32s(k)[group * keys * width..][..keys * width];
        let v = &f32s(v)[group * keys * value_width..][..keys * value_width];
        let k = Right::new(NdTensorView::from_data([keys, width], k).transposed(), queries);
        let v = Right::new(NdTensorView::from_data([keys, value_width], v), queries);
        let mut scores = vec![0.0; ROWS.min(queries) * keys];
        for from in (0..queries).step_by(ROWS) {
            let rows = from..queries.min(from + ROWS);
            let scores = &mut scores[..rows.len() * keys];
            k.product(&q[rows.start * width..rows.end * width], width, scores);
            for (query, row) in rows.clone().zip(scores.chunks_mut(keys.max(1))) {
                row.iter_mut().for_each(|score| *score *= scale);
                if let Some(cap) = softcap {
                    row.iter_mut().for_each(|score| *score /= cap);
                    rten_vecmath::Tanh::default().map_mut(row);
                    row.iter_mut().for_each(|score| *score *= cap);
                }
                if let Some((bias, at)) = &bias_at {
                    let first = at.offset((i * queries + query) * keys, &scores_shape);
                    match at.last() {
                        0 => row.iter_mut().for_each(|score| *score += bias[first]),
                        _ => row.iter_mut().zip(&bias[first..]).for_each(|(score, bias)| *score += bias),
                    }
                }
                soften(row);
            }
            v.product(scores, keys, &mut out[rows.start * value_width..rows.end * value_width]);
        }
    });
    Tensor::f32([batch, heads, queries, value_width], out)
}

pub(super) fn softmax(x: &Tensor, split: bool) -> Tensor {
    let mut out = f32s(x).to_vec();
    let width = x.shape().last().copied().unwrap_or(1).max(1);
    let piece = (PIECE / width).max(1) * width;
    let split = split && out.len() > piece;
    each_chunk(&mut out, piece, split, |_, rows| rows.chunks_mut(width).for_each(soften));
    Tensor::f32(x.shape(), out)
}

/// Softmax of a row, by vectors.
fn soften(row: &mut [f32]) {
    let max = math::max(row);
    if !max.is_finite() {
        return softmax_row(row);
    }
    row.iter_mut().for_each(|x| *x -= max);
    rten_vecmath::Exp::default().map_mut(row);
    let sum = math::sum(row);
    row.iter_mut().for_each(|x| *x /= sum);
}

pub(super) fn unary(op: Unary, x: &Tensor, split: bool) -> Tensor {
    let mut out = f32s(x).to_vec();
    let split = split && out.len() > PIECE;
    each_chunk(&mut out, PIECE, split, |_, piece| match op {
        Unary::Relu => piece.iter_mut().for_each(|x| *x = x.max(0.0)),
        Unary::Tanh => rten_vecmath::Tanh::default().map_mut(piece),
        Unary::Gelu => math::Gelu.map_mut(piece),
        Unary::GeluTanh => math::GeluTanh.map_mut(piece),
        Unary::Silu => math::Logistic { steep: 1.0, times_x: true }.map_mut(piece),
        Unary::Sigmoid => math::Logistic { steep: 1.0, times_x: false }.map_mut(piece),
        Unary::QuickGelu => math::Logistic { steep: 1.702, times_x: true }.map_mut(piece),
    });
    Tensor::f32(x.shape(), out)
}

/// Rows of a tensor, some at a time, through what the interpreter does to all of them.
pub(super) fn by_rows(x: &Tensor, split: bool, each: impl Fn(&mut [f32]) + Sync) -> Tensor {
    let mut out = f32s(x).to_vec();
    let width = x.shape().last().copied().unwrap_or(1).max(1);
    let piece = (PIECE / width).max(1) * width;
    let split = split && out.len() > piece;
    each_chunk(&mut out, piece, split, |_, rows| each(rows));
    Tensor::f32(x.shape(), out)
}
