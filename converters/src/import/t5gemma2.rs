//! T5Gemma2 (modeling_t5gemma2.py of transformers 5.23), the path of text: one attention over a decoder's own tokens and the
//! source, norms of queries and keys, rotary settings for each kind of layer.

mod config;
mod gguf;

use std::collections::BTreeMap;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::{BATCH, Build, Computed, DEC, ENC, Type, Val, Visible, Weight, WeightData};

use self::config::{Config, Section};
use super::gemma::{DECODING_DEFAULTS, capped};
use super::layers::tied_or_own;
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;

/// The family.
pub(super) struct T5Gemma2;

const HEAD: &str = "lm_head.out_proj";
const TIED: &str = "config.json ties both embeddings and the head; set tie_word_embeddings to false if they have weights of \
                    their own";
/// Where the encoder of text stands: `save_pretrained` leaves `text_model` out, the model itself has it.
const ENCODERS: [&str; 2] = ["model.encoder.text_model", "model.encoder"];
/// Tensors that only images need.
const OF_IMAGES: [&str; 2] = ["model.encoder.vision_tower.", "model.encoder.multi_modal_projector."];
/// The weight that tells the end-of-image token from all others. Of the graph and not of the checkpoint.
const MARKER: &str = "is_end_of_image.weight";

impl Architecture for T5Gemma2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["t5gemma2"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        checkpoint.carry_tensors(|name| OF_IMAGES.iter().any(|prefix| name.starts_with(prefix)));
        let of_text = ENCODERS.into_iter().find(|path| checkpoint.has(&format!("{path}.embed_tokens.weight")));
        let of_text = of_text.unwrap_or("model.encoder");
        let [encoder, decoder] = [of_text, "model.decoder"].map(|path| Module::new(b, checkpoint, path));

        let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let padding = b.padding_mask(attention_mask);

        let names = |last: &str| [&encoder, &decoder].map(|w| w.inside(&format!("embed_tokens.{last}")));
        let [of_source, of_target] = names("weight");
        let shape = [c.encoder.stack.vocab, c.encoder.stack.width];
        let [source, target, head] =
            tied_or_own(checkpoint, c.tied, [&of_source, &of_target, "lm_head.out_proj.weight"], TIED, &shape)
                .map(|weight| b.weight(weight));
        let [of_source, of_target] = names("eoi_embedding");
        let rows = match c.eoi {
            Some(_) => tied_or_own(checkpoint, c.tied, [&of_source, &of_target], TIED, &[c.encoder.stack.width])
                .map(|weight| Some(b.weight(weight))),
            None => {
                checkpoint.carry_tensors(|name| name == of_source || name == of_target);
                [None; 2]
            }
        };
        let x = c.embed(b, input_ids, source, rows[0]);
        let encoder_hidden = c.encoder.write_encoder(b, &encoder, x, padding);
        let x = c.embed(b, decoder_input_ids, target, rows[1]);
        let x = c.decoder.write_decoder(b, &decoder, x, encoder_hidden, padding);
        let logits = capped(x.linear(head, None), c.logit_cap);

        let inputs =
            [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        b.entry("full", &inputs, &[("logits", logits), ("encoder_hidden", encoder_hidden)], BTreeMap::new());
        Ok(Semantics { reference: "transformers 5.23", logit_scale: "none: T5Gemma2 scales no logits".into() })
    }

    fn head(&self, _checkpoint: &Checkpoint) -> &'static str {
        HEAD
    }

    fn decoding_defaults(&self) -> &'static [(&'static str, u32)] {
        DECODING_DEFAULTS
    }

    fn assumes(&self) -> &'static [&'static str] {
        &["there are no images: the vision tower and its projector have no effect on text and stay in the checkpoint"]
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        gguf::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(gguf::metadata(&Config::read(checkpoint)?, checkpoint))
    }
}

