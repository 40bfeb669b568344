//! T5 as llama.cpp names and describes it: `LLM_ARCH_T5` in llama-arch.cpp and llama-model.cpp.

use checkpoint::gguf::Value;
use checkpoint::{Checkpoint, CheckpointError, Problem};
use graph::Unary;

use super::config::Config;
use crate::dialect::{Dialect, Engine, Keys, TensorTypes, Words};
use crate::error::ImportError;

/// The `t5.*` keys. Errors: everything about this config that llama.cpp's T5 computes in another way.
pub(super) fn metadata(c: &Config, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, why: &str| {
        let value = checkpoint.config_json().get(key).map_or_else(|| "missing".to_owned(), ToString::to_string);
        let architecture = "llama.cpp's t5".to_owned();
        problems.push(Problem::Unsupported {
            file: "config.json",
            key: key.to_owned(),
            value,
            architecture,
            why: why.to_owned(),
        });
    };
    if c.max_distance != 128 {
        refuse("relative_attention_max_distance", "it is fixed at 128 there");
    }
    if c.num_decoder_layers > c.num_layers {
        refuse("num_decoder_layers", "its cache has no more layers than the encoder");
    }
    if !matches!((c.gated, c.activation), (true, Unary::GeluTanh) | (false, Unary::Relu)) {
        let key =
            if checkpoint.config_json().get("dense_act_fn").is_some() { "dense_act_fn" } else { "feed_forward_proj" };
        refuse(key, "it is gated gelu_new or plain relu there");
    }
    if !problems.is_empty() {
        return Err(CheckpointError::DoesNotFit { dir: checkpoint.dir().to_owned(), problems }.into());
    }
    let count = |key: &str, n: usize| (format!("t5.{key}"), Value::U32(n as u32)); // at most 2^31
    let start = checkpoint.generation().decoder_start_token_id as u32; // read as a u32
    Ok(vec![
        count("context_length", checkpoint.config().usize_or("n_positions", 512)),
        count("embedding_length", c.d_model.len),
        count("feed_forward_length", c.d_ff.len),
        count("block_count", c.num_layers),
        count("decoder_block_count", c.num_decoder_layers),
        count("attention.head_count", c.heads.len),
        count("attention.key_length", c.d_kv),
        count("attention.value_length", c.d_kv),
        ("t5.attention.layer_norm_epsilon".to_owned(), Value::F32(c.eps)),
        ("t5.attention.layer_norm_rms_epsilon".to_owned(), Value::F32(c.eps)),
        count("attention.relative_buckets_count", c.buckets.len),
        ("t5.decoder_start_token_id".to_owned(), Value::U32(start)),
    ])
}

/// The encoder alone, `LLM_ARCH_T5ENCODER` in llama.cpp.
pub(super) const ENCODER: Dialect = Dialect {
    engine: Engine::LlamaCpp,
    architecture: "t5encoder",
    names: NAMES,
    keys: encoder_metadata,
    tables: |_| Ok(Vec::new()),
    tokenizer: Words::Pieces,
    folds_logit_scale: false,
    refused: |_| Ok(Vec::new()),
    types: TensorTypes::LLAMA_CPP,
};

/// The `t5encoder.*` keys. Errors: what of this config llama.cpp's T5 computes in another way.
fn encoder_metadata(checkpoint: &Checkpoint) -> Result<Keys, ImportError> {
    let c = Config::read(checkpoint)?;
    // A decoder that is left out may be as deep as it likes.
    let metadata = metadata(&Config { num_decoder_layers: c.num_layers, ..c }, checkpoint)?;
    let of_encoder = metadata.into_iter().filter(|(key, _)| !key.contains("decoder"));
    Ok(of_encoder.map(|(key, value)| (key.replacen("t5.", "t5encoder.", 1), value)).collect())
}

/// Modules of the checkpoint and of llama.cpp; a tensor adds `.weight` to both.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("shared", "token_embd"),
    ("encoder.embed_tokens", "token_embd"),
    ("decoder.embed_tokens", "token_embd"),
    ("lm_head", "output"),
    ("encoder.final_layer_norm", "enc.output_norm"),
    ("decoder.final_layer_norm", "dec.output_norm"),
    ("encoder.block.{i}.layer.0.layer_norm", "enc.blk.{i}.attn_norm"),
    ("encoder.block.{i}.layer.0.SelfAttention.q", "enc.blk.{i}.attn_q"),
    ("encoder.block.{i}.layer.0.SelfAttention.k", "enc.blk.{i}.attn_k"),
    ("encoder.block.{i}.layer.0.SelfAttention.v", "enc.blk.{i}.attn_v"),
    ("encoder.block.{i}.layer.0.SelfAttention.o", "enc.blk.{i}.attn_o"),
    ("encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias", "enc.blk.{i}.attn_rel_b"),
    ("encoder.block.{i}.layer.1.layer_norm", "enc.blk.{i}.ffn_norm"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi", "enc.blk.{i}.ffn_up"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi_0", "enc.blk.{i}.ffn_gate"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi_1", "enc.blk.{i}.ffn_up"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wo", "enc.blk.{i}.ffn_down"),
    ("decoder.block.{i}.layer.0.layer_norm", "dec.blk.{i}.attn_norm"),
    ("decoder.block.{i}.layer.0.SelfAttention.q", "dec.blk.{i}.attn_q"),
    ("decoder.block.{i}.layer.0.SelfAttention.k", "dec.blk.{i}.attn_k"),
    ("decoder.block.{i}.layer.0.SelfAttention.v", "dec.blk.{i}.attn_v"),
    ("decoder.block.{i}.layer.0.SelfAttention.o", "dec.blk.{i}.attn_o"),
    ("decoder.block.{i}.layer.0.SelfAttention.relative_attention_bias", "dec.blk.{i}.attn_rel_b"),
    ("decoder.block.{i}.layer.1.layer_norm", "dec.blk.{i}.cross_attn_norm"),
    ("decoder.block.{i}.layer.1.EncDecAttention.q", "dec.blk.{i}.cross_attn_q"),
    ("decoder.block.{i}.layer.1.EncDecAttention.k", "dec.blk.{i}.cross_attn_k"),
    ("decoder.block.{i}.layer.1.EncDecAttention.v", "dec.blk.{i}.cross_attn_v"),
    ("decoder.block.{i}.layer.1.EncDecAttention.o", "dec.blk.{i}.cross_attn_o"),
    ("decoder.block.{i}.layer.2.layer_norm", "dec.blk.{i}.ffn_norm"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wi", "dec.blk.{i}.ffn_up"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wi_0", "dec.blk.{i}.ffn_gate"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wi_1", "dec.blk.{i}.ffn_up"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wo", "dec.blk.{i}.ffn_down"),
];
