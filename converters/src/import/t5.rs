//! T5 v1.0, v1.1 and Flan, mT5, UMT5, ByT5: modeling_t5.py, modeling_mt5.py and modeling_umt5.py of transformers 5.23.

mod config;
mod crisp_asr;
mod gguf;

use std::collections::BTreeMap;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::{BATCH, Build, DEC, ENC, Op, Sym, Type, Val, Visible};

use self::config::{Config, EMBEDDING, HEAD, is_tied};
use super::layers;
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::dialect::Dialect;
use crate::error::ImportError;
use crate::transformer::{self, Positions, Source, Transformer};

/// The family.
pub(super) struct T5;

impl Architecture for T5 {
    fn model_types(&self) -> &'static [&'static str] {
        &["t5", "mt5", "umt5"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        // modeling_t5.py drops it on load: cross-attention has no positions.
        checkpoint.ignore_tensor("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
        let [shared, head] = embeddings(&c, checkpoint).map(|weight| b.weight(weight));

        let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let padding = b.padding_mask(attention_mask);
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);

        let stack = |name| Module::new(b, checkpoint, name);
        let encoder = Stack { b, c: &c, module: stack("encoder"), layers: c.num_layers, length: ENC };
        let encoder_hidden = encoder.write(input_ids.embed(shared), padding, None);
        let decoder = Stack { module: stack("decoder"), layers: c.num_decoder_layers, length: DEC, ..encoder };
        let mut x = decoder.write(decoder_input_ids.embed(shared), causal, Some((encoder_hidden, padding)));
        if let Some(scale) = c.logit_scale() {
            x = x * scale;
        }
        let inputs =
            [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", x.linear(head, None)), ("encoder_hidden", encoder_hidden)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());

        let logit_scale = if c.scaled { "d_model^-0.5" } else { "none" };
        Ok(Semantics { reference: "transformers 5.23", logit_scale: format!("{logit_scale}: {}", c.scale_reason) })
    }

    fn transformer(&self, checkpoint: &Checkpoint) -> Result<Option<Transformer>, ImportError> {
        let c = Config::read(checkpoint)?;
        if c.bias_in_every_layer {
            return Ok(None);
        }
        let stack = |layers| transformer::Stack { layers, heads: c.heads.len, head_width: c.d_kv };
        Ok(Some(Transformer {
            source: Source::Tokens,
            encoder: stack(c.num_layers),
            decoder: stack(c.num_decoder_layers),
            norm_before: true,
            activation: c.activation,
            eps: c.eps,
            positions: Positions::Distances { max_distance: c.max_distance },
            embedding_scale: 1.0,
            logit_scale: c.logit_scale(),
            added_start: None,
        }))
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        gguf::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        gguf::metadata(&Config::read(checkpoint)?, checkpoint)
    }

    fn dialects(&self) -> &'static [Dialect] {
        &[crisp_asr::DIALECT]
    }

    fn encoder_alone(&self) -> Option<&'static Dialect> {
        Some(&gguf::ENCODER)
    }
}

/// The embedding and the head; the same weight twice when tied.
fn embeddings(c: &Config, checkpoint: &Checkpoint) -> [graph::Weight; 2] {
    let shape = [c.vocab, c.d_model];
    if is_tied(c, checkpoint) {
        let weight = checkpoint.tied_weight(&[&EMBEDDING[..], &[(HEAD, layers::TIED_HEAD)]].concat(), &shape);
        return [weight.clone(), weight];
    }
    [checkpoint.tied_weight(&EMBEDDING, &shape), checkpoint.weight(HEAD, &shape)]
}

/// Encoder or decoder.
struct Stack<'b, 'c> {
    b: &'b Build,
    c: &'c Config,
    module: Module<'b>,
    layers: usize,
    length: Sym,
}

impl<'b> Stack<'b, '_> {
    /// The layers and the last norm. `mask` is added to every self-attention; `memory` is the encoder's output and its
    /// mask, which makes this a decoder.
    fn write(&self, mut x: Val<'b>, mask: Val<'b>, memory: Option<(Val<'b>, Val<'b>)>) -> Val<'b> {
        let (b, c) = (self.b, self.c);
        let name = if memory.is_some() { "decoder" } else { "encoder" };
        let mut bias = mask;
        for i in 0..self.layers {
            let _layer = b.scope(format!("{name}.{i}"));
            let block = self.module.at(format!("block.{i}"));
            let [own, cross] = [block.at("layer.0"), block.at("layer.1")];
            {
                let _attn = b.scope("attn");
                let attention = own.at("SelfAttention");
                if i == 0 || c.bias_in_every_layer {
                    bias = self.relative_bias(&attention, memory.is_none()) + mask;
                }
                let y = x.rms_norm(own.get("layer_norm", [c.d_model]), c.eps);
                x = x + self.attention(&attention, y, y, bias);
            }
            if let Some((memory, padding)) = memory {
                let _cross = b.scope("cross");
                let y = x.rms_norm(cross.get("layer_norm", [c.d_model]), c.eps);
                x = x + self.attention(&cross.at("EncDecAttention"), y, memory, padding);
            }
            let _ffn = b.scope("ffn");
            let ffn = block.at(if memory.is_some() { "layer.2" } else { "layer.1" });
            let y = x.rms_norm(ffn.get("layer_norm", [c.d_model]), c.eps);
            x = x + self.feed_forward(&ffn.at("DenseReluDense"), y);
        }
        let _stack = b.scope(name);
        x.rms_norm(self.module.get("final_layer_norm", [c.d_model]), c.eps)
    }

    /// Scores are unscaled: the published weights carry the factor (`scaling = 1.0` in T5Attention).
    fn attention(&self, w: &Module<'b>, x: Val<'b>, memory: Val<'b>, bias: Val<'b>) -> Val<'b> {
        let Config { d_model, inner, heads, .. } = *self.c;
        let [q, k, v] = [("q", x), ("k", memory), ("v", memory)]
            .map(|(name, x)| x.linear(w.get(name, [inner, d_model]), None).heads(heads.len));
        let scores = q.matmul(k.t()) + bias;
        scores.softmax().matmul(v).merge_heads().linear(w.get("o", [d_model, inner]), None)
    }

    fn relative_bias(&self, attention: &Module<'b>, bidirectional: bool) -> Val<'b> {
        let Config { buckets, heads, max_distance, .. } = *self.c;
        let (start, q, k) = (0.into(), self.length.into(), self.length.into());
        let op = Op::RelativeBias { buckets: buckets.len, max_distance, bidirectional, start, q, k };
        self.b.op(op, &[attention.get("relative_attention_bias", [buckets, heads])])
    }

    fn feed_forward(&self, w: &Module<'b>, x: Val<'b>) -> Val<'b> {
        let Config { d_model, d_ff, gated, activation, .. } = *self.c;
        let up = |name| x.linear(w.get(name, [d_ff, d_model]), None);
        let hidden = match gated {
            true => up("wi_0").activation(activation) * up("wi_1"),
            false => up("wi").activation(activation),
        };
        hidden.linear(w.get("wo", [d_model, d_ff]), None)
    }
}
