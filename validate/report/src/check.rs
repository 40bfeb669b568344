//! Comparisons and their outcomes.

use std::fmt;

use metrics::spread::judge;
use metrics::{Distances, Lost, Ruling, Spread};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stage of the pipeline that a check can find broken, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Recorded transformers outputs with the interpreted import.
    Import,
    /// The graph before the passes with the graph after, and the whole pass with steps.
    Passes,
    /// The exact graph with the quantized one.
    Quantization,
    /// The weights read back with the graph's.
    Export,
    /// The quantized graph with an engine that runs the artifact.
    Runtime,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Link::Import => "import",
            Link::Passes => "passes",
            Link::Quantization => "quantization",
            Link::Export => "export",
            Link::Runtime => "runtime",
        })
    }
}

/// What is compared with a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// `‖a - b‖₂ / ‖a‖₂`.
    RelL2,
    /// `10·log10(‖a‖² / ‖a - b‖²)`, decibels; at most 300, which stands for equal.
    Sqnr,
    /// Mean KL divergence, nats.
    Kl,
    /// Top-1 agreement.
    Top1,
    /// Share of greedy tokens equal to the reference's.
    TokenAgreement,
    /// Share of answers that have the words of the reference's.
    SameAnswers,
    /// Edits to the words of the reference's answers, over their number.
    DifferingWords,
    /// Points (hundredths) that the task metric is worse than that of what it is judged against.
    MetricDrop,
    /// How many more outputs of a hundred run to the limit of their length.
    EndlessRise,
    /// How much worse the mean score of another judge is, in that one's unit.
    ScoreLost,
    /// Weights whose bits differ.
    DifferingWeights,
    /// Tokens per second over those of the float model in the same format and engine.
    Speedup,
    /// Whether the stage could do its work at all.
    Works,
}

impl Metric {
    /// As a table shows it.
    pub fn label(self) -> &'static str {
        match self {
            Metric::RelL2 => "relative L2",
            Metric::Sqnr => "SQNR, dB",
            Metric::Kl => "KL",
            Metric::Top1 => "top-1",
            Metric::TokenAgreement => "token agreement",
            Metric::SameAnswers => "same answers",
            Metric::DifferingWords => "differing words",
            Metric::MetricDrop => "points lost",
            Metric::EndlessRise => "endless, more of 100",
            Metric::ScoreLost => "score lost",
            Metric::DifferingWeights => "differing weights",
            Metric::Speedup => "speedup",
            Metric::Works => "works",
        }
    }
}

/// A bound that a value must keep. A value that is absent or not a number keeps none.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `value ≤ limit`.
    AtMost(f64),
    /// `value ≥ limit`.
    AtLeast(f64),
}

impl Limit {
    /// Whether `value` keeps it.
    pub fn holds(self, value: Option<f64>) -> bool {
        match (self, value) {
            (Limit::AtMost(limit), Some(value)) => value <= limit,
            (Limit::AtLeast(limit), Some(value)) => value >= limit,
            (_, None) => false,
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Measured, and within the limit.
    Passed,
    /// Measured and outside the limit, or the stage could not do its work.
    Failed,
    /// Not measured; the sentence says why and what would make it run.
    NotRun,
    /// Measured; there is no limit.
    Info,
    /// Measured, and the figures scatter too much for the limit to be judged.
    Undecided,
}

/// One comparison.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The stage that it tests.
    pub link: Link,
    /// What was compared, as `logits of 500 samples in onnxruntime 1.32.0`.
    pub what: String,
    /// What was measured.
    pub metric: Metric,
    /// The figure; absent when not run or not a number.
    pub value: Option<f64>,
    /// 95 % of samples of this size from the same source lie between; absent where the figure is of no sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Inputs that the figure is of; absent where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Its bound.
    pub limit: Option<Limit>,
    /// The verdict.
    pub outcome: Outcome,
    /// When failed: what broke and what to try; when not run: why, and what would make it run; else the limit's reason.
    pub sentence: String,
    /// Every distance, when logits or hidden states were compared.
    pub distances: Option<Distances>,
    /// Not run because an engine is not on this machine that runs such artifacts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub engine_is_missing: bool,
}

impl Check {
    const NOTHING: Check = Check {
        link: Link::Runtime,
        what: String::new(),
        metric: Metric::Works,
        value: None,
        interval: None,
        samples: None,
        limit: None,
        outcome: Outcome::NotRun,
        sentence: String::new(),
        distances: None,
        engine_is_missing: false,
    };

    /// Judges a value by a limit. `broken` is the sentence shown when it does not hold.
    pub fn judge(
        link: Link,
        what: impl Into<String>,
        metric: Metric,
        value: Option<f64>,
        limit: Limit,
        broken: &str,
    ) -> Check {
        // JSON has no NaN; an absent value says the same and keeps no limit.
        let value = value.filter(|v| v.is_finite());
        let outcome = if limit.holds(value) { Outcome::Passed } else { Outcome::Failed };
        let sentence = match (outcome, value) {
            (Outcome::Passed, _) => String::new(),
            (_, None) => format!("the {} is not a number: {broken}", metric.label()),
            (_, Some(_)) => broken.to_owned(),
        };
        Check { link, what: what.into(), metric, value, limit: Some(limit), outcome, sentence, ..Check::NOTHING }
    }

