//! One of the artifacts that are compared, and what is asked of both.

use std::path::{Path, PathBuf};

use converters::checkpoint::{Files, Generation};
use converters::export::onnx::Folder;
use converters::import::family;
use converters::tokenizer::{Languages, Tokenizer, TokenizerError};
use converters::{Artifact, Checkpoint, FORMATS, limits};
use frontend::Kind;
use frontend::image::ImageSettings;
use serde_json::Value;
use validate::runtime::{Options, ctranslate2};
use validate::task::{DataError, Text};
use validate::{Fit, RUNTIMES, RuntimeError, Session};

use crate::build::error::PipelineError;
use crate::build::manifest::Manifest;
use crate::build::source::text_of;
use crate::build::there;
use crate::command::inspect::kind;
use crate::recipe::load::Loaded;

/// It holds graphs against themselves, and is nobody's engine.
const NOBODYS: &str = "interpreter";

/// An artifact and how it is opened.
pub struct Side {
    pub artifact: Artifact,
    pub options: Options,
}

impl Side {
    /// Tells what lies in a folder. Errors: no artifact; one of CTranslate2 that reads no texts.
    pub fn open(dir: &Path, options: &Options) -> Result<Side, PipelineError> {
        let wrong = |message: String| PipelineError::Artifact { dir: dir.to_owned(), message };
        there::folder(dir).map_err(PipelineError::io(dir))?;
        if ctranslate2::is_ctranslate2(dir) {
            ctranslate2::asked(dir).map_err(wrong)?;
            let artifact = Artifact::list(ctranslate2::FORMAT, dir).map_err(PipelineError::io(dir))?;
            return Ok(Side { artifact, options: options.clone() });
        }
        let manifest = Manifest::read(dir).map_err(PipelineError::io(dir))?;
        let found = kind(dir).map_err(|error| wrong(error.to_string()))?;
        let named = match &manifest {
            Some(manifest) => manifest.format.as_str(),
            // Weights of transformers, whoever saved them.
            None if found == "checkpoint" => "safetensors",
            None => found,
        };
        let format = FORMATS.iter().map(|format| format.name()).find(|name| *name == named);
        let format = format.ok_or_else(|| wrong(format!("expected an artifact, found a {named}")))?;
        let artifact = Artifact::list(format, dir).map_err(PipelineError::io(dir))?;
        // Optimum writes a pair of decoders, or one for both.
        let merged = Folder::find(dir).is_merged_alone();
        Ok(Side { artifact, options: Options { merged, ..options.clone() } })
    }

    /// The name of its folder; the path where both folders have one name.
    pub fn name(&self, sides: &[Side; 2]) -> String {
        let of = |side: &Side| {
            let dir = side.artifact.dir.canonicalize().unwrap_or_else(|_| side.artifact.dir.clone());
            dir.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
        };
        let is_alone = of(&sides[0]) != of(&sides[1]);
        if is_alone { of(self) } else { self.artifact.dir.display().to_string() }
    }

    /// Errors: another vocabulary than the other's, as far as both have a config.json that tells it.
    pub fn speaks_as(&self, other: &Side) -> Result<(), PipelineError> {
        let size = |side: &Side| {
            let config: Value = limits::read_json(&side.artifact.dir.join("config.json")).ok()?;
            config.get("vocab_size")?.as_u64()
        };
        match (size(other), size(self)) {
            (Some(expected), Some(found)) if expected != found => {
                let first = other.artifact.dir.display();
                let message =
                    format!("different vocabularies: expected {expected} tokens as {first} has, found {found}");
                Err(PipelineError::Artifact { dir: self.artifact.dir.clone(), message })
            }
            _ => Ok(()),
        }
    }

