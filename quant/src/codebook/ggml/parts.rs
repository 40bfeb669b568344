//! What several block types have in common.

use std::array::from_fn;

use half::f16;

/// Sub-blocks searched at once.
pub(super) const LANES: usize = 8;

/// One number for each of the sub-blocks. `[Lanes; N]` is N weights of eight sub-blocks, transposed: `x[i][j]`.
pub(super) type Lanes = [f32; LANES];

/// What codes mean: `scale·code - offset`. Either sign, and infinite where f16 was.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// From a code to the next.
    pub scale: f32,
    /// How far below zero code 0 lies.
    pub offset: f32,
}

/// The f16 at byte `at`, widened.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// What a squared error counts at one place of eight sub-blocks: `importance·√(sigma2 + w²)`.
#[inline(always)]
pub(super) fn counts(importance: &Lanes, sigma2: f32, x: &Lanes) -> Lanes {
    from_fn(|j| importance[j] * (sigma2 + x[j] * x[j]).sqrt())
}

/// `Σ w²`, one after the other.
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().map(|v| v * v).sum()
}

/// `1 / d` for a scale of 32 weights; 0 for a block of zeros, and for a denormal `d` whose reciprocal overflows, `None`.
///
/// `None` stands for codes of 0 in the whole block: ggml multiplies by infinity, and x86-64 converts the result to 0.
pub(super) fn reciprocal(d: f32) -> Option<f32> {
    if d == 0.0 { Some(0.0) } else { Some(1.0 / d).filter(|id| id.is_finite()) }
}

/// The weight farthest from zero, with its sign; of two equally far, the first. 0 when all are ±0.
pub(super) fn farthest(x: &[f32]) -> f32 {
    let (mut far, mut distance) = (0.0, 0.0);
    for &v in x {
        if v.abs() > distance {
            (far, distance) = (v, v.abs());
        }
    }
    far
}

/// The smallest and the largest weight; of ±0, whichever comes first.
pub(super) fn extent(x: &[f32; 32]) -> (f32, f32) {
    let (mut min, mut max) = (x[0], x[0]);
    for &v in x {
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
    }
    (min, max)
}

/// Codes of 4 bits into 16 bytes: weight i low, weight i + 16 high.
pub(super) fn nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| codes[i] & 15 | codes[i + 16] << 4)
}

/// The fifth bits of 32 codes: bit i is weight i's.
pub(super) fn fifth_bits(codes: &[u8; 32]) -> u32 {
    codes.iter().enumerate().fold(0, |bits, (i, &code)| bits | u32::from(code >> 4) << i)
}
