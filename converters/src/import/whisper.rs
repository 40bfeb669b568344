//! Whisper and distil-whisper: modeling_whisper.py of transformers 5.23.

mod config;
mod gguf;
mod transcribe;
mod whisper_cpp;

use std::collections::BTreeMap;

use checkpoint::gguf::Value;
use checkpoint::{Checkpoint, Size};
use frontend::Kind;
use frontend::audio::Features;
use graph::{BATCH, Build, DEC, Dim, Type, Unary, Val, Visible};

use self::config::{Config, EPS, Layers};
use super::layers::{TIED_HEAD, attention, head_scale, tied_or_own};
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::dialect::Dialect;
use crate::error::ImportError;
use crate::transformer::{self, Positions, Source, Transformer};
use crate::whisper_cpp::Described;

/// The family.
pub(super) struct Whisper;

const KERNEL: Size = Size { len: 3, name: "kernel" };

impl Architecture for Whisper {
    fn model_types(&self) -> &'static [&'static str] {
        &["whisper"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        let root = checkpoint.prefix("model.");
        let tokens = format!("{root}decoder.embed_tokens.weight");
        let names = [tokens.as_str(), "proj_out.weight"];
        let [tokens, head] =
            tied_or_own(checkpoint, c.tied, names, TIED_HEAD, &[c.vocab, c.d_model]).map(|weight| b.weight(weight));
        let stack = |name: &str| Module::new(b, checkpoint, &format!("{root}{name}"));

        // The second convolution halves the frames.
        let frames = 2 * c.source_positions.len;
        let input_features = b.input("input_features", Type::f32([Dim::from(BATCH), c.mels.len.into(), frames.into()]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));

        let encoder = Stack { b, c: &c, name: "encoder", layers: c.encoder, module: stack("encoder") };
        let encoder_hidden = encoder.write(encoder.frames(input_features), None);
        let decoder = Stack { name: "decoder", layers: c.decoder, module: stack("decoder"), ..encoder };
        let positions =
            b.positions(0, DEC).embed(decoder.module.get("embed_positions", [c.target_positions, c.d_model]));
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let x = decoder.write(decoder_input_ids.embed(tokens) + positions, Some((causal, encoder_hidden)));

        let inputs = [("input_features", input_features), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", x.linear(head, None)), ("encoder_hidden", encoder_hidden)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());
        Ok(Semantics { reference: "transformers 5.23", logit_scale: "none: Whisper never scales".to_owned() })
    }

    fn head(&self, _checkpoint: &Checkpoint) -> &'static str {
        "proj_out"
    }

    fn front_end(&self) -> Kind {
        Kind::Audio(Features::LogMel)
    }

    fn transformer(&self, checkpoint: &Checkpoint) -> Result<Option<Transformer>, ImportError> {
        let c = Config::read(checkpoint)?;
        let stack = |layers: Layers| transformer::Stack {
            layers: layers.count,
            heads: layers.heads.len,
            head_width: c.d_model.len / layers.heads.len,
        };
        Ok(Some(Transformer {
            source: Source::Features,
            encoder: stack(c.encoder),
            decoder: stack(c.decoder),
            norm_before: true,
            activation: c.activation,
            eps: EPS,
            positions: Positions::Rows { first: 0 },
            embedding_scale: 1.0,
            logit_scale: None,
            added_start: None,
        }))
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        gguf::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(gguf::metadata(&Config::read(checkpoint)?, checkpoint))
    }

    fn dialects(&self) -> &'static [Dialect] {
        &[transcribe::DIALECT]
    }

    fn whisper_cpp(&self, checkpoint: &Checkpoint) -> Result<Option<Described>, ImportError> {
        whisper_cpp::describe(checkpoint).map(Some)
    }
}

/// Encoder or decoder.
struct Stack<'b, 'c> {
    b: &'b Build,
    c: &'c Config,
    name: &'static str,
    layers: Layers,
    module: Module<'b>,
}

impl<'b> Stack<'b, '_> {
    /// Log-mel features as frames with positions: `[b, mels, 2n] -> [b, n, d_model]`.
    fn frames(&self, features: Val<'b>) -> Val<'b> {
        let Config { d_model, mels, source_positions, .. } = *self.c;
        let _stack = self.b.scope(self.name);
        let conv = |x: Val<'b>, name: &str, channels, stride| {
            let w = self.module.get(name, [d_model, channels, KERNEL]);
            x.conv(w, Some(self.module.bias(name, d_model)), stride, 1, None).activation(Unary::Gelu)
        };
        let x = conv(conv(features, "conv1", mels, 1), "conv2", d_model, 2);
        // Sinusoids, but stored.
        let table = self.module.get("embed_positions", [source_positions, d_model]);
        x.t() + self.b.positions(0, source_positions.len).embed(table)
    }

    /// The layers and the last norm. `memory`: the mask of self-attention and the encoder's output, which make this a decoder.
    fn write(&self, mut x: Val<'b>, memory: Option<(Val<'b>, Val<'b>)>) -> Val<'b> {
        let d_model = self.c.d_model;
        for i in 0..self.layers.count {
            let _layer = self.b.scope(format!("{}.{i}", self.name));
            let layer = self.module.at(format!("layers.{i}"));
            {
                let _attn = self.b.scope("attn");
                let y = layer.layer_norm(x, "self_attn_layer_norm", d_model, EPS);
                x = x + self.attention(&layer.at("self_attn"), y, y, memory.map(|(causal, _)| causal));
            }
            if let Some((_, memory)) = memory {
                let _cross = self.b.scope("cross");
                let y = layer.layer_norm(x, "encoder_attn_layer_norm", d_model, EPS);
                x = x + self.attention(&layer.at("encoder_attn"), y, memory, None);
            }
            let _ffn = self.b.scope("ffn");
            let y = layer.layer_norm(x, "final_layer_norm", d_model, EPS);
            let hidden = layer.linear(y, "fc1", [self.layers.ffn, d_model]).activation(self.c.activation);
            x = x + layer.linear(hidden, "fc2", [d_model, self.layers.ffn]);
        }
        let _stack = self.b.scope(self.name);
        self.module.layer_norm(x, "layer_norm", d_model, EPS)
    }

    /// transformers scales the queries; for the published head width of 64 the factor is a power of two, so that the scores
    /// are the same bits.
    fn attention(&self, w: &Module<'b>, x: Val<'b>, memory: Val<'b>, mask: Option<Val<'b>>) -> Val<'b> {
        let (shape, heads) = ([self.c.d_model, self.c.d_model], self.layers.heads);
        let q = w.linear(x, "q_proj", shape).heads(heads.len);
        let k = w.linear_no_bias(memory, "k_proj", shape).heads(heads.len);
        let v = w.linear(memory, "v_proj", shape).heads(heads.len);
        w.linear(attention([q, k, v], head_scale(self.c.d_model, heads), mask), "out_proj", shape)
    }
}
