//! Marian in the GGUF of CrispASR. Source: src/m2m100.cpp there, and its package 0.8.45.

use checkpoint::Checkpoint;
use checkpoint::gguf::{Array, Value};
use graph::{Tensor, Unary};

use super::config::config;
use crate::dialect::{Dialect, Engine, Words};
use crate::error::ImportError;
use crate::import::fairseq::{LOGITS_BIAS, crisp_asr};

pub(super) const DIALECT: Dialect = Dialect {
    engine: Engine::CrispAsr,
    architecture: "marian",
    names: crisp_asr::NAMES,
    keys,
    tables,
    tokenizer: Words::Sides,
    folds_logit_scale: false,
    refused,
    types: crisp_asr::TYPES,
};

/// The functions of an element that it computes, in its words.
const ACTIVATIONS: &[(Unary, &str)] = &[(Unary::Silu, "swish"), (Unary::Relu, "relu"), (Unary::Gelu, "gelu")];

fn keys(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let (c, _) = config(checkpoint)?;
    let mut keys = crisp_asr::metadata("marian", &c, checkpoint)?;
    keys.push(("marian.normalize_before".to_owned(), Value::U32(u32::from(c.family.norm_before))));
    let known = ACTIVATIONS.iter().find(|(activation, _)| *activation == c.activation);
    keys.extend(known.map(|(_, word)| ("marian.activation_function".to_owned(), Value::string(*word))));
    let decoding = checkpoint.generation();
    let suppressed = decoding.bad_words_ids.iter().flatten().chain(&decoding.suppress_tokens);
    let suppressed: Vec<i32> = suppressed.filter_map(|id| i32::try_from(*id).ok()).collect();
    if !suppressed.is_empty() {
        keys.push(("marian.suppress_token_ids".to_owned(), Value::Array(Array::I32(suppressed))));
    }
    let settings: serde_json::Value = checkpoint.files().json("tokenizer_config.json")?.unwrap_or_default();
    for key in ["source_lang", "target_lang"] {
        let language = settings.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        keys.push((format!("marian.{key}"), Value::string(language)));
    }
    Ok(keys)
}

/// It asks for a bias of the logits where a checkpoint may have none.
fn tables(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, Tensor)>, ImportError> {
    let (c, _) = config(checkpoint)?;
    let zeros = || (LOGITS_BIAS, Tensor::f32([c.target_vocab.len], vec![0.0; c.target_vocab.len]));
    Ok(if checkpoint.has(LOGITS_BIAS) { Vec::new() } else { vec![zeros()] })
}

fn refused(checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let (c, has_one_vocabulary) = config(checkpoint)?;
    let mut faults = crisp_asr::refused(&c);
    if !ACTIVATIONS.iter().any(|(activation, _)| *activation == c.activation) {
        faults.push("config.json: activation_function: it computes swish, relu and gelu alone".to_owned());
    }
    if !has_one_vocabulary {
        faults
            .push("config.json: share_encoder_decoder_embeddings = false: it has one table for both stacks".to_owned());
    }
    if checkpoint.generation().bad_words_ids.iter().any(|word| word.len() != 1) {
        faults.push("generation_config.json: bad_words_ids: it suppresses single tokens alone".to_owned());
    }
    Ok(faults)
}
