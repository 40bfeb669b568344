//! T5 in the GGUF of CrispASR: llama.cpp's names and keys, and the engine's own keys beside them, so that both open the file.
//! Source: src/t5_translate.cpp there, and its package 0.8.45.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;

use super::config::{Config, is_tied};
use super::gguf;
use crate::dialect::{Dialect, Engine, TensorTypes, Words};
use crate::error::ImportError;

pub(super) const DIALECT: Dialect = Dialect {
    engine: Engine::CrispAsr,
    architecture: "t5",
    names: gguf::NAMES,
    keys,
    tables: |_| Ok(Vec::new()),
    tokenizer: Words::Pieces,
    folds_logit_scale: true,
    refused,
    types: TensorTypes::LLAMA_CPP,
};

fn keys(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let c = Config::read(checkpoint)?;
    let mut keys = gguf::metadata(&c, checkpoint)?;
    let decoding = checkpoint.generation();
    let end = decoding.eos_token_ids.first().copied().unwrap_or(decoding.pad_token_id);
    let own = [
        ("vocab_size", c.vocab.len),
        ("d_model", c.d_model.len),
        ("d_kv", c.d_kv),
        ("d_ff", c.d_ff.len),
        ("n_heads", c.heads.len),
        ("encoder.n_layers", c.num_layers),
        ("decoder.n_layers", c.num_decoder_layers),
        ("relative_attention_num_buckets", c.buckets.len),
        ("relative_attention_max_distance", c.max_distance),
        ("tie_word_embeddings", usize::from(is_tied(&c, checkpoint))),
        ("eos_token_id", end as usize), // read as a u32
        ("pad_token_id", decoding.pad_token_id as usize),
    ];
    keys.extend(own.map(|(key, n)| (format!("t5.{key}"), Value::U32(n as u32)))); // at most 2^31
    keys.push(("t5.layer_norm_epsilon".to_owned(), Value::F32(c.eps)));
    keys.push(("t5.feed_forward_proj".to_owned(), Value::string("gated-gelu")));
    Ok(keys)
}

fn refused(checkpoint: &Checkpoint) -> Result<Vec<String>, ImportError> {
    let c = Config::read(checkpoint)?;
    let faults = [
        (!c.gated, "config.json: feed_forward_proj: it computes gated gelu alone"),
        (
            c.bias_in_every_layer,
            "config.json: model_type = umt5: it takes the relative bias of the first layer for all",
        ),
    ];
    Ok(faults.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, why)| why.to_owned()).collect())
}
