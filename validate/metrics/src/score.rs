//! How well texts answer a task.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap;
use crate::lost::Lost;
use crate::metric::TaskMetric;
use crate::normalize::Normalizer;
use crate::proportions::{Pairs, wilson};
use crate::sums::Sums;

/// What is scored, and how texts are put before they are compared.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scoring {
    /// The first is the one that has a limit; at least one.
    pub metrics: Vec<TaskMetric>,
    /// Of what exact match and error rates compare; BLEU, chrF and ROUGE take texts as they are.
    pub normalizer: Normalizer,
}

/// An output and what it should be.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was said.
    pub found: &'a str,
    /// What is right.
    pub target: &'a str,
    /// It ran to the limit of its length and not to an end.
    pub is_endless: bool,
}

/// Sums of each metric for each text, from which figures, and differences of figures, are computed.
#[derive(Clone, PartialEq, Debug)]
pub struct Scored {
    metrics: Vec<TaskMetric>,
    /// By metric.
    sums: Vec<Sums>,
    endless: Vec<bool>,
}

/// How well texts answer a task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Texts compared.
    pub texts: u64,
    /// Of them, how many ran to the limit of their length.
    pub endless: u64,
    /// In the order in which they were asked for.
    pub figures: Vec<Figure>,
}

/// One metric over some texts.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Which.
    pub metric: TaskMetric,
    /// Hundredths; error rates may pass 100.
    pub points: f64,
    /// 95 % of samples of this size from the same source lie between. Absent where one text says nothing of others.
    pub interval: Option<[f64; 2]>,
    /// Without the outputs that ran to the limit of their length, where there are some and one can drown the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<f64>,
}

impl Scoring {
    /// By metric, what an answer adds.
    fn sums(&self, answer: &Answer) -> Vec<Vec<f64>> {
        let is_normalized = self.metrics.iter().any(|metric| metric.is_normalized());
        let normalized = |text| if is_normalized { self.normalizer.apply(text) } else { "".into() };
        let (found, target) = (normalized(answer.found), normalized(answer.target));
        let of = |metric: &TaskMetric| match metric.is_normalized() {
            true => metric.sums(&found, &target),
            false => metric.sums(answer.found, answer.target),
        };
        self.metrics.iter().map(of).collect()
    }
}

impl Scored {
    /// `None` without answers.
    pub fn of<'a>(scoring: &Scoring, answers: impl IntoIterator<Item = Answer<'a>>) -> Option<Scored> {
        let answers: Vec<Answer> = answers.into_iter().collect();
        let added: Vec<Vec<Vec<f64>>> = answers.par_iter().map(|answer| scoring.sums(answer)).collect();
        let mut sums: Vec<Sums> = scoring.metrics.iter().map(|metric| Sums::new(metric.width())).collect();
        added.iter().for_each(|added| sums.iter_mut().zip(added).for_each(|(sums, row)| sums.push(row)));
        let endless = answers.iter().map(|answer| answer.is_endless).collect();
        (!answers.is_empty()).then(|| Scored { metrics: scoring.metrics.clone(), sums, endless })
    }

    /// Of the first `texts` alone, at least one; all where there are fewer.
    pub fn first(&self, texts: usize) -> Scored {
        let texts = texts.clamp(1, self.endless.len());
        Scored {
            metrics: self.metrics.clone(),
            sums: self.sums.iter().map(|sums| sums.of(0..texts)).collect(),
            endless: self.endless[..texts].to_vec(),
        }
    }

    /// How many.
    pub fn texts(&self) -> usize {
        self.endless.len()
    }

    /// Figures with their intervals.
    pub fn score(&self) -> Score {
        Score {
            texts: self.endless.len() as u64,
            endless: self.endless.iter().filter(|endless| **endless).count() as u64,
            figures: self.metrics.iter().zip(&self.sums).map(|(metric, sums)| self.figure(*metric, sums)).collect(),
        }
    }

    fn figure(&self, metric: TaskMetric, sums: &Sums) -> Figure {
        let whole = sums.whole();
        let interval = match metric {
            TaskMetric::ExactMatch => Some(wilson(whole[0], whole[1]).map(|end| 100.0 * end)),
            _ => bootstrap::interval(sums, |sums| metric.points(sums)),
        };
        let ended = (0..self.endless.len()).filter(|text| !self.endless[*text]);
        let drowns = !metric.is_bounded() && self.endless.contains(&true) && self.endless.contains(&false);
        Figure {
            metric,
            points: metric.points(&whole),
            interval,
            ended: drowns.then(|| metric.points(&sums.total(ended))),
        }
    }

    /// How much worse these are than the reference's answers to the same questions, by the metric at `place`. Where the metric is not
    /// bounded, pairs of which one ran to the limit are left out: [`Scored::endless_lost`] counts them.
    ///
    /// `reference`: scored by the same metrics. Where one side has fewer answers, only as many are paired.
    pub fn lost(&self, reference: &Scored, place: usize) -> Lost {
        let metric = self.metrics[place];
        let (found, right) = (&self.sums[place], &reference.sums[place]);
        if metric == TaskMetric::ExactMatch {
            let equals = |sums: &[f64]| sums[0] > 0.0;
            return Lost::of_shares(pairs(found.rows().map(equals), right.rows().map(equals), false));
        }
        let judged = |text: &usize| metric.is_bounded() || !(self.endless[*text] || reference.endless[*text]);
        let texts = || (0..found.len().min(right.len())).filter(judged);
        Lost::of_sums(metric, &found.of(texts()), &right.of(texts()))
    }

    /// How many more outputs of a hundred ran to the limit of their length than of the reference's. Judged on pairs, too.
    pub fn endless_lost(&self, reference: &Scored) -> Lost {
        Lost::of_shares(pairs(self.endless.iter().copied(), reference.endless.iter().copied(), true))
    }
}

/// Pairs of answers by whether something is true of them; one is worse where it alone `is_bad`, or where only the reference is not.
fn pairs(found: impl Iterator<Item = bool>, reference: impl Iterator<Item = bool>, is_bad: bool) -> Pairs {
    let mut pairs = Pairs { worse: 0, better: 0, all: 0 };
    for (found, reference) in found.zip(reference) {
        pairs.all += 1;
        pairs.worse += u64::from(found != reference && found == is_bad);
        pairs.better += u64::from(found != reference && reference == is_bad);
    }
    pairs
}