    /// Judges by pairs whether at most `limit` points are lost. `broken`: what to do when more are.
    pub fn lost(link: Link, what: impl Into<String>, metric: Metric, lost: &Lost, limit: f64, broken: &str) -> Check {
        let [low, high] = lost.interval;
        let pairs = format!("{} of {} pairs worse, {} better ({})", lost.worse, lost.samples, lost.better, lost.method);
        let (outcome, sentence) = match lost.ruling(limit) {
            Ruling::Kept => (Outcome::Passed, pairs),
            Ruling::Broken => (Outcome::Failed, format!("{broken}; {pairs}")),
            Ruling::Undecided => {
                let enough = match lost.samples_to_decide(limit) {
                    Some(samples) => format!("about {samples} samples would decide it"),
                    None => "no number of samples is known to decide it".to_owned(),
                };
                let lost = match metric {
                    Metric::ScoreLost => format!("{low:.4} to {high:.4}"),
                    _ => format!("{low:.2} to {high:.2} points"),
                };
                let found = format!("undecided at this size: {lost} with a limit of {limit}");
                (Outcome::Undecided, format!("{found}; {enough}; {pairs}"))
            }
        };
        let (value, interval) = (Some(lost.points).filter(|points| points.is_finite()), Some(lost.interval));
        let (what, limit, samples) = (what.into(), Some(Limit::AtMost(limit)), Some(lost.samples));
        Check { link, what, metric, value, interval, samples, limit, outcome, sentence, ..Check::NOTHING }
    }

    /// Judges a speedup by the ratios of rounds. `broken`: why, when none of them keeps the limit.
    pub fn speedup(what: impl Into<String>, ratios: &[f64], limit: f64, broken: &str) -> Check {
        let spread = Spread::of(ratios.iter().copied());
        let (outcome, sentence) = match judge(ratios, limit) {
            Ruling::Kept => (Outcome::Passed, String::new()),
            Ruling::Broken => (Outcome::Failed, broken.to_owned()),
            Ruling::Undecided => {
                let [low, high] = spread.map_or([0.0; 2], |spread| [spread.low, spread.high]);
                let rounds = ratios.len();
                let found = format!("{rounds} rounds, half of them from {low:.2} to {high:.2}");
                (
                    Outcome::Undecided,
                    format!("not decided by {found}: convert again while the machine has nothing else to do"),
                )
            }
        };
        let (what, value) = (what.into(), spread.map(|spread| spread.median));
        let limit = Some(Limit::AtLeast(limit));
        Check { what, metric: Metric::Speedup, value, limit, outcome, sentence, ..Check::NOTHING }
    }

    /// A figure without a limit.
    pub fn info(link: Link, what: impl Into<String>, metric: Metric, value: Option<f64>, sentence: &str) -> Check {
        let value = value.filter(|v| v.is_finite());
        let sentence = sentence.to_owned();
        Check { link, what: what.into(), metric, value, outcome: Outcome::Info, sentence, ..Check::NOTHING }
    }

    /// The stage could not do its work.
    pub fn failed(link: Link, what: impl Into<String>, sentence: impl Into<String>) -> Check {
        let (what, sentence) = (what.into(), sentence.into());
        Check { link, what, outcome: Outcome::Failed, sentence, ..Check::NOTHING }
    }

    /// The stage did its work, and there is no figure to it.
    pub fn passed(link: Link, what: impl Into<String>, sentence: impl Into<String>) -> Check {
        Check { outcome: Outcome::Passed, ..Check::failed(link, what, sentence) }
    }

    /// What was seen, which is neither right nor wrong and has no figure.
    pub fn seen(link: Link, what: impl Into<String>, sentence: impl Into<String>) -> Check {
        Check { outcome: Outcome::Info, ..Check::failed(link, what, sentence) }
    }

    /// Not measured.
    pub fn not_run(link: Link, what: impl Into<String>, why: impl Into<String>) -> Check {
        Check { outcome: Outcome::NotRun, ..Check::failed(link, what, why) }
    }

    /// Not measured, for want of an engine.
    pub fn missing(link: Link, what: impl Into<String>, why: impl Into<String>) -> Check {
        Check { engine_is_missing: true, ..Check::not_run(link, what, why) }
    }

    /// The same figure, judged by nothing.
    pub fn without_limit(self) -> Check {
        Check { limit: None, outcome: Outcome::Info, sentence: String::new(), ..self }
    }

    /// The same check of so many inputs, with the interval of its figure.
    pub fn of(mut self, samples: usize, interval: Option<[f64; 2]>) -> Check {
        (self.samples, self.interval) = (Some(samples as u64), interval);
        self
    }

    /// The same check with all distances beside it.
    pub fn with(mut self, distances: Distances) -> Check {
        self.distances = Some(distances);
        self
    }
}
