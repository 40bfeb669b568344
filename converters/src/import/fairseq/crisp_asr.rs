//! What Marian and M2M100 share in the GGUF of CrispASR. Source: src/m2m100.cpp there, and its package 0.8.45.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use checkpoint::names::GENERATION_CONFIG;
use graph::GgmlType;

use super::super::layers::with_and_without_model_prefix;
use super::Config;
use crate::dialect::TensorTypes;
use crate::error::ImportError;

/// Norms, biases and positions are read as F32, matrices as any type.
pub(in super::super) const TYPES: TensorTypes = TensorTypes {
    only_f32: &[".bias", "_ln.weight", "pos_emb", "final_logits_bias"],
    no_bf16: &[],
    blocks: GgmlType::ALL,
};

/// The keys of both below the architecture's name.
pub(in super::super) fn metadata(
    architecture: &str,
    c: &Config,
    checkpoint: &Checkpoint,
) -> Result<Vec<(String, Value)>, ImportError> {
    let decoding = checkpoint.generation();
    let end = decoding.eos_token_ids.first().copied().unwrap_or(decoding.pad_token_id);
    let settings: serde_json::Value = checkpoint.files().json(GENERATION_CONFIG)?.unwrap_or_default();
    let is_early = settings.get("early_stopping").or_else(|| checkpoint.config_json().get("early_stopping"));
    let is_early = is_early == Some(&serde_json::Value::Bool(true));
    let counts = [
        ("vocab_size", c.vocab.len),
        ("d_model", c.d_model.len),
        ("encoder.n_layers", c.encoder.count),
        ("encoder.n_heads", c.encoder.heads.len),
        ("encoder.ffn_dim", c.encoder.ffn.len),
        ("decoder.n_layers", c.decoder.count),
        ("decoder.n_heads", c.decoder.heads.len),
        ("decoder.ffn_dim", c.decoder.ffn.len),
        ("max_position_embeddings", c.max_positions.len),
        ("scale_embedding", usize::from(c.scale_embedding)),
        ("eos_token_id", end as usize), // read as a u32, as the others are
        ("pad_token_id", c.pad),
        ("decoder_start_token_id", decoding.decoder_start_token_id as usize),
        ("gen.num_beams", decoding.num_beams.unwrap_or(1)),
        ("gen.max_length", decoding.max_new_tokens + 1),
        ("gen.early_stopping", usize::from(is_early)),
    ];
    Ok(counts.map(|(key, n)| (format!("{architecture}.{key}"), Value::U32(n as u32))).into()) // at most 2^31
}

/// What it computes of neither.
pub(in super::super) fn refused(c: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if c.encoder.heads.len != c.decoder.heads.len {
        let [encoder, decoder] = [c.encoder, c.decoder].map(|layers| layers.heads.len);
        faults.push(format!(
            "config.json: decoder_attention_heads = {decoder}: expected encoder_attention_heads = {encoder}: it has one width of heads"
        ));
    }
    if !c.tied {
        faults
            .push("config.json: tie_word_embeddings = false: it has one table for both stacks and the head".to_owned());
    }
    faults
}

/// Modules of the checkpoint and tensors of the file.
pub(in super::super) const NAMES: &[(&str, &str)] = with_and_without_model_prefix![
    "shared" => "shared.embed",
    "encoder.embed_tokens" => "shared.embed",
    "decoder.embed_tokens" => "shared.embed",
    "encoder.embed_positions.weights" => "=enc.pos_emb",
    "encoder.embed_positions.weight" => "=enc.pos_emb",
    "encoder.layers.{i}.self_attn_layer_norm" => "enc.blk.{i}.attn_ln",
    "encoder.layers.{i}.self_attn.q_proj" => "enc.blk.{i}.attn_q",
    "encoder.layers.{i}.self_attn.k_proj" => "enc.blk.{i}.attn_k",
    "encoder.layers.{i}.self_attn.v_proj" => "enc.blk.{i}.attn_v",
    "encoder.layers.{i}.self_attn.out_proj" => "enc.blk.{i}.attn_o",
    "encoder.layers.{i}.final_layer_norm" => "enc.blk.{i}.ffn_ln",
    "encoder.layers.{i}.fc1" => "enc.blk.{i}.ffn_up",
    "encoder.layers.{i}.fc2" => "enc.blk.{i}.ffn_down",
    "encoder.layer_norm" => "enc.out_ln",
    "decoder.embed_positions.weights" => "=dec.pos_emb",
    "decoder.embed_positions.weight" => "=dec.pos_emb",
    "decoder.layers.{i}.self_attn_layer_norm" => "dec.blk.{i}.attn_ln",
    "decoder.layers.{i}.self_attn.q_proj" => "dec.blk.{i}.attn_q",
    "decoder.layers.{i}.self_attn.k_proj" => "dec.blk.{i}.attn_k",
    "decoder.layers.{i}.self_attn.v_proj" => "dec.blk.{i}.attn_v",
    "decoder.layers.{i}.self_attn.out_proj" => "dec.blk.{i}.attn_o",
    "decoder.layers.{i}.encoder_attn_layer_norm" => "dec.blk.{i}.cross_ln",
    "decoder.layers.{i}.encoder_attn.q_proj" => "dec.blk.{i}.cross_q",
    "decoder.layers.{i}.encoder_attn.k_proj" => "dec.blk.{i}.cross_k",
    "decoder.layers.{i}.encoder_attn.v_proj" => "dec.blk.{i}.cross_v",
    "decoder.layers.{i}.encoder_attn.out_proj" => "dec.blk.{i}.cross_o",
    "decoder.layers.{i}.final_layer_norm" => "dec.blk.{i}.ffn_ln",
    "decoder.layers.{i}.fc1" => "dec.blk.{i}.ffn_up",
    "decoder.layers.{i}.fc2" => "dec.blk.{i}.ffn_down",
    "decoder.layer_norm" => "dec.out_ln";
    "lm_head" => "output",
    "final_logits_bias" => "=final_logits_bias",
];
