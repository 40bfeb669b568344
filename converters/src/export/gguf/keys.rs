//! The keys that make a file whole: with them it opens as a checkpoint, beside nothing else.

use super::value::{Array, Value};
use crate::{ImportError, Model, audio, tokenizer};

/// u32: the version of what stands below `trefoil`.
pub(crate) const VERSION_KEY: &str = "trefoil.version";
pub(crate) const VERSION: u32 = 1;
/// string[]: the checkpoint's name of each tensor, in the order of the tensor table. Several may share a GGUF name in
/// different checkpoints (T5's `wi` and `wi_1` are both `ffn_up`), so the table alone does not lead back.
pub(crate) const TENSORS: &str = "trefoil.tensors";
/// f32, if there is one: [`Model::folded_logit_scale`].
pub(crate) const FOLDED_LOGIT_SCALE: &str = "trefoil.folded_logit_scale";

const CONFIG: &str = "config.json";
/// Files that say what is computed, and their keys.
const CONFIGS: [(&str, &str); 4] = [
    (CONFIG, "trefoil.config"),
    ("generation_config.json", "trefoil.generation_config"),
    (audio::PREPROCESSOR_CONFIG, "trefoil.preprocessor_config"),
    (audio::PROCESSOR_CONFIG, "trefoil.processor_config"),
];
/// The file that ggml has a key for: the whole of it as a string (docs/gguf.md of ggml).
const TOKENIZER_JSON: (&str, &str) = ("tokenizer.json", "tokenizer.huggingface.json");

/// Every file of a checkpoint that a GGUF file may hold, and the key of each.
///
/// The value is the whole file: a string, or u8[] where the file is not UTF-8.
pub(crate) fn held_files() -> impl Iterator<Item = (&'static str, String)> {
    let own = |name: &'static str| match name == TOKENIZER_JSON.0 {
        true => (name, TOKENIZER_JSON.1.to_owned()),
        false => (name, format!("trefoil.files.{name}")),
    };
    CONFIGS
        .into_iter()
        .map(|(name, key)| (name, key.to_owned()))
        .chain(tokenizer::FILES.iter().map(move |name| own(name)))
}

/// The keys of `model`. `tensors`: the checkpoint's names in the order of the file; `tokenizer`: whether its files are held.
pub(super) fn whole(model: &Model, tensors: Vec<String>, tokenizer: bool) -> Result<Vec<(String, Value)>, ImportError> {
    let checkpoint = &model.checkpoint;
    let mut metadata = vec![(VERSION_KEY.to_owned(), Value::U32(VERSION))];
    for (name, key) in held_files().take(if tokenizer { usize::MAX } else { CONFIGS.len() }) {
        let bytes = match checkpoint.file(name)? {
            // A checkpoint without this file still has a config.
            None if name == CONFIG => Some(checkpoint.config_json().to_string().into_bytes()),
            bytes => bytes,
        };
        let value = bytes.map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(error) => Value::Array(Array::U8(error.into_bytes())),
        });
        metadata.extend(value.map(|value| (key, value)));
    }
    metadata.extend(model.folded_logit_scale.map(|c| (FOLDED_LOGIT_SCALE.to_owned(), Value::F32(c))));
    metadata.push((TENSORS.to_owned(), Value::Array(Array::String(tensors))));
    Ok(metadata)
}
