//! The search behind the K types: of about twenty trial scales a sub-block, the one with the least weighted error.
//!
//! A sub-block's sums must run one weight after the other, so one sub-block cannot fill a vector. Eight can: lane j holds
//! sub-block j, every lane does exactly what ggml does to its sub-block, and a choice between two trials is a select.

use std::array::from_fn;

use half::f16;

/// Sub-blocks searched at once.
const LANES: usize = 8;

/// One number for each of the sub-blocks. `[Lanes; N]` is N weights of eight sub-blocks, transposed: `x[i][j]`.
type Lanes = [f32; LANES];

/// Weights whose magnitudes all lie below this are zero to `Q6_K` (GROUP_MAX_EPS in ggml-quants.c).
const ZERO: f32 = 1e-15;

/// 1.5·2^23: adding it leaves an f32 no bits below 1, so the sum is rounded to an integer, half to even.
const MAGIC: f32 = 12582912.0;

/// The nearest integer, half to even, as ggml takes it from the low bits of `v + MAGIC`.
///
/// Only |v| < 2^22 means something; ±∞ and NaN give -2^22 and 0, which [`quantize`](super::quantize) must reproduce
/// because an f16 scale may be infinite.
pub(super) fn nearest_int(v: f32) -> i32 {
    ((v + MAGIC).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// [`nearest_int`], clamped, without leaving f32. For |v| < 2^22; NaN gives `low`.
#[inline(always)]
fn nearest(v: f32, low: f32, high: f32) -> f32 {
    ((v + MAGIC) - MAGIC).max(low).min(high)
}

/// Eight sub-blocks of `N` weights each, transposed into lanes.
fn transposed<const N: usize>(x: &[f32]) -> [Lanes; N] {
    from_fn(|i| from_fn(|j| x[N * j + i]))
}

/// How `Q4_K` and `Q5_K` search: trial t divides the sub-block's range into `top + first + 0.1·t` steps.
pub(super) struct Trials {
    /// The largest code, 15 or 31.
    pub top: u8,
    /// The first trial's distance from `top`, in steps.
    pub first: f32,
    /// How many trials there are.
    pub count: usize,
}

/// 256 weights as `Q4_K` and `Q5_K` hold them, codes not yet packed: `w = (d·s)·q - dmin·m`.
pub(super) struct SuperBlock {
    /// `d | dmin | u6[16]`: the scales and minima as [`graph::ggml::GgmlType::Q4K`] packs them.
    pub head: [u8; 16],
    /// Codes, 0 to `top`.
    pub codes: [u8; 256],
}

/// Eight searched sub-blocks: `w ≈ scale·q - depth`.
struct Affine {
    scale: Lanes,
    /// How far below zero code 0 lies; not negative.
    depth: Lanes,
    /// What the winning trial multiplied and subtracted: `q = nearest(inverse·(w - origin))`.
    inverse: Lanes,
    origin: Lanes,
}

/// The affine fit of each sub-block (`make_qkx2_quants`, squared error).
///
/// `x`, `weight`: f32[32, lanes]; `weight` says how much a squared error at that place counts.
fn affine(x: &[Lanes; 32], weight: &[Lanes; 32], trials: &Trials) -> Affine {
    let top = f32::from(trials.top);
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = weight[0];
    let mut sum_x: Lanes = from_fn(|j| weight[0][j] * x[0][j]);
    for (x, w) in x.iter().zip(weight).skip(1) {
        for j in 0..LANES {
            min[j] = if x[j] < min[j] { x[j] } else { min[j] };
            max[j] = if x[j] > max[j] { x[j] } else { max[j] };
            sum_w[j] += w[j];
            sum_x[j] += w[j] * x[j];
        }
    }
    // Zero stays representable.
    min = min.map(|m| if m > 0.0 { 0.0 } else { m });

    let mut codes = [[0.0; LANES]; 32];
    let inverse: Lanes = from_fn(|j| top / (max[j] - min[j]));
    let mut found = Affine { scale: inverse.map(|v| 1.0 / v), depth: min, inverse: inverse.map(finite), origin: min };
    for (codes, x) in codes.iter_mut().zip(x) {
        *codes = from_fn(|j| nearest(found.inverse[j] * (x[j] - min[j]), 0.0, top));
    }
    let mut least = error(x, weight, &codes, &found.scale, &min);

    for trial in 0..trials.count {
        let steps = trials.first + 0.1 * trial as f32 + top;
        // The range shrinks or grows with each success: `min` is the winner's, not the data's.
        let inverse: Lanes = from_fn(|j| finite(steps / (max[j] - min[j])));
        let [sum_l, sum_l2, sum_xl] = affine_sums(x, weight, &inverse, &min, top, &mut codes);
        // The weighted least squares line through (code, weight).
        let mut solvable = [false; LANES];
        let (mut scale, mut low) = ([0.0; LANES], [0.0; LANES]);
        for j in 0..LANES {
            let det = sum_w[j] * sum_l2[j] - sum_l[j] * sum_l[j];
            solvable[j] = det > 0.0;
            scale[j] = (sum_w[j] * sum_xl[j] - sum_x[j] * sum_l[j]) / det;
            low[j] = (sum_l2[j] * sum_x[j] - sum_l[j] * sum_xl[j]) / det;
            let above_zero = low[j] > 0.0;
            scale[j] = if above_zero { sum_xl[j] / sum_l2[j] } else { scale[j] };
            low[j] = if above_zero { 0.0 } else { low[j] };
        }
        let errors = error(x, weight, &codes, &scale, &low);
        for j in 0..LANES {
            if solvable[j] && errors[j] < least[j] {
                least[j] = errors[j];
                found.scale[j] = scale[j];
                (found.inverse[j], found.origin[j]) = (inverse[j], min[j]);
                min[j] = low[j];
            }
        }
    }
    found.depth = min.map(|m| -m);
    found
}

/// The codes of one trial, and `Σ w·code`, `Σ w·code²`, `Σ w·code·x`, lane by lane.
#[inline(never)] // inside the loop over the trials LLVM gives up the vectors
fn affine_sums(
    x: &[Lanes; 32],
    weight: &[Lanes; 32],
    inverse: &Lanes,
    min: &Lanes,
    top: f32,
    codes: &mut [Lanes; 32],
) -> [Lanes; 3] {
    let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ((codes, x), w) in codes.iter_mut().zip(x).zip(weight) {
        for j in 0..LANES {
            let code = nearest(inverse[j] * (x[j] - min[j]), 0.0, top);
            let weighted = w[j] * code;
            codes[j] = code;
            sum_l[j] += weighted;
            sum_l2[j] += weighted * code;
            sum_xl[j] += weighted * x[j];
        }
    }
    [sum_l, sum_l2, sum_xl]
}

/// `Σ weight·(scale·code + low - x)²`, lane by lane.
#[inline(never)]
fn error(x: &[Lanes; 32], weight: &[Lanes; 32], codes: &[Lanes; 32], scale: &Lanes, low: &Lanes) -> Lanes {
    let mut sum = [0.0; LANES];
    for ((x, w), codes) in x.iter().zip(weight).zip(codes) {
        for j in 0..LANES {
            let off = scale[j] * codes[j] + low[j] - x[j];
            sum[j] += w[j] * (off * off);
        }
    }
    sum
}

/// 0 for the reciprocal of a range of 0 or of a denormal: every code is then 0, as ggml's rounding makes of ±∞ and NaN.
fn finite(inverse: f32) -> f32 {
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Scales, minima and codes of 256 weights for `Q4_K` and `Q5_K`, without knowledge of the activations.
///
/// A squared error counts `rms of the sub-block + |w|`.
pub(super) fn super_block(x: &[f32; 256], trials: &Trials) -> SuperBlock {
    let lanes = transposed::<32>(x);
    let mut sum_x2 = [0.0; LANES];
    for x in &lanes {
        for j in 0..LANES {
            sum_x2[j] += x[j] * x[j];
        }
    }
    let rms: Lanes = sum_x2.map(|sum| (sum / 32.0).sqrt());
    let weight = lanes.map(|x| from_fn(|j| rms[j] + x[j].abs()));
    let found = affine(&lanes, &weight, trials);

    let largest = |v: &Lanes| v.iter().fold(0.0, |most, &v| if v > most { v } else { most });
    let (max_scale, max_depth) = (largest(&found.scale), largest(&found.depth));
    // The wrap of `as u8` is ggml's: a scale that the fit made negative becomes the largest one.
    let six_bits = |v: f32, max: f32| (nearest_int(if max > 0.0 { 63.0 / max } else { 0.0 } * v) as u8).min(63);
    let scales: [u8; LANES] = found.scale.map(|v| six_bits(v, max_scale));
    let mins: [u8; LANES] = found.depth.map(|v| six_bits(v, max_depth));
    let (d, dmin) = (f16::from_f32(max_scale / 63.0), f16::from_f32(max_depth / 63.0));

    let mut codes = [0; 256];
    let sub_blocks = x.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    for (j, (x, codes)) in sub_blocks.enumerate() {
        let scale = d.to_f32() * f32::from(scales[j]);
        let depth = dmin.to_f32() * f32::from(mins[j]);
        if scale == 0.0 {
            *codes = x.map(|v| nearest(found.inverse[j] * (v - found.origin[j]), 0.0, f32::from(trials.top)) as u8);
        } else {
            *codes = x.map(|v| nearest_int((v + depth) / scale).clamp(0, trials.top.into()) as u8);
        }
    }
    SuperBlock { head: head(d, dmin, &scales, &mins), codes }
}

/// `d | dmin | u6[16]`, see [`graph::ggml::GgmlType::Q4K`] for the order of the bits.
fn head(d: f16, dmin: f16, scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 16] {
    let mut head = [0; 16];
    head[..2].copy_from_slice(&d.to_le_bytes());
    head[2..4].copy_from_slice(&dmin.to_le_bytes());
    for j in 0..4 {
        head[4 + j] = scales[j] | scales[j + 4] >> 4 << 6;
        head[8 + j] = mins[j] | mins[j + 4] >> 4 << 6;
        head[12 + j] = scales[j + 4] & 15 | mins[j + 4] << 4;
    }
    head
}

/// The symmetric fit `w ≈ scale·(q - 32)` of eight sub-blocks of 16 (`make_qx_quants` with 32 steps to a side).
pub(super) struct Symmetric {
    /// 0 for a sub-block of zeros.
    pub scale: Lanes,
    /// What the winning trial multiplied: `q - 32 = nearest(inverse·w)`.
    pub inverse: Lanes,
    /// The sub-blocks whose weights all lie below [`ZERO`].
    pub zero: [bool; LANES],
}

/// Eight sub-blocks of 16 weights; a squared error counts w².
pub(super) fn symmetric(x: &[f32; 128]) -> Symmetric {
    let far: Lanes = from_fn(|j| super::farthest(&x[16 * j..16 * (j + 1)]));
    let x = transposed::<16>(x);
    let zero = far.map(|v| v.abs() < ZERO);

    let mut found = Symmetric { scale: [0.0; LANES], inverse: [0.0; LANES], zero };
    let mut best = [0.0; LANES];
    // The plain scale -32 / far first, then ±0.1 to ±0.9 steps around it.
    for trial in [0].into_iter().chain(-9..=-1).chain(1..=9) {
        let inverse: Lanes = from_fn(|j| -(32.0 + 0.1 * trial as f32) / far[j]);
        let (sum_xl, sum_l2) = symmetric_sums(&x, &inverse);
        for j in 0..LANES {
            let better = sum_l2[j] > 0.0 && sum_xl[j] * sum_xl[j] > best[j] * sum_l2[j];
            if trial == 0 || better {
                found.scale[j] = if sum_l2[j] != 0.0 { sum_xl[j] / sum_l2[j] } else { 0.0 };
                found.inverse[j] = inverse[j];
                best[j] = found.scale[j] * sum_xl[j];
            }
        }
    }
    for (scale, zero) in found.scale.iter_mut().zip(zero) {
        *scale = if zero { 0.0 } else { *scale };
    }
    found
}

/// `Σ w·x·code` and `Σ w·code²` with `w = x²`, lane by lane.
#[inline(never)] // inside the loop over the trials LLVM gives up the vectors
fn symmetric_sums(x: &[Lanes; 16], inverse: &Lanes) -> (Lanes, Lanes) {
    let (mut sum_xl, mut sum_l2) = ([0.0; LANES], [0.0; LANES]);
    for x in x {
        for j in 0..LANES {
            let code = nearest(inverse[j] * x[j], -32.0, 31.0);
            let w = x[j] * x[j];
            sum_xl[j] += w * x[j] * code;
            sum_l2[j] += w * code * code;
        }
    }
    (sum_xl, sum_l2)
}

impl Symmetric {
    /// The codes, 0 to 63, that the search left for weights `x` of sub-block `j`.
    pub(super) fn codes(&self, j: usize, x: &[f32; 16]) -> [u8; 16] {
        x.map(|v| if self.zero[j] { 0 } else { (nearest(self.inverse[j] * v, -32.0, 31.0) + 32.0) as u8 })
    }
}

/// Whether the largest scale of a super-block of `Q6_K` counts as zero.
pub(super) fn vanishes(scale: f32) -> bool {
    scale.abs() < ZERO
}
