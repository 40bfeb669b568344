//! What pairs of answers to the same questions say of a limit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{self, RESAMPLES};
use crate::metric::TaskMetric;
use crate::proportions::Pairs;
use crate::spread::Ruling;
use crate::sums::Sums;

/// Fewer pairs decide nothing by drawing them again: chance alone has five on one side once in 16, and six once in 32.
const DECIDING_PAIRS: u64 = 6;
/// Points that a text can lose.
const ALL: f64 = 100.0;

/// How much worse one model's answers are than another's to the same questions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Negative when better. Hundredths, or for given scores ([`crate::given`]) in their own unit.
    pub points: f64,
    /// 95 %, of differences in pairs.
    pub interval: [f64; 2],
    /// Pairs.
    pub samples: u64,
    /// Of them, how many were worse and how many better than the reference.
    pub worse: u64,
    /// See `worse`.
    pub better: u64,
    /// The most that a single text can lose.
    pub reach: f64,
    /// Whence the interval, as `score interval of pairs; exact McNemar p = 0.013`.
    pub method: String,
}

impl Lost {
    /// What the pairs say of "at most `limit` points lost".
    ///
    /// Pairs of which none differs keep a limit that one of them would not break: fewer could not have shown it broken.
    pub fn ruling(&self, limit: f64) -> Ruling {
        if self.is_none() && limit > 0.0 && self.of_one() > limit {
            return Ruling::Undecided;
        }
        match self.interval {
            [_, high] if high <= limit => Ruling::Kept,
            [low, _] if low > limit => Ruling::Broken,
            _ => Ruling::Undecided,
        }
    }

    /// About how many samples of the same kind would decide it, if they lost as many points: the interval's end that is beyond the limit
    /// comes nearer with the root of the number. Saturates. `None` when these are enough, and when no number is known: the points are at
    /// the limit, where more samples come no nearer to a side, or there are too few pairs to tell the width from.
    pub fn samples_to_decide(&self, limit: f64) -> Option<u64> {
        if self.is_none() && self.ruling(limit) == Ruling::Undecided {
            return Some((self.reach / limit).ceil() as u64);
        }
        let [low, high] = self.interval;
        let away = (self.points - limit).abs();
        let reach = if self.points <= limit { high - self.points } else { self.points - low };
        let is_open = self.ruling(limit) == Ruling::Undecided && self.samples >= DECIDING_PAIRS && away > 0.0;
        // The first whole number above: at the number itself the end is at the limit.
        is_open.then(|| ((self.samples as f64 * (reach / away).powi(2)) as u64).saturating_add(1))
    }

    /// Whether no pair differs.
    fn is_none(&self) -> bool {
        self.interval == [0.0; 2]
    }

    /// Points that a single pair is worth.
    fn of_one(&self) -> f64 {
        rounded(self.reach / self.samples.max(1) as f64)
    }

    /// By shares of pairs: `worse` of them say yes where the reference says no.
    pub(crate) fn of_shares(pairs: Pairs) -> Lost {
        let of_hundred = |pairs_lost: f64| 100.0 * pairs_lost / pairs.all as f64;
        let lost = Lost {
            points: rounded(of_hundred(pairs.worse as f64 - pairs.better as f64)),
            interval: [0.0; 2],
            samples: pairs.all,
            worse: pairs.worse,
            better: pairs.better,
            reach: ALL,
            method: String::new(),
        };
        if pairs.worse + pairs.better == 0 {
            return lost.without_differences();
        }
        let method = format!("score interval of pairs; exact McNemar {}", p_value(pairs.mcnemar()));
        Lost { interval: pairs.interval().map(|end| rounded(100.0 * end)), method, ..lost }
    }

    /// By a figure of sums. `found`, `reference`: of the same texts.
    pub(crate) fn of_sums(metric: TaskMetric, found: &Sums, reference: &Sums) -> Lost {
        let sign = if metric.rises() { -1.0 } else { 1.0 };
        let by = |found: &[f64], reference: &[f64], figure: fn(TaskMetric, &[f64]) -> f64| {
            sign * (figure(metric, found) - figure(metric, reference))
        };
        let one = |found: &[f64], reference: &[f64]| by(found, reference, TaskMetric::points_of_one);
        let whole = |sums: &[f64]| {
            let (found, reference) = sums.split_at(metric.width());
            by(found, reference, TaskMetric::points)
        };
        Lost::of_pairs(found, reference, ALL, one, whole)
    }

    /// By the means of a score a text. `found`, `reference`: of the same texts. `rises`: whether more is better.
    pub(crate) fn of_means(found: &Sums, reference: &Sums, rises: bool) -> Lost {
        let sign = if rises { -1.0 } else { 1.0 };
        let texts = found.len().min(reference.len()).max(1) as f64;
        let one = |found: &[f64], reference: &[f64]| sign * (found[0] - reference[0]);
        let whole = |sums: &[f64]| sign * (sums[0] - sums[1]) / texts;
        let scores = || found.rows().chain(reference.rows()).map(|row| row[0]);
        let reach = scores().fold(f64::NEG_INFINITY, f64::max) - scores().fold(f64::INFINITY, f64::min);
        Lost::of_pairs(found, reference, reach.max(0.0), one, whole)
    }

