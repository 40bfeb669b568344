//! Florence-2: modeling_florence2.py of transformers 5.23, and of microsoft's files, which came before. A DaViT sees an image, whose
//! features stand before the prompt in the encoder of a BART.

mod config;
mod davit;
mod layout;

use std::collections::BTreeMap;

use checkpoint::gguf::Value;
use checkpoint::{Checkpoint, Size};
use frontend::Kind;
use graph::{BATCH, Build, DEC, Dim, ENC, Type, Val, Visible};

use self::config::{Config, Projector};
use self::davit::{EPS, Grid};
use self::layout::{Layout, MICROSOFT, Projection};
use super::fairseq::{Memory, Stacks};
use super::layers::{TIED_HEAD, gguf_of_images};
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;

/// The family.
pub(super) struct Florence2;

const ONE: Size = Size { len: 1, name: "1" };

impl Architecture for Florence2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["florence2"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
        let [channels, height, width] = c.tower.image;
        let pixels = [Dim::from(BATCH), channels.into(), height.into(), width.into()];
        let pixel_values = b.input("pixel_values", Type::f32(pixels));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);

        let seen = c.tower.write(b, &Module::new(b, checkpoint, c.layout.tower), c.layout, pixel_values);
        let features = c.projector.write(b, checkpoint, c.layout, seen);
        let count = c.projector.features();

        let shape = [c.text.vocab, c.text.d_model];
        let table = |name: &str| format!("{}{name}.weight", c.layout.stacks);
        let names = ["shared", "encoder.embed_tokens", "decoder.embed_tokens"].map(table);
        let of_tokens = names.each_ref().map(|name| (name.as_str(), ONE_TABLE));
        let [table, head] = match c.is_tied {
            true => {
                let weight = checkpoint.tied_weight(&[&of_tokens[..], &[(c.layout.head, TIED_HEAD)]].concat(), &shape);
                [weight.clone(), weight]
            }
            false => [checkpoint.tied_weight(&of_tokens, &shape), checkpoint.weight(c.layout.head, &shape)],
        };
        let stacks = Stacks::new(b, checkpoint, c.of_text, c.layout.stacks, &c.text);
        let tokens = input_ids.embed(b.weight(table.clone()));
        // Nothing hides an image.
        let visible = b.scalar(0.0).broadcast([Dim::from(BATCH), 1.into(), 1.into(), count.into()]);
        let padding = b.concat(&[visible, b.padding_mask(attention_mask)], 3);
        let encoder = stacks.encoder(Dim::from(count) + ENC.into());
        let encoder_hidden = encoder.write(encoder.place(b.concat(&[features, tokens], 1)), padding, None);
        let memory = Memory { hidden: encoder_hidden, width: c.text.d_model, mask: Some(padding) };
        let mut logits = stacks.logits(decoder_input_ids, causal, [table, head], memory);
        if checkpoint.has(c.layout.logits_bias) {
            logits = logits + b.weight(checkpoint.weight(c.layout.logits_bias, &[ONE, c.text.vocab]));
        }

        let inputs = [
            ("input_ids", input_ids),
            ("attention_mask", attention_mask),
            ("pixel_values", pixel_values),
            ("decoder_input_ids", decoder_input_ids),
        ];
        b.entry("full", &inputs, &[("logits", logits), ("encoder_hidden", encoder_hidden)], BTreeMap::new());
        b.entry("image_encoder", &inputs[2..3], &[("image_features", features)], BTreeMap::new());
        Ok(Semantics { reference: "transformers 5.23", logit_scale: "none: only T5 has one".to_owned() })
    }

    fn is_transposed(&self, name: &str) -> bool {
        matches!(MICROSOFT.projection, Projection::Transposed(transposed) if transposed == name)
    }

    fn front_end(&self) -> Kind {
        Kind::AskedImage
    }

    fn assumes(&self) -> &'static [&'static str] {
        &[
            "input_ids are the prompt alone: features of the image stand before it, where transformers has as many tokens of an image",
            "images have the size that preprocessor_config.json says, and grids follow from it",
        ]
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Err(gguf_of_images(checkpoint, "florence2"))
    }
}

const ONE_TABLE: &str = "its encoder, its decoder and the image share one table of tokens";

impl Projector {
    /// Places of the image, and their mean before them.
    fn features(&self) -> usize {
        self.grid.places() + 1
    }

    /// `[b, places, width] -> [b, 1 + places, out]`
    fn write<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint, layout: &Layout, seen: Val<'b>) -> Val<'b> {
        let _projector = b.scope("image.projector");
        let w = Module::new(b, checkpoint, layout.projector);
        let frames = w.tensor("visual_temporal_embed.pos_idx_to_embed", [self.frames, self.width]);
        // An image is the first frame.
        let x = seen + self.positions(b, &w.at(layout.positions)) + b.positions(0, 1).embed(frames);
        let x = b.concat(&[x.mean(1), x], 1);
        let x = match layout.projection {
            Projection::Linear(name) => w.linear_no_bias(x, name, [self.out, self.width]),
            Projection::Transposed(name) => {
                x.linear(b.weight(checkpoint.transposed_weight(name, [self.out, self.width])), None)
            }
        };
        w.layer_norm(x, "image_proj_norm", self.out, EPS)
    }

    /// Of each place, that of its column beside that of its row: `[places, width]`.
    fn positions<'b>(&self, b: &'b Build, w: &Module<'b>) -> Val<'b> {
        let Grid([rows, columns]) = self.grid;
        let of_row = Size { len: self.width.len / 2, name: "half of the width" };
        let of_column = Size { len: self.width.len - of_row.len, name: "half of the width" };
        let table =
            |name: &str, count: usize, width: Size| b.positions(0, count).embed(w.get(name, [self.positions, width]));
        let column = table("column_embeddings", columns, of_column).reshape([1, columns, of_column.len].map(Dim::from));
        let row = table("row_embeddings", rows, of_row).reshape([rows, 1, of_row.len].map(Dim::from));
        let both = [(column, of_column), (row, of_row)];
        let both = both.map(|(x, width)| x.broadcast([rows, columns, width.len].map(Dim::from)));
        b.concat(&both, 2).reshape([self.grid.places().into(), self.width.len.into()])
    }
}
