//! A GGUF artifact as a checkpoint: its tensors under the checkpoint's names.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::CheckpointError;
use crate::gguf::container::{GgufFile, TensorType};
use crate::gguf::held::told;
use crate::gguf::keys::{CONFIG_KEY, DIALECT, FOLDED_LOGIT_SCALE, TENSORS, VERSION, VERSION_KEY};
use crate::gguf::value::{Array, Value};
use crate::stored::{Bytes, Stored, Tensors, file_name};

/// What a file holds.
#[derive(Debug)]
pub struct Whole {
    /// Pairs of a checkpoint's name and GGUF's.
    pub names: Vec<(String, String)>,
    /// The engine that it was written for, if not llama.cpp.
    pub dialect: Option<String>,
    /// In the weight of the last norm already.
    pub folded_logit_scale: Option<f32>,
}

/// What a file that trefoil wrote holds.
///
/// Errors: no key `trefoil.version`, or of another version; a key that is missing or of another type; a
/// list of names that is not one for each tensor.
pub(crate) fn whole(file: &Path, gguf: GgufFile) -> Result<(Whole, Tensors), CheckpointError> {
    let malformed = |message: String| CheckpointError::malformed(file, message);
    match gguf.get(VERSION_KEY) {
        Some(Value::U32(VERSION)) => {}
        None => {
            let only = "only a file that trefoil wrote opens as a checkpoint";
            return Err(malformed(format!("{VERSION_KEY}: expected {VERSION}, found no such key; {only}")));
        }
        Some(other) => return Err(malformed(format!("{VERSION_KEY}: expected {VERSION}, found {}", told(other)))),
    }
    let folded_logit_scale = match gguf.get(FOLDED_LOGIT_SCALE) {
        None => None,
        Some(Value::F32(c)) if c.is_finite() => Some(*c),
        Some(other) => {
            return Err(malformed(format!("{FOLDED_LOGIT_SCALE}: expected a finite f32, found {}", told(other))));
        }
    };
    let dialect = match gguf.get(DIALECT) {
        None => None,
        Some(Value::String(engine)) => Some(engine.clone()),
        Some(other) => return Err(malformed(format!("{DIALECT}: expected a string, found {}", told(other)))),
    };
    let count = gguf.tensors.len();
    let listed = match gguf.get(TENSORS) {
        Some(Value::Array(Array::String(listed))) if listed.len() == count => listed.clone(),
        other => {
            let found = other.map_or("no such key".to_owned(), told);
            return Err(malformed(format!("{TENSORS}: expected {count} strings, one a tensor, found {found}")));
        }
    };
    if gguf.get(CONFIG_KEY).is_none() {
        return Err(malformed(format!("expected the key {CONFIG_KEY}, found no such key")));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = listed.iter().find(|name| !name.is_empty() && !seen.insert(name.as_str())) {
        return Err(malformed(format!("{TENSORS}: {twice} comes twice")));
    }
    let mut whole = Whole { names: Vec::new(), dialect, folded_logit_scale };
    let mut tensors = Tensors::new();
    for (name, tensor) in listed.into_iter().zip(gguf.tensors).filter(|(name, _)| !name.is_empty()) {
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
