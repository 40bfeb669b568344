//! The difference of two reports, as a value.

use metrics::TaskMetric;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Link, Outcome};

/// What changed. Pairs are of the old report and the new one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// The model's name.
    pub model: String,
    /// Versions of trefoil.
    pub trefoil: [String; 2],
    /// The verdicts in words.
    pub verdicts: [String; 2],
    /// Samples of the data, the same ones for both.
    pub samples: u64,
    /// What breaks a rule, a sentence each; empty when the new report may take the place of the old one.
    pub regressions: Vec<Regression>,
    /// Checks of the model that ended otherwise.
    pub checks: Vec<CheckChange>,
    /// Artifacts that both reports have, in the new one's order.
    pub artifacts: Vec<ArtifactDiff>,
    /// Names of artifacts that the old one lacks.
    pub added: Vec<String>,
    /// Names of artifacts that the new one lacks.
    pub removed: Vec<String>,
}

/// A change that breaks a rule.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// The artifact; absent where it is the model.
    pub artifact: Option<String>,
    /// What was and what is.
    pub sentence: String,
}

/// One artifact then and now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactDiff {
    /// Its name.
    pub name: String,
    /// Bytes of all files.
    pub bytes: [u64; 2],
    /// Bits of stored weights over their number.
    pub bits_per_weight: [f64; 2],
    /// Checks that ended otherwise.
    pub checks: Vec<CheckChange>,
    /// Engines that both reports have.
    pub runs: Vec<RunDiff>,
    /// Engines that the old one lacks.
    pub added: Vec<String>,
    /// Engines that the new one lacks.
    pub removed: Vec<String>,
}

/// One engine then and now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunDiff {
    /// Its name.
    pub engine: String,
    /// Its versions.
    pub versions: [String; 2],
    /// Figures that one of the reports has.
    pub figures: Vec<FigureDiff>,
    /// Right then and wrong now.
    pub newly_wrong: Vec<Sentence>,
    /// Wrong then and right now.
    pub newly_right: Vec<Sentence>,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// A figure of the task, in points.
    Task(TaskMetric),
    /// KL divergence from the float model, in nats.
    Kl,
    /// Share of positions with the float model's likeliest token.
    Top1,
    /// Outputs that ran to the limit of their length.
    Endless,
    /// Milliseconds from the source to the first token.
    FirstTokenMs,
    /// After the first.
    TokensPerS,
    /// Resident memory, in millions of bytes.
    PeakMb,
}

impl Quantity {
    /// As a table shows it.
    pub fn label(self) -> &'static str {
        match self {
            Quantity::Task(metric) => metric.label(),
            Quantity::Kl => "KL",
            Quantity::Top1 => "top-1",
            Quantity::Endless => "endless outputs",
            Quantity::FirstTokenMs => "first token, ms",
            Quantity::TokensPerS => "tokens/s",
            Quantity::PeakMb => "peak memory, MB",
        }
    }

    /// Whether more is better.
    pub fn rises(self) -> bool {
        match self {
            Quantity::Task(metric) => metric.rises(),
            Quantity::Top1 | Quantity::TokensPerS => true,
            Quantity::Kl | Quantity::Endless | Quantity::FirstTokenMs | Quantity::PeakMb => false,
        }
    }
}

/// A figure with what it may be off.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The figure.
    pub value: f64,
    /// 95 % of a task metric, the quartiles of a time; absent for what has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl Measured {
    /// Its interval; of a figure without one, the figure.
    pub fn range(&self) -> [f64; 2] {
        self.interval.unwrap_or([self.value; 2])
    }
}

/// A figure then and now.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FigureDiff {
    /// What is measured.
    pub quantity: Quantity,
    /// Absent where it was not measured or is not a number.
    pub old: Option<Measured>,
    /// See `old`.
    pub new: Option<Measured>,
    /// What is to be said of it.
    pub change: Change,
}

/// How two figures stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Beyond both intervals.
    Better,
    /// Beyond both intervals.
    Worse,
    /// Another figure, and the intervals meet.
    WithinIntervals,
    /// The same figure.
    Same,
    /// One of them is missing.
    Unknown,
}

impl Change {
    /// In a word.
    pub fn label(self) -> &'static str {
        match self {
            Change::Better => "better",
            Change::Worse => "worse",
            Change::WithinIntervals => "within the intervals",
            Change::Same => "same",
            Change::Unknown => "not in both",
        }
    }
}

/// A check that ended otherwise.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckChange {
    /// The stage that it tests.
    pub link: Link,
    /// What was compared, as the new report says it, or the old one where the check is gone.
    pub what: String,
    /// How it ended; absent where the check is new.
    pub old: Option<Outcome>,
    /// How it ended; absent where the check is gone.
    pub new: Option<Outcome>,
    /// The newest sentence about it.
    pub sentence: String,
}

/// An output that became wrong, or right. Right is the data's answer; the float model's where the data has none.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentence {
    /// Its place in the data, from 0.
    pub sample: u64,
    /// The input.
    pub input: String,
    /// The right answer.
    pub right: String,
    /// What was said then.
    pub old: String,
    /// What is said now.
    pub new: String,
}

impl Diff {
    /// The JSON of `trefoil report diff --json`.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a difference has only JSON types");
        text.push('\n');
        text
    }

    /// The schema of it, as `docs/report-diff.schema.json` holds it.
    pub fn schema() -> String {
        let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Diff)).expect("a schema is JSON");
        text.push('\n');
        text
    }
}
