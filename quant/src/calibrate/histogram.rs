//! Where the numbers of an activation lie.

use serde::{Deserialize, Serialize};

/// Bins of a [`Histogram`], half of them below 0.
pub const BINS: usize = 4096;

/// The bin that starts at 0.
pub(crate) const HALF: usize = BINS / 2;

// The least width of a bin: a power of two with which every edge is an f32.
const NARROWEST: i32 = -149;
// With it the bins reach from -2^128 to 2^128, past every f32.
const WIDEST: i32 = 117;

/// Counts of numbers in bins of equal width, `[i·w, (i + 1)·w)` for `-BINS/2 ≤ i < BINS/2`.
///
/// `w` is the least power of two from 2^-149 on with which the bins hold every number seen. Twice the width joins bins
/// `2i` and `2i + 1`, so counts move to a greater `w` without a loss, and the result does not depend on the order or the
/// grouping in which numbers come: any split over threads and calls gives equal histograms.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Histogram {
    /// `w = 2^exponent`.
    exponent: i32,
    /// From the lowest bin on.
    counts: Vec<u64>,
    zeros: u64,
    min: f32,
    max: f32,
    not_finite: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// Of nothing.
    pub fn new() -> Histogram {
        Histogram {
            exponent: NARROWEST,
            counts: vec![0; BINS],
            zeros: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            not_finite: 0,
        }
    }

    /// Counts numbers. NaN and infinities are counted apart and enter nothing else.
    pub fn add(&mut self, values: &[f32]) {
        let (mut min, mut max) = (self.min, self.max);
        for x in values.iter().copied().filter(|x| x.is_finite()) {
            // Plus 0 turns -0 into 0, so that the extremes have the same bits in any order.
            (min, max) = (min.min(x + 0.0), max.max(x + 0.0));
        }
        (self.min, self.max) = (min, max);
        if min <= max {
            self.widen(exponent_of(min).max(exponent_of(max)));
        }
        let per_width = f64::from(-self.exponent).exp2();
        for x in values {
            match x.is_finite() {
                true => self.counts[((f64::from(*x) * per_width).floor() as i64 + HALF as i64) as usize] += 1,
                false => self.not_finite += 1,
            }
            self.zeros += u64::from(*x == 0.0);
        }
    }

    /// Counts what another counted.
    pub fn merge(&mut self, other: &Histogram) {
        self.widen(other.exponent);
        let shift = self.exponent - other.exponent;
        for (i, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.counts[wider(i, shift)] += count;
        }
        (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
        self.zeros += other.zeros;
        self.not_finite += other.not_finite;
    }

    /// The least number; `None` when there is none.
    pub fn min(&self) -> Option<f32> {
        (self.min <= self.max).then_some(self.min)
    }

    /// The greatest number; `None` when there is none.
    pub fn max(&self) -> Option<f32> {
        (self.min <= self.max).then_some(self.max)
    }

    /// Finite numbers.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Those that are exactly 0, which no rounding changes. They are counted in a bin too.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// NaN and infinities.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// The width of a bin.
    pub fn width(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// Lower edge, upper edge and count of every bin that is not empty, in order.
    ///
    /// The first and the last bin end at the least and the greatest number, which lie in them.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let (width, min, max) = (self.width(), f64::from(self.min), f64::from(self.max));
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(i, count)| {
            let low = (i as f64 - HALF as f64) * width;
            (low.max(min), (low + width).min(max), *count)
        })
    }

    /// Counts from the lowest bin on, without those that are exactly 0.
    pub(crate) fn nonzero_counts(&self) -> Vec<u64> {
        let mut counts = self.counts.clone();
        counts[HALF] -= self.zeros;
        counts
    }

    /// Joins bins until their width is `2^exponent`.
    fn widen(&mut self, exponent: i32) {
        let shift = exponent - self.exponent;
        if shift <= 0 {
            return;
        }
        let narrow = std::mem::replace(&mut self.counts, vec![0; BINS]);
        for (i, count) in narrow.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.counts[wider(i, shift)] += count;
        }
        self.exponent = exponent;
    }
}

/// The bin of 2^shift times the width which holds this bin.
fn wider(bin: usize, shift: i32) -> usize {
    let signed = bin as i64 - HALF as i64;
    // An arithmetic shift rounds down; past 63 it is -1 or 0 as at 63.
    ((signed >> shift.min(63)) + HALF as i64) as usize
}

