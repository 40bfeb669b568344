//! Scores that somebody else gave to texts, one a text, as COMET does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap;
use crate::lost::Lost;
use crate::sums::Sums;

/// A score of each text, in the judge's own unit.
#[derive(Clone, PartialEq, Debug)]
pub struct Given {
    scores: Sums,
    rises: bool,
}

/// The mean of given scores.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// Texts that have a score.
    pub texts: u64,
    /// In the judge's own unit.
    pub mean: f64,
    /// 95 % of samples of this size from the same source lie between. Absent where one text says nothing of others.
    pub interval: Option<[f64; 2]>,
}

impl Given {
    /// `scores`: finite. `rises`: whether more is better. `None` without texts.
    pub fn of(scores: &[f64], rises: bool) -> Option<Given> {
        let mut sums = Sums::new(1);
        scores.iter().for_each(|score| sums.push(&[*score]));
        (!scores.is_empty()).then_some(Given { scores: sums, rises })
    }

    /// With its interval, from texts drawn again.
    pub fn mean(&self) -> Mean {
        // A drawn sample has as many texts as there are.
        let texts = self.scores.len() as f64;
        let mean = |sums: &[f64]| sums[0] / texts;
        let interval = bootstrap::interval(&self.scores, mean);
        Mean { texts: self.scores.len() as u64, mean: mean(&self.scores.whole()), interval }
    }

    /// How much worse these are than the reference's, of the same texts and by the same judge. In the judge's unit.
    pub fn lost(&self, reference: &Given) -> Lost {
        Lost::of_means(&self.scores, &reference.scores, self.rises)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ruling;

    fn given(scores: impl IntoIterator<Item = f64>, rises: bool) -> Given {
        Given::of(&scores.into_iter().collect::<Vec<f64>>(), rises).expect("some")
    }

    fn ramp(shift: f64) -> impl Iterator<Item = f64> {
        (0..200).map(move |i| f64::from(i % 10) / 10.0 + shift)
    }

    #[test]
    fn a_mean_lies_in_its_interval() {
        let mean = given(ramp(0.0), true).mean();
        assert_eq!((mean.texts, (mean.mean * 1e9).round()), (200, 0.45e9));
        // The deviation of the mean is 0.287 / √200 = 0.0203.
        let [low, high] = mean.interval.expect("of many");
        assert!((0.40..0.42).contains(&low) && (0.48..0.50).contains(&high), "{low} {high}");
        assert_eq!(given([0.3], true).mean().interval, None);
        assert_eq!(Given::of(&[], true), None);
    }

    #[test]
    fn what_is_lost_is_in_the_judge_s_unit_and_to_the_worse_side() {
        let (exact, worse) = (given(ramp(0.0), true), given(ramp(-0.02), true));
        let lost = worse.lost(&exact);
        assert_eq!((lost.points, lost.worse, lost.better), (0.02, 200, 0));
        assert_eq!([0.01, 0.02, 0.03].map(|limit| lost.ruling(limit)), [Ruling::Broken, Ruling::Kept, Ruling::Kept]);
        assert_eq!(exact.lost(&worse).points, -0.02);
        let errors = [given(ramp(0.0), false), given(ramp(0.02), false)];
        assert_eq!(errors[1].lost(&errors[0]).points, 0.02, "less is better");
    }

    #[test]
    fn pairs_without_a_difference_decide_as_finely_as_scores_are_far_apart() {
        let lost = given(ramp(0.0), true).lost(&given(ramp(0.0), true));
        // A text could have lost 0.9, which is 0.0045 of the mean of 200.
        assert_eq!(
            [0.0, 0.004, 0.0045].map(|limit| lost.ruling(limit)),
            [Ruling::Kept, Ruling::Undecided, Ruling::Kept]
        );
        assert_eq!(lost.samples_to_decide(0.001), Some(900));
    }

    #[test]
    fn few_pairs_decide_nothing() {
        let lost = given([0.5, 0.6], true).lost(&given([0.5, 0.9], true));
        assert_eq!(lost.ruling(0.1), Ruling::Undecided);
        assert!(lost.interval[0] <= lost.points && lost.points <= lost.interval[1]);
    }
}
