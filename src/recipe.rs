//! The recipe: one YAML file that says which checkpoint becomes which artifacts, and how good they must be.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use converters::Format;
use converters::checkpoint::Overrides;
use converters::export::gguf::{Fallback, Gguf};
use converters::export::npu::{Npu, PROFILES};
use converters::export::{onnx::Onnx, safetensors::Safetensors};
use converters::tokenizer::Languages;
use graph::Graph;
use graph::{FloatType, GgmlType, Granularity};
use quant::{Activations, Equalize, Plan, Policy, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;
use validate::calibration::Prefixes;
use validate::chain::Limits;
use validate::runtime::Options;
use validate::task::TaskMetric;

use crate::build::journal::is_name;
use crate::build::places;
use crate::edits::RescaleResidual;
use crate::pipeline::PipelineError;
use crate::{npu, yaml};

/// A recipe: a checkpoint, the artifacts grown from it, and what they must reach.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Folder of the checkpoint, relative to the recipe's folder.
    pub model: PathBuf,
    /// Folder that takes the artifacts and the report, relative to the recipe's folder.
    pub out: PathBuf,
    /// The languages of texts, for a model that has several.
    #[serde(default)]
    pub languages: Languages,
    /// What quantizers watch the model on; methods but `nearest`, `equalize` by activations, static
    /// activations, and `rescale_residual: auto` need it.
    #[serde(default)]
    pub calibrate: Option<CalibrationData>,
    /// How weights are quantized in artifacts that say nothing of their own.
    #[serde(default)]
    pub quantize: Policy,
    /// How the model decodes, where it is to differ from the checkpoint's generation_config.json.
    #[serde(default)]
    pub decode: Overrides,
    /// What to write.
    pub artifacts: Vec<Target>,
    /// What the artifacts must reach; without it, the chain runs on made-up inputs and has only the limits of noise.
    #[serde(default)]
    pub validate: Validation,
}

/// One artifact: exactly one of `onnx`, `npu`, `gguf`, `safetensors` with that format's options, `{}` for its defaults.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its folder below `out`; the format's name when absent.
    name: Option<String>,
    /// How its weights are quantized, instead of the recipe's `quantize` as a whole.
    pub quantize: Option<Policy>,
    /// How far it may be from the float model, instead of `validate.limits` as a whole.
    pub limits: Option<Limits>,
    /// For engines that compute in f16: what the residual streams are multiplied with, exactly. Only onnx can say it.
    pub rescale_residual: Option<RescaleResidual>,
    onnx: Option<Onnx>,
    npu: Option<Npu>,
    gguf: Option<Gguf>,
    safetensors: Option<Safetensors>,
}

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
            limits: Limits::default(),
            soc_models: Vec::new(),
            simulated_samples: None,
            speed: true,
        }
    }
}

impl Validation {
    /// What engines are told when an artifact is opened to be validated.
    pub fn options(&self, options: Options) -> Options {
        let simulated_samples = self.simulated_samples.map(NonZeroUsize::get);
        Options { soc_models: self.soc_models.clone(), simulated_samples, ..options }
    }
}

impl Target {
    fn formats(&self) -> Vec<&dyn Format> {
        let formats: [Option<&dyn Format>; 4] = [
            self.onnx.as_ref().map(|f| f as &dyn Format),
            self.npu.as_ref().map(|f| f as &dyn Format),
            self.gguf.as_ref().map(|f| f as &dyn Format),
            self.safetensors.as_ref().map(|f| f as &dyn Format),
        ];
        formats.into_iter().flatten().collect()
    }

    /// The format with its options.
    pub fn format(&self) -> &dyn Format {
        self.formats()[0] // exactly one: `Recipe::problems`
    }

    /// The options of an ONNX artifact, if it is one.
    pub fn onnx(&self) -> Option<&Onnx> {
        self.onnx.as_ref()
    }

    /// The options of an NPU artifact, if it is one.
    pub fn npu(&self) -> Option<&Npu> {
        self.npu.as_ref()
    }

