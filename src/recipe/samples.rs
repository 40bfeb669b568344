//! The samples that a recipe names: those that calibrate, and those that judge.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use frontend::Kind;
use schemars::JsonSchema;
use serde::Deserialize;
use validate::calibration::Prefixes;
use validate::chain::Limits;
use validate::metrics::normalize::Rules;
use validate::metrics::{Normalizer, Scoring, TaskMetric};
use validate::runtime::Options;

/// Samples on which the model decodes while quantizers watch. They must not be those that validate it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationData {
    /// Lines `{"input": …, "target": …}` or plain text, relative to the recipe's folder.
    pub data: PathBuf,
    /// How many of them, from the first; all when absent.
    pub samples: Option<NonZeroUsize>,
    /// What the decoder is fed.
    #[serde(default)]
    pub decode: Prefixes,
}

/// What the artifacts are measured on, and what they must reach.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Lines `{"input": …, "target": …}` or plain text, relative to the recipe's folder; drawn inputs when absent.
    pub data: Option<PathBuf>,
    /// How many of them, from the first; 64 when absent.
    pub samples: Option<NonZeroUsize>,
    /// The figure that `limits.max_points_lost` is about.
    pub metric: TaskMetric,
    /// More figures, which have no limit.
    pub further_metrics: Vec<TaskMetric>,
    /// How texts are put before they are compared word by word or character by character.
    pub normalize: Rules,
    /// How far the artifacts may be from the float model.
    pub limits: Limits,
    /// Chips that the Qualcomm HTP simulator stands for, each in a run of its own: `soc_model` 60 (Snapdragon X Elite, HTP
    /// v73) when there is none, 57 (8 Gen 3, v75), 69 (8 Elite, v79).
    pub soc_models: Vec<u32>,
    /// How many samples a simulator runs, from the first; all when absent, and 20 at most on chips after the first. A step
    /// may take a second.
    pub simulated_samples: Option<NonZeroUsize>,
    /// Whether `convert` also times the artifacts in their engines, on a few of the samples and beside the float model; some
    /// seconds for each.
    pub speed: bool,
}

impl Default for Validation {
    fn default() -> Validation {
        Validation {
            data: None,
            samples: None,
            metric: TaskMetric::default(),
            further_metrics: Vec::new(),
            normalize: Rules::None,
            limits: Limits::default(),
            soc_models: Vec::new(),
            simulated_samples: None,
            speed: true,
        }
    }
}

impl Validation {
    /// What is scored, each metric once. `normalizer`: by the rules of [`Validation::normalize`].
    pub fn scoring(&self, normalizer: Normalizer) -> Scoring {
        let mut metrics = vec![self.metric];
        for further in &self.further_metrics {
            if !metrics.contains(further) {
                metrics.push(*further);
            }
        }
        Scoring { metrics, normalizer }
    }

    /// What engines are told when an artifact is opened to be validated.
    pub fn options(&self, options: Options) -> Options {
        let simulated_samples = self.simulated_samples.map(NonZeroUsize::get);
        Options { soc_models: self.soc_models.clone(), simulated_samples, ..options }
    }
}

/// A line of data for a model, and how many samples a draft has judge it: drawn ones, and of data.
pub fn line_and_samples(reads: Kind) -> (&'static str, usize, usize) {
    let clip = r#"{"input": "clip.wav", "target": "…"}, paths relative to the file; 16 kHz, mono or averaged to mono."#;
    let image = r#"{"input": "line-001.png", "target": "…"}, paths relative to the file; PNG or JPEG."#;
    let asked =
        r#"{"input": "page-001.png", "prompt": "<OCR>", "target": "…"}, paths relative to the file; PNG or JPEG."#;
    match reads {
        Kind::AskedImage => (asked, 8, 50),
        Kind::Audio(_) => (clip, 8, 50),
        Kind::Image => (image, 8, 50),
        Kind::Text => (r#"{"input": "…", "target": "…"}."#, 32, 200),
    }
}
