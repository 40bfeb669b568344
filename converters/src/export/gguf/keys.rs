//! The keys that make a file whole: with them it opens as a checkpoint, beside nothing else.

use super::value::{Array, Value};
use crate::checkpoint::Checkpoint;
use crate::{ImportError, Model};

/// u32: the version of what stands below `trefoil`.
pub(crate) const VERSION_KEY: &str = "trefoil.version";
pub(crate) const VERSION: u32 = 1;
/// string[]: the checkpoint's name of each tensor, in the order of the tensor table. Several may share a GGUF name in
/// different checkpoints (T5's `wi` and `wi_1` are both `ffn_up`), so the table alone does not lead back.
pub(crate) const TENSORS: &str = "trefoil.tensors";
/// f32, if there is one: [`Model::folded_logit_scale`].
pub(crate) const FOLDED_LOGIT_SCALE: &str = "trefoil.folded_logit_scale";
/// string: ggml's key for the whole of tokenizer.json (docs/gguf.md of ggml).
pub(crate) const TOKENIZER_JSON: &str = "tokenizer.huggingface.json";

/// Files of a checkpoint, and the key of the string that holds the text of each, if the checkpoint has it.
pub(crate) const TEXTS: &[(&str, &str)] = &[
    ("config.json", "trefoil.config"),
    ("generation_config.json", "trefoil.generation_config"),
    ("preprocessor_config.json", "trefoil.preprocessor_config"),
    ("tokenizer_config.json", "trefoil.tokenizer_config"),
];

/// The keys below `trefoil`. `tensors`: the checkpoint's names in the order of the file.
pub(super) fn whole(model: &Model, tensors: Vec<String>) -> Result<Vec<(String, Value)>, ImportError> {
    let mut metadata = vec![(VERSION_KEY.to_owned(), Value::U32(VERSION))];
    for (file, key) in TEXTS {
        metadata.extend(text(&model.checkpoint, file)?.map(|text| ((*key).to_owned(), Value::String(text))));
    }
    metadata.extend(model.folded_logit_scale.map(|c| (FOLDED_LOGIT_SCALE.to_owned(), Value::F32(c))));
    metadata.push((TENSORS.to_owned(), Value::Array(Array::String(tensors))));
    Ok(metadata)
}

/// The text of a file of the checkpoint. A checkpoint without config.json still has a config.
fn text(checkpoint: &Checkpoint, file: &str) -> Result<Option<String>, ImportError> {
    let text = checkpoint.text(file)?;
    Ok(text.or_else(|| (file == "config.json").then(|| checkpoint.config_json().to_string())))
}