    /// What every weight of a graph becomes that was prepared for the format.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, PipelineError> {
        let plan = self.policy().plan_with_fallback(graph, self.fallback());
        let artifact = || self.name().to_owned();
        let mut plan = plan.map_err(|source| PipelineError::Policy { artifact: artifact(), source })?;
        if self.npu.as_ref().is_some_and(|npu| npu.widths().is_some()) {
            npu::keep_tables(&mut plan);
        }
        Ok(plan)
    }

    /// Its folder below `out`.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.format().name())
    }

    /// How its weights are quantized.
    pub fn policy(&self) -> &Policy {
        self.quantize.as_ref().expect("`read` put the recipe's own there")
    }

    /// How far it may be from the float model.
    pub fn limits<'a>(&'a self, validation: &'a Validation) -> &'a Limits {
        self.limits.as_ref().unwrap_or(&validation.limits)
    }

    /// Whether anything in it depends on activations.
    pub fn is_calibrated(&self) -> bool {
        let rescales = self.rescale_residual == Some(RescaleResidual::Auto);
        self.policy().is_calibrated() || self.writes_imatrix() || rescales
    }

    /// Whether an importance matrix is written beside it.
    pub fn writes_imatrix(&self) -> bool {
        self.gguf.as_ref().is_some_and(|gguf| gguf.imatrix)
    }

    /// What weights become whose rows fit no block of the policy's.
    pub fn fallback(&self) -> quant::Fallback {
        use quant::Fallback::{Nearest, Refuse, To};
        match self.gguf.as_ref().map(|gguf| gguf.fallback) {
            None | Some(Fallback::None) => Refuse,
            Some(Fallback::Nearest) => Nearest,
            Some(Fallback::F16) => To(Scheme::Float(FloatType::F16)),
            Some(Fallback::F32) => To(Scheme::Float(FloatType::F32)),
            Some(Fallback::Q8_0) => To(Scheme::Ggml(GgmlType::Q8_0)),
        }
    }

    /// What shares a scale when activations are rounded in the engines of this format; `None` when they cannot be told to.
    pub fn granularity(&self) -> Option<Granularity> {
        match (&self.onnx, &self.safetensors) {
            (Some(_), _) => Some(Granularity::Tensor), // DynamicQuantizeLinear
            (_, Some(_)) => Some(Granularity::Token),  // compressed-tensors, `strategy: token`
            (None, None) => None,                      // nor do NPUs take a scale from the activation itself
        }
    }
}

/// A recipe with its text, its paths resolved.
pub struct Loaded {
    /// What it says; `model`, `out` and `validate.data` are relative to the working folder or absolute.
    pub recipe: Recipe,
    /// Its text.
    pub text: String,
}

/// A recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The recipe.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not YAML, or not the YAML of a recipe: the place, the line with a caret, and what would be valid.
    #[error("{0}")]
    Yaml(String),
    /// It reads well and asks for what cannot be.
    #[error("{}: {}", .file.display(), .problems.join("\n  "))]
    Invalid {
        /// The recipe.
        file: PathBuf,
        /// One sentence each, with its place.
        problems: Vec<String>,
    },
}

impl Loaded {
    /// Reads a recipe and resolves its paths against its folder.
    pub fn read(path: &Path) -> Result<Loaded, RecipeError> {
        let text =
            converters::limits::read_text(path).map_err(|source| RecipeError::Io { file: path.to_owned(), source })?;
        Loaded::parse(path, text)
    }

    /// The recipe whose text is in the manifest of the artifact in `dir`; its paths mean nothing there.
    pub fn of_artifact(dir: &Path, text: &str) -> Result<Loaded, RecipeError> {
        Loaded::parse(&dir.join(crate::build::manifest::FILE), text.to_owned())
    }

