//! The texts of files that stood beside the weights.

use std::collections::BTreeMap;
use std::path::Path;

use super::container::GgufFile;
use super::keys::held_files;
use super::value::{Array, Value};
use crate::error::CheckpointError;

/// Contents of files of a checkpoint, by name.
pub type Held = BTreeMap<&'static str, Vec<u8>>;

/// The files that a GGUF file holds. Errors: a key of one is of another type.
pub(crate) fn held(file: &Path, gguf: &GgufFile) -> Result<Held, CheckpointError> {
    let mut files = Held::new();
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

/// A value for an error.
pub(crate) fn told(value: &Value) -> String {
    match value {
        Value::String(_) => "a string".to_owned(),
        Value::Array(Array::String(array)) => format!("{} strings", array.len()),
        Value::Array(array) => format!("an array of {} numbers", array.len()),
        number => format!("{number:?}"),
    }
}
