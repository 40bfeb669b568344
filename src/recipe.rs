//! The recipe: one YAML file that says which checkpoint becomes which artifacts, and how good they must be.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};

use converters::Format;
use converters::export::{gguf::Gguf, onnx::Onnx, safetensors::Safetensors};
use quant::Policy;
use schemars::JsonSchema;
use serde::Deserialize;
use validate::chain::Limits;
use validate::task::TaskMetric;

use crate::yaml;

/// A recipe: a checkpoint, the artifacts grown from it, and what they must reach.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Folder of the checkpoint, relative to the recipe's folder.
    pub model: PathBuf,
    /// Folder that takes the artifacts and the report, relative to the recipe's folder.
    pub out: PathBuf,
    /// How weights are quantized in artifacts that say nothing of their own.
    #[serde(default)]
    pub quantize: Policy,
    /// What to write.
    pub artifacts: Vec<Target>,
    /// What the artifacts must reach; without it, the chain runs on made-up inputs and has only the limits of noise.
    #[serde(default)]
    pub validate: Validation,
}

/// One artifact: exactly one of `onnx`, `gguf`, `safetensors` with that format's options, `{}` for its defaults.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its folder below `out`; the format's name when absent.
    name: Option<String>,
    /// How its weights are quantized, instead of the recipe's `quantize` as a whole.
    pub quantize: Option<Policy>,
    onnx: Option<Onnx>,
    gguf: Option<Gguf>,
    safetensors: Option<Safetensors>,
}

/// What the artifacts are measured on, and what they must reach.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
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
}

impl Target {
    fn formats(&self) -> Vec<&dyn Format> {
        let formats: [Option<&dyn Format>; 3] = [
            self.onnx.as_ref().map(|f| f as &dyn Format),
            self.gguf.as_ref().map(|f| f as &dyn Format),
            self.safetensors.as_ref().map(|f| f as &dyn Format),
        ];
        formats.into_iter().flatten().collect()
    }

    /// The format with its options.
    pub fn format(&self) -> &dyn Format {
        self.formats()[0] // exactly one: `Recipe::problems`
    }

    /// Its folder below `out`.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.format().name())
    }
}

/// A recipe with its text, its paths resolved.
pub struct Loaded {
    /// What it says; `model`, `out` and `validate.data` are relative to the working folder or absolute.
    pub recipe: Recipe,
    /// The file.
    pub path: PathBuf,
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
        let text = fs::read_to_string(path).map_err(|source| RecipeError::Io { file: path.to_owned(), source })?;
        let mut recipe: Recipe = yaml::parse(&text, &path.display().to_string()).map_err(RecipeError::Yaml)?;
        let problems = recipe.problems();
        if !problems.is_empty() {
            return Err(RecipeError::Invalid { file: path.to_owned(), problems });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        recipe.model = folder.join(&recipe.model);
        recipe.out = folder.join(&recipe.out);
        recipe.validate.data = recipe.validate.data.map(|data| folder.join(data));
        Ok(Loaded { recipe, path: path.to_owned(), text })
    }
}

impl Recipe {
    /// What is well-formed and cannot be, all at once.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.artifacts.is_empty() {
            problems.push("artifacts: expected at least one of onnx, gguf, safetensors, found none".to_owned());
        }
        let mut names = BTreeSet::new();
        for (index, target) in self.artifacts.iter().enumerate() {
            let formats: Vec<&str> = target.formats().iter().map(|f| f.name()).collect();
            if formats.len() != 1 {
                let found = if formats.is_empty() { "none".to_owned() } else { formats.join(" and ") };
                problems.push(format!(
                    "artifacts[{index}]: expected exactly one of onnx, gguf, safetensors, found {found}"
                ));
                continue;
            }
            let name = target.name();
            if !is_folder_name(name) {
                problems.push(format!(
                    "artifacts[{index}].name: expected the name of a folder below `out`, found `{name}`"
                ));
            }
            if !names.insert(name) {
                problems.push(format!("artifacts[{index}]: a second artifact named `{name}`; give it a `name`"));
            }
        }
        problems
    }
}

/// Whether `name` is one visible folder, so that nothing is written outside of `out`.
fn is_folder_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.starts_with('.')
        && !name.contains(['/', '\\'])
}

/// The JSON schema of a recipe, for editors.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Recipe)).expect("a schema is JSON");
    text.push('\n');
    text
}
