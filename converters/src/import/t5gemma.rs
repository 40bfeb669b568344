//! T5Gemma (Zhang et al., arXiv 2504.06225): modeling_t5gemma.py of transformers 5.23.

mod config;
mod gguf;

use std::collections::BTreeMap;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::{BATCH, Build, DEC, ENC, Type, Val, Visible};

use self::config::{Config, Section};
use super::gemma::{DECODING_DEFAULTS, capped};
use super::layers::tied_or_own;
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;

/// The family.
pub(super) struct T5Gemma;

const HEAD: &str = "lm_head.out_proj";
const TIED_HEAD: &str = "config.json ties the head to the decoder's embedding; set tie_word_embeddings to false if it has \
                         weights of its own";

impl Architecture for T5Gemma {
    fn model_types(&self) -> &'static [&'static str] {
        &["t5gemma"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        let [encoder, decoder] = ["model.encoder", "model.decoder"].map(|path| Module::new(b, checkpoint, path));

        let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let padding = b.padding_mask(attention_mask);

        let Section { stack, .. } = &c.encoder;
        let x = stack.embed(input_ids, encoder.get("embed_tokens", [stack.vocab, stack.width]));
        let encoder_hidden = c.encoder.write_encoder(b, &encoder, x, padding);
        let Section { stack, .. } = &c.decoder;
        let names = ["model.decoder.embed_tokens.weight", "lm_head.out_proj.weight"];
        let [table, head] = tied_or_own(checkpoint, c.tied, names, TIED_HEAD, &[stack.vocab, stack.width])
            .map(|weight| b.weight(weight));
        let x = stack.embed(decoder_input_ids, table);
        let x = c.decoder.write_decoder(b, &decoder, x, (encoder_hidden, c.encoder.stack.width), padding);
        let logits = capped(x.linear(head, None), c.logit_cap);

        let inputs =
            [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        b.entry("full", &inputs, &[("logits", logits), ("encoder_hidden", encoder_hidden)], BTreeMap::new());
        Ok(Semantics {
            reference: "transformers 5.23",
            logit_scale: "none: T5Gemma caps logits and scales none".into(),
        })
    }

    fn head(&self, _checkpoint: &Checkpoint) -> &'static str {
        HEAD
    }

    fn decoding_defaults(&self) -> &'static [(&'static str, u32)] {
        DECODING_DEFAULTS
    }

    fn assumes(&self) -> &'static [&'static str] {
        &[
            "a window of the encoder holds both its ends, as in transformers 5; 4.57 leaves both out",
            "tokens of the target are never padding: transformers masks padding ids there in a pass without a cache",
        ]
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        gguf::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(gguf::metadata(&Config::read(checkpoint)?, checkpoint))
    }
}

impl Section {
    fn write_encoder<'b>(&self, b: &'b Build, w: &Module<'b>, x: Val<'b>, padding: Val<'b>) -> Val<'b> {
        let c = &self.stack;
        // |q - k| <= sliding_window, both ends counted, in 5.23; 4.57 counts neither end.
        let window = Visible { before: Some(c.window), after: Some(c.window) };
        let positions = b.positions(0, ENC);
        let masks = c.encoder_masks(b, padding, window);
        c.write(b, w, "encoder", x, |x, layer, i| self.self_attention(b, layer, x, positions, masks[i]))
    }

    /// `memory`: the encoder's output and its width.
    fn write_decoder<'b>(
        &self,
        b: &'b Build,
        w: &Module<'b>,
        x: Val<'b>,
        (memory, width): (Val<'b>, checkpoint::Size),
        padding: Val<'b>,
    ) -> Val<'b> {
        let c = &self.stack;
        let positions = b.positions(0, DEC);
        let masks = c.decoder_masks(b, |mask| mask);
        c.write(b, w, "decoder", x, |x, layer, i| {
            let x = self.self_attention(b, layer, x, positions, masks[i]);
            let _cross = b.scope("cross");
            let w = layer.at("cross_attn");
            c.sandwiched(x, layer, "cross_attn", |x| {
                let [k, v] = ["k_proj", "v_proj"].map(|name| c.shared_heads(memory, &w, name, width));
                self.attention(&w, c.queries(x, &w), k, v, padding)
            })
        })
    }

    /// With its norms and residual.
    fn self_attention<'b>(
        &self,
        b: &'b Build,
        layer: &Module<'b>,
        x: Val<'b>,
        positions: Val<'b>,
        mask: Val<'b>,
    ) -> Val<'b> {
        let c = &self.stack;
        let _attn = b.scope("attn");
        let w = layer.at("self_attn");
        c.sandwiched(x, layer, "self_attn", |x| {
            let [k, v] = ["k_proj", "v_proj"].map(|name| c.shared_heads(x, &w, name, c.width));
            let [q, k] = [c.queries(x, &w), k].map(|heads| heads.rope(positions, self.rope));
            self.attention(&w, q, k, v, mask)
        })
    }

    fn attention<'b>(&self, w: &Module<'b>, q: Val<'b>, k: Val<'b>, v: Val<'b>, mask: Val<'b>) -> Val<'b> {
        let c = &self.stack;
        let heads = q.attention(k, v, Some(mask), c.scale, self.score_cap);
        c.project(heads.merge_heads(), w, "o_proj", [c.width, c.q])
    }
}
