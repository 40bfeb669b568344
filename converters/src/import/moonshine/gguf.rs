//! Moonshine in GGUF: names in llama.cpp's manner and keys `moonshine.*`, both trefoil's own.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;

use super::config::{Config, EPS};
use crate::import::layers::with_and_without_model_prefix;

/// The `moonshine.*` keys.
pub(super) fn metadata(c: &Config, checkpoint: &Checkpoint) -> Vec<(String, Value)> {
    let count = |key: &str, n: usize| (format!("moonshine.{key}"), Value::U32(n as u32)); // at most 2^31
    let head_width = c.inner.len / c.heads.len;
    let start = checkpoint.generation().decoder_start_token_id as u32; // read as a u32
    vec![
        count("context_length", checkpoint.config().usize_or("max_position_embeddings", 512)),
        count("embedding_length", c.width.len),
        count("encoder.block_count", c.encoder.count),
        count("decoder.block_count", c.decoder.count),
        count("feed_forward_length", c.ffn.len),
        count("attention.head_count", c.heads.len),
        count("attention.key_length", head_width),
        count("attention.value_length", head_width),
        ("moonshine.attention.layer_norm_epsilon".to_owned(), Value::F32(EPS)),
        count("rope.dimension_count", c.rope.dims),
        ("moonshine.rope.freq_base".to_owned(), Value::F32(c.rope.theta)),
        ("moonshine.decoder_start_token_id".to_owned(), Value::U32(start)),
    ]
}

pub(super) const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "decoder.embed_tokens" => "token_embd",
    "encoder.conv1" => "enc.conv1",
    "encoder.groupnorm" => "enc.conv1_norm",
    "encoder.conv2" => "enc.conv2",
    "encoder.conv3" => "enc.conv3",
    "encoder.layer_norm" => "enc.output_norm",
    "decoder.norm" => "dec.output_norm",
    "encoder.layers.{i}.input_layernorm" => "enc.blk.{i}.attn_norm",
    "encoder.layers.{i}.self_attn.q_proj" => "enc.blk.{i}.attn_q",
    "encoder.layers.{i}.self_attn.k_proj" => "enc.blk.{i}.attn_k",
    "encoder.layers.{i}.self_attn.v_proj" => "enc.blk.{i}.attn_v",
    "encoder.layers.{i}.self_attn.o_proj" => "enc.blk.{i}.attn_o",
    "encoder.layers.{i}.post_attention_layernorm" => "enc.blk.{i}.ffn_norm",
    "encoder.layers.{i}.mlp.fc1" => "enc.blk.{i}.ffn_up",
    "encoder.layers.{i}.mlp.fc2" => "enc.blk.{i}.ffn_down",
    "decoder.layers.{i}.input_layernorm" => "dec.blk.{i}.attn_norm",
    "decoder.layers.{i}.self_attn.q_proj" => "dec.blk.{i}.attn_q",
    "decoder.layers.{i}.self_attn.k_proj" => "dec.blk.{i}.attn_k",
    "decoder.layers.{i}.self_attn.v_proj" => "dec.blk.{i}.attn_v",
    "decoder.layers.{i}.self_attn.o_proj" => "dec.blk.{i}.attn_o",
    "decoder.layers.{i}.post_attention_layernorm" => "dec.blk.{i}.cross_attn_norm",
    "decoder.layers.{i}.encoder_attn.q_proj" => "dec.blk.{i}.cross_attn_q",
    "decoder.layers.{i}.encoder_attn.k_proj" => "dec.blk.{i}.cross_attn_k",
    "decoder.layers.{i}.encoder_attn.v_proj" => "dec.blk.{i}.cross_attn_v",
    "decoder.layers.{i}.encoder_attn.o_proj" => "dec.blk.{i}.cross_attn_o",
    "decoder.layers.{i}.final_layernorm" => "dec.blk.{i}.ffn_norm",
    "decoder.layers.{i}.mlp.fc1" => "dec.blk.{i}.ffn_up",
    "decoder.layers.{i}.mlp.fc2" => "dec.blk.{i}.ffn_down";
    "proj_out" => "output",
];
