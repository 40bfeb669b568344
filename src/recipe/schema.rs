//! What a recipe says.

use std::path::PathBuf;

use converters::checkpoint::Overrides;
use converters::tokenizer::Languages;
use frontend::image::ImageSettings;
use quant::Policy;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::recipe::samples::{CalibrationData, Validation};
use crate::recipe::target::Target;

/// A recipe: a checkpoint, the artifacts grown from it, and what they must reach.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The checkpoint: a folder, or a GGUF file that trefoil wrote, relative to the recipe's folder; or `hub:org/name@revision`, a
    /// repository of the Hugging Face Hub at a branch, a tag or a commit (`main` without `@revision`).
    pub model: PathBuf,
    /// Folder that takes the artifacts and the report, relative to the recipe's folder.
    pub out: PathBuf,
    /// The languages of texts, for a model that has several.
    #[serde(default)]
    pub languages: Languages,
    /// What is done to images first, for a model that sees.
    #[serde(default)]
    pub image: ImageSettings,
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

impl Recipe {
    /// Whether anything in an artifact of it depends on activations.
    pub fn is_calibrated(&self) -> bool {
        self.artifacts.iter().any(Target::is_calibrated)
    }
}

/// The JSON schema of a recipe, for editors.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Recipe)).expect("a schema is JSON");
    text.push('\n');
    text
}
