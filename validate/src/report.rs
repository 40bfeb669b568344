//! What was found: `report.json` for machines, `report.md` for people.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bench::Spread;
use crate::bench::statistics::{Ruling, judge};
use crate::metrics::{Agreement, Distances, Score};
use crate::runtime::Engine;

mod markdown;

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
    /// The task metric that has a limit.
    pub metric: String,
}

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
    /// A selection of outputs side by side, differing ones first.
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
    /// What calibration found out of the ordinary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One input and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The input.
    pub input: String,
    /// The right answer, if the data has one.
    pub target: Option<String>,
    /// The float model's output.
    pub float: String,
    /// The outputs of [`ArtifactReport::runs`], in that order; null where a run has not decoded this input.
    pub outputs: Vec<Option<String>>,
}

impl Generation {
    /// Whether some run said something else than the float model.
    pub fn differs(&self) -> bool {
        self.outputs.iter().flatten().any(|output| *output != self.float)
    }
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
    /// Points (hundredths) that the task metric is worse than the float model's.
    MetricDrop,
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
            Metric::MetricDrop => "points lost",
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

    /// The same check with all distances beside it.
    pub fn with(mut self, distances: Distances) -> Check {
        self.distances = Some(distances);
        self
    }
}

impl Report {
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

    /// The text of `report.md`.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }
}

/// The tensors with the largest relative error, worst first; exact ones are left out.
pub fn worst(tensors: &[TensorRow], count: usize) -> Vec<&TensorRow> {
    let mut lossy: Vec<&TensorRow> = tensors.iter().filter(|t| t.rel_l2 != 0.0).collect();
    lossy.sort_by(|a, b| b.rel_l2.total_cmp(&a.rel_l2).then_with(|| a.name.cmp(&b.name)));
    lossy.truncate(count);
    lossy
}
