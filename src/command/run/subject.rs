//! What is asked: an artifact or a checkpoint.

use std::path::Path;

use converters::checkpoint::Generation;
use converters::import::family;
use converters::tokenizer::Languages;
use converters::{Checkpoint, FORMATS};
use frontend::Kind;
use frontend::image::ImageSettings;

use super::error::RunError;
use crate::build::error::PipelineError;
use crate::build::source::Source;
use crate::command::inspect::{kind, read_manifest};
use crate::recipe::load::Loaded;

/// What lies in a folder, as far as it decides what is fed.
pub enum Subject {
    Checkpoint(Box<Source>),
    Artifact { format: &'static str, model_type: String, decoding: Box<Generation> },
}

impl Subject {
    /// With the languages of the recipe that it was made by, and what that does to images.
    pub fn open(dir: &Path) -> Result<(Subject, Languages, ImageSettings), RunError> {
        let kind = kind(dir)?;
        let manifest = read_manifest(dir)?;
        let recipe = manifest.as_ref().map(|manifest| Loaded::of_artifact(dir, &manifest.recipe.text));
        let recipe = recipe.transpose().map_err(PipelineError::from)?.map(|loaded| loaded.recipe);
        if kind == "checkpoint" {
            let mut source = Source::open(dir, &[])?;
            let Some((manifest, recipe)) = manifest.zip(recipe) else {
                return Ok((Subject::Checkpoint(Box::new(source)), Languages::default(), ImageSettings::default()));
            };
            // A float artifact is a checkpoint too, and decodes as its recipe says.
            source.decoding = manifest.decoding;
            return Ok((Subject::Checkpoint(Box::new(source)), recipe.languages, recipe.image));
        }
        if let Some((manifest, recipe)) = manifest.zip(recipe) {
            let format = FORMATS.iter().map(|f| f.name()).find(|name| *name == manifest.format).unwrap_or(kind);
            let (model_type, decoding) = (manifest.model.model_type, Box::new(manifest.decoding));
            return Ok((Subject::Artifact { format, model_type, decoding }, recipe.languages, recipe.image));
        }
        if kind != "gguf" {
            return Err(RunError::NoManifest(dir.to_owned()));
        }
        // The file says it all.
        let checkpoint = Checkpoint::open(dir).map_err(PipelineError::from)?;
        let model_type = checkpoint.config().model_type().unwrap_or_default().to_owned();
        let decoding = Box::new(checkpoint.generation().clone());
        Ok((Subject::Artifact { format: kind, model_type, decoding }, Languages::default(), ImageSettings::default()))
    }

    /// Its own way to decode.
    pub fn decoding(&self) -> &Generation {
        match self {
            Subject::Checkpoint(source) => &source.decoding,
            Subject::Artifact { decoding, .. } => decoding,
        }
    }

    /// What its encoder reads.
    pub fn front_end(&self) -> Kind {
        match self {
            Subject::Checkpoint(source) => source.exact.architecture.front_end(),
            Subject::Artifact { model_type, .. } => family(model_type).map_or(Kind::Text, |family| family.front_end()),
        }
    }
}
