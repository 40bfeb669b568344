//! Intervals for distances between logits.

use crate::bootstrap;
use crate::distances::Meter;
use crate::sums::Sums;

/// Sums of each sample, from which it follows how far figures over positions would be elsewhere.
///
/// Positions of one sample are alike, so that an interval that took each as drawn by itself would be too narrow: samples are drawn, with
/// all their positions.
#[derive(Clone, PartialEq, Debug)]
pub struct Clusters {
    /// Positions, summed KL and positions whose largest logit is the same.
    sums: Sums,
}

impl Clusters {
    /// Adds a sample by its own meter. One without positions adds nothing.
    pub fn push(&mut self, sample: &Meter) {
        let sums = sample.over_positions();
        if sums[0] > 0.0 {
            self.sums.push(&sums);
        }
    }

    /// Samples with positions.
    pub fn samples(&self) -> u64 {
        self.sums.len() as u64
    }

    /// 95 % interval of [`Distances::kl`](crate::Distances::kl), nats a position. `None` for fewer than two samples, or when a sum is not
    /// a finite number.
    pub fn kl(&self) -> Option<[f64; 2]> {
        self.interval(|sums| sums[1] / sums[0])
    }

    /// 95 % interval of [`Distances::top1`](crate::Distances::top1), a share. `None` as for [`Clusters::kl`].
    pub fn top1(&self) -> Option<[f64; 2]> {
        self.interval(|sums| sums[2] / sums[0])
    }

    fn interval(&self, figure: impl Fn(&[f64]) -> f64 + Sync) -> Option<[f64; 2]> {
        // A sum that is no number is in most samples drawn, and sorts to an end.
        bootstrap::interval(&self.sums, figure).filter(|ends| ends.iter().all(|end| end.is_finite()))
    }
}

impl Default for Clusters {
    fn default() -> Clusters {
        Clusters { sums: Sums::new(3) }
    }
}

impl<'a> FromIterator<&'a Meter> for Clusters {
    fn from_iter<I: IntoIterator<Item = &'a Meter>>(samples: I) -> Clusters {
        let mut clusters = Clusters::default();
        samples.into_iter().for_each(|sample| clusters.push(sample));
        clusters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample of `rows` positions of two logits; the candidate has them the other way round in the first `wrong`.
    fn sample(rows: usize, wrong: usize) -> Meter {
        let a: Vec<f32> = [1.0, 0.0].repeat(rows);
        let b: Vec<f32> = (0..rows).flat_map(|row| if row < wrong { [0.0, 1.0] } else { [1.0, 0.0] }).collect();
        let mut meter = Meter::ZERO;
        meter.add(&a, &b, 2);
        meter
    }

    #[test]
    fn intervals_hold_the_figures_and_are_wider_than_if_positions_were_drawn() {
        // Half of the samples are all wrong, so that 40 samples of 25 positions are worth 40 draws and not 1000.
        let samples: Vec<Meter> = (0..40).map(|k| sample(25, if k % 2 == 0 { 25 } else { 0 })).collect();
        let mut whole = Meter::ZERO;
        samples.iter().for_each(|one| whole.merge(one));
        let clusters: Clusters = samples.iter().collect();
        let [low, high] = clusters.top1().expect("40 samples");
        // sqrt(0.25 / 40) = 0.079 is the standard deviation over samples, 0.016 that over positions.
        assert!((high - low - 2.0 * 1.96 * 0.079).abs() < 0.03, "{low} to {high}");
        let [low, high] = clusters.kl().expect("40 samples");
        assert!((low..=high).contains(&whole.distances().kl.expect("finite")), "{low} to {high}");
        assert_eq!(clusters.samples(), 40);
    }

    #[test]
    fn a_sample_weighs_as_many_positions_as_it_has() {
        // 1 of 10 wrong, and 90 of 90: means of shares would be around 0.45 wrong, positions say 0.91.
        let clusters: Clusters = [sample(10, 1), sample(90, 90)].iter().collect();
        assert_eq!(clusters.top1(), Some([0.0, 0.9]));
    }

    #[test]
    fn one_sample_and_logits_that_are_no_numbers_have_no_interval() {
        assert_eq!(Clusters::from_iter([&sample(5, 1), &Meter::ZERO]).kl(), None);
        let mut bad = Meter::ZERO;
        bad.add(&[1.0, 2.0], &[f32::NAN, 2.0], 2);
        let clusters = Clusters::from_iter([&sample(5, 1), &sample(7, 3), &bad]);
        assert_eq!((clusters.kl(), clusters.top1()), (None, None));
    }
}
