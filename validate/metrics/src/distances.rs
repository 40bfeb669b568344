//! How far two outputs are apart. All sums are in f64; a value that is not a number passes no limit.

use rayon::prelude::*;

/// Distances between the logits of a reference `a` and a candidate `b`, over rows of one target position each.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Distances {
    /// Rows compared.
    pub positions: u64,
    /// `max |a - b|`.
    pub max_abs: Option<f64>,
    /// `‖a - b‖₂ / ‖a‖₂` over all rows together.
    pub rel_l2: Option<f64>,
    /// `10·log10(‖a‖² / ‖a - b‖²)`, in decibels; absent when the two are equal.
    pub sqnr_db: Option<f64>,
    /// `a·b / (‖a‖·‖b‖)` over all rows together.
    pub cosine: Option<f64>,
    /// Mean over rows of `KL(p ‖ q) = Σ p·(ln p - ln q)`, `p = softmax(a)`, `q = softmax(b)`, in nats.
    pub kl: Option<f64>,
    /// Share of rows whose largest logit is at the same index; of equal ones the first counts.
    pub top1: Option<f64>,
}

/// Sums from which [`Distances`] are computed.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    rows: u64,
    max_abs: f64,
    noise: f64,
    reference: f64,
    candidate: f64,
    product: f64,
    kl: f64,
    same_top: u64,
}

impl Meter {
    /// Nothing compared yet.
    pub const ZERO: Meter =
        Meter { rows: 0, max_abs: 0.0, noise: 0.0, reference: 0.0, candidate: 0.0, product: 0.0, kl: 0.0, same_top: 0 };

    /// Adds rows of `width` logits. `a`, `b`: f32[n, width].
    ///
    /// The rows are summed in their order at any number of threads.
    pub fn add(&mut self, a: &[f32], b: &[f32], width: usize) {
        Meter::rows(a, b, width).iter().for_each(|row| self.merge(row));
    }

    /// One for each row of `width` logits. `a`, `b`: f32[n, width].
    pub fn rows(a: &[f32], b: &[f32], width: usize) -> Vec<Meter> {
        assert_eq!(a.len(), b.len(), "rows of the reference and of the candidate");
        a.par_chunks(width.max(1)).zip(b.par_chunks(width.max(1))).map(|(a, b)| row(a, b)).collect()
    }

    /// Adds the sums of another meter.
    pub fn merge(&mut self, other: &Meter) {
        self.rows += other.rows;
        self.max_abs = max_or_nan(self.max_abs, other.max_abs);
        self.noise += other.noise;
        self.reference += other.reference;
        self.candidate += other.candidate;
        self.product += other.product;
        self.kl += other.kl;
        self.same_top += other.same_top;
    }

    /// Positions, summed KL and positions whose largest logit is the same. What cannot be trusted is not a number.
    pub(crate) fn over_positions(&self) -> [f64; 3] {
        // No sum that saw a value that is not a number can be trusted, top-1 included.
        let same_top = if self.noise.is_finite() { self.same_top as f64 } else { f64::NAN };
        [self.rows as f64, self.kl, same_top]
    }

    /// The distances. A figure that is not finite is absent, except that equal logits have a relative error of 0.
    pub fn distances(&self) -> Distances {
        let finite = |x: f64| (self.rows > 0 && x.is_finite()).then_some(x);
        let rel_l2 = if self.noise == 0.0 { 0.0 } else { (self.noise / self.reference).sqrt() };
        let cosine = if self.noise == 0.0 { 1.0 } else { self.product / (self.reference * self.candidate).sqrt() };
        let [_, kl, same_top] = self.over_positions();
        Distances {
            positions: self.rows,
            max_abs: finite(self.max_abs),
            rel_l2: finite(rel_l2),
            sqnr_db: finite(10.0 * (self.reference / self.noise).log10()),
            cosine: finite(cosine),
            kl: finite(kl / self.rows as f64),
            top1: finite(same_top / self.rows as f64),
        }
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::ZERO
    }
}

fn row(a: &[f32], b: &[f32]) -> Meter {
    let mut m = Meter { rows: 1, ..Meter::ZERO };
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        m.max_abs = max_or_nan(m.max_abs, (a - b).abs());
        m.noise += (a - b) * (a - b);
        m.reference += a * a;
        m.candidate += b * b;
        m.product += a * b;
    }
    m.kl = kl_divergence(a, b);
    m.same_top = u64::from(argmax(a).is_some() && argmax(a) == argmax(b));
    m
}