    /// `one`: what a pair of rows loses; `whole`: what the added sums of both sides do.
    fn of_pairs(
        found: &Sums,
        reference: &Sums,
        reach: f64,
        one: impl Fn(&[f64], &[f64]) -> f64,
        whole: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Lost {
        let each = || found.rows().zip(reference.rows());
        let pairs = found.beside(reference);
        let lost = Lost {
            points: if pairs.is_empty() { 0.0 } else { rounded(whole(&pairs.whole())) },
            interval: [0.0; 2],
            samples: pairs.len() as u64,
            worse: each().filter(|(found, reference)| one(found, reference) > 0.0).count() as u64,
            better: each().filter(|(found, reference)| one(found, reference) < 0.0).count() as u64,
            reach,
            method: String::new(),
        };
        if !pairs.is_empty() && each().all(|(found, reference)| found == reference) {
            return lost.without_differences();
        }
        match bootstrap::interval(&pairs, whole).filter(|_| lost.samples >= DECIDING_PAIRS) {
            Some(interval) => {
                let method = format!("paired bootstrap, {RESAMPLES} resamples");
                Lost { interval: interval.map(rounded), method, ..lost }
            }
            None => lost.with_few_pairs(),
        }
    }

    fn with_few_pairs(self) -> Lost {
        let interval = [self.points.min(-self.reach), self.points.max(self.reach)];
        Lost { interval, method: format!("fewer than {DECIDING_PAIRS} pairs decide nothing"), ..self }
    }

    fn without_differences(self) -> Lost {
        Lost { points: 0.0, interval: [0.0; 2], method: "no pair differs".to_owned(), ..self }
    }
}

/// One of 500 is 0.2 points and keeps a limit of 0.2, though 55.4 - 55.2 is a little more than 0.2 in binary. No zero is negative.
fn rounded(points: f64) -> f64 {
    (points * 1e9).round() / 1e9 + 0.0
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(points: f64, interval: [f64; 2], samples: u64) -> Lost {
        Lost { points, interval, samples, worse: 0, better: 0, reach: ALL, method: String::new() }
    }

    #[test]
    fn a_limit_is_kept_up_to_the_interval_s_upper_end_and_broken_below_its_lower() {
        let lost = lost(0.5, [0.2, 0.8], 100);
        assert_eq!(
            [0.1, 0.2, 0.5, 0.8, 0.9].map(|limit| lost.ruling(limit)),
            [Ruling::Broken, Ruling::Undecided, Ruling::Undecided, Ruling::Kept, Ruling::Kept]
        );
    }

    #[test]
    fn pairs_without_a_difference_keep_a_limit_that_one_of_them_would_have_broken() {
        let none = |samples| lost(0.0, [0.0; 2], samples);
        assert_eq!([none(1000), none(999)].map(|lost| lost.ruling(0.1)), [Ruling::Kept, Ruling::Undecided]);
        assert_eq!([none(1000), none(999)].map(|lost| lost.samples_to_decide(0.1)), [None, Some(1000)]);
        assert_eq!(none(5).ruling(0.0), Ruling::Kept, "nothing may be lost, and nothing is");
    }

    #[test]
    fn the_end_beyond_the_limit_says_how_many_samples_would_decide() {
        let lost = lost(1.0, [-1.0, 2.0], 100);
        // The upper end is 1 away and has to come to 0.5 away: four times as many, and one for the strict side.
        assert_eq!(lost.samples_to_decide(1.5), Some(401));
        // The lower end is 2 away and has to come to 0.5 away.
        assert_eq!(lost.samples_to_decide(0.5), Some(1601));
        // At the limit itself, where more samples come no nearer to a side.
        assert_eq!(lost.samples_to_decide(1.0), None);
        assert_eq!(lost.samples_to_decide(2.0), None, "kept");
        assert_eq!(lost.samples_to_decide(1.0 + 1e-15), Some(u64::MAX));
    }

    #[test]
    fn shares_are_told_in_points_with_the_chance_that_it_is_one() {
        let lost = Lost::of_shares(Pairs { worse: 12, better: 2, all: 50 });
        assert_eq!((lost.points, lost.samples, lost.worse, lost.better), (20.0, 50, 12, 2));
        assert_eq!(lost.method, "score interval of pairs; exact McNemar p = 0.013");
        let nothing = Lost::of_shares(Pairs { worse: 0, better: 0, all: 50 });
        assert_eq!((nothing.interval, nothing.method.as_str()), ([0.0; 2], "no pair differs"));
        assert_eq!(nothing.ruling(0.0), Ruling::Kept);
    }
}
