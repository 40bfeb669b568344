//! What was found about a model and its artifacts.

use metrics::{Score, TaskMetric};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactReport, Note, Verdict};
use crate::check::{Check, Outcome};
use crate::column::Column;
use crate::values::{LayerCost, Made};

/// Everything that was found about a model and its artifacts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of trefoil.
    pub trefoil: String,
    /// The recipe: file name and text, or how it was called without one.
    pub recipe: Note,
    /// The full-precision model.
    pub model: ModelReport,
    /// What it was measured on.
    pub data: DataReport,
    /// What quantizers watched, when a method asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationReport>,
    /// Links of the chain that concern the model alone: import and passes.
    pub checks: Vec<Check>,
    /// One for each artifact, in the recipe's order.
    pub artifacts: Vec<ArtifactReport>,
    /// Artifacts in the same folder of which this report does not speak, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Note>,
    /// What layers cost, where `trefoil tune` ran on the same model before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<LayerCost>,
    /// Scores of other judges, as `trefoil report column` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// How and where it was made.
    #[serde(default)]
    pub made: Made,
}

/// The full-precision model and what its numbers mean.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelReport {
    /// Name of its folder.
    pub name: String,
    /// config.json's `model_type`.
    pub model_type: String,
    /// Weights of all tensors; tied ones count once.
    pub parameters: u64,
    /// The implementation whose numbers are the reference.
    pub reference: String,
    /// What multiplies the decoder's output before the head, with the reason.
    pub logit_scale: String,
    /// How it decodes: where it starts and ends, and what changes logits on the way.
    #[serde(default)]
    pub decoding: String,
    /// What its graph takes for granted, and where versions of the reference differ; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumes: Vec<String>,
    /// Files read.
    pub inputs: Vec<InputFile>,
    /// The float model's task score in the interpreter.
    pub score: Option<Score>,
}

/// A file that was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Relative to the model's folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Lowercase hexadecimal.
    pub sha256: String,
}

/// The evaluation data.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataReport {
    /// File name, or how the samples were made.
    pub source: String,
    /// Lowercase hexadecimal; empty when not a file.
    pub sha256: String,
    /// Samples used.
    pub samples: u64,
    /// Target positions at which logits are compared.
    pub positions: u64,
    /// Whence the target tokens of teacher forcing: the data, or the float model's own output.
    pub targets: String,
    /// The task metrics, the one that has a limit first.
    pub metrics: Vec<TaskMetric>,
}

/// What quantizers watched.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationReport {
    /// File name.
    pub source: String,
    /// Of the file, in lowercase hexadecimal.
    pub sha256: String,
    /// Sequences.
    pub samples: u64,
    /// Tokens that decoders were fed.
    pub positions: u64,
    /// What they were fed.
    pub prefixes: String,
    /// Mean loss of the data's targets under the float model, in nats a token.
    pub loss: Option<f64>,
    /// The value with the largest magnitude anywhere in the float model.
    pub largest: Option<Overflow>,
    /// Values above half of 65504, the largest of f16.
    pub near_overflow_count: u64,
    /// The largest of them.
    pub near_overflow: Vec<Overflow>,
}

/// A value of the graph and its largest magnitude over the calibration samples.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overflow {
    /// Its name in the graph.
    pub value: String,
    /// `max |x|`.
    pub max_abs: f32,
}

impl Report {
    /// [`ModelReport::reference`] where artifacts are compared with one of them and not with a float model.
    pub const NO_FLOAT: &'static str = "an artifact";

    /// What artifacts are compared with: the float model, or the artifact that stands in its place.
    pub fn compared_with(&self) -> &str {
        if self.model.reference == Report::NO_FLOAT { &self.model.name } else { "the float model" }
    }

    /// Every check, the model's first.
    pub fn all_checks(&self) -> impl Iterator<Item = (Option<&ArtifactReport>, &Check)> {
        let model = self.checks.iter().map(|c| (None, c));
        model.chain(self.artifacts.iter().flat_map(|a| a.checks.iter().map(move |c| (Some(a), c))))
    }

    /// What all checks of an artifact and of the model say; `strict`: an engine that is missing fails too.
    pub fn verdict_of(model: &[Check], artifact: &[Check], strict: bool) -> Verdict {
        let fails = |check: &Check| check.outcome == Outcome::Failed || strict && check.engine_is_missing;
        if model.iter().chain(artifact).any(fails) { Verdict::Failed } else { Verdict::Passed }
    }

    /// Whether no check failed. Checks that did not run do not count as passed: see [`Report::verdict`].
    pub fn passed(&self) -> bool {
        self.all_checks().all(|(_, c)| c.outcome != Outcome::Failed)
    }

    /// The verdict as one line, as `failed at quantization of onnx: …` or `passed: 41 checks; 2 not run`.
    ///
    /// The link named is the first broken one of the chain: what comes after it stands on it.
    pub fn verdict(&self) -> String {
        let count = |outcome| self.all_checks().filter(|(_, c)| c.outcome == outcome).count();
        let (passed, failed, not_run) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::NotRun));
        let told = |count: usize, word: &str| if count == 0 { String::new() } else { format!("; {count} {word}") };
        let skipped = told(not_run, "not run") + &told(count(Outcome::Undecided), "undecided");
        let first = self.all_checks().filter(|(_, c)| c.outcome == Outcome::Failed).min_by_key(|(_, c)| c.link);
        match first {
            None if passed == 0 => format!("nothing was checked{skipped}"),
            None => format!("passed: {passed} {}{skipped}", if passed == 1 { "check" } else { "checks" }),
            Some((artifact, check)) => {
                let of = artifact.map_or(String::new(), |a| format!(" of {}", a.name));
                let total = passed + failed;
                format!("failed at {}{of}: {failed} of {total} checks{skipped}", check.link)
            }
        }
    }

    /// The JSON of `report.json`.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report has only JSON types");
        text.push('\n');
        text
    }

    /// The schema of `report.json`, as `docs/report.schema.json` holds it.
    pub fn schema() -> String {
        let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Report)).expect("a schema is JSON");
        text.push('\n');
        text
    }
}
