//! From a histogram of an activation to the steps it is rounded to.
//!
//! Codes are unsigned and 0 has one of its own, so every range holds 0: padding, masks and the zeros of a ReLU stay exact.

use graph::FakeQuant;
use graph::arithmetic::ln;

use super::histogram::{BINS, HALF, Histogram};
pub use crate::settings::RangeMethod;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// A histogram gives no range.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum RangeError {
    /// Nothing was counted.
    #[error("expected numbers to take a range from, found none; calibrate with data that reaches this value")]
    Empty,
    /// Some numbers are NaN or infinite.
    #[error("expected finite numbers, found {not_finite} of {} that are NaN or infinite", .not_finite + .finite)]
    NotFinite {
        /// NaN and infinities.
        not_finite: u64,
        /// The others.
        finite: u64,
    },
    /// Not a percentile.
    #[error("expected a percentile above 0 and at most 100, found {0}")]
    Percentile(f64),
    /// Not a width that engines have.
    #[error("expected 8 or 16 bits, found {0}")]
    Bits(u8),
}

/// The range `(low, high)` of a histogram's numbers, `low ≤ 0 ≤ high`, for codes of 8 or 16 bits.
pub fn range(histogram: &Histogram, method: RangeMethod, bits: u8) -> Result<(f32, f32), RangeError> {
    let steps = steps(bits)?;
    if histogram.not_finite() > 0 {
        return Err(RangeError::NotFinite { not_finite: histogram.not_finite(), finite: histogram.count() });
    }
    let (Some(min), Some(max)) = (histogram.min(), histogram.max()) else { return Err(RangeError::Empty) };
    let (low, high) = match method {
        RangeMethod::Minmax => (f64::from(min), f64::from(max)),
        RangeMethod::Percentile(p) if p > 0.0 && p <= 100.0 => percentile(histogram, p),
        RangeMethod::Percentile(p) => return Err(RangeError::Percentile(p)),
        RangeMethod::Mse => least_squares(histogram, steps),
        RangeMethod::Entropy => least_divergence(histogram, steps as usize + 1),
    };
    // Edges of bins need not be numbers that were seen, nor those of the widest bins f32.
    let inside = |x: f64| (x as f32).clamp(min.min(0.0), max.max(0.0));
    Ok((inside(low.min(0.0)), inside(high.max(0.0))))
}

/// The steps of codes of `bits` from `low` to `high`; see [`FakeQuant::over`].
pub fn step(low: f32, high: f32, bits: u8) -> Result<FakeQuant, RangeError> {
    steps(bits).map(|_| FakeQuant::over(low, high, bits))
}

/// `2^bits - 1`: steps from the first code to the last.
fn steps(bits: u8) -> Result<f64, RangeError> {
    match bits {
        8 | 16 => Ok(f64::from((1u32 << bits) - 1)),
        _ => Err(RangeError::Bits(bits)),
    }
}

/// The outer edges of the bins that hold the first and the last number which is not cut.
fn percentile(histogram: &Histogram, p: f64) -> (f64, f64) {
    let cut = (100.0 - p) / 200.0 * histogram.count() as f64;
    let bins: Vec<_> = histogram.bins().collect();
    let mut seen = [0, 0];
    let mut kept = |end: usize, count: u64| {
        seen[end] += count;
        seen[end] as f64 > cut
    };
    let low = bins.iter().find(|(_, _, count)| kept(0, *count));
    let high = bins.iter().rev().find(|(_, _, count)| kept(1, *count));
    match (low, high) {
        (Some((low, _, _)), Some((_, high, _))) => (*low, *high),
        _ => unreachable!("less than half is cut at each end, and `range` found numbers"),
    }
}

/// One end of a range, and what clipping there costs.
struct End {
    edge: f64,
    /// Numbers beyond.
    clipped: f64,
    /// The sum of their `(x - edge)²`.
    error: f64,
}

/// The pair of ends with the least expected error; the widest of several.
fn least_squares(histogram: &Histogram, steps: f64) -> (f64, f64) {
    // A zero is exact whatever the range is.
    let zeros = |low: f64| if low == 0.0 { histogram.zeros() } else { 0 };
    let bins = || histogram.bins().map(|(low, high, n)| (low, high, n - zeros(low)));
    let lows = ends(bins().map(|(low, high, n)| (-high, -low, n)), histogram.width());
    let highs = ends(bins(), histogram.width());
    let rounded = (histogram.count() - histogram.zeros()) as f64;
    let (mut best, mut least) = ((0.0, 0.0), f64::INFINITY);
    for low in &lows {
        for high in &highs {
            let scale = (high.edge + low.edge) / steps;
            let inside = rounded - low.clipped - high.clipped;
            let error = low.error + high.error + inside * scale * scale / 12.0;
            if error < least {
                (best, least) = ((-low.edge, high.edge), error);
            }
        }
    }
    best
}

