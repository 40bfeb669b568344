//! What may be said of a few runs on a machine that others use too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A spread that is wider than this share of its median is told as such.
const WIDE: f64 = 0.2;
/// Fewer rounds decide nothing: with five on one side, chance alone would have it so once in 32.
pub const DECIDING_ROUNDS: usize = 5;

/// A median and the quartiles beside it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Half of the runs are below.
    pub median: f64,
    /// A quarter is below.
    pub low: f64,
    /// A quarter is above.
    pub high: f64,
}

impl Spread {
    /// Of finite numbers; `None` without any. Between two runs a quantile is interpolated.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let quantile = |q: f64| {
            let at = q * last as f64;
            let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            below + (above - below) * at.fract()
        };
        Some(Spread { median: quantile(0.5), low: quantile(0.25), high: quantile(0.75) })
    }

    /// Whether the quartiles are too far apart for the median to be quoted.
    pub fn is_wide(&self) -> bool {
        self.high - self.low > WIDE * self.median.abs()
    }
}

/// What rounds say of a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// Every round keeps it.
    Kept,
    /// No round keeps it.
    Broken,
    /// Some do, or there are too few.
    Undecided,
}

/// Judges "at least `limit`" by ratios of rounds in which both sides ran one after the other.
pub fn judge(ratios: &[f64], limit: f64) -> Ruling {
    if ratios.len() < DECIDING_ROUNDS || ratios.iter().any(|ratio| !ratio.is_finite()) {
        return Ruling::Undecided;
    }
    match ratios.iter().filter(|ratio| **ratio >= limit).count() {
        0 => Ruling::Broken,
        n if n == ratios.len() => Ruling::Kept,
        _ => Ruling::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_interpolated_and_one_run_is_its_own_spread() {
        let of = |values: &[f64]| Spread::of(values.iter().copied()).map(|s| [s.low, s.median, s.high]);
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(of(&[1.0, 2.0]), Some([1.25, 1.5, 1.75]));
        assert_eq!(of(&[7.0, f64::NAN]), Some([7.0; 3]));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_spread_is_wide_when_its_quartiles_are_a_fifth_of_the_median_apart() {
        assert!(!Spread { median: 10.0, low: 9.0, high: 11.0 }.is_wide());
        assert!(Spread { median: 10.0, low: 9.0, high: 11.1 }.is_wide());
    }

    #[test]
    fn a_limit_is_judged_only_when_all_of_five_rounds_agree() {
        assert_eq!(judge(&[1.2, 1.3, 1.25, 1.2, 1.4], 1.2), Ruling::Kept);
        assert_eq!(judge(&[1.2, 1.3, 1.25, 1.1, 1.4], 1.2), Ruling::Undecided);
        assert_eq!(judge(&[0.2, 0.3, 0.25, 0.1, 0.4], 1.2), Ruling::Broken);
        // A fast machine is no reason to trust four rounds, nor a figure that is none.
        assert_eq!(judge(&[9.0; 4], 1.2), Ruling::Undecided);
        assert_eq!(judge(&[9.0, 9.0, 9.0, 9.0, f64::NAN], 1.2), Ruling::Undecided);
        assert_eq!(judge(&[], 1.2), Ruling::Undecided);
    }
}
