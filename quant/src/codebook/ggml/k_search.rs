//! The search behind the K types, and behind every type once channels differ in importance: of a few dozen trial scales
//! a sub-block, the one with the least weighted error. A block of 32 is its own sub-block here.
//!
//! A sub-block's sums must run one weight after the other, so one sub-block cannot fill a vector. Eight can: lane j holds
//! sub-block j, every lane does exactly what ggml does to its sub-block, and a choice between two trials is a select.

use std::array::from_fn;

use half::f16;

use super::parts::{LANES, Lanes, Step, counts, half_at, sum_of_squares};

/// Weights whose magnitudes all lie below this are zero to [`symmetric`], and scales to [`packed_scales`]
/// (GROUP_MAX_EPS in ggml-quants.c).
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
pub(super) fn transposed<const N: usize>(x: &[f32]) -> [Lanes; N] {
    from_fn(|i| from_fn(|j| x[N * j + i]))
}

/// How [`affine`] searches: trial t divides the sub-block's range into `top + first + step·t` steps.
pub(super) struct Trials {
    /// The largest code, 15 or 31.
    pub top: u8,
    /// The first trial's distance from `top`, in steps.
    pub first: f32,
    /// From a trial to the next, in steps.
    pub step: f32,
    /// How many trials there are.
    pub count: usize,
    /// What a trial divides by where the range has shrunk so far that the quotient overflows: 0 gives code 0
    /// (`make_qkx2_quants`), infinity gives `top` to every weight above the origin (`make_qkx3_quants`).
    pub overflow: f32,
}

impl Trials {
    /// 37 trials of `top - 0.9` to `top + 0.9` steps: every affine type, when channels differ in importance.
    pub(super) fn by_importance(top: u8) -> Trials {
        Trials { top, first: -0.9, step: 0.05, count: 37, overflow: f32::INFINITY }
    }
}

/// 256 weights as `Q4_K` and `Q5_K` hold them, codes not yet packed: `w = (d·s)·q - dmin·m`.
pub(super) struct SuperBlock {
    /// `d | dmin | u6[16]`: the scales and minima as [`graph::ggml::GgmlType::Q4K`] packs them.
    pub head: [u8; 16],
    /// Codes, 0 to `top`.
    pub codes: [u8; 256],
}

/// Eight searched sub-blocks: `w ≈ scale·q - depth`.
pub(super) struct Affine {
    pub scale: Lanes,
    /// How far below zero code 0 lies; not negative.
    pub depth: Lanes,
    /// What the winning trial multiplied and subtracted: `q = nearest(inverse·(w - origin))`.
    inverse: Lanes,
    origin: Lanes,
}

