//! `trefoil.json`: where an artifact comes from and what became of every weight.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use converters::checkpoint::CheckpointError;
use converters::checkpoint::Generation;
use converters::limits;
use converters::{Artifact, Checkpoint, Semantics};
use graph::FakeQuant;
use hub::HubId;
use quant::TensorRecord;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use validate::report::{InputFile, Note, OutputFile, Verdict};

pub use crate::names::MANIFEST as FILE;
use crate::names::{BOM, CARD, PROVENANCE};

/// What `trefoil.json` says. The same inputs give the same bytes: no time, no path of the machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version that made the artifact.
    pub trefoil: String,
    /// Its name in the recipe.
    pub name: String,
    /// `onnx`, `npu`, `gguf`, `safetensors`, `ctranslate2`.
    pub format: String,
    /// What its validation said; [`Verdict::NotValidated`] without one.
    pub verdict: Verdict,
    /// The checkpoint.
    pub model: Origin,
    /// How the model decodes: the checkpoint's settings, and the recipe's in their place.
    pub decoding: Generation,
    /// The recipe.
    pub recipe: RecipeText,
    /// What was written beside this file.
    pub files: Vec<OutputFile>,
    /// A model card lies beside this file too. It tells measured figures, so that its bytes are nothing to be held to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_card: bool,
    /// A statement of its provenance and a bill of materials lie there too: the statement has the digest of this file, and the
    /// bill tells measured figures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_provenance: bool,
    /// The samples that the model was watched on, if it was; some of the files may follow from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// What calibration decided; absent when nothing depends on samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<Calibrated>,
    /// Exact edits for this format, and replacements that the recipe allowed.
    pub substitutions: Vec<Note>,
    /// Every weight: type, size, scales, error against the checkpoint.
    pub tensors: Vec<TensorRecord>,
}

/// What follows from the calibration samples: sums over them, and so the last bits of what they decide, depend on the
/// processor's matrix kernel.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrated {
    /// The kernel that multiplied matrices. With another one, the numbers below and the bytes of `weights` may differ.
    pub kernel: String,
    /// Weights whose stored bytes follow from the samples.
    pub weights: Vec<String>,
    /// What it decided beside weights.
    #[serde(default)]
    pub decided: Decided,
}

/// Numbers of the graph that calibration chose: with them, the graph of an artifact is made again without samples.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// What multiplies the residual streams of encoder and decoder (`rescale_residual: auto`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual_factors: Option<[f32; 2]>,
    /// Steps of the inputs of Linears, by the names of their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, FakeQuant>,
    /// Steps of all values of an artifact for NPUs, a group at a time in the order of `graph::passes::tied_values`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<FakeQuant>,
    /// What is added to the scores of hidden keys there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<f32>,
}

/// The checkpoint of an artifact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// config.json's word.
    pub model_type: String,
    /// The implementation whose numbers are the reference.
    pub reference: String,
    /// What multiplies the decoder's output before the head, with the reason.
    pub logit_scale: String,
    /// Where it comes from, if from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<OnHub>,
    /// Its files.
    pub inputs: Vec<InputFile>,
}

/// A file of samples.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    /// File name.
    pub file: String,
    /// Of the file, in lowercase hexadecimal.
    pub sha256: String,
}

/// A commit on the hub.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnHub {
    /// `org/name`.
    pub repository: String,
    /// In hexadecimal.
    pub commit: String,
}

impl OnHub {
    /// As package URLs name it (type `huggingface` of the purl specification).
    pub fn purl(&self) -> String {
        format!("pkg:huggingface/{}@{}", self.repository, self.commit)
    }
}

/// The recipe of an artifact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeText {
    /// File name.
    pub file: String,
    /// Of the text, in lowercase hexadecimal.
    pub sha256: String,
    /// The whole text.
    pub text: String,
}

/// Of a text, in lowercase hexadecimal.
pub fn sha256(text: &str) -> String {
    hex(Sha256::new_with_prefix(text))
}