fn max_or_nan(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// `KL(softmax(a) ‖ softmax(b))` in nats; at least 0 up to rounding, and then 0.
pub fn kl_divergence(a: &[f32], b: &[f32]) -> f64 {
    let (a_norm, b_norm) = (log_sum_exp(a), log_sum_exp(b));
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| {
            let (ln_p, ln_q) = (f64::from(a) - a_norm, f64::from(b) - b_norm);
            // p = 0 adds nothing, whatever q is.
            if ln_p == f64::NEG_INFINITY { 0.0 } else { ln_p.exp() * (ln_p - ln_q) }
        })
        .sum();
    // `f64::max` would turn NaN into 0.
    if sum < 0.0 { 0.0 } else { sum }
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let top = row.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
    top + row.iter().map(|x| (f64::from(*x) - top).exp()).sum::<f64>().ln()
}

/// Index of the largest value, the first of equal ones; `None` when a value is not a number or there is none.
pub fn argmax(row: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &x) in row.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, top)| x > top) {
            best = Some((i, x));
        }
    }
    best.map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(a: &[f32], b: &[f32], width: usize) -> Distances {
        let mut meter = Meter::default();
        meter.add(a, b, width);
        meter.distances()
    }

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("finite");
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found}, expected {expected}");
    }

    #[test]
    fn the_distances_of_two_rows_are_those_computed_by_hand() {
        // a = (3, 4), (0, 0); b = (3, 2), (1, 0): differences (0, 2), (-1, 0).
        let d = distances(&[3.0, 4.0, 0.0, 0.0], &[3.0, 2.0, 1.0, 0.0], 2);
        assert_eq!(d.positions, 2);
        near(d.max_abs, 2.0);
        near(d.rel_l2, (5.0_f64 / 25.0).sqrt());
        near(d.sqnr_db, 10.0 * 5.0_f64.log10());
        near(d.cosine, 17.0 / (25.0_f64 * 14.0).sqrt());
        // The first row's largest moves from 1 to 0; in the second, the first of two equal ones counts.
        near(d.top1, 0.5);
        // Two classes: p1 = σ(1), q1 = σ(-1) in the first row; p = (½, ½), q = (σ(1), σ(-1)) in the second.
        let s = 1.0 / (1.0 + (-1.0_f64).exp());
        let first = s * (s / (1.0 - s)).ln() + (1.0 - s) * ((1.0 - s) / s).ln();
        let second = 0.5 * (0.5 / s).ln() + 0.5 * (0.5 / (1.0 - s)).ln();
        near(d.kl, (first + second) / 2.0);
    }

    #[test]
    fn kl_does_not_see_a_shift_of_all_logits_and_survives_large_ones() {
        assert!(kl_divergence(&[1.0, 2.0, 3.0], &[101.0, 102.0, 103.0]) < 1e-12);
        assert_eq!(kl_divergence(&[1e30, 0.0], &[1e30, 0.0]), 0.0);
        assert_eq!(kl_divergence(&[0.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]), 0.0);
        assert_eq!(kl_divergence(&[0.0, 0.0], &[0.0, f32::NEG_INFINITY]), f64::INFINITY);
    }

    #[test]
    fn equal_logits_are_at_distance_zero() {
        let d = distances(&[0.0, -1.0, 0.0, 0.0], &[0.0, -1.0, 0.0, 0.0], 2);
        assert_eq!((d.rel_l2, d.cosine, d.kl, d.top1, d.sqnr_db), (Some(0.0), Some(1.0), Some(0.0), Some(1.0), None));
    }

    #[test]
    fn one_value_that_is_not_a_number_makes_every_figure_absent() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut b = vec![1.0; 40];
            b[17] = bad;
            let d = distances(&[1.0; 40], &b, 4);
            assert_eq!(d, Distances { positions: 10, ..distances(&[], &[], 4) }, "{bad}");
        }
    }

    #[test]
    fn the_largest_of_equals_is_the_first_and_of_nan_is_none() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[1.0, f32::NAN, 3.0]), None);
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY]), Some(0));
    }
}