    fn parse(path: &Path, text: String) -> Result<Loaded, RecipeError> {
        let mut recipe: Recipe = yaml::parse(&text, &path.display().to_string()).map_err(RecipeError::Yaml)?;
        for target in &mut recipe.artifacts {
            target.quantize.get_or_insert_with(|| recipe.quantize.clone());
        }
        let problems = recipe.problems();
        if !problems.is_empty() {
            return Err(RecipeError::Invalid { file: path.to_owned(), problems });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        recipe.model = folder.join(&recipe.model);
        recipe.out = folder.join(&recipe.out);
        if let Some(calibrate) = &mut recipe.calibrate {
            calibrate.data = folder.join(&calibrate.data);
        }
        recipe.validate.data = recipe.validate.data.map(|data| folder.join(data));
        Ok(Loaded { recipe, text })
    }

    /// Another checkpoint and another folder for the artifacts, from the command line.
    pub fn replace(&mut self, model: Option<&Path>, out: Option<&Path>) {
        self.recipe.model = model.map_or(std::mem::take(&mut self.recipe.model), Path::to_owned);
        self.recipe.out = out.map_or(std::mem::take(&mut self.recipe.out), Path::to_owned);
    }
}

impl Recipe {
    /// What is well-formed and cannot be, all at once.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.artifacts.is_empty() {
            problems.push("artifacts: expected at least one of onnx, npu, gguf, safetensors, found none".to_owned());
        }
        let mut names = BTreeSet::new();
        for (index, target) in self.artifacts.iter().enumerate() {
            let formats: Vec<&str> = target.formats().iter().map(|f| f.name()).collect();
            if formats.len() != 1 {
                let found = if formats.is_empty() { "none".to_owned() } else { formats.join(" and ") };
                problems.push(format!(
                    "artifacts[{index}]: expected exactly one of onnx, npu, gguf, safetensors, found {found}"
                ));
                continue;
            }
            let name = target.name();
            if !is_folder_name(name) {
                problems.push(format!(
                    "artifacts[{index}].name: expected the name of a folder below `out`, found `{name}`"
                ));
            }
            if name.ends_with(places::FAILED) || [places::REPORT_JSON, places::REPORT_MD].contains(&name) {
                problems.push(format!(
                    "artifacts[{index}].name: expected a name that trefoil does not give itself, found `{name}`"
                ));
            }
            if target.is_calibrated() && self.calibrate.is_none() {
                problems.push(format!(
                    "artifacts[{index}]: it watches the model decode; expected `calibrate: {{ data: FILE }}` in \
                     the recipe, found none"
                ));
            }
            if target.rescale_residual == Some(RescaleResidual::Auto) && self.calibrate.is_none() {
                problems.push(format!(
                    "artifacts[{index}].rescale_residual: auto watches the model decode; expected `calibrate: {{ data: FILE \
                     }}` in the recipe, found none"
                ));
            }
            if let Some(RescaleResidual::By(factors)) = target.rescale_residual {
                let is_factor = |alpha: f32| alpha > 0.0 && alpha <= 1.0 && alpha.log2().fract() == 0.0;
                for (stack, alpha) in [("encoder", factors.encoder), ("decoder", factors.decoder)] {
                    if !is_factor(alpha) {
                        problems.push(format!(
                            "artifacts[{index}].rescale_residual.{stack}: expected a power of two up to 1, found {alpha}"
                        ));
                    }
                }
            }
            if let Some(npu) = &target.npu {
                problems
                    .extend(npu_problems(npu, target.policy()).into_iter().map(|p| format!("artifacts[{index}].{p}")));
            }
            let holds_nodes = target.onnx.is_some() || target.npu.is_some();
            if target.rescale_residual.is_some() && !holds_nodes {
                problems.push(format!(
                    "artifacts[{index}].rescale_residual: readers of {} take eps from the config; only onnx and npu can hold it",
                    target.format().name()
                ));
            }
            if let Equalize::Smoothquant(settings) = target.policy().equalize
                && !(0.0..=1.0).contains(&settings.alpha)
            {
                problems.push(format!(
                    "artifacts[{index}].quantize.equalize.smoothquant.alpha: expected 0 to 1, found {}",
                    settings.alpha
                ));
            }
            if matches!(target.policy().activations, Activations::Static(_)) && !holds_nodes {
                problems.push(format!(
                    "artifacts[{index}].quantize.activations: {} has no place for static ranges; expected none or dynamic",
                    target.format().name()
                ));
            }
            if target.policy().activations == Activations::Dynamic && target.granularity().is_none() {
                problems.push(format!(
                    "artifacts[{index}].quantize.activations: {} engines round activations in their own way; expected none",
                    target.format().name()
                ));
            }
            if !names.insert(name) {
                problems.push(format!("artifacts[{index}]: a second artifact named `{name}`; give it a `name`"));
            }
        }
        problems
    }
}

/// What an NPU artifact cannot be.
fn npu_problems(npu: &Npu, policy: &Policy) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(profile) = npu.profile() else {
        let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        let meant = yaml::nearest(&npu.profile, &known).map_or(String::new(), |word| format!("; did you mean {word}?"));
        return vec![format!("npu.profile: expected one of {}, found {}{meant}", known.join(", "), npu.profile)];
    };
    if npu.source.contains(&0) {
        problems.push("npu.source: expected lengths of at least 1, found 0".to_owned());
    }
    if npu.target < 2 {
        problems.push(format!("npu.target: expected at least 2, found {}", npu.target));
    }
    if !matches!(npu.key_bits, 8 | 16) {
        problems.push(format!("npu.key_bits: expected 8 or 16, found {}", npu.key_bits));
    }
    let found = match policy.activations {
        Activations::None => "none".to_owned(),
        Activations::Dynamic => "dynamic".to_owned(),
        Activations::Static(wanted) => format!("static of {} bits", wanted.bits),
    };
    let expected = match profile.writes.activations {
        None => "none".to_owned(),
        Some(bits) => format!("static of {bits} bits"),
    };
    if found != expected {
        problems.push(format!("quantize.activations: {} takes {expected}, found {found}", profile.name));
    }
    problems
}

/// Whether `name` is one visible folder, so that nothing is written outside of `out`.
fn is_folder_name(name: &str) -> bool {
    is_name(name) && !name.starts_with('.')
}

/// The JSON schema of a recipe, for editors.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Recipe)).expect("a schema is JSON");
    text.push('\n');
    text
}