/// The affine fit of each sub-block (`make_qkx2_quants` and `make_qkx3_quants`, squared error).
///
/// `x`, `weight`: f32[32, lanes]; `weight` says how much a squared error at that place counts. A sub-block in which it is
/// zero everywhere keeps the plain fit from its smallest weight (or 0) to its largest.
pub(super) fn affine(x: &[Lanes; 32], weight: &[Lanes; 32], trials: &Trials) -> Affine {
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
        let steps = trials.first + trials.step * trial as f32 + top;
        // The range shrinks or grows with each success: `min` is the winner's, not the data's.
        let inverse: Lanes = from_fn(|j| {
            let inverse = steps / (max[j] - min[j]);
            if inverse.is_finite() { inverse } else { trials.overflow * inverse.signum() }
        });
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

impl Affine {
    /// The codes that the search left for weights `x` of sub-block `j`.
    pub(super) fn codes(&self, j: usize, x: &[f32; 32], top: u8) -> [u8; 32] {
        x.map(|v| nearest(self.inverse[j] * (v - self.origin[j]), 0.0, f32::from(top)) as u8)
    }
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
    packed(x, &found, trials.top, head(d, dmin, &scales, &mins))
}

/// Scales, minima and codes of 256 weights for `Q4_K` and `Q5_K`, by the importance of their channels.
///
/// A squared error counts `importance·√(2·mean w² + w²)`, and in the choice of the 6-bit scales a sub-block counts the
/// sum of its weights' counts. `most` is the largest byte that becomes a 6-bit scale: a scale that the fit made negative
/// wraps to a byte above 63, which `Q5_K` cuts to 63 and `Q4_K` lets spill into the bits beside it.
pub(super) fn super_block_by_importance(x: &[f32; 256], importance: &[f32; 256], top: u8, most: u8) -> SuperBlock {
    let sigma2 = 2.0 * sum_of_squares(x) / 256.0;
    let (lanes, importance) = (transposed::<32>(x), transposed::<32>(importance));
    let weight: [Lanes; 32] = from_fn(|i| counts(&importance[i], sigma2, &lanes[i]));
    let mut sum_w = [0.0; LANES];
    for w in &weight {
        for j in 0..LANES {
            sum_w[j] += w[j];
        }
    }
    let found = affine(&lanes, &weight, &Trials::by_importance(top));
    let (d, scales) = packed_scales(&found.scale, &sum_w);
    let (dmin, mins) = packed_scales(&found.depth, &sum_w);
    let head = head(f16::from_f32(d), f16::from_f32(dmin), &scales.map(|s| s.min(most)), &mins.map(|m| m.min(most)));
    packed(x, &found, top, head)
}

/// `d` and codes of 0 to 63 with `x ≈ d·code` (`make_qp_quants`), or `d = 0` when no positive one has a weight.
///
/// Of nine grids around `63 / max x` the one with the least weighted error; then up to five times each code in turn
/// moves to where it fits best beside the others. A negative x gives a code above 63: ggml stores the integer in a byte,
/// and sums the byte in some places and the integer in others, which the casts here repeat.
fn packed_scales(x: &Lanes, weight: &Lanes) -> (f32, [u8; LANES]) {
    const TOP: i32 = 63;
    let max = x.iter().fold(0.0, |max, &v| if max > v { max } else { v });
    if max < ZERO {
        return (0.0, [0; LANES]);
    }
    let error = |inverse: f32, code: fn(f32) -> i32| {
        let scale = 1.0 / inverse;
        let mut sum = 0.0;
        for (&x, w) in x.iter().zip(weight) {
            let off = x - scale * code(inverse * x) as f32;
            sum += w * off * off;
        }
        sum
    };
    let mut inverse = TOP as f32 / max;
    let mut least = error(inverse, |v| i32::from(nearest_int(v) as u8));
    for trial in (-4..=-1).chain(1..=4) {
        let tried = (0.1 * trial as f32 + TOP as f32) / max;
        let error = error(tried, |v| nearest_int(v).min(TOP));
        if error < least {
            (least, inverse) = (error, tried);
        }
    }

    let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
    let mut codes = [0; LANES];
    for ((code, &x), w) in codes.iter_mut().zip(x).zip(weight) {
        let nearest = nearest_int(inverse * x).min(TOP);
        *code = nearest as u8;
        sum_xl += w * x * nearest as f32;
        sum_l2 += w * nearest as f32 * nearest as f32;
    }
    for _ in 0..5 {
        let mut moved = false;
        for ((code, &x), w) in codes.iter_mut().zip(x).zip(weight) {
            let old = f32::from(*code);
            let (mut rest_xl, mut rest_l2) = (sum_xl - w * x * old, sum_l2 - w * old * old);
            if !(rest_xl > 0.0 && rest_l2 > 0.0) {
                continue;
            }
            let new = nearest_int(x * rest_l2 / rest_xl).min(TOP);
            if new == i32::from(*code) {
                continue;
            }
            rest_xl += w * x * new as f32;
            rest_l2 += w * new as f32 * new as f32;
            if rest_xl * rest_xl * sum_l2 > sum_xl * sum_xl * rest_l2 {
                *code = new as u8;
                (sum_xl, sum_l2) = (rest_xl, rest_l2);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    (if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 }, codes)
}

/// The codes under the scales and minima that `head` holds; where such a scale is 0, those that the search left.
fn packed(x: &[f32; 256], found: &Affine, top: u8, head: [u8; 16]) -> SuperBlock {
    let mut codes = [0; 256];
    let sub_blocks = x.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    for (j, ((x, codes), step)) in sub_blocks.zip(steps(&head)).enumerate() {
        *codes = match step.scale {
            0.0 => found.codes(j, x, top),
            _ => x.map(|v| nearest_int((v + step.offset) / step.scale).clamp(0, top.into()) as u8),
        };
    }
    SuperBlock { head, codes }
}

/// `d·s` and `dmin·m` of each sub-block, as a reader of `head` finds them.
pub(super) fn steps(head: &[u8; 16]) -> [Step; LANES] {
    let (d, dmin) = (half_at(head, 0), half_at(head, 2));
    from_fn(|j| {
        let (scale, min) = six_bits(head, j);
        Step { scale: d * f32::from(scale), offset: dmin * f32::from(min) }
    })
}

/// Scale and minimum of sub-block `j`.
fn six_bits(head: &[u8; 16], j: usize) -> (u8, u8) {
    match j {
        0..4 => (head[4 + j] & 63, head[8 + j] & 63),
        _ => (head[8 + j] & 15 | head[j] >> 6 << 4, head[8 + j] >> 4 | head[4 + j] >> 6 << 4),
    }
}

/// `d | dmin | u6[16]`, see [`graph::ggml::GgmlType::Q4K`] for the order of the bits.
pub(super) fn head(d: f16, dmin: f16, scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 16] {
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

/// The symmetric fit `w ≈ scale·(q - side)` of eight sub-blocks (`make_qx_quants`).
pub(super) struct Symmetric {
    /// 0 for a sub-block of zeros, and for one in which no code but `side` has a weight.
    pub scale: Lanes,
    /// What the winning trial multiplied: `q - side = nearest(inverse·w)`.
    inverse: Lanes,
    /// The sub-blocks whose weights all lie below [`ZERO`].
    zero: [bool; LANES],
    side: f32,
}

/// Eight sub-blocks of `N` weights; a squared error at a place counts its `weight`. Codes reach from 0 to `2·side - 1`.
pub(super) fn symmetric<const N: usize>(x: &[Lanes; N], weight: &[Lanes; N], side: f32) -> Symmetric {
    let mut far = [0.0f32; LANES];
    for x in x {
        for j in 0..LANES {
            far[j] = if x[j].abs() > far[j].abs() { x[j] } else { far[j] };
        }
    }
    let zero = far.map(|v| v.abs() < ZERO);

    let mut found = Symmetric { scale: [0.0; LANES], inverse: [0.0; LANES], zero, side };
    let mut best = [0.0; LANES];
    // The plain scale -side / far first, then ±0.1 to ±0.9 steps around it.
    for trial in [0].into_iter().chain(-9..=-1).chain(1..=9) {
        let inverse: Lanes = from_fn(|j| -(side + 0.1 * trial as f32) / far[j]);
        let (sum_xl, sum_l2) = symmetric_sums(x, weight, &inverse, side);
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

/// `Σ w·x·code` and `Σ w·code²`, lane by lane.
#[inline(never)] // inside the loop over the trials LLVM gives up the vectors
fn symmetric_sums<const N: usize>(x: &[Lanes; N], weight: &[Lanes; N], inverse: &Lanes, side: f32) -> (Lanes, Lanes) {
    let (mut sum_xl, mut sum_l2) = ([0.0; LANES], [0.0; LANES]);
    for (x, w) in x.iter().zip(weight) {
        for j in 0..LANES {
            let code = nearest(inverse[j] * x[j], -side, side - 1.0);
            sum_xl[j] += w[j] * x[j] * code;
            sum_l2[j] += w[j] * code * code;
        }
    }
    (sum_xl, sum_l2)
}

impl Symmetric {
    /// The codes, 0 to `2·side - 1`, that the search left for weights `x` of sub-block `j`.
    pub(super) fn codes<const N: usize>(&self, j: usize, x: &[f32; N]) -> [u8; N] {
        let code = |v: f32| (nearest(self.inverse[j] * v, -self.side, self.side - 1.0) + self.side) as u8;
        x.map(|v| if self.zero[j] { 0 } else { code(v) })
    }
}

/// Whether the largest scale of a super-block of `Q6_K` counts as zero.
pub(super) fn vanishes(scale: f32) -> bool {
    scale.abs() < ZERO
}
