//! The keys that make a file whole: with them it opens as a checkpoint, beside nothing else.

use crate::names;

/// The file in a folder.
pub const FILE: &str = "model.gguf";

/// u32: the version of what stands below `trefoil`.
pub const VERSION_KEY: &str = "trefoil.version";
/// The one that is written.
pub const VERSION: u32 = 1;
/// string[]: the checkpoint's name of each tensor, in the order of the tensor table. Several may share a GGUF name in
/// different checkpoints (T5's `wi` and `wi_1` are both `ffn_up`), so the table alone does not lead back. Empty for a table that
/// no checkpoint has and an engine asks for.
pub const TENSORS: &str = "trefoil.tensors";
/// string, in a file for another engine than llama.cpp: its name.
pub const DIALECT: &str = "trefoil.dialect";
/// f32, if there is one: what the weight of the last norm is multiplied by already.
pub const FOLDED_LOGIT_SCALE: &str = "trefoil.folded_logit_scale";

/// The whole of config.json, without which a file opens as no checkpoint.
pub const CONFIG_KEY: &str = "trefoil.config";
/// Files that say what is computed, and their keys.
pub const CONFIGS: [(&str, &str); 4] = [
    (names::CONFIG, CONFIG_KEY),
    (names::GENERATION_CONFIG, "trefoil.generation_config"),
    (names::PREPROCESSOR_CONFIG, "trefoil.preprocessor_config"),
    (names::PROCESSOR_CONFIG, "trefoil.processor_config"),
];
/// The file that ggml has a key for: the whole of it as a string (docs/gguf.md of ggml).
const TOKENIZER_JSON: (&str, &str) = ("tokenizer.json", "tokenizer.huggingface.json");

/// Every file of a checkpoint that a GGUF file may hold, and the key of each.
///
/// The value is the whole file: a string, or u8[] where the file is not UTF-8.
pub fn held_files() -> impl Iterator<Item = (&'static str, String)> {
    let own = |name: &'static str| match name == TOKENIZER_JSON.0 {
        true => (name, TOKENIZER_JSON.1.to_owned()),
        false => (name, format!("trefoil.files.{name}")),
    };
    CONFIGS
        .into_iter()
        .map(|(name, key)| (name, key.to_owned()))
        .chain(names::TOKENIZER.iter().map(move |name| own(name)))
}