/// The upper ends that a range may have, widest first: the greatest number, every edge between bins from there on down
/// to 0, and 0. Numbers of a bin lie evenly in it.
fn ends(bins: impl Iterator<Item = (f64, f64, u64)>, width: f64) -> Vec<End> {
    let mut bins: Vec<_> = bins.filter(|(_, high, _)| *high > 0.0).collect();
    bins.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(&(_, top, _)) = bins.first() else { return vec![End { edge: 0.0, clipped: 0.0, error: 0.0 }] };
    // Sums over the clipped bins of n, n·x and n·x².
    let (mut n, mut first, mut second) = (0.0, 0.0, 0.0);
    let mut ends = vec![End { edge: top, clipped: 0.0, error: 0.0 }];
    let mut bins = bins.into_iter().peekable();
    let mut edge = ((top / width).ceil() - 1.0) * width;
    while edge >= 0.0 {
        while let Some((low, high, count)) = bins.next_if(|(low, _, _)| *low >= edge) {
            let (count, center) = (count as f64, f64::midpoint(low, high));
            n += count;
            first += count * center;
            second += count * (center * center + (high - low) * (high - low) / 12.0);
        }
        ends.push(End { edge, clipped: n, error: (second - 2.0 * edge * first + edge * edge * n).max(0.0) });
        edge -= width;
    }
    ends
}

/// Sums over the first bins, one more than there are bins.
fn sums(of_bins: impl Iterator<Item = f64>) -> Vec<f64> {
    let running = of_bins.scan(0.0, |sum, x| {
        *sum += x;
        Some(*sum)
    });
    std::iter::once(0.0).chain(running).collect()
}

