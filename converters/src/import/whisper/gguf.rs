//! Whisper in GGUF: names in llama.cpp's manner and keys `whisper.*`, both trefoil's own. (whisper.cpp reads another container.)

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;

use super::config::{Config, EPS};
use crate::import::layers::with_and_without_model_prefix;

/// The `whisper.*` keys.
pub(super) fn metadata(c: &Config, checkpoint: &Checkpoint) -> Vec<(String, Value)> {
    let count = |key: &str, n: usize| (format!("whisper.{key}"), Value::U32(n as u32)); // at most 2^31
    let start = checkpoint.generation().decoder_start_token_id as u32; // read as a u32
    vec![
        count("context_length", c.target_positions.len),
        count("embedding_length", c.d_model.len),
        count("encoder.block_count", c.encoder.count),
        count("encoder.feed_forward_length", c.encoder.ffn.len),
        count("encoder.attention.head_count", c.encoder.heads.len),
        count("decoder.block_count", c.decoder.count),
        count("decoder.feed_forward_length", c.decoder.ffn.len),
        count("decoder.attention.head_count", c.decoder.heads.len),
        ("whisper.attention.layer_norm_epsilon".to_owned(), Value::F32(EPS)),
        count("source_length", c.source_positions.len),
        count("mel_bins", c.mels.len),
        ("whisper.decoder_start_token_id".to_owned(), Value::U32(start)),
    ]
}

pub(super) const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "decoder.embed_tokens" => "token_embd",
    "encoder.conv1" => "enc.conv1",
    "encoder.conv2" => "enc.conv2",
    "encoder.embed_positions" => "enc.position_embd",
    "encoder.layer_norm" => "enc.output_norm",
    "decoder.embed_positions" => "dec.position_embd",
    "decoder.layer_norm" => "dec.output_norm",
    "encoder.layers.{i}.self_attn_layer_norm" => "enc.blk.{i}.attn_norm",
    "encoder.layers.{i}.self_attn.q_proj" => "enc.blk.{i}.attn_q",
    "encoder.layers.{i}.self_attn.k_proj" => "enc.blk.{i}.attn_k",
    "encoder.layers.{i}.self_attn.v_proj" => "enc.blk.{i}.attn_v",
    "encoder.layers.{i}.self_attn.out_proj" => "enc.blk.{i}.attn_o",
    "encoder.layers.{i}.final_layer_norm" => "enc.blk.{i}.ffn_norm",
    "encoder.layers.{i}.fc1" => "enc.blk.{i}.ffn_up",
    "encoder.layers.{i}.fc2" => "enc.blk.{i}.ffn_down",
    "decoder.layers.{i}.self_attn_layer_norm" => "dec.blk.{i}.attn_norm",
    "decoder.layers.{i}.self_attn.q_proj" => "dec.blk.{i}.attn_q",
    "decoder.layers.{i}.self_attn.k_proj" => "dec.blk.{i}.attn_k",
    "decoder.layers.{i}.self_attn.v_proj" => "dec.blk.{i}.attn_v",
    "decoder.layers.{i}.self_attn.out_proj" => "dec.blk.{i}.attn_o",
    "decoder.layers.{i}.encoder_attn_layer_norm" => "dec.blk.{i}.cross_attn_norm",
    "decoder.layers.{i}.encoder_attn.q_proj" => "dec.blk.{i}.cross_attn_q",
    "decoder.layers.{i}.encoder_attn.k_proj" => "dec.blk.{i}.cross_attn_k",
    "decoder.layers.{i}.encoder_attn.v_proj" => "dec.blk.{i}.cross_attn_v",
    "decoder.layers.{i}.encoder_attn.out_proj" => "dec.blk.{i}.cross_attn_o",
    "decoder.layers.{i}.final_layer_norm" => "dec.blk.{i}.ffn_norm",
    "decoder.layers.{i}.fc1" => "dec.blk.{i}.ffn_up",
    "decoder.layers.{i}.fc2" => "dec.blk.{i}.ffn_down";
    "proj_out" => "output",
];