impl Config {
    /// Scaled rows of the table, and for the end-of-image token its own row as it is.
    fn embed<'b>(&self, b: &'b Build, ids: Val<'b>, table: Val<'b>, row: Option<Val<'b>>) -> Val<'b> {
        let x = self.encoder.stack.embed(ids, table);
        let (Some(eoi), Some(row)) = (self.eoi, row) else { return x };
        let data = WeightData::Computed(Computed::OneRow(eoi));
        let shape = vec![self.encoder.stack.vocab.len, 1];
        let is_eoi = ids.embed(b.weight(Weight { name: MARKER.to_owned(), shape, data }));
        x * (b.scalar(1.0) - is_eoi) + is_eoi * row
    }
}

impl Section {
    fn write_encoder<'b>(&self, b: &'b Build, w: &Module<'b>, x: Val<'b>, padding: Val<'b>) -> Val<'b> {
        let c = &self.stack;
        // `sliding_window` keys, the query among them; of an even number one more after than before.
        let window = Visible { before: Some(c.window.div_ceil(2) - 1), after: Some(c.window / 2) };
        let positions = b.positions(0, ENC);
        let masks = c.encoder_masks(b, padding, window);
        c.write(b, w, "encoder", x, |x, layer, i| {
            let _attn = b.scope("attn");
            let w = layer.at("self_attn");
            c.sandwiched(x, layer, "self_attn", |x| {
                let turn = |heads: Val<'b>| heads.rope(positions, self.rope(c.layers[i]));
                let (q, [k, v]) = (self.queries(x, &w), self.keys(x, &w));
                self.attention(&w, turn(q), turn(k), v, masks[i])
            })
        })
    }

    fn write_decoder<'b>(
        &self,
        b: &'b Build,
        w: &Module<'b>,
        x: Val<'b>,
        memory: Val<'b>,
        padding: Val<'b>,
    ) -> Val<'b> {
        let c = &self.stack;
        let positions = b.positions(0, DEC);
        let of_source = padding.broadcast([BATCH.into(), 1.into(), DEC.into(), ENC.into()]);
        let masks = c.decoder_masks(b, |own| {
            let own = own.broadcast([BATCH.into(), 1.into(), DEC.into(), DEC.into()]);
            b.concat(&[own, of_source], 3)
        });
        c.write(b, w, "decoder", x, |x, layer, i| {
            let _attn = b.scope("attn");
            let w = layer.at("self_attn");
            c.sandwiched(x, layer, "self_attn", |x| {
                let turn = |heads: Val<'b>| heads.rope(positions, self.rope(c.layers[i]));
                let (q, [k, v]) = (self.queries(x, &w), self.keys(x, &w));
                // The source has no positions here.
                let [source_k, source_v] = self.keys(memory, &w);
                let [k, v] = [[turn(k), source_k], [v, source_v]].map(|parts| b.concat(&parts, 2));
                self.attention(&w, turn(q), k, v, masks[i])
            })
        })
    }

    /// Normalized queries.
    fn queries<'b>(&self, x: Val<'b>, w: &Module<'b>) -> Val<'b> {
        self.head_norm(self.stack.queries(x, w), w, "q_norm")
    }

    /// Normalized keys, and values.
    fn keys<'b>(&self, x: Val<'b>, w: &Module<'b>) -> [Val<'b>; 2] {
        let [k, v] = ["k_proj", "v_proj"].map(|name| self.stack.shared_heads(x, w, name, self.stack.width));
        [self.head_norm(k, w, "k_norm"), v]
    }

    fn head_norm<'b>(&self, x: Val<'b>, w: &Module<'b>, name: &str) -> Val<'b> {
        x.rms_norm(w.get(name, [self.stack.head_dim]) + 1.0, self.stack.eps)
    }

    fn attention<'b>(&self, w: &Module<'b>, q: Val<'b>, k: Val<'b>, v: Val<'b>, mask: Val<'b>) -> Val<'b> {
        let c = &self.stack;
        c.project(q.attention(k, v, Some(mask), c.scale, None).merge_heads(), w, "o_proj", [c.width, c.q])
    }
}
