//! whisper.cpp: `ggml-model.bin`, the one file that its programs open, with filters and vocabulary before the weights.
//!
//! Every matrix has the one type of the file, F16 or blocks; convolutions are F16; tables of positions, norms and biases are F32. It
//! loads files of F32 too, and stops at their convolutions (seen with pywhispercpp 1.5.1). Source: src/whisper.cpp there (@233fe1f).

mod file;
mod head;
mod layout;
mod write;

use std::path::Path;

use graph::{Op, Weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use file::{FILE, ModelFile, NAME};

use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::export::companions::copy_companions;
use crate::format::Format;
use crate::model::Model;
use crate::whisper_cpp::Described;
use file::cannot_hold;
use head::Head;
use layout::{Layout, read};
use write::write;

/// Options of the format; it has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WhisperCpp {}

impl WhisperCpp {
    /// The options of a recipe that sets none.
    pub const DEFAULT: WhisperCpp = WhisperCpp {};
}

/// What the file says of a model. Errors: it is no Whisper.
fn described(model: &Model) -> Result<Described, ExportError> {
    let found = model.architecture.whisper_cpp(&model.checkpoint)?;
    found.ok_or_else(|| {
        let family = model.architecture.model_types()[0];
        cannot_hold(vec![format!("whisper.cpp does not run the architecture {family}")], "it runs Whisper alone")
    })
}

/// Values that the graph rounds and no file can say.
fn rounded(model: &Model) -> Vec<String> {
    let rounds = |def: &graph::Def| matches!(def, graph::Def::Op(Op::DynamicQuant(_) | Op::FakeQuant(_), _));
    let found = model.graph.values.iter().filter(|value| rounds(&value.def));
    found.map(|value| format!("{}: activations are not quantized in it", value.name)).collect()
}

const ONE_TYPE: &str = "leave out the `rules` and set `activations: none`: every matrix then has the type of `scheme`, which is one \
                        of f16, q8_0, q5_0, q5_1, q4_0, q4_1, q4_k, q5_k, q6_k";
const NO_RECIPE: &str = "no recipe changes that; `gguf: { for: transcribe.cpp }` takes more of Whisper";

impl Format for WhisperCpp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError> {
        described(model)?;
        Ok(Vec::new())
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        model.check_eps(NAME)?;
        let described = described(model)?;
        let mut items = described.refused.clone();
        let head = if items.is_empty() { Head::of(model, &described).map(|_| ()) } else { Ok(()) };
        if let Err(ExportError::CannotHold { items: faults, .. }) = &head {
            items.extend(faults.iter().cloned());
        } else {
            head?;
        }
        let hint = if items.is_empty() { ONE_TYPE } else { NO_RECIPE };
        items.extend(Layout::of(model, &described).err().unwrap_or_default());
        items.extend(rounded(model));
        if items.is_empty() { Ok(()) } else { Err(cannot_hold(items, hint)) }
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        let described = described(model)?;
        let layout = Layout::of(model, &described).map_err(|items| cannot_hold(items, ONE_TYPE))?;
        let head = Head::of(model, &described)?;
        write(&dir.join(FILE), &head.bytes(layout.file_type), &layout)?;
        copy_companions(model, dir)?;
        Artifact::list(NAME, dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        let path = artifact.dir.join(FILE);
        let file = ModelFile::open(&path)?;
        let described = described(model)?;
        let mut faults = Head::of(model, &described)?.differences(&file);
        let weights = read(model, &described, &file);
        faults.extend(weights.as_ref().err().into_iter().flatten().cloned());
        match weights {
            Ok(weights) if faults.is_empty() => Ok(weights),
            _ => Err(ExportError::Malformed { file: path, message: faults.join("; ") }),
        }
    }
}
