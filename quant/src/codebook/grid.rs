//! Integer codes with one scale per row or per group.
//!
//! A block (a row, or a group of neighbours in it) with weights w gets `code = round(w / scale) + zero`, halves to even,
//! and means `(code - zero) · scale`.
//!
//! - Symmetric: `zero = 0`, codes within ±(2^(bits-1) - 1), `scale = max|w| / (2^(bits-1) - 1)`. The code -2^(bits-1)
//!   stays unused: with it the grid would reach one step farther down than up, and every format could not hold `-w`
//!   where it holds `w`.
//! - Asymmetric: codes from -2^(bits-1) to 2^(bits-1) - 1, `scale = (hi - lo) / (2^bits - 1)` with `lo = min(w, 0)` and
//!   `hi = max(w, 0)`, and `zero = round(-2^(bits-1) - lo / scale)`; 0 is exact.
//!
//! The scale is rounded to f16 *before* codes are chosen, because they must be nearest under the scale that the file
//! holds. Where f16 is so coarse that rounding down loses more than one part in 1024 (below 2^-14), the next f16 above
//! is taken, and never 0. A block of zeros gets scale 1. A scale above 65504 is an error.
//!
//! Some files hold the inverse of a scale as an f32, and not every scale is the inverse of one ([`graph::weights::inverse`]). For those a
//! scale is rounded up to the next f16 that is.

use graph::weights::inverse;
use half::f16;

/// The smallest and the largest of some weights and 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Extent {
    /// At most 0.
    pub lo: f32,
    /// At least 0.
    pub hi: f32,
}

impl Extent {
    /// Of finite weights.
    pub fn of(values: &[f32]) -> Extent {
        const LANES: usize = 8;
        let (mut lo, mut hi) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (whole, rest) = values.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for values in whole.iter().chain([&last]) {
            for i in 0..LANES {
                lo[i] = if values[i] < lo[i] { values[i] } else { lo[i] };
                hi[i] = if values[i] > hi[i] { values[i] } else { hi[i] };
            }
        }
        Extent { lo: lo.into_iter().fold(0.0, f32::min), hi: hi.into_iter().fold(0.0, f32::max) }
    }

    /// Both ends nearer to 0.
    pub fn times(self, factor: f32) -> Extent {
        Extent { lo: self.lo * factor, hi: self.hi * factor }
    }
}

/// Scale and zero of one block.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// Above 0; infinite when f16 cannot hold it, which makes every weight of the block decode to no number.
    pub scale: f16,
    /// 0 when symmetric.
    pub zero: i8,
}

/// The codes of a scheme.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grid {
    min: i8,
    max: i8,
    pub(crate) symmetric: bool,
    /// Whether scales are inverses of an f32.
    inverted: bool,
}

impl Grid {
    /// `bits`: 2 to 8.
    pub fn new(bits: u8, symmetric: bool) -> Grid {
        let max = ((1_i32 << (bits - 1)) - 1) as i8;
        Grid { min: if symmetric { -max } else { -max - 1 }, max, symmetric, inverted: false }
    }

    /// The same with scales that are inverses of an f32.
    pub fn inverted(self) -> Grid {
        Grid { inverted: true, ..self }
    }

    /// Scale and zero with which the codes reach over `extent`.
    pub fn step(self, extent: Extent) -> Step {
        let (min, max) = (f32::from(self.min), f32::from(self.max));
        if self.symmetric {
            return Step { scale: self.scale(extent.hi.max(-extent.lo), max), zero: 0 };
        }
        let scale = self.scale(extent.hi - extent.lo, max - min);
        let zero = (min - extent.lo / scale.to_f32()).round_ties_even().clamp(min, max);
        Step { scale, zero: zero as i8 }
    }

    /// `extent / steps` as one of the grid's scales.
    fn scale(self, extent: f32, steps: f32) -> f16 {
        let mut scale = scale_f16(extent, steps);
        // The inverse of infinity is one.
        while self.inverted && inverse(scale).is_none() {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        scale
    }

    /// `code = round_half_even(w / scale) + zero`, clamped to the grid. `codes` has the length of `values`.
    pub fn encode(self, values: &[f32], step: Step, codes: &mut [u8]) {
        let (scale, min, max) = self.bounds(step);
        let zero = i32::from(step.zero).cast_unsigned();
        for (code, w) in codes.iter_mut().zip(values) {
            let shifted = (w / scale).max(min).min(max) + ROUNDER;
            *code = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(zero) as u8;
        }
    }

    /// The code nearest to one weight, and what it means.
    pub fn nearest(self, w: f32, step: Step) -> (i8, f32) {
        let (scale, min, max) = self.bounds(step);
        let shifted = rounded(w / scale, min, max);
        ((shifted as i32 + i32::from(step.zero)) as i8, shifted * scale)
    }

    /// `Σ importance·error²` of the codes that [`Grid::encode`] would choose.
    pub fn weighted_squared_error(self, values: &[f32], importance: &[f32], step: Step) -> f64 {
        let (scale, min, max) = self.bounds(step);
        let error = |w: &f32| f64::from(w - rounded(w / scale, min, max) * scale);
        values.iter().zip(importance).map(|(w, counts)| f64::from(*counts) * error(w) * error(w)).sum()
    }

    /// The sum of squared errors that [`Grid::encode`] would leave, without writing codes.
    ///
    /// Element i is added in lane i mod 8. The differences are exact in f32 unless a weight is clipped to less than half.
    pub fn squared_error(self, values: &[f32], step: Step) -> f64 {
        const LANES: usize = 8;
        let (scale, min, max) = self.bounds(step);
        let mut sums = [0.0_f64; LANES];
        let mut add = |values: &[f32; LANES]| {
            for (sum, w) in sums.iter_mut().zip(values) {
                // Products of 8-bit integers and f16 are exact in f32, so this is what `dequantize` gives.
                let decoded = rounded(w / scale, min, max) * scale;
                let error = f64::from(w - decoded);
                *sum += error * error;
            }
        };
        let (whole, rest) = values.as_chunks::<LANES>();
        whole.iter().for_each(&mut add);
        // Zeros at the end add nothing: 0 is on every grid.
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        add(&last);
        sums.into_iter().sum()
    }

    /// Scale, and the clamp of `w / scale`.
    fn bounds(self, step: Step) -> (f32, f32, f32) {
        let [min, max] = [self.min, self.max].map(|code| f32::from(i16::from(code) - i16::from(step.zero)));
        (step.scale.to_f32(), min, max)
    }
}

/// 1.5 · 2^23. Adding it to an |x| < 2^22 leaves `round_half_even(x)` in the low bits of the sum, in two instructions
/// that every processor has; `f32::round_ties_even` is a library call on baseline x86-64.
const ROUNDER: f32 = 12_582_912.0;

/// `round_half_even(v)` within bounds below 2^22; NaN gives `min`.
#[inline(always)]
pub(crate) fn rounded(v: f32, min: f32, max: f32) -> f32 {
    v.max(min).min(max) + ROUNDER - ROUNDER
}

/// `extent / steps` as f16, by the rules at the head of this file.
fn scale_f16(extent: f32, steps: f32) -> f16 {
    const LOSS: f32 = 1.0 / 1024.0;
    if extent == 0.0 {
        return f16::ONE;
    }
    let exact = extent / steps;
    let nearest = f16::from_f32(exact);
    let too_small = nearest == f16::ZERO || nearest.to_f32() < exact * (1.0 - LOSS);
    if too_small { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}