/// The range whose rounded numbers diverge least from the numbers; the widest of several.
///
/// P are the counts inside, those clipped added to the bins at the ends. Q are the counts inside, spread in each of
/// `levels` groups of neighbouring bins evenly over the bins where P has any. Exact zeros, which no range changes, are left
/// out; with them a ReLU's output would be one tall bin.
fn least_divergence(histogram: &Histogram, levels: usize) -> (f64, f64) {
    let counts: Vec<f64> = histogram.nonzero_counts().into_iter().map(|n| n as f64).collect();
    let entropy = |n: f64| if n > 0.0 { n * ln(n) } else { 0.0 };
    let mass = sums(counts.iter().copied());
    let nonempty = sums(counts.iter().map(|n| f64::from(*n > 0.0)));
    let entropies = sums(counts.iter().map(|n| entropy(*n)));
    let (Some(first), Some(last)) = (counts.iter().position(|n| *n > 0.0), counts.iter().rposition(|n| *n > 0.0))
    else {
        return (0.0, 0.0);
    };
    let whole = first.min(HALF)..(last + 1).max(HALF);
    let total = mass[BINS];

    let divergence = |from: usize, to: usize| {
        let (below, inside, above) = (mass[from], mass[to] - mass[from], total - mass[to]);
        let ends = [(from, below), (to - 1, above)];
        let p_of_ends: f64 = ends.iter().map(|(i, more)| entropy(counts[*i] + more) - entropy(counts[*i])).sum();
        let p = entropies[to] - entropies[from] + p_of_ends;
        let mut q = 0.0;
        for group in 0..levels {
            let [start, end] = [group, group + 1].map(|g| from + g * (to - from) / levels);
            let n = mass[end] - mass[start];
            let (mut p_here, mut bins) = (n, nonempty[end] - nonempty[start]);
            for (i, more) in ends {
                if (start..end).contains(&i) && more > 0.0 {
                    p_here += more;
                    bins += f64::from(counts[i] == 0.0);
                }
            }
            match n > 0.0 {
                true => q += p_here * ln(n / bins),
                false if p_here > 0.0 => return f64::INFINITY, // numbers where Q has none
                false => {}
            }
        }
        (p - q) / total - ln(total) + ln(inside)
    };
    let (mut best, mut least) = (whole.clone(), f64::INFINITY);
    for t in (1..=(HALF - whole.start).max(whole.end - HALF)).rev() {
        let (from, to) = (whole.start.max(HALF - t), whole.end.min(HALF + t));
        // With fewer bins than codes, rounding moves nothing to another bin.
        if to - from < levels {
            break;
        }
        let divergence = divergence(from, to);
        if divergence < least {
            (best, least) = (from..to, divergence);
        }
    }
    let edge = |bin: usize| (bin as f64 - HALF as f64) * histogram.width();
    (edge(best.start), edge(best.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.add(values);
        histogram
    }

    /// `times` copies of what was counted.
    fn repeated(histogram: &Histogram, times: usize) -> Histogram {
        let mut sum = Histogram::new();
        (0..times).for_each(|_| sum.merge(histogram));
        sum
    }

    fn negated(values: &[f32]) -> Vec<f32> {
        values.iter().map(|x| -x).collect()
    }

    const METHODS: [RangeMethod; 4] =
        [RangeMethod::Minmax, RangeMethod::Percentile(99.9), RangeMethod::Mse, RangeMethod::Entropy];

    #[test]
    fn a_percentile_cuts_half_of_the_rest_at_each_end() {
        // 9990 numbers from 0 to 1 and 10 of 100: bins are 1/16 wide, and 0.1 % at each end are 10 numbers.
        let mut values: Vec<f32> = (0..9990).map(|i| (i as f32 + 0.5) / 9990.0).collect();
        values.extend([100.0; 10]);
        for bits in [8, 16] {
            let of_p = |values: &[f32], p| range(&of(values), RangeMethod::Percentile(p), bits).expect("a range");
            assert_eq!(of_p(&values, 99.8), (0.0, 1.0));
            assert_eq!(of_p(&values, 99.9), (0.0, 100.0));
            assert_eq!(of_p(&values, 100.0), (0.0, 100.0));
            assert_eq!(of_p(&negated(&values), 99.8), (-1.0, 0.0));
            assert_eq!(range(&of(&values), RangeMethod::Minmax, bits), Ok((0.0, 100.0)));
        }
    }

    #[test]
    fn the_least_squares_of_even_numbers_and_an_outlier_are_those_of_the_formula() {
        // n numbers in 0..1 and one of 8: n·(h / 255)² / 12 + (8 - h)² is least at h = 8 / (1 + n / (12 · 255²)).
        let even: Vec<f32> = (0..1000).map(|i| (i as f32 + 0.5) / 1000.0).collect();
        let n = 1_024_000.0;
        let h = 8.0 / (1.0 + n / (12.0 * 255.0 * 255.0)); // 3.46
        for sign in [1.0, -1.0] {
            let even: Vec<f32> = even.iter().map(|x| x * sign).collect();
            let mut histogram = repeated(&of(&even), 1024);
            histogram.add(&[8.0 * sign]);
            let (low, high) = range(&histogram, RangeMethod::Mse, 8).expect("a range");
            let (near, far) = if sign > 0.0 { (low, high) } else { (-high, -low) };
            assert_eq!(near, 0.0);
            assert!((f64::from(far) - h).abs() <= histogram.width(), "{far} instead of {h}");
            assert_eq!(range(&histogram, RangeMethod::Mse, 16), range(&histogram, RangeMethod::Minmax, 16));
            // Zeros are exact in every range, so a million of them change nothing.
            let with_zeros = {
                let mut more = histogram.clone();
                more.merge(&repeated(&of(&[0.0; 1000]), 1000));
                more
            };
            assert_eq!(range(&with_zeros, RangeMethod::Mse, 8), Ok((low, high)));
        }
    }

    #[test]
    fn least_squares_clip_each_end_by_itself() {
        // As above, and at the other end three times as many numbers of -1/4 without an outlier.
        let even: Vec<f32> = (0..1000).map(|i| (i as f32 + 0.5) / 1000.0).collect();
        let mut histogram = repeated(&of(&even), 1024);
        histogram.merge(&repeated(&of(&[-0.25; 1000]), 3000));
        histogram.add(&[8.0]);
        let (low, high) = range(&histogram, RangeMethod::Mse, 8).expect("a range");
        assert_eq!(low, -0.25);
        assert!(high < 3.0, "{high}");
    }

    #[test]
    fn the_least_divergence_keeps_a_pattern_that_wider_steps_would_blur() {
        // Bins of width 1: 0..1024 in runs of four with 1 and 3 numbers, times 1000, and one number at 2040. 256 codes for
        // 1024 bins have four bins each and keep the runs; for 2041 bins they blur them: 1/4 ln 1/2 + 3/4 ln 3/2 = 0.13.
        let runs: Vec<f32> = (0..1024).flat_map(|i| vec![i as f32 + 0.5; if i % 8 < 4 { 1 } else { 3 }]).collect();
        for sign in [1.0, -1.0] {
            let runs: Vec<f32> = runs.iter().map(|x| x * sign).collect();
            let mut histogram = repeated(&of(&runs), 1000);
            histogram.add(&[2040.5 * sign]);
            let found = range(&histogram, RangeMethod::Entropy, 8);
            assert_eq!(found, Ok(if sign > 0.0 { (0.0, 1024.0) } else { (-1024.0, 0.0) }));
            assert_eq!(range(&histogram, RangeMethod::Entropy, 16), range(&histogram, RangeMethod::Minmax, 16));
        }
    }

    #[test]
    fn every_range_holds_zero_and_lies_within_the_numbers() {
        let wave: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.7).sin() * 3.0 + 1.0).collect();
        let cases: [&[f32]; 10] = [
            &wave,
            &[0.0; 5],
            &[-0.0],
            &[3.0],
            &[-3.0],
            &[1e-45],
            &[-1e-45, 1e-40],
            &[f32::MAX, f32::MIN],
            &[f32::MAX, 1.0, -1.0],
            &[5.0, 6.0, 7.0],
        ];
        for values in cases {
            let (min, max) = values.iter().fold((0.0f32, 0.0f32), |(min, max), x| (min.min(*x), max.max(*x)));
            for (method, bits) in METHODS.into_iter().flat_map(|method| [(method, 8), (method, 16)]) {
                let (low, high) = range(&of(values), method, bits).expect("a range");
                assert!(min <= low && low <= 0.0 && 0.0 <= high && high <= max, "{method:?}: {low:e} to {high:e}");
                step(low, high, bits).expect("a width").check().expect("what engines take");
            }
        }
    }

    #[test]
    fn steps_are_a_255th_of_the_range_and_zero_has_a_code() {
        let steps = |scale, zero, bits| Ok(FakeQuant { scale, zero, bits });
        assert_eq!(step(-1.0, 1.55, 8), steps(0.01, 100, 8));
        assert_eq!(step(0.0, 510.0, 8), steps(2.0, 0, 8));
        assert_eq!(step(-510.0, 0.0, 8), steps(2.0, 255, 8));
        assert_eq!(step(3.0, 510.0, 8), steps(2.0, 0, 8));
        assert_eq!(step(-32768.0, 32767.0, 16), steps(1.0, 32768, 16));
        assert_eq!(step(0.0, 0.0, 8), steps(1.0, 0, 8));
        assert_eq!(step(-0.0, 1e-42, 8), steps(f32::MIN_POSITIVE, 0, 8));
        assert_eq!(step(f32::MIN, f32::MAX, 8).map(|s| s.scale.is_finite()), Ok(true));
        // -1 / 0.7 is 1.43 steps: the grid is shifted by 0.43 of one.
        assert_eq!(step(-1.0, 0.7 * 255.0 - 1.0, 8), steps(0.7, 1, 8));
        for (low, high) in [(-1.0f32, 177.5), (-0.37, 0.91), (-1e-30, 3e-30), (-7e30, 1e30), (-1e-6, 1.0)] {
            for steps in [8, 16].map(|bits| step(low, high, bits).expect("a width")) {
                let half = f64::from(steps.scale) / 2.0 * (1.0 + 1e-2); // f32 rounds x / scale near 65535 by 1/256
                for i in 0..=1000 {
                    let x = low + (high - low) * (i as f32 / 1000.0);
                    let error = (f64::from(steps.apply(x)) - f64::from(x)).abs();
                    assert!(error <= half, "{x:e} in {steps:?}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn what_gives_no_range_is_told() {
        let told = |values: &[f32], method, bits| range(&of(values), method, bits).expect_err("no range").to_string();
        let minmax = RangeMethod::Minmax;
        assert_eq!(
            told(&[], minmax, 8),
            "expected numbers to take a range from, found none; calibrate with data that reaches this value"
        );
        assert_eq!(
            told(&[1.0, f32::NAN, f32::INFINITY], minmax, 8),
            "expected finite numbers, found 2 of 3 that are NaN or infinite"
        );
        assert_eq!(told(&[1.0], minmax, 4), "expected 8 or 16 bits, found 4");
        for p in [0.0, -1.0, 100.1, f64::NAN] {
            let expected = format!("expected a percentile above 0 and at most 100, found {p}");
            assert_eq!(told(&[1.0], RangeMethod::Percentile(p), 8), expected);
        }
    }

    #[test]
    fn methods_are_written_in_lower_case() {
        let names = METHODS.map(|method| serde_json::to_string(&method).expect("JSON"));
        assert_eq!(names, [r#""minmax""#, r#"{"percentile":99.9}"#, r#""mse""#, r#""entropy""#]);
    }
}
