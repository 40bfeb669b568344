//! A GGUF artifact as a checkpoint: its tensors under the checkpoint's names, and the texts of the files beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Bytes, ImportError, Stored, Tensors, file_name};
use crate::ExportError;
use crate::export::gguf::keys::{FOLDED_LOGIT_SCALE, TENSORS, TEXTS, TOKENIZER_JSON, VERSION, VERSION_KEY};
use crate::export::gguf::{Array, GgufFile, TensorType, Value};

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Of files of the checkpoint, by name.
    pub texts: BTreeMap<&'static str, String>,
    /// Pairs of a checkpoint's name and GGUF's.
    pub names: Vec<(String, String)>,
    /// In the weight of the last norm already.
    pub folded_logit_scale: Option<f32>,
}

/// Reads a file that `export::gguf` wrote.
///
/// Errors: not a GGUF file; no key `trefoil.version`, or of another version; a key that is missing or of another type; a
/// list of names that is not one for each tensor.
pub(super) fn open(file: &Path) -> Result<(Whole, Tensors), ImportError> {
    let malformed = |message: String| ImportError::malformed(file, message);
    let gguf = GgufFile::open(file).map_err(|error| match error {
        ExportError::Io { file, source } => ImportError::Io { file, source },
        ExportError::Malformed { file, message } => ImportError::Malformed { file, message },
        other => malformed(other.to_string()),
    })?;
    match gguf.get(VERSION_KEY) {
        Some(Value::U32(VERSION)) => {}
        None => {
            let only = "only a file that trefoil wrote opens as a checkpoint";
            return Err(malformed(format!("{VERSION_KEY}: expected {VERSION}, found no such key; {only}")));
        }
        Some(other) => return Err(malformed(format!("{VERSION_KEY}: expected {VERSION}, found {}", told(other)))),
    }
    let mut texts = BTreeMap::new();
    for (name, key) in TEXTS.iter().chain([&("tokenizer.json", TOKENIZER_JSON)]) {
        match gguf.get(key) {
            None => {}
            Some(Value::String(text)) => drop(texts.insert(*name, text.clone())),
            Some(other) => return Err(malformed(format!("{key}: expected a string, found {}", told(other)))),
        }
    }
    let folded_logit_scale = match gguf.get(FOLDED_LOGIT_SCALE) {
        None => None,
        Some(Value::F32(c)) if c.is_finite() => Some(*c),
        Some(other) => {
            return Err(malformed(format!("{FOLDED_LOGIT_SCALE}: expected a finite f32, found {}", told(other))));
        }
    };
    let count = gguf.tensors.len();
    let listed = match gguf.get(TENSORS) {
        Some(Value::Array(Array::String(listed))) if listed.len() == count => listed.clone(),
        other => {
            let found = other.map_or("no such key".to_owned(), told);
            return Err(malformed(format!("{TENSORS}: expected {count} strings, one a tensor, found {found}")));
        }
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = listed.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(malformed(format!("{TENSORS}: {twice} comes twice")));
    }
    let mut whole = Whole { texts, names: Vec::new(), folded_logit_scale };
    let mut tensors = Tensors::new();
    for (name, tensor) in listed.into_iter().zip(gguf.tensors) {
        let bytes = match tensor.kind {
            TensorType::Float(_) => Bytes::Range(tensor.data),
            TensorType::Ggml(kind) => Bytes::Blocks(kind, tensor.data),
        };
        let dtype = tensor.kind.name().to_owned();
        whole.names.push((name.clone(), tensor.name));
        tensors.insert(name, Stored { file: file_name(file), dtype, shape: tensor.shape, bytes });
    }
    Ok((whole, tensors))
}

/// A value for an error.
fn told(value: &Value) -> String {
    match value {
        Value::String(_) => "a string".to_owned(),
        Value::Array(Array::String(array)) => format!("{} strings", array.len()),
        Value::Array(array) => format!("an array of {} numbers", array.len()),
        number => format!("{number:?}"),
    }
}
