//! GGUF's keys and names. llama.cpp runs none of these families; the names follow its scheme.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;

use super::super::layers::with_and_without_model_prefix;
use super::{Config, EPS, Positions};

/// The keys below the family's `model_type`.
pub(in super::super) fn metadata(c: &Config, checkpoint: &Checkpoint) -> Vec<(String, Value)> {
    let key = |key: &str| format!("{}.{key}", c.family.model_type);
    let count = |name: &str, n: usize| (key(name), Value::U32(n as u32)); // at most 2^31 + 2
    let word = |name: &str, word: &str| (key(name), Value::String(word.to_owned()));
    let (kind, offset) = match c.family.positions {
        Positions::Learned { offset } => ("learned", offset),
        Positions::Sinusoid => ("sinusoid", 0),
        Positions::SinusoidAfterPad => ("sinusoid_between_ends", c.pad + 1),
    };
    let start = checkpoint.generation().decoder_start_token_id as u32; // read as a u32
    vec![
        count("context_length", c.max_positions.len),
        count("embedding_length", c.d_model.len),
        count("block_count", c.encoder.count),
        count("decoder_block_count", c.decoder.count),
        count("feed_forward_length", c.encoder.ffn.len),
        count("decoder_feed_forward_length", c.decoder.ffn.len),
        count("attention.head_count", c.encoder.heads.len),
        count("decoder_attention.head_count", c.decoder.heads.len),
        count("decoder_vocab_size", c.target_vocab.len),
        (key("attention.layer_norm_epsilon"), Value::F32(EPS)),
        (key("norm_before"), Value::Bool(c.family.norm_before)),
        word("embedding_norm", c.family.embedding_norm.name()),
        word("positions", kind),
        count("position_offset", offset),
        (key("embedding_scale"), Value::F32(c.embedding_scale())),
        word("activation", &format!("{:?}", c.activation).to_lowercase()),
        (key("decoder_start_token_id"), Value::U32(start)),
    ]
}

/// Modules of the checkpoint and of GGUF. A norm has the same name before its sublayer and after the residual.
pub(in super::super) const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "shared" => "token_embd",
    "encoder.embed_tokens" => "token_embd",
    "decoder.embed_tokens" => "dec.token_embd",
    "encoder.embed_positions.weights" => "enc.position_embd.weight",
    "encoder.embed_positions" => "enc.position_embd",
    "encoder.layernorm_embedding" => "enc.embd_norm",
    "encoder.layers.{i}.self_attn_layer_norm" => "enc.blk.{i}.attn_norm",
    "encoder.layers.{i}.self_attn.q_proj" => "enc.blk.{i}.attn_q",
    "encoder.layers.{i}.self_attn.k_proj" => "enc.blk.{i}.attn_k",
    "encoder.layers.{i}.self_attn.v_proj" => "enc.blk.{i}.attn_v",
    "encoder.layers.{i}.self_attn.out_proj" => "enc.blk.{i}.attn_o",
    "encoder.layers.{i}.final_layer_norm" => "enc.blk.{i}.ffn_norm",
    "encoder.layers.{i}.fc1" => "enc.blk.{i}.ffn_up",
    "encoder.layers.{i}.fc2" => "enc.blk.{i}.ffn_down",
    "encoder.layer_norm" => "enc.output_norm",
    "decoder.embed_positions.weights" => "dec.position_embd.weight",
    "decoder.embed_positions" => "dec.position_embd",
    "decoder.layernorm_embedding" => "dec.embd_norm",
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
    "decoder.layers.{i}.fc2" => "dec.blk.{i}.ffn_down",
    "decoder.layer_norm" => "dec.output_norm";
    "lm_head" => "output",
    "final_logits_bias" => "output.bias",
];
