//! What an artifact follows from, and what its validation follows from, as names of entries of the cache.
//!
//! An artifact's name is of its sections of the recipe with their defaults, the digests of the checkpoint's files and, where anything in
//! it depends on samples, of what the samples feed, and the processor's kernel. A validation's name is of the artifact's name, the data,
//! the metrics and the limits. Texts and paths of recipes are in neither, so that a comment makes nothing anew.

use std::path::Path;

use quant::Equalize;
use serde_json::{Value, json};
use validate::task::Data;

use super::cache::{self, Key};
use super::error::PipelineError;
use super::shelf::Name;
use super::work::Work;
use crate::recipe::schema::Recipe;
use crate::recipe::target::Target;

/// What transformers computed, beside a checkpoint.
pub const RECORDED: &str = "expected.safetensors";

/// What all artifacts of a recipe follow from.
pub struct Keys {
    model: Value,
    /// Absent where no artifact depends on samples.
    calibrated: Option<Value>,
    /// That makes artifacts.
    kernel: String,
    validated: Option<Value>,
}

impl Keys {
    /// Reads the samples. `evaluation`: the data of validation, if there is to be one; `is_timed`: with clocks; `kernel`: that will make
    /// the artifacts.
    ///
    /// Errors: data that cannot be read.
    pub fn of(work: &Work, evaluation: Option<&Data>, is_timed: bool, kernel: String) -> Result<Keys, PipelineError> {
        let (recipe, source) = (work.recipe, &work.source);
        let folder = source.exact.checkpoint.dir().file_name().map(|name| name.to_string_lossy().into_owned());
        let model = json!([folder, work.origin, source.decoding, recipe.languages, recipe.image]);
        let wanted = recipe.calibrate.as_ref().filter(|_| recipe.is_calibrated());
        let calibrated = wanted.map(|wanted| -> Result<Value, PipelineError> {
            let data = source.load(&wanted.data, wanted.samples, &*work.text)?;
            Ok(json!([about(&data), wanted.decode]))
        });
        let validated = evaluation.map(|data| -> Result<Value, PipelineError> {
            let wanted = &recipe.validate;
            let figures = json!([wanted.metric, wanted.further_metrics, wanted.normalize, is_timed]);
            let simulated = json!([wanted.soc_models, wanted.simulated_samples]);
            Ok(json!([about(data), figures, simulated, digest(&recipe.model.join(RECORDED))?, source.name()]))
        });
        Ok(Keys { model, calibrated: calibrated.transpose()?, kernel, validated: validated.transpose()? })
    }

    /// Of an artifact.
    pub fn artifact(&self, target: &Target) -> Name {
        let own = json!([target.name(), target.format_options(), target.policy(), target.rescale_residual]);
        let calibrated = self.calibrated.as_ref().filter(|_| target.is_watched());
        let key = Key::anywhere(&json!(["artifact", self.model, own, calibrated]));
        match calibrated.is_some() || is_measured(target) {
            true => Name::of_kernel(&key, &self.kernel),
            false => Name::anywhere(&key),
        }
    }

    /// Of what validation says of an artifact. Figures are sums, and follow from the kernel as well.
    pub fn findings(&self, artifact: &Name, target: &Target, recipe: &Recipe) -> Name {
        let limits = target.limits(&recipe.validate);
        let key = Key::anywhere(&json!(["validation", artifact.as_str(), self.validated, limits]));
        Name::of_kernel(&key, &graph::eval::kernel())
    }
}

/// Whether its manifest tells a figure that was measured: how far its edits are from changing nothing.
fn is_measured(target: &Target) -> bool {
    target.policy().equalize != Equalize::None || target.rescale_residual.is_some()
}

fn about(data: &Data) -> Value {
    json!([data.source, data.sha256, data.samples.len(), cache::samples(data)])
}

/// Of a file that may be absent.
fn digest(file: &Path) -> Result<Option<String>, PipelineError> {
    Ok(if file.exists() { Some(converters::checkpoint::sha256(file)?) } else { None })
}
