//! Where the parts of a pass go: names of variables, and what the engine is told beside them.
//!
//! Source: python/ctranslate2/specs/{transformer,whisper,attention,common}_spec.py and the constructors in src/layers of CTranslate2 4.8.5.

use graph::Unary;

use super::builder::Builder;
use super::file::Dtype;
use crate::transformer::{Positions, Source, Stack, Transformer};

/// `ActivationType` of include/ctranslate2/ops/activation.h.
fn activation(unary: Unary) -> u8 {
    match unary {
        Unary::Relu => 0,
        Unary::GeluTanh => 1,
        Unary::Silu => 2,
        Unary::Gelu => 3,
        Unary::QuickGelu => 4,
        Unary::Tanh => 5,
        Unary::Sigmoid => 6,
    }
}

/// The whole pass.
pub(super) fn all(b: &mut Builder<'_>, pass: &Transformer) {
    let features = pass.source == Source::Features;
    let decoder = if b.has("dec.token_embd.weight") { "dec.token_embd" } else { "token_embd" };
    let head = if b.has("output.weight") { "output" } else { decoder };
    let mut tables = vec![("decoder/embeddings", decoder), ("decoder/projection", head)];
    match features {
        false => tables.push(("encoder/embeddings_0", "token_embd")),
        true => ["conv1", "conv2"].iter().for_each(|conv| b.kernel(&format!("encoder/{conv}"), &format!("enc.{conv}"))),
    }
    b.table(&tables);
    b.of_tokens("decoder/projection/bias", "output.bias");
    told(b, pass, features);
    for (scope, ours, stack) in [("encoder", "enc", pass.encoder), ("decoder", "dec", pass.decoder)] {
        b.scalar(format!("{scope}/num_heads"), Dtype::I16, (stack.heads as u16).to_le_bytes());
        b.norm(&format!("{scope}/layernorm_embedding"), &format!("{ours}.embd_norm"));
        if let Positions::Rows { first } = pass.positions {
            b.positions(&format!("{scope}/position_encodings"), &format!("{ours}.position_embd"), first);
        }
        b.norm(&format!("{scope}/layer_norm"), &format!("{ours}.output_norm"));
        for i in 0..stack.layers {
            layer(b, pass, stack, [scope, ours], i);
        }
    }
}

/// What the engine cannot see in weights.
fn told(b: &mut Builder<'_>, pass: &Transformer, features: bool) {
    for scope in if features { &["decoder"][..] } else { &["decoder", "encoder"] } {
        b.flag(format!("{scope}/pre_norm"), pass.norm_before);
        b.scalar(format!("{scope}/activation"), Dtype::I8, [activation(pass.activation)]);
        b.number(format!("{scope}/scale_embeddings"), pass.embedding_scale);
    }
    if !features {
        // One table, which is not shared by heads; of several the engine would take the sum, or one beside the other.
        b.scalar("encoder/embeddings_merge".to_owned(), Dtype::I8, [0]);
        b.flag("encoder/multi_query_attention".to_owned(), false);
    }
    for name in ["alibi", "alibi_use_positive_positions", "scale_alibi"] {
        b.flag(format!("decoder/{name}"), false);
    }
    b.flag("decoder/start_from_zero_embedding".to_owned(), b.tokens.is_some());
    // Whose weights tell where a target token comes from: of the last layer, the first head.
    b.scalar("decoder/alignment_layer".to_owned(), Dtype::I16, (-1_i16).to_le_bytes());
    b.scalar("decoder/alignment_heads".to_owned(), Dtype::I16, 1_i16.to_le_bytes());
    if let Some(scale) = pass.logit_scale {
        b.number("decoder/scale_outputs".to_owned(), scale);
    }
}

fn layer(b: &mut Builder<'_>, pass: &Transformer, stack: Stack, [scope, ours]: [&str; 2], i: usize) {
    let (scope, ours) = (format!("{scope}/layer_{i}"), format!("{ours}.blk.{i}"));
    let name = |part: &str| format!("{ours}.{part}");
    let own = format!("{scope}/self_attention");
    b.linear(&format!("{own}/linear_0"), &["attn_q", "attn_k", "attn_v"].map(name));
    b.linear(&format!("{own}/linear_1"), &[name("attn_o")]);
    b.norm(&format!("{own}/layer_norm"), &name("attn_norm"));
    attention(b, pass, stack, &own);
    if let Positions::Distances { max_distance } = pass.positions {
        let distance = i32::try_from(max_distance).unwrap_or(i32::MAX);
        b.scalar(format!("{own}/relative_attention_max_distance"), Dtype::I32, distance.to_le_bytes());
        let bias = format!("{own}/relative_attention_bias");
        match i {
            0 => b.table_of_distances(&bias, &name("attn_rel_b.weight")),
            _ => b.aliases.push((bias, first_layer(&scope) + "/self_attention/relative_attention_bias")),
        }
    }
    if scope.starts_with("decoder") {
        let cross = format!("{scope}/attention");
        b.linear(&format!("{cross}/linear_0"), &[name("cross_attn_q")]);
        b.linear(&format!("{cross}/linear_1"), &["cross_attn_k", "cross_attn_v"].map(name));
        b.linear(&format!("{cross}/linear_2"), &[name("cross_attn_o")]);
        b.norm(&format!("{cross}/layer_norm"), &name("cross_attn_norm"));
        attention(b, pass, stack, &cross);
    }
    // The gate is activated; without one, what it gates is.
    let gated = b.has(&name("ffn_gate.weight"));
    b.linear(&format!("{scope}/ffn/linear_0"), &[name(if gated { "ffn_gate" } else { "ffn_up" })]);
    if gated {
        b.linear(&format!("{scope}/ffn/linear_0_noact"), &[name("ffn_up")]);
    }
    b.linear(&format!("{scope}/ffn/linear_1"), &[name("ffn_down")]);
    b.norm(&format!("{scope}/ffn/layer_norm"), &name("ffn_norm"));
}

/// Of scores: their factor is `head_width^-0.5` unless it is told, and that width the model's by heads.
fn attention(b: &mut Builder<'_>, pass: &Transformer, stack: Stack, scope: &str) {
    if let Positions::Distances { .. } = pass.positions {
        b.number(format!("{scope}/queries_scale"), 1.0);
        b.scalar(format!("{scope}/head_dim"), Dtype::I32, (stack.head_width as u32).to_le_bytes());
    }
}

fn first_layer(scope: &str) -> String {
    let stack = scope.split_once('/').map_or(scope, |(stack, _)| stack);
    format!("{stack}/layer_0")
}
