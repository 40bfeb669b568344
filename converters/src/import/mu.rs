//! Mu ("Return of the Encoder", Elfeki et al., arXiv 2501.16273): the authors' text model, published as a pickle of its state
//! dict without config.json.

mod config;
mod gguf;

use std::collections::BTreeMap;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::{BATCH, Build, DEC, ENC, Sym, Type, Unary, Val, Visible};

use self::config::{Config, EPS, TABLE};
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;

/// The family.
pub(super) struct Mu;

const TIED: &str = "Mu has one matrix for embedding and head";
impl Architecture for Mu {
    fn model_types(&self) -> &'static [&'static str] {
        &["mu"]
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        let names = [TABLE, "transformer.e.0.attn.q_linear.weight", "transformer.h.0.cross_attn.q_linear.weight"];
        names.iter().all(|name| checkpoint.has(name))
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        let names = [(TABLE, TIED), ("lm_head.weight", TIED)];
        let table = b.weight(checkpoint.tied_weight(&names, &[c.vocab, c.n_embd]));

        let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let padding = b.padding_mask(attention_mask);
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);

        let module = Module::new(b, checkpoint, "transformer");
        let encoder_hidden = c.write_encoder(b, &module, input_ids.embed(table), padding);
        let x = c.write_decoder(b, &module, decoder_input_ids.embed(table), causal, (encoder_hidden, padding));
        let inputs =
            [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", x.linear(table, None)), ("encoder_hidden", encoder_hidden)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());
        Ok(Semantics { reference: "the authors' code", logit_scale: "none: Mu scales no logits".into() })
    }

    fn decoding_defaults(&self) -> &'static [(&'static str, u32)] {
        &[("decoder_start_token_id", 1), ("pad_token_id", 0)]
    }

    fn may_lack_an_end(&self) -> bool {
        true
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        gguf::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(gguf::metadata(&Config::read(checkpoint)?, checkpoint))
    }
}

impl Config {
    fn write_encoder<'b>(&self, b: &'b Build, w: &Module<'b>, mut x: Val<'b>, padding: Val<'b>) -> Val<'b> {
        // The authors count from -(length - 1) / 2. A rotary score depends on the distance of query and key alone, and
        // cross-attention has no positions, so that any start gives the same numbers.
        let positions = b.positions(0, ENC);
        for i in 0..self.encoder_layers {
            let _layer = b.scope(format!("encoder.{i}"));
            let layer = w.at(format!("e.{i}"));
            {
                let _attn = b.scope("attn");
                let y = self.norm(x, &layer, "ln1");
                x = x + self.attention(&layer.at("attn"), (y, ENC), y, Some(positions), padding);
            }
            let _ffn = b.scope("ffn");
            x = x + self.feed_forward(&layer.at("mlp"), self.norm(x, &layer, "ln2"));
        }
        let _stack = b.scope("encoder");
        self.norm(x, w, "ln_e")
    }

    fn write_decoder<'b>(
        &self,
        b: &'b Build,
        w: &Module<'b>,
        mut x: Val<'b>,
        causal: Val<'b>,
        (memory, padding): (Val<'b>, Val<'b>),
    ) -> Val<'b> {
        let positions = b.positions(0, DEC);
        for i in 0..self.decoder_layers {
            let _layer = b.scope(format!("decoder.{i}"));
            let layer = w.at(format!("h.{i}"));
            {
                let _attn = b.scope("attn");
                let y = self.norm(x, &layer, "ln1");
                x = x + self.attention(&layer.at("causal_attn"), (y, DEC), y, Some(positions), causal);
            }
            {
                let _cross = b.scope("cross");
                let y = self.norm(x, &layer, "ln2");
                x = x + self.attention(&layer.at("cross_attn"), (y, DEC), memory, None, padding);
            }
            let _ffn = b.scope("ffn");
            x = x + self.feed_forward(&layer.at("mlp"), self.norm(x, &layer, "ln3"));
        }
        let _stack = b.scope("decoder");
        self.norm(x, w, "ln_f")
    }

    fn norm<'b>(&self, x: Val<'b>, w: &Module<'b>, name: &str) -> Val<'b> {
        x.rms_norm(w.get(name, [self.n_embd]), EPS)
    }

    /// `x`: `[b, length, n_embd]`, with its length.
    fn attention<'b>(
        &self,
        w: &Module<'b>,
        (x, length): (Val<'b>, Sym),
        memory: Val<'b>,
        positions: Option<Val<'b>>,
        mask: Val<'b>,
    ) -> Val<'b> {
        let q = self.query_heads(w.linear(x, "q_linear", [self.qkv, self.n_embd]), length);
        let [k, v] =
            ["k_linear", "v_linear"].map(|name| w.linear(memory, name, [self.kv, self.n_embd]).heads(self.n_kv_head));
        let [q, k] = [q, k].map(|heads| positions.map_or(heads, |positions| heads.rope(positions, self.rope)));
        let scale = (self.rope.dims as f64).powf(-0.5) as f32;
        let heads = self.merged(q.attention(k, v, Some(mask), scale, None), length);
        w.linear(heads, "out_linear", [self.n_embd, self.qkv])
    }

    /// Query heads `[b, n_head, length, width]`, those that share a key head as neighbours.
    ///
    /// Without `is_interleaved` the key heads are repeated as a whole, so that query head i reads key head i mod
    /// n_kv_head. The heads are put in order here and back in [`Config::merged`], and the weights stay as they are.
    fn query_heads<'b>(&self, q: Val<'b>, length: Sym) -> Val<'b> {
        if !self.is_repeated() {
            return q.heads(self.n_head);
        }
        let [times, groups, width] = [self.n_head / self.n_kv_head, self.n_kv_head, self.rope.dims];
        q.reshape([BATCH.into(), length.into(), times.into(), groups.into(), width.into()])
            .transpose(vec![0, 3, 2, 1, 4])
            .reshape([BATCH.into(), self.n_head.into(), length.into(), width.into()])
    }

    /// `[b, n_head, length, width] -> [b, length, qkv]`, in the order of the output's weight.
    fn merged<'b>(&self, heads: Val<'b>, length: Sym) -> Val<'b> {
        if !self.is_repeated() {
            return heads.merge_heads();
        }
        let [times, groups, width] = [self.n_head / self.n_kv_head, self.n_kv_head, self.rope.dims];
        heads
            .reshape([BATCH.into(), groups.into(), times.into(), length.into(), width.into()])
            .transpose(vec![0, 3, 2, 1, 4])
            .reshape([BATCH.into(), length.into(), self.qkv.len.into()])
    }

    /// Whether the two orders differ.
    fn is_repeated(&self) -> bool {
        !self.is_interleaved && self.n_kv_head > 1 && self.n_kv_head < self.n_head
    }

    fn feed_forward<'b>(&self, w: &Module<'b>, x: Val<'b>) -> Val<'b> {
        let hidden = w.linear(x, "fc1", [self.hidden, self.n_embd]).activation(Unary::GeluTanh);
        w.linear(hidden, "fc2", [self.n_embd, self.hidden])
    }
}