/// The exponent of the least width with which the bins hold a number: `-w·BINS/2 ≤ x < w·BINS/2`.
fn exponent_of(x: f32) -> i32 {
    let x = f64::from(x);
    let half = HALF as f64;
    let holds = |exponent: i32| {
        let end = half * f64::from(exponent).exp2();
        -end <= x && x < end
    };
    // log2 may miss a power of two by one.
    let near = if x == 0.0 { NARROWEST } else { (x.abs() / half).log2().floor() as i32 };
    let mut exponent = near.clamp(NARROWEST, WIDEST);
    while exponent > NARROWEST && holds(exponent - 1) {
        exponent -= 1;
    }
    while exponent < WIDEST && !holds(exponent) {
        exponent += 1;
    }
    exponent
}

/// A histogram in a file: bins that are not empty, by their number.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    exponent: i32,
    bins: Vec<(u16, u64)>,
    zeros: u64,
    min: Option<f32>,
    max: Option<f32>,
    not_finite: u64,
}

impl From<Histogram> for Stored {
    fn from(histogram: Histogram) -> Stored {
        let bins = histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Stored {
            exponent: histogram.exponent,
            bins: bins.map(|(i, count)| (i as u16, *count)).collect(),
            zeros: histogram.zeros,
            min: histogram.min(),
            max: histogram.max(),
            not_finite: histogram.not_finite,
        }
    }
}

impl TryFrom<Stored> for Histogram {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Histogram, String> {
        let mut histogram = Histogram::new();
        let (min, max) = match (stored.min, stored.max, stored.bins.is_empty()) {
            (None, None, true) if stored.exponent == NARROWEST => (f32::INFINITY, f32::NEG_INFINITY),
            (Some(min), Some(max), false) if min <= max && min.is_finite() && max.is_finite() => (min, max),
            _ => return Err("expected bins, a least and a greatest number, or none of them".to_owned()),
        };
        if min <= max && stored.exponent != exponent_of(min).max(exponent_of(max)) {
            return Err(format!("exponent {} does not follow from {min} and {max}", stored.exponent));
        }
        let mut total = stored.not_finite;
        for (bin, count) in stored.bins {
            let fresh = histogram.counts.get_mut(usize::from(bin)).filter(|old| **old == 0 && count > 0);
            *fresh.ok_or_else(|| format!("bin {bin} is not below {BINS}, is empty, or comes twice"))? = count;
            total = total.checked_add(count).ok_or("more numbers than 64 bits count")?;
        }
        (histogram.exponent, histogram.min, histogram.max) = (stored.exponent, min, max);
        histogram.not_finite = stored.not_finite;
        if stored.zeros > histogram.counts[HALF] {
            return Err(format!("{} zeros in a bin of {}", stored.zeros, histogram.counts[HALF]));
        }
        histogram.zeros = stored.zeros;
        let width = histogram.width();
        for end in [min, max].into_iter().filter(|_| min <= max) {
            let bin = ((f64::from(end) / width).floor() as i64 + HALF as i64) as usize;
            if histogram.counts[bin] == 0 {
                return Err(format!("{end} lies in an empty bin"));
            }
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.add(values);
        histogram
    }

