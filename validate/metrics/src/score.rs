//! How well texts answer a task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sequences::edit_distance;
use crate::spread::Ruling;

/// A figure that says how well the model does its task. All are told in points, which are hundredths.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskMetric {
    /// Share of outputs whose words equal the target's.
    #[default]
    ExactMatch,
    /// Edit distance over words, over words of the target.
    #[serde(alias = "token_error_rate")]
    WordErrorRate,
}

impl TaskMetric {
    /// As the recipe spells it.
    pub fn name(self) -> &'static str {
        match self {
            TaskMetric::ExactMatch => "exact_match",
            TaskMetric::WordErrorRate => "word_error_rate",
        }
    }

    /// As a table shows it.
    pub fn label(self) -> &'static str {
        match self {
            TaskMetric::ExactMatch => "exact match",
            TaskMetric::WordErrorRate => "word errors",
        }
    }

    /// Whether more is better.
    pub fn rises(self) -> bool {
        match self {
            TaskMetric::ExactMatch => true,
            TaskMetric::WordErrorRate => false,
        }
    }

    /// Whether one text can weigh no more than its share, so that an output without an end cannot drown the others.
    pub fn is_bounded(self) -> bool {
        self.rises()
    }
}

/// What is scored, and how texts are put before they are compared.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scoring {
    /// The first is the one that has a limit; at least one.
    pub metrics: Vec<TaskMetric>,
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
    /// By metric and text.
    sums: Vec<Vec<[f64; 2]>>,
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
    /// 95 % of samples of this size from the same source lie between.
    pub interval: Option<[f64; 2]>,
    /// Without the outputs that ran to the limit of their length, where there are some and one can drown the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<f64>,
}

/// How much worse one model's answers are than another's to the same questions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Negative when better.
    pub points: f64,
    /// 95 %, of differences in pairs.
    pub interval: [f64; 2],
    /// Pairs.
    pub samples: u64,
    /// Of them, how many were worse and how many better than the reference.
    pub worse: u64,
    /// See `worse`.
    pub better: u64,
    /// Whence the interval, as `exact McNemar`.
    pub method: String,
}

impl Scored {
    /// `None` without answers.
    pub fn of<'a>(scoring: &Scoring, answers: impl IntoIterator<Item = Answer<'a>>) -> Option<Scored> {
        let answers: Vec<Answer> = answers.into_iter().collect();
        let of = |metric: &TaskMetric| answers.iter().map(|answer| sums(*metric, answer)).collect();
        (!answers.is_empty()).then(|| Scored {
            metrics: scoring.metrics.clone(),
            sums: scoring.metrics.iter().map(of).collect(),
            endless: answers.iter().map(|answer| answer.is_endless).collect(),
        })
    }

    /// Of the first `texts` alone; all where there are fewer.
    pub fn first(&self, texts: usize) -> Scored {
        let texts = texts.min(self.endless.len());
        Scored {
            metrics: self.metrics.clone(),
            sums: self.sums.iter().map(|sums| sums[..texts].to_vec()).collect(),
            endless: self.endless[..texts].to_vec(),
        }
    }

    /// Figures with their intervals.
    pub fn score(&self) -> Score {
        let figure = |(metric, sums): (&TaskMetric, &Vec<[f64; 2]>)| Figure {
            metric: *metric,
            points: points(sums.iter()),
            interval: None,
            ended: None,
        };
        Score {
            texts: self.endless.len() as u64,
            endless: self.endless.iter().filter(|endless| **endless).count() as u64,
            figures: self.metrics.iter().zip(&self.sums).map(figure).collect(),
        }
    }

    /// How much worse these are than the reference's answers to the same questions, by the metric at `place`. Where the metric is not
    /// bounded, pairs of which one ran to the limit are left out: [`Scored::endless_lost`] counts them.
    pub fn lost(&self, reference: &Scored, place: usize) -> Lost {
        let sign = if self.metrics[place].rises() { -1.0 } else { 1.0 };
        let lost = sign * (points(self.sums[place].iter()) - points(reference.sums[place].iter()));
        // One of 500 is 0.2 points and keeps a limit of 0.2, though 55.4 - 55.2 is a little more than 0.2 in binary.
        let points = (lost * 1e9).round() / 1e9;
        Lost {
            points,
            interval: [points; 2],
            samples: self.endless.len() as u64,
            worse: 0,
            better: 0,
            method: String::new(),
        }
    }

    /// How many more outputs of a hundred ran to the limit of their length than of the reference's.
    pub fn endless_lost(&self, reference: &Scored) -> Lost {
        let share = |one: &Scored| one.endless.iter().filter(|e| **e).count() as f64 / one.endless.len() as f64;
        let points = 100.0 * (share(self) - share(reference));
        Lost {
            points,
            interval: [points; 2],
            samples: self.endless.len() as u64,
            worse: 0,
            better: 0,
            method: String::new(),
        }
    }
}

impl Lost {
    /// What the pairs say of "at most `limit` points lost".
    pub fn ruling(&self, limit: f64) -> Ruling {
        match self.interval {
            [_, high] if high <= limit => Ruling::Kept,
            [low, _] if low > limit => Ruling::Broken,
            _ => Ruling::Undecided,
        }
    }

    /// About how many samples of the same kind would decide it; `None` when they are enough.
    pub fn samples_to_decide(&self, limit: f64) -> Option<u64> {
        let half = (self.interval[1] - self.interval[0]) / 2.0;
        let away = (self.points - limit).abs();
        (self.ruling(limit) == Ruling::Undecided).then(|| (self.samples as f64 * (half / away).powi(2)).ceil() as u64)
    }
}

fn sums(metric: TaskMetric, answer: &Answer) -> [f64; 2] {
    let words = |text: &'_ str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let (found, target) = (words(answer.found), words(answer.target));
    match metric {
        TaskMetric::ExactMatch => [f64::from(u8::from(found == target)), 1.0],
        TaskMetric::WordErrorRate => [edit_distance(&found, &target) as f64, target.len() as f64],
    }
}

fn points<'a>(sums: impl Iterator<Item = &'a [f64; 2]>) -> f64 {
    let [part, whole] = sums.fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]);
    if whole == 0.0 { if part > 0.0 { 100.0 } else { 0.0 } } else { 100.0 * part / whole }
}
