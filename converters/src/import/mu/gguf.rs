//! Mu in GGUF. llama.cpp has no such architecture: the names follow those of its T5.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;

use super::config::{Config, EPS};

/// The `mu.*` keys. `attention.kv_heads_repeated`: query head i reads key head i mod head_count_kv, rather than its
/// neighbours' one.
pub(super) fn metadata(c: &Config, checkpoint: &Checkpoint) -> Vec<(String, Value)> {
    let count = |key: &str, n: usize| (format!("mu.{key}"), Value::U32(n as u32)); // at most 2^31
    let start = checkpoint.generation().decoder_start_token_id as u32; // read as a u32
    vec![
        count("embedding_length", c.n_embd.len),
        count("feed_forward_length", c.hidden.len),
        count("block_count", c.encoder_layers),
        count("decoder_block_count", c.decoder_layers),
        count("attention.head_count", c.n_head),
        count("attention.head_count_kv", c.n_kv_head),
        count("attention.key_length", c.rope.dims),
        count("attention.value_length", c.rope.dims),
        ("mu.attention.kv_heads_repeated".to_owned(), Value::Bool(!c.is_interleaved)),
        ("mu.attention.layer_norm_rms_epsilon".to_owned(), Value::F32(EPS)),
        ("mu.rope.freq_base".to_owned(), Value::F32(c.rope.theta)),
        ("mu.decoder_start_token_id".to_owned(), Value::U32(start)),
    ]
}

/// Modules of the checkpoint and of GGUF.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("transformer.wte", "token_embd"),
    ("lm_head", "token_embd"),
    ("transformer.ln_e", "enc.output_norm"),
    ("transformer.ln_f", "dec.output_norm"),
    ("transformer.e.{i}.ln1", "enc.blk.{i}.attn_norm"),
    ("transformer.e.{i}.attn.q_linear", "enc.blk.{i}.attn_q"),
    ("transformer.e.{i}.attn.k_linear", "enc.blk.{i}.attn_k"),
    ("transformer.e.{i}.attn.v_linear", "enc.blk.{i}.attn_v"),
    ("transformer.e.{i}.attn.out_linear", "enc.blk.{i}.attn_o"),
    ("transformer.e.{i}.ln2", "enc.blk.{i}.ffn_norm"),
    ("transformer.e.{i}.mlp.fc1", "enc.blk.{i}.ffn_up"),
    ("transformer.e.{i}.mlp.fc2", "enc.blk.{i}.ffn_down"),
    ("transformer.h.{i}.ln1", "dec.blk.{i}.attn_norm"),
    ("transformer.h.{i}.causal_attn.q_linear", "dec.blk.{i}.attn_q"),
    ("transformer.h.{i}.causal_attn.k_linear", "dec.blk.{i}.attn_k"),
    ("transformer.h.{i}.causal_attn.v_linear", "dec.blk.{i}.attn_v"),
    ("transformer.h.{i}.causal_attn.out_linear", "dec.blk.{i}.attn_o"),
    ("transformer.h.{i}.ln2", "dec.blk.{i}.cross_attn_norm"),
    ("transformer.h.{i}.cross_attn.q_linear", "dec.blk.{i}.cross_attn_q"),
    ("transformer.h.{i}.cross_attn.k_linear", "dec.blk.{i}.cross_attn_k"),
    ("transformer.h.{i}.cross_attn.v_linear", "dec.blk.{i}.cross_attn_v"),
    ("transformer.h.{i}.cross_attn.out_linear", "dec.blk.{i}.cross_attn_o"),
    ("transformer.h.{i}.ln3", "dec.blk.{i}.ffn_norm"),
    ("transformer.h.{i}.mlp.fc1", "dec.blk.{i}.ffn_up"),
    ("transformer.h.{i}.mlp.fc2", "dec.blk.{i}.ffn_down"),
];