    /// xorshift; magnitudes from 2^-160 to 2^128, so that denormals and far numbers are among them.
    fn spread(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                f32::from_bits((state >> 32) as u32)
            })
            .collect()
    }

    #[test]
    fn order_and_grouping_change_nothing() {
        let narrow: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let growing: Vec<f32> = (0..300).map(|i| 1.1f32.powi(i) * if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
        for values in [narrow, growing, spread(1, 3000), vec![0.0, -0.0, 0.0], vec![-0.0]] {
            let whole = of(&values);
            let backwards: Vec<f32> = values.iter().rev().copied().collect();
            assert_eq!(of(&backwards), whole);
            let zero_bits = |h: &Histogram| [h.min.to_bits(), h.max.to_bits()];
            assert_eq!(zero_bits(&of(&backwards)), zero_bits(&whole));
            for size in [1, 2, 7, 1000] {
                let (mut one_by_one, mut merged, mut merged_backwards) =
                    (Histogram::new(), Histogram::new(), Histogram::new());
                values.chunks(size).for_each(|chunk| one_by_one.add(chunk));
                values.chunks(size).for_each(|chunk| merged.merge(&of(chunk)));
                values.chunks(size).rev().for_each(|chunk| merged_backwards.merge(&of(chunk)));
                assert_eq!([&one_by_one, &merged, &merged_backwards], [&whole; 3], "chunks of {size}");
            }
        }
    }

    #[test]
    fn every_number_is_counted_once_and_lies_in_its_bin() {
        let values = spread(2, 4000);
        let histogram = of(&values);
        let finite = values.iter().filter(|x| x.is_finite()).count() as u64;
        assert_eq!((histogram.count(), histogram.not_finite()), (finite, 4000 - finite));
        assert!(histogram.not_finite() > 0);
        for (low, high, count) in histogram.bins() {
            let inside = values
                .iter()
                .map(|x| f64::from(*x))
                .filter(|x| *x >= low && (*x < high || high == f64::from(histogram.max)) && *x <= high);
            assert_eq!(inside.count() as u64, count, "{low:e} to {high:e}");
        }
    }

    #[test]
    fn bins_are_as_narrow_as_the_numbers_allow() {
        // 1 is past the end of 4096 bins of 2^-11, and -1 is the edge of the lowest.
        assert_eq!((of(&[1.0]).width(), of(&[-1.0]).width()), (1.0 / 1024.0, 1.0 / 2048.0));
        let last_below_1 = f32::from_bits(1.0f32.to_bits() - 1);
        assert_eq!(of(&[last_below_1]).width(), 1.0 / 2048.0);
        let bins: Vec<_> =
            of(&[-1.0, -0.5, -0.4999, 0.0, 0.25, 0.3]).bins().map(|(low, _, count)| (low, count)).collect();
        let edge = |x: f64| (x * 2048.0).floor() / 2048.0;
        // The bin of -0.5 ends at -1023 / 2048 = -0.49951.
        assert_eq!(bins, [(-1.0, 1), (-0.5, 2), (0.0, 1), (0.25, 1), (edge(0.3), 1)]);
    }

    #[test]
    fn the_extremes_of_f32_have_bins() {
        let histogram = of(&[f32::MAX, f32::MIN, 0.0, 1e-45, -1e-45]);
        assert_eq!((histogram.min(), histogram.max(), histogram.count()), (Some(f32::MIN), Some(f32::MAX), 5));
        let denormal = of(&[1e-45, -1e-45]);
        let bins: Vec<_> = denormal.bins().collect();
        let least = f64::from(1e-45f32);
        assert_eq!(bins, [(-least, 0.0, 1), (least, least, 1)]);
        let zeros = of(&[0.0; 9]);
        assert_eq!(
            (zeros.min(), zeros.max(), zeros.bins().collect::<Vec<_>>()),
            (Some(0.0), Some(0.0), vec![(0.0, 0.0, 9)])
        );
        let nothing = of(&[f32::NAN, f32::INFINITY]);
        assert_eq!((nothing.min(), nothing.max(), nothing.count(), nothing.not_finite()), (None, None, 0, 2));
        assert_eq!(nothing.bins().count(), 0);
    }

    #[test]
    fn a_histogram_in_a_file_is_the_same_and_a_lying_one_is_refused() {
        for values in [vec![], vec![0.0], vec![f32::NAN, 1.5, -2.0], spread(3, 500)] {
            let histogram = of(&values);
            let text = serde_json::to_string(&histogram).expect("JSON");
            assert_eq!(serde_json::from_str::<Histogram>(&text).expect("its own"), histogram);
        }
        let text = serde_json::to_string(&of(&[0.0, 1.5, -2.0])).expect("JSON");
        assert_eq!(
            text,
            r#"{"exponent":-10,"bins":[[0,1],[2048,1],[3584,1]],"zeros":1,"min":-2.0,"max":1.5,"not_finite":0}"#
        );
        for (from, to, why) in [
            ("[3584,1]", "[4096,1]", "bin 4096 is not below 4096, is empty, or comes twice"),
            ("[3584,1]", "[2048,1]", "bin 2048 is not below 4096, is empty, or comes twice"),
            ("[3584,1]", "[3584,18446744073709551615]", "more numbers than 64 bits count"),
            (":1.5", ":1.6", "1.6 lies in an empty bin"),
            (":1.5", ":2.5", "exponent -10 does not follow from -2 and 2.5"),
            (":1.5", ":-3.0", "expected bins, a least and a greatest number, or none of them"),
            (":1.5", ":null", "expected bins, a least and a greatest number, or none of them"),
            ("\"zeros\":1", "\"zeros\":2", "2 zeros in a bin of 1"),
        ] {
            let error = serde_json::from_str::<Histogram>(&text.replace(from, to)).expect_err(why).to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
