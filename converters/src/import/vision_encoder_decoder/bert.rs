//! BERT as a decoder: modeling_bert.py of transformers 5.23, `BertLMHeadModel` with cross-attention.

use checkpoint::{self, Checkpoint, Size};
use graph::{DEC, Unary, Val, Visible};

use super::source::Source;
use crate::import::layers::{activation, attention, check_heads, head_scale};
use crate::import::module::Module;

/// The module that makes the logits.
pub(super) const HEAD: &str = "decoder.cls.predictions.decoder";

/// Training.
const IGNORED: &[&str] = &["attention_probs_dropout_prob", "hidden_dropout_prob"];

const SAME_BIAS: &str = "BERT has one bias of the logits under two names";

/// config.json's `decoder` as BertConfig reads it.
pub(super) struct Config<'c> {
    width: Size,
    vocab: Size,
    positions: Size,
    types: Size,
    ffn: Size,
    heads: Size,
    layers: usize,
    activation: Unary,
    eps: f32,
    config: &'c checkpoint::Config,
}

impl<'c> Config<'c> {
    pub fn read(c: &'c checkpoint::Config, checkpoint: &Checkpoint) -> Config<'c> {
        let width = c.size("hidden_size");
        let heads = c.size("num_attention_heads");
        check_heads(c, heads, width);
        c.only("position_embedding_type", "absolute");
        c.ignore(IGNORED);
        Config {
            width,
            vocab: c.size("vocab_size"),
            positions: Size { len: c.usize_or("max_position_embeddings", 512), name: "max_position_embeddings" },
            types: Size { len: c.usize_or("type_vocab_size", 2), name: "type_vocab_size" },
            ffn: c.size("intermediate_size"),
            heads,
            layers: checkpoint.layers_of(c, "num_hidden_layers"),
            activation: activation(c, "hidden_act", "gelu"),
            eps: c.f32_or("layer_norm_eps", 1e-12),
            config: c,
        }
    }

    pub fn width(&self) -> Size {
        self.width
    }

    /// The logits.
    pub fn write(&self, source: &Source<'c>) -> Val<'c> {
        let Source { b, checkpoint, ids, memory, .. } = *source;
        let names = ["decoder.bert.embeddings.word_embeddings.weight", "decoder.cls.predictions.decoder.weight"];
        let [table, head] =
            source.table_and_head(self.config, names, [self.vocab, self.width]).map(|weight| b.weight(weight));
        // Counted up to its length in files of transformers before 4.31.
        checkpoint.ignore_tensor("decoder.bert.embeddings.position_ids");
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let bert = Module::new(b, checkpoint, "decoder.bert");
        let mut x = self.embed(source, &bert.at("embeddings"), ids.embed(table));
        for i in 0..self.layers {
            let _layer = b.scope(format!("decoder.{i}"));
            let layer = bert.at(format!("encoder.layer.{i}"));
            {
                let _attn = b.scope("attn");
                x = self.attention(&layer.at("attention"), x, (x, self.width), Some(causal));
            }
            {
                let _cross = b.scope("cross");
                x = self.attention(&layer.at("crossattention"), x, (memory, source.width), None);
            }
            let _ffn = b.scope("ffn");
            let hidden = layer.linear(x, "intermediate.dense", [self.ffn, self.width]).activation(self.activation);
            x = self.output(&layer.at("output"), x, hidden, self.ffn);
        }
        let _stack = b.scope("decoder");
        let predictions = Module::new(b, checkpoint, "decoder.cls.predictions");
        let transform = predictions.at("transform");
        let x = transform.linear(x, "dense", [self.width, self.width]).activation(self.activation);
        let x = transform.layer_norm(x, "LayerNorm", self.width, self.eps);
        let names = ["bias", "decoder.bias"].map(|name| predictions.inside(name));
        let bias = checkpoint.tied_weight(&names.each_ref().map(|name| (name.as_str(), SAME_BIAS)), &[self.vocab]);
        x.linear(head, Some(b.weight(bias)))
    }

    /// Tokens, the first type and positions, with their norm.
    fn embed(&self, source: &Source<'c>, w: &Module<'c>, tokens: Val<'c>) -> Val<'c> {
        let b = source.b;
        let _stack = b.scope("decoder");
        let of_type = w.get("token_type_embeddings", [self.types, self.width]).slice(0, 0, 1, 1);
        let table = w.get("position_embeddings", [self.positions, self.width]);
        let x = tokens + of_type.reshape([self.width.len.into()]) + b.positions(0, DEC).embed(table);
        w.layer_norm(x, "LayerNorm", self.width, self.eps)
    }

    /// `norm(x + Wo · attention)`. `memory`: what keys are made of, with its width.
    fn attention(&self, w: &Module<'c>, x: Val<'c>, memory: (Val<'c>, Size), mask: Option<Val<'c>>) -> Val<'c> {
        let own = w.at("self");
        let q = own.linear(x, "query", [self.width, self.width]).heads(self.heads.len);
        let (memory, width) = memory;
        let [k, v] = ["key", "value"].map(|name| own.linear(memory, name, [self.width, width]).heads(self.heads.len));
        let mixed = attention([q, k, v], head_scale(self.width, self.heads), mask);
        self.output(&w.at("output"), x, mixed, self.width)
    }

    /// `norm(x + W · hidden)`
    fn output(&self, w: &Module<'c>, x: Val<'c>, hidden: Val<'c>, width: Size) -> Val<'c> {
        let sum = x + w.linear(hidden, "dense", [self.width, width]);
        w.layer_norm(sum, "LayerNorm", self.width, self.eps)
    }
}
