//! What must hold before llama.cpp reads a file, because it ends the process where it could return an error.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use converters::Artifact;
use converters::export::gguf::{Array, GgufFile, Value};

/// Tensors whose absence llama.cpp takes for an optional feature and then reads through a null pointer.
const ASSUMED: &[&str] = &["enc.blk.0.attn_rel_b.weight", "dec.blk.0.attn_rel_b.weight"];

/// `LLAMA_MAX_LAYERS`, llama-hparams.h: more are an assert.
const MOST_LAYERS: u32 = 512;

/// The one GGUF file of an artifact.
pub(super) fn file(artifact: &Artifact) -> Result<PathBuf, String> {
    let mut files = artifact.files.iter().filter(|f| f.extension().is_some_and(|e| e == "gguf"));
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(artifact.dir.join(file)),
        (first, _) => {
            let found = if first.is_some() { "several" } else { "none" };
            Err(format!("{}: expected one .gguf file, found {found}", artifact.dir.display()))
        }
    }
}

/// Checks a file. Errors: all that is wrong with it.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let file = GgufFile::open(path).map_err(|e| e.to_string())?;
    let faults = faults(&file);
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: {}", path.display(), faults.join("; "))),
    }
}

fn faults(file: &GgufFile) -> Vec<String> {
    match file.get("general.architecture") {
        Some(Value::String(name)) if name == "t5" => {}
        other => return vec![format!("general.architecture: expected t5, found {}", shown(other))],
    }
    let mut faults = Vec::new();
    let mut count = |key: &str| match file.get(key) {
        Some(Value::U32(n)) if *n > 0 => *n,
        other => {
            faults.push(format!("{key}: expected a u32 above 0, found {}", shown(other)));
            1
        }
    };
    let [_, embedding, _, heads] =
        ["t5.context_length", "t5.embedding_length", "t5.feed_forward_length", "t5.attention.head_count"]
            .map(&mut count);
    let encoder = count("t5.block_count");
    // llama.cpp's own converter left the second out while it knew no model of two depths.
    let decoder = match file.get("t5.decoder_block_count") {
        None => encoder,
        Some(_) => count("t5.decoder_block_count"),
    };
    let [key, value] = ["t5.attention.key_length", "t5.attention.value_length"].map(|key| match file.get(key) {
        None => embedding / heads,
        Some(_) => count(key),
    });
    if key != value {
        faults.push(format!("t5.attention.value_length: expected {key}, as t5.attention.key_length, found {value}"));
    }
    if encoder > MOST_LAYERS {
        faults.push(format!("t5.block_count: expected at most {MOST_LAYERS}, found {encoder}"));
    }
    if decoder > encoder {
        faults.push(format!(
            "t5.decoder_block_count: expected at most {encoder}, as t5.block_count, found {decoder}; llama.cpp gives its \
             cache the layers of the encoder"
        ));
    }
    faults.extend(tokenizer_fault(file));
    let missing = ASSUMED.iter().filter(|name| file.tensor(name).is_none());
    faults.extend(missing.map(|name| format!("{name}: expected a tensor, found none")));
    faults
}

fn tokenizer_fault(file: &GgufFile) -> Option<String> {
    match file.get("tokenizer.ggml.model") {
        Some(Value::String(name)) if name == "t5" || name == "none" => {}
        other => return Some(format!("tokenizer.ggml.model: expected t5 or none, found {}", shown(other))),
    }
    let Some(Value::Array(Array::String(pieces))) = file.get("tokenizer.ggml.tokens") else { return None };
    let mut seen = HashSet::new();
    let twice = pieces.iter().find(|piece| !seen.insert(*piece))?;
    Some(format!("tokenizer.ggml.tokens: expected each piece once, found {twice:?} twice"))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::Array(_)) => "an array".to_owned(),
        Some(value) => format!("{value:?}"),
    }
}
