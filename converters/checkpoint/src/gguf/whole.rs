//! A GGUF artifact as a checkpoint: its tensors under the checkpoint's names, and the texts of the files beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::container::{GgufFile, TensorType};
use super::keys::{FOLDED_LOGIT_SCALE, TENSORS, VERSION, VERSION_KEY, held_files};
use super::value::{Array, Value};
use crate::error::CheckpointError;
use crate::tensors::{Bytes, Stored, Tensors, file_name};

/// The file in a folder.
pub const FILE: &str = "model.gguf";

/// Contents of files of a checkpoint, by name.
pub type HeldFiles = BTreeMap<&'static str, Vec<u8>>;

/// What a file holds.
#[derive(Debug)]
pub struct Whole {
    /// Files that stood beside the weights.
    pub files: HeldFiles,
    /// Pairs of a checkpoint's name and GGUF's.
    pub names: Vec<(String, String)>,
    /// In the weight of the last norm already.
    pub folded_logit_scale: Option<f32>,
}

/// Reads a file that trefoil wrote.
///
/// Errors: not a GGUF file; no key `trefoil.version`, or of another version; a key that is missing or of another type; a
/// list of names that is not one for each tensor.
pub(crate) fn open(file: &Path) -> Result<(Whole, Tensors), CheckpointError> {
    let malformed = |message: String| CheckpointError::malformed(file, message);
    let gguf = opened(file)?;
    match gguf.get(VERSION_KEY) {
        Some(Value::U32(VERSION)) => {}
        None => {
            let only = "only a file that trefoil wrote opens as a checkpoint";
            return Err(malformed(format!("{VERSION_KEY}: expected {VERSION}, found no such key; {only}")));
        }
        Some(other) => return Err(malformed(format!("{VERSION_KEY}: expected {VERSION}, found {}", told(other)))),
    }
    let files = held(file, &gguf)?;
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
    let mut whole = Whole { files, names: Vec::new(), folded_logit_scale };
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

fn opened(file: &Path) -> Result<GgufFile, CheckpointError> {
    GgufFile::open(file)
}

fn held(file: &Path, gguf: &GgufFile) -> Result<HeldFiles, CheckpointError> {
    let mut files = HeldFiles::new();
    for (name, key) in held_files() {
        let content = match gguf.get(&key) {
            None => continue,
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(Value::Array(Array::U8(bytes))) => bytes.clone(),
            Some(other) => {
                let message = format!("{key}: expected a string or u8[], found {}", told(other));
                return Err(CheckpointError::malformed(file, message));
            }
        };
        files.insert(name, content);
    }
    Ok(files)
}

/// The files that the GGUF artifact in a folder holds; none when there is no such artifact.
pub fn files_in(dir: &Path) -> Result<HeldFiles, CheckpointError> {
    let file = dir.join(FILE);
    match file.is_file() {
        true => held(&file, &opened(&file)?),
        false => Ok(HeldFiles::new()),
    }
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
