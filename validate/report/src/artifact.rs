//! One artifact: what it is, what ran it, and what came of it.

use std::fmt;

use metrics::{Agreement, Distances, Score, Spread};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::parting::Parting;
use crate::values::{Histogram, ValueError};

/// One artifact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactReport {
    /// Its name in the recipe.
    pub name: String,
    /// Where it lies, beside the report or in the folder of artifacts: its name, or that and `.failed`.
    #[serde(default)]
    pub folder: String,
    /// `onnx`, `gguf`, `safetensors`.
    pub format: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Its files, but for its manifest.
    pub files: Vec<OutputFile>,
    /// Bits of stored weights, scales and zeros included, over the number of weights.
    pub bits_per_weight: f64,
    /// The links, in the order of the chain.
    pub checks: Vec<Check>,
    /// The quantized graph and each engine, in the order in which they ran.
    pub runs: Vec<Run>,
    /// How fast it is in each engine; empty when that was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speed: Vec<Speed>,
    /// Every tensor with its type and error.
    pub tensors: Vec<TensorRow>,
    /// Values between input and logits, in the order of the computation; empty where nobody looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueError>,
    /// All outputs side by side, those first that differ the most.
    pub generations: Vec<Generation>,
    /// Exact edits and recipe-allowed replacements.
    pub substitutions: Vec<Note>,
}

impl ArtifactReport {
    /// The name of its folder.
    pub fn lies_in(&self) -> &str {
        if self.folder.is_empty() { &self.name } else { &self.folder }
    }
}

/// A file that was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Relative to the artifact's folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Lowercase hexadecimal.
    #[serde(default)]
    pub sha256: String,
}

/// What validation says of an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No check failed.
    Passed,
    /// One did.
    Failed,
    /// Nobody looked.
    #[default]
    NotValidated,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::NotValidated => "not validated",
        })
    }
}

/// An engine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// `onnxruntime`.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What was set and matters for numbers, as `optimizations off, 2 threads`.
    pub settings: String,
}

/// What ran an artifact over the data, and what came out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name, version and settings.
    pub engine: Engine,
    /// Logits against the float model's, teacher-forced.
    pub to_float: Option<Distances>,
    /// Greedy generations against the float model's.
    pub agreement: Option<Agreement>,
    /// The task.
    pub score: Option<Score>,
}

impl Run {
    /// How many of `all` samples it was asked, where a simulator was asked the first few.
    pub(crate) fn part_of(&self, all: u64) -> Option<u64> {
        let asked = self.agreement.as_ref()?.sequences;
        (asked < all).then_some(asked)
    }
}

/// How fast an artifact is in an engine, on a few samples of the data one at a time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Name, version and settings, which are those of its users and not those of validation.
    pub engine: Engine,
    /// Of the data.
    pub samples: u64,
    /// Of all samples, in turn with the float model.
    pub rounds: u64,
    /// Said for each sample, whatever they are.
    pub tokens: u64,
    /// From the source to the first token.
    pub first_token_ms: Spread,
    /// After the first.
    pub tokens_per_s: Option<Spread>,
    /// The most memory that was resident in the engine's process, in millions of bytes.
    pub peak_mb: Option<f64>,
    /// Ratios to the float model; absent for a float artifact and where there was nothing to compare with.
    pub against_float: Option<AgainstFloat>,
    /// Processes that ran or wanted to, before and after: what the machine had to do beside this.
    pub machine_load: [Option<f64>; 2],
    /// Why it is slower than the float model, or why there is no ratio; empty when there is nothing to say.
    pub sentence: String,
}

/// An artifact over the float model in the same format and engine, both having run in turn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgainstFloat {
    /// Its tokens per second over the float model's: more is faster.
    pub speedup: Option<Spread>,
    /// Its time to the first token over the float model's: less is faster.
    pub first_token: Spread,
    /// Its peak of memory over the float model's.
    pub peak: Option<f64>,
}

/// A weight as it is stored, and its error against the checkpoint.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorRow {
    /// The checkpoint's name.
    pub name: String,
    /// What it does in the model: `embedding`, `norm`, ….
    pub role: String,
    /// `f16`, `int8 per row`, `Q4_K`.
    pub type_name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Bytes stored, scales included.
    pub bytes: u64,
    /// `8 · bytes / elements`.
    pub bits_per_weight: f64,
    /// Signal to quantization noise; absent when exact.
    pub sqnr_db: Option<f64>,
    /// `‖w - ŵ‖₂ / ‖w‖₂`.
    pub rel_l2: f64,
    /// `max |w - ŵ|`.
    pub max_abs_error: f64,
    /// `nearest`, `importance`, `gptq`.
    pub method: String,
    /// Signal to noise of its Linear's outputs on the calibration samples, when the method measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sqnr_db: Option<f64>,
    /// The same with the nearest codes under the same scales.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_output_sqnr_db: Option<f64>,
    /// Of the worst tensors alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
    /// What calibration found out of the ordinary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One input and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Its place in the data, from 0.
    pub sample: u64,
    /// The input.
    pub input: String,
    /// The right answer, if the data has one.
    pub target: Option<String>,
    /// The float model's output.
    pub float: String,
    /// The outputs of [`ArtifactReport::runs`], in that order; null where a run has not decoded this input.
    pub outputs: Vec<Option<String>>,
    /// Whether the float model, and then each run, ran to the limit of its length; empty when none did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endless: Vec<bool>,
    /// Where runs leave what they are judged against, in the order of the stages; none where they do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partings: Vec<Parting>,
}

impl Generation {
    /// Whether some run said something else than the float model.
    pub fn differs(&self) -> bool {
        self.outputs.iter().flatten().any(|output| *output != self.float)
    }
}

/// The tensors with the largest relative error, worst first; exact ones are left out.
pub fn worst(tensors: &[TensorRow], count: usize) -> Vec<&TensorRow> {
    let mut lossy: Vec<&TensorRow> = tensors.iter().filter(|t| t.rel_l2 != 0.0).collect();
    lossy.sort_by(|a, b| b.rel_l2.total_cmp(&a.rel_l2).then_with(|| a.name.cmp(&b.name)));
    lossy.truncate(count);
    lossy
}

/// A sentence about something.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// What it is about.
    pub about: String,
    /// What there is to say.
    pub text: String,
}
