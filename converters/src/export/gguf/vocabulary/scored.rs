//! Pieces with scores beside a table of ids, as CrispASR reads them: src/m2m100.cpp and src/core/marian_tokenizer.h there.

use checkpoint::gguf::{Array, Value};
use tokenizer::{Joins, Tokenizer, Vocabulary};

use crate::dialect::Keys;

/// What it takes for the end of a source and for an unknown token of M2M100, and hides by their names.
const FIXED: [(usize, &str); 2] = [(2, "</s>"), (3, "<unk>")];

/// Marian's keys. Errors: why the tokenizer is none of Marian's.
pub(super) fn sides(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Keys, String> {
    let sides = tokenizer.sides()?;
    let tokens = tokenizer.tokens(vocab_size, false).into_iter().enumerate();
    let tokens = tokens.map(|(id, token)| token.unwrap_or_else(|| format!("[PAD{id}]"))).collect();
    let mut keys = vec![
        ("tokenizer.ggml.model".to_owned(), Value::string("marian")),
        ("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::String(tokens))),
        ("marian.unk_token_id".to_owned(), Value::U32(sides.unknown)),
    ];
    keys.extend(side("source", sides.source));
    keys.extend(side("target", sides.target));
    Ok(keys)
}

fn side(name: &str, model: Vocabulary) -> Keys {
    let types = model.types.iter().map(|kind| *kind as i32).collect();
    // It asks for this name to tell a map that is missing from one that there never was.
    let normalizer = if model.charsmap.is_empty() { "identity" } else { "precompiled" };
    let mut keys = vec![
        ("pieces", Value::Array(Array::String(model.pieces))),
        ("scores", Value::Array(Array::F32(model.scores))),
        ("types", Value::Array(Array::I32(types))),
        ("normalizer", Value::string(normalizer)),
        ("add_dummy_prefix", Value::Bool(model.add_space_prefix)),
        ("remove_extra_whitespaces", Value::Bool(model.remove_extra_whitespaces)),
        ("escape_whitespaces", Value::Bool(true)),
    ];
    if !model.charsmap.is_empty() {
        keys.push(("charsmap", Value::Array(Array::U8(model.charsmap))));
    }
    keys.into_iter().map(|(key, value)| (format!("tokenizer.marian.{name}.{key}"), value)).collect()
}

/// M2M100's and NLLB's keys. Errors: why the tokenizer is none of theirs.
pub(super) fn joins(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Keys, String> {
    let Joins { tokens, without_id } = tokenizer.joins(vocab_size)?;
    for (id, expected) in FIXED {
        match tokens.get(id) {
            Some(Some((token, _))) if token == expected => {}
            other => {
                let found = other.and_then(Option::as_ref).map_or("none", |(token, _)| token);
                return Err(format!("it takes id {id} for {expected}, and here it is {found:?}"));
            }
        }
    }
    let named = tokens.into_iter().map(|token| token.unwrap_or_else(|| (String::new(), Joins::NEVER)));
    let (mut texts, scores): (Vec<String>, Vec<f32>) = named.chain(without_id).unzip();
    let (mut codes, mut ids) = (Vec::new(), Vec::new());
    for (language, id) in tokenizer.known_languages() {
        let Some(text) = texts.get_mut(id as usize).filter(|_| (id as usize) < vocab_size) else { continue };
        // It hides what is written like this.
        *text = format!("__{language}__");
        codes.push(language.to_owned());
        ids.push(id);
    }
    Ok(vec![
        ("tokenizer.ggml.model".to_owned(), Value::string("m2m100")),
        ("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::String(texts))),
        ("tokenizer.ggml.scores".to_owned(), Value::Array(Array::F32(scores))),
        ("m2m100.lang_codes".to_owned(), Value::Array(Array::String(codes))),
        ("m2m100.lang_token_ids".to_owned(), Value::Array(Array::U32(ids))),
    ])
}
