//! Fixed steps: an affine quantization of activations with a scale and a zero point.

use serde::{Deserialize, Serialize};

/// The fixed steps an activation is rounded to: unsigned codes, `code = round_half_even(x / scale) + zero`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeQuant {
    /// The width of a step; finite and above 0.
    pub scale: f32,
    /// The code of 0: from 0 to [`FakeQuant::last`].
    pub zero: i32,
    /// 8 or 16.
    pub bits: u8,
}

impl FakeQuant {
    /// The steps of codes of 8 or 16 bits from `low` to `high`: `scale = (high - low) / (2^bits - 1)`,
    /// `zero = round(-low / scale)`.
    ///
    /// `low` and `high` are finite; the range is widened to hold 0, which is exact. Every number of it is rounded by at most
    /// half a step. A range of 0 alone gets scale 1; one too narrow for a normal f32 the least of those.
    pub fn over(low: f32, high: f32, bits: u8) -> FakeQuant {
        let last = f64::from((1u32 << bits) - 1);
        let (low, high) = (f64::from(low).min(0.0), f64::from(high).max(0.0));
        let scale = if low == high { 1.0 } else { (((high - low) / last) as f32).max(f32::MIN_POSITIVE) };
        let zero = (-low / f64::from(scale)).round_ties_even().clamp(0.0, last);
        FakeQuant { scale, zero: zero as i32, bits }
    }

    /// The last code, `2^bits - 1`; the first is 0. `None` for a width that is neither 8 nor 16.
    pub fn last(&self) -> Option<i32> {
        matches!(self.bits, 8 | 16).then(|| (1 << self.bits) - 1)
    }

    /// `clamp(round_half_even(x / scale) + zero, 0, 2^bits - 1)`; that of a NaN is 0.
    pub fn code(&self, x: f32) -> i32 {
        let (zero, last) = (self.zero as f32, self.last().expect("`check` passed") as f32);
        ((x / self.scale).round_ties_even() + zero).clamp(0.0, last) as i32
    }

    /// `(clamp(round_half_even(x / scale) + zero, 0, 2^bits - 1) - zero) · scale`, each operation rounded to f32; a NaN
    /// stays. What ONNX `QuantizeLinear` and `DequantizeLinear` compute, which find some code for a NaN.
    pub fn apply(&self, x: f32) -> f32 {
        let (zero, last) = (self.zero as f32, self.last().expect("`check` passed") as f32);
        (((x / self.scale).round_ties_even() + zero).clamp(0.0, last) - zero) * self.scale
    }

    /// Errors: one line that says what an engine would not take.
    pub fn check(&self) -> Result<(), String> {
        let Some(last) = self.last() else { return Err(format!("expected 8 or 16 bits, found {}", self.bits)) };
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(format!("expected a scale that is finite and above 0, found {}", self.scale));
        }
        match (0..=last).contains(&self.zero) {
            true => Ok(()),
            false => Err(format!("expected a zero from 0 to {last}, found {}", self.zero)),
        }
    }
}