/// A digest, in lowercase hexadecimal.
pub fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl RecipeText {
    /// A recipe's file name and text with its hash.
    pub fn new(path: &Path, text: &str) -> RecipeText {
        let sha256 = sha256(text);
        let file = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        RecipeText { file, sha256, text: text.to_owned() }
    }
}

impl Origin {
    /// Hashes the files of a checkpoint.
    pub fn of(checkpoint: &Checkpoint, semantics: &Semantics) -> Result<Origin, CheckpointError> {
        let input = |file: &PathBuf| {
            let failed = |source| CheckpointError::Io { file: file.clone(), source };
            let path = file.strip_prefix(checkpoint.dir()).unwrap_or(file);
            Ok(InputFile {
                path: path.display().to_string(),
                bytes: fs::metadata(file).map_err(failed)?.len(),
                sha256: converters::checkpoint::sha256(file)?,
            })
        };
        Ok(Origin {
            model_type: checkpoint.config().model_type().unwrap_or_default().to_owned(),
            reference: semantics.reference.to_owned(),
            logit_scale: semantics.logit_scale.clone(),
            hub: HubId::of_cache(checkpoint.dir())
                .map(|id| OnHub { commit: id.revision().to_owned(), repository: id.name }),
            inputs: checkpoint.inputs().iter().map(input).collect::<Result<_, CheckpointError>>()?,
        })
    }
}

/// The names of an artifact's files that its manifest does not list: itself, and those that it speaks of, which tell of it.
pub const UNLISTED: [&str; 4] = [FILE, CARD, PROVENANCE, BOM];

/// The files of an artifact with their sizes and digests, but for those that are [`UNLISTED`].
pub fn outputs(artifact: &Artifact) -> Result<Vec<OutputFile>, CheckpointError> {
    let describe = |path: &PathBuf| {
        let file = artifact.dir.join(path);
        let bytes = fs::metadata(&file).map_err(|source| CheckpointError::Io { file: file.clone(), source })?.len();
        let path = path.to_string_lossy().replace('\\', "/");
        Ok(OutputFile { path, bytes, sha256: converters::checkpoint::sha256(&file)? })
    };
    let is_listed = |file: &&PathBuf| UNLISTED.iter().all(|name| file.as_path() != Path::new(name));
    let files: Vec<&PathBuf> = artifact.files.iter().filter(is_listed).collect();
    files.into_par_iter().map(describe).collect()
}

impl Manifest {
    /// The [`UNLISTED`] names that lie beside the files.
    pub fn beside(&self) -> impl Iterator<Item = &'static str> {
        let told = [(FILE, true), (CARD, self.has_card), (PROVENANCE, self.has_provenance), (BOM, self.has_provenance)];
        told.into_iter().filter_map(|(name, is_there)| is_there.then_some(name))
    }

    /// Writes `trefoil.json` into `dir`.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest has only JSON types");
        text.push('\n');
        fs::write(dir.join(FILE), text)
    }

    /// The manifest in `dir`, or `None` when there is no such file. Errors: it is not JSON, or not a manifest, or one of another
    /// version that has other fields.
    pub fn read(dir: &Path) -> io::Result<Option<Manifest>> {
        let file = dir.join(FILE);
        match limits::read_json(&file) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(of_version(&file).map_or(error, |why| io::Error::new(io::ErrorKind::InvalidData, why))),
        }
    }
}

/// Why a manifest cannot be read that another version wrote.
fn of_version(file: &Path) -> Option<String> {
    const THIS: &str = env!("CARGO_PKG_VERSION");
    let value: serde_json::Value = limits::read_json(file).ok()?;
    let version = value.get("trefoil")?.as_str().filter(|version| *version != THIS)?;
    Some(format!(
        "written by trefoil {version}, which this one, {THIS}, does not read; take that version, or convert again"
    ))
}