    /// The first engine that opens it. Errors: no engine does, each with its reason, or none that gives logits.
    pub fn first_engine(&self) -> Result<Box<dyn Session>, PipelineError> {
        if self.artifact.format == ctranslate2::FORMAT {
            let message = "a model of CTranslate2 gives no logits that others could be compared with: name it as B, or give a float \
                           checkpoint with --reference"
                .to_owned();
            return Err(PipelineError::Artifact { dir: self.artifact.dir.clone(), message });
        }
        let mut refused = Vec::new();
        let fits =
            RUNTIMES.iter().filter(|runtime| runtime.name() != NOBODYS && runtime.fit(&self.artifact) == Fit::Runs);
        for runtime in fits {
            match runtime.open(&self.artifact, &self.options) {
                Ok(session) => return Ok(session),
                Err(error @ RuntimeError::Unavailable { .. }) => refused.push(PipelineError::Runtime(error)),
                Err(error) => return Err(error.into()),
            }
        }
        if refused.is_empty() {
            let message = format!("expected an artifact that an engine here opens, found {}", self.artifact.format);
            return Err(PipelineError::Artifact { dir: self.artifact.dir.clone(), message });
        }
        Err(PipelineError::Several(refused))
    }
}

/// What both are asked alike: one tokenizer, one decoding.
pub struct Asked {
    pub model_type: String,
    pub decoding: Generation,
    pub kind: Kind,
    pub text: Box<dyn Text>,
    pub files: Files,
    pub images: ImageSettings,
    /// Where a tokenizer was looked for, when none was found.
    looked_in: Option<Vec<PathBuf>>,
}

impl Asked {
    /// As the first of the folders that knows says it. Errors: none says how it decodes; a tokenizer that cannot be read.
    pub fn of(reference: Option<&Path>, sides: [&PathBuf; 2]) -> Result<Asked, PipelineError> {
        let folders: Vec<&Path> = reference.into_iter().chain(sides.map(PathBuf::as_path)).collect();
        let said = folders.iter().find_map(|dir| said(dir));
        let (model_type, decoding) = said.ok_or_else(|| PipelineError::Artifact {
            dir: sides[0].clone(),
            message: "expected a config.json, generation_config.json or trefoil.json that says how the model decodes, found none"
                .to_owned(),
        })?;
        let holds = |dir: &&&Path| !matches!(Tokenizer::open(dir), Err(TokenizerError::Missing { .. }));
        let home = folders.iter().find(holds);
        let files = Files::open(home.unwrap_or(&folders[0]))?;
        let (text, _) = text_of(home.unwrap_or(&folders[0]), &[&Languages::default()])?;
        let kind = family(&model_type).map_or(Kind::Text, |family| family.front_end());
        let images = folders.iter().find_map(|dir| images(dir)).unwrap_or_default();
        let looked_in = home.is_none().then(|| folders.iter().map(|dir| (*dir).to_owned()).collect());
        Ok(Asked { model_type, decoding, kind, text, files, images, looked_in })
    }

    /// Why data cannot be read, and that there is no tokenizer where that is why.
    pub fn unread(&self, source: DataError) -> PipelineError {
        match (&self.looked_in, &source) {
            (Some(folders), DataError::Line { .. }) => {
                let names: Vec<String> = folders.iter().map(|dir| dir.display().to_string()).collect();
                let message = format!(
                    "no tokenizer here nor in {}, so that texts must be token ids: {source}",
                    names[1..].join(", ")
                );
                PipelineError::Artifact { dir: folders[0].clone(), message }
            }
            _ => source.into(),
        }
    }
}

/// What the recipe of an artifact does to images.
fn images(dir: &Path) -> Option<ImageSettings> {
    let manifest = Manifest::read(dir).ok()??;
    Some(Loaded::of_artifact(dir, &manifest.recipe.text).ok()?.recipe.image)
}

/// How the model in a folder decodes: by its manifest, else as its files say.
fn said(dir: &Path) -> Option<(String, Generation)> {
    if let Ok(Some(manifest)) = Manifest::read(dir) {
        return Some((manifest.model.model_type, manifest.decoding));
    }
    let whole = Checkpoint::open(dir).ok();
    let mut checkpoint = whole.or_else(|| Checkpoint::of_config(&dir.join("config.json")).ok())?;
    let model_type = checkpoint.config().model_type()?.to_owned();
    let family = family(&model_type)?;
    checkpoint.take_family(family.model_types()[0], family.decoding_defaults());
    let decoding = checkpoint.generation().clone();
    Some((model_type, decoding))
}
