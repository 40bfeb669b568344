//! T5Gemma2 in GGUF. llama.cpp has no such architecture: the names follow those of its Gemma 3 and T5.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;

use super::config::Config;
use crate::import::gemma;

/// The `t5gemma2.*` keys, those of each stack below its name and there the rotary settings by kind of layer.
pub(super) fn metadata(c: &Config, checkpoint: &Checkpoint) -> Vec<(String, Value)> {
    let mut metadata = Vec::new();
    for (name, section) in [("t5gemma2.encoder", &c.encoder), ("t5gemma2.decoder", &c.decoder)] {
        metadata.extend(gemma::gguf_metadata(name, &section.stack));
        metadata.extend(gemma::gguf_rope(&format!("{name}.rope"), section.full));
        metadata.extend(gemma::gguf_rope(&format!("{name}.rope.sliding"), section.sliding));
    }
    metadata.extend(c.logit_cap.map(|cap| ("t5gemma2.final_logit_softcapping".to_owned(), Value::F32(cap))));
    // At most 2^31.
    metadata.extend(c.eoi.map(|eoi| ("t5gemma2.eoi_token_id".to_owned(), Value::U32(eoi as u32))));
    let start = checkpoint.generation().decoder_start_token_id as u32; // read as a u32
    metadata.push(("t5gemma2.decoder_start_token_id".to_owned(), Value::U32(start)));
    metadata
}

/// Modules of the checkpoint and of GGUF, or tensors where the name on the right ends in `.weight`.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("model.encoder.embed_tokens", "token_embd"),
    ("model.encoder.embed_tokens.eoi_embedding", "token_embd_eoi.weight"),
    ("model.encoder.text_model.embed_tokens", "token_embd"),
    ("model.encoder.text_model.embed_tokens.eoi_embedding", "token_embd_eoi.weight"),
    ("model.decoder.embed_tokens", "dec.token_embd"),
    ("model.decoder.embed_tokens.eoi_embedding", "dec.token_embd_eoi.weight"),
    ("is_end_of_image", "token_is_eoi"),
    ("lm_head.out_proj", "output"),
    ("model.encoder.norm", "enc.output_norm"),
    ("model.encoder.text_model.norm", "enc.output_norm"),
    ("model.decoder.norm", "dec.output_norm"),
    ("model.encoder.layers.{i}.pre_self_attn_layernorm", "enc.blk.{i}.attn_norm"),
    ("model.encoder.layers.{i}.self_attn.q_proj", "enc.blk.{i}.attn_q"),
    ("model.encoder.layers.{i}.self_attn.q_norm", "enc.blk.{i}.attn_q_norm"),
    ("model.encoder.layers.{i}.self_attn.k_proj", "enc.blk.{i}.attn_k"),
    ("model.encoder.layers.{i}.self_attn.k_norm", "enc.blk.{i}.attn_k_norm"),
    ("model.encoder.layers.{i}.self_attn.v_proj", "enc.blk.{i}.attn_v"),
    ("model.encoder.layers.{i}.self_attn.o_proj", "enc.blk.{i}.attn_o"),
    ("model.encoder.layers.{i}.post_self_attn_layernorm", "enc.blk.{i}.post_attention_norm"),
    ("model.encoder.layers.{i}.pre_feedforward_layernorm", "enc.blk.{i}.ffn_norm"),
    ("model.encoder.layers.{i}.mlp.gate_proj", "enc.blk.{i}.ffn_gate"),
    ("model.encoder.layers.{i}.mlp.up_proj", "enc.blk.{i}.ffn_up"),
    ("model.encoder.layers.{i}.mlp.down_proj", "enc.blk.{i}.ffn_down"),
    ("model.encoder.layers.{i}.post_feedforward_layernorm", "enc.blk.{i}.post_ffw_norm"),
    ("model.encoder.text_model.layers.{i}.pre_self_attn_layernorm", "enc.blk.{i}.attn_norm"),
    ("model.encoder.text_model.layers.{i}.self_attn.q_proj", "enc.blk.{i}.attn_q"),
    ("model.encoder.text_model.layers.{i}.self_attn.q_norm", "enc.blk.{i}.attn_q_norm"),
    ("model.encoder.text_model.layers.{i}.self_attn.k_proj", "enc.blk.{i}.attn_k"),
    ("model.encoder.text_model.layers.{i}.self_attn.k_norm", "enc.blk.{i}.attn_k_norm"),
    ("model.encoder.text_model.layers.{i}.self_attn.v_proj", "enc.blk.{i}.attn_v"),
    ("model.encoder.text_model.layers.{i}.self_attn.o_proj", "enc.blk.{i}.attn_o"),
    ("model.encoder.text_model.layers.{i}.post_self_attn_layernorm", "enc.blk.{i}.post_attention_norm"),
    ("model.encoder.text_model.layers.{i}.pre_feedforward_layernorm", "enc.blk.{i}.ffn_norm"),
    ("model.encoder.text_model.layers.{i}.mlp.gate_proj", "enc.blk.{i}.ffn_gate"),
    ("model.encoder.text_model.layers.{i}.mlp.up_proj", "enc.blk.{i}.ffn_up"),
    ("model.encoder.text_model.layers.{i}.mlp.down_proj", "enc.blk.{i}.ffn_down"),
    ("model.encoder.text_model.layers.{i}.post_feedforward_layernorm", "enc.blk.{i}.post_ffw_norm"),
    ("model.decoder.layers.{i}.pre_self_attn_layernorm", "dec.blk.{i}.attn_norm"),
    ("model.decoder.layers.{i}.self_attn.q_proj", "dec.blk.{i}.attn_q"),
    ("model.decoder.layers.{i}.self_attn.q_norm", "dec.blk.{i}.attn_q_norm"),
    ("model.decoder.layers.{i}.self_attn.k_proj", "dec.blk.{i}.attn_k"),
    ("model.decoder.layers.{i}.self_attn.k_norm", "dec.blk.{i}.attn_k_norm"),
    ("model.decoder.layers.{i}.self_attn.v_proj", "dec.blk.{i}.attn_v"),
    ("model.decoder.layers.{i}.self_attn.o_proj", "dec.blk.{i}.attn_o"),
    ("model.decoder.layers.{i}.post_self_attn_layernorm", "dec.blk.{i}.post_attention_norm"),
    ("model.decoder.layers.{i}.pre_feedforward_layernorm", "dec.blk.{i}.ffn_norm"),
    ("model.decoder.layers.{i}.mlp.gate_proj", "dec.blk.{i}.ffn_gate"),
    ("model.decoder.layers.{i}.mlp.up_proj", "dec.blk.{i}.ffn_up"),
    ("model.decoder.layers.{i}.mlp.down_proj", "dec.blk.{i}.ffn_down"),
    ("model.decoder.layers.{i}.post_feedforward_layernorm", "dec.blk.{i}.post_ffw_norm"),
];
