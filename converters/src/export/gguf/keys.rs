//! The keys that make a file whole: with them it opens as a checkpoint, beside nothing else.

use checkpoint::gguf::keys::{CONFIGS, DIALECT, FOLDED_LOGIT_SCALE, TENSORS, VERSION, VERSION_KEY, held_files};
use checkpoint::gguf::{Array, Value};
use checkpoint::names;

use crate::dialect::Dialect;
use crate::error::ExportError;
use crate::model::Model;

/// The keys of `model`. `tensors`: the checkpoint's names in the order of the file; `tokenizer`: whether its files are held.
pub(super) fn whole(
    model: &Model,
    dialect: Option<&Dialect>,
    tensors: Vec<String>,
    tokenizer: bool,
) -> Result<Vec<(String, Value)>, ExportError> {
    let checkpoint = &model.checkpoint;
    let mut metadata = vec![(VERSION_KEY.to_owned(), Value::U32(VERSION))];
    for (name, key) in held_files().take(if tokenizer { usize::MAX } else { CONFIGS.len() }) {
        let bytes = match checkpoint.files().read(name)? {
            // A checkpoint without this file still has a config.
            None if name == names::CONFIG => Some(checkpoint.config_json().to_string().into_bytes()),
            bytes => bytes,
        };
        let value = bytes.map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(error) => Value::Array(Array::U8(error.into_bytes())),
        });
        metadata.extend(value.map(|value| (key, value)));
    }
    metadata.extend(dialect.map(|dialect| (DIALECT.to_owned(), Value::string(dialect.engine.name()))));
    metadata.extend(model.folded_logit_scale.map(|c| (FOLDED_LOGIT_SCALE.to_owned(), Value::F32(c))));
    metadata.push((TENSORS.to_owned(), Value::Array(Array::String(tensors))));
    Ok(metadata)
}
