//! What must hold before llama.cpp reads a file, because it ends the process where it could return an error.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use converters::Artifact;
use converters::export::gguf::{Array, ENCODER, GgufFile, Value};

/// Tensors whose absence llama.cpp takes for an optional feature and then reads through a null pointer: of an encoder, and of a decoder.
const ASSUMED: [&str; 2] = ["enc.blk.0.attn_rel_b.weight", "dec.blk.0.attn_rel_b.weight"];

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

/// Which part of a model a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Encoder and decoder.
    Whole,
    /// The encoder alone.
    Encoder,
}

/// Checks a file. Errors: all that is wrong with it.
pub(super) fn check(path: &Path) -> Result<Part, String> {
    let file = GgufFile::open(path).map_err(|e| e.to_string())?;
    let found = match file.get("general.architecture") {
        Some(Value::String(name)) if name == "t5" => Ok(Part::Whole),
        Some(Value::String(name)) if name == ENCODER => Ok(Part::Encoder),
        other => Err(vec![format!("general.architecture: expected t5 or {ENCODER}, found {}", shown(other))]),
    };
    let checked = found.and_then(|part| match faults(&file, part) {
        faults if faults.is_empty() => Ok(part),
        faults => Err(faults),
    });
    checked.map_err(|faults| format!("{}: {}", path.display(), faults.join("; ")))
}

fn faults(file: &GgufFile, part: Part) -> Vec<String> {
    let prefix = if part == Part::Whole { "t5" } else { ENCODER };
    let key = |key: &str| format!("{prefix}.{key}");
    let mut faults = Vec::new();
    let mut count = |key: &str| match file.get(key) {
        Some(Value::U32(n)) if *n > 0 => *n,
        other => {
            faults.push(format!("{key}: expected a u32 above 0, found {}", shown(other)));
            1
        }
    };
    let [_, embedding, _, heads] =
        ["context_length", "embedding_length", "feed_forward_length", "attention.head_count"]
            .map(|name| count(&key(name)));
    let encoder = count(&key("block_count"));
    // llama.cpp's own converter left the second out while it knew no model of two depths.
    let decoder = match file.get("t5.decoder_block_count") {
        None => encoder,
        Some(_) => count("t5.decoder_block_count"),
    };
    let [keys, values] = ["attention.key_length", "attention.value_length"].map(|name| match file.get(&key(name)) {
        None => embedding / heads,
        Some(_) => count(&key(name)),
    });
    if keys != values {
        let [of_keys, of_values] = ["attention.key_length", "attention.value_length"].map(key);
        faults.push(format!("{of_values}: expected {keys}, as {of_keys}, found {values}"));
    }
    if encoder > MOST_LAYERS {
        faults.push(format!("{}: expected at most {MOST_LAYERS}, found {encoder}", key("block_count")));
    }
    if decoder > encoder {
        faults.push(format!(
            "t5.decoder_block_count: expected at most {encoder}, as t5.block_count, found {decoder}; llama.cpp gives its \
             cache the layers of the encoder"
        ));
    }
    faults.extend(tokenizer_fault(file));
    let assumed = if part == Part::Whole { &ASSUMED[..] } else { &ASSUMED[..1] };
    let missing = assumed.iter().filter(|name| file.tensor(name).is_none());
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
