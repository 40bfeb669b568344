//! Moonshine: modeling_moonshine.py of transformers 5.23.

mod config;
mod gguf;
mod transcribe;

use std::collections::BTreeMap;

use checkpoint::gguf::Value;
use checkpoint::{Checkpoint, Size};
use frontend::Kind;
use frontend::audio::Features;
use graph::{BATCH, Build, DEC, Dim, ENC, Sym, Type, Unary, Val, Visible};

use self::config::{Config, EPS, KERNELS, Layers, STRIDES};
use super::layers::{TIED_HEAD, attention, head_scale, tied_or_own};
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::dialect::Dialect;
use crate::error::ImportError;

/// The family.
pub(super) struct Moonshine;

/// Frames after the first and after the second convolution.
const CONV1: Sym = Sym("conv1");
const CONV2: Sym = Sym("conv2");
const SAMPLES: Sym = Sym("samples");
const CHANNEL: Size = Size { len: 1, name: "channel" };

impl Architecture for Moonshine {
    fn model_types(&self) -> &'static [&'static str] {
        &["moonshine"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        let root = checkpoint.prefix("model.");
        let tokens = format!("{root}decoder.embed_tokens.weight");
        let names = [tokens.as_str(), "proj_out.weight"];
        let [tokens, head] =
            tied_or_own(checkpoint, c.tied, names, TIED_HEAD, &[c.vocab, c.width]).map(|weight| b.weight(weight));
        let stack = |name: &str| Module::new(b, checkpoint, &format!("{root}{name}"));

        let input_values = b.input("input_values", Type::f32([BATCH, SAMPLES]));
        let attention_mask = b.input("attention_mask", Type::i64([BATCH, SAMPLES]));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
        // A frame counts where the first of its samples does.
        let frame_mask = attention_mask.slice(1, 0, STRIDES.iter().product(), ENC);
        let padding = b.padding_mask(frame_mask);

        let encoder = Stack { b, c: &c, name: "encoder", layers: c.encoder, length: ENC, module: stack("encoder") };
        let encoder_hidden = encoder.write(encoder.frames(input_values), padding, None);
        let decoder = Stack { name: "decoder", layers: c.decoder, length: DEC, module: stack("decoder"), ..encoder };
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let x = decoder.write(decoder_input_ids.embed(tokens), causal, Some((encoder_hidden, padding)));

        let inputs = [
            ("input_values", input_values),
            ("attention_mask", attention_mask),
            ("decoder_input_ids", decoder_input_ids),
        ];
        let outputs = [("logits", x.linear(head, None)), ("encoder_hidden", encoder_hidden)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());
        Ok(Semantics { reference: "transformers 5.23", logit_scale: "none: Moonshine never scales".to_owned() })
    }

    fn head(&self, _checkpoint: &Checkpoint) -> &'static str {
        "proj_out"
    }

    fn front_end(&self) -> Kind {
        Kind::Audio(Features::Samples)
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
}

/// Encoder or decoder.
struct Stack<'b, 'c> {
    b: &'b Build,
    c: &'c Config,
    name: &'static str,
    layers: Layers,
    length: Sym,
    module: Module<'b>,
}

impl<'b> Stack<'b, '_> {
    /// Samples as frames: `[b, samples] -> [b, enc, hidden_size]`. Zeros of padding are frames too, and count in the norm.
    fn frames(&self, samples: Val<'b>) -> Val<'b> {
        let (w, width) = (&self.module, self.c.width);
        let wide = Size { len: 2 * width.len, name: "2·hidden_size" };
        let _stack = self.b.scope(self.name);
        let x = samples.reshape([BATCH.into(), Dim::from(1), SAMPLES.into()]);
        let x = x.conv(w.get("conv1", [width, CHANNEL, KERNELS[0]]), None, STRIDES[0], 0, Some(CONV1)).tanh();
        let x = x.group_norm(w.get("groupnorm", [width]), w.bias("groupnorm", width), 1, EPS);
        let conv2 = w.get("conv2", [wide, width, KERNELS[1]]);
        let x = x.conv(conv2, Some(w.bias("conv2", wide)), STRIDES[1], 0, Some(CONV2)).activation(Unary::Gelu);
        let conv3 = w.get("conv3", [width, wide, KERNELS[2]]);
        x.conv(conv3, Some(w.bias("conv3", width)), STRIDES[2], 0, Some(ENC)).activation(Unary::Gelu).t()
    }

    /// The layers and the last norm. `mask` is added to every self-attention; `memory` is the encoder's output and its
    /// mask, which makes this a decoder.
    fn write(&self, mut x: Val<'b>, mask: Val<'b>, memory: Option<(Val<'b>, Val<'b>)>) -> Val<'b> {
        let norm = |x: Val<'b>, w: &Module<'b>, name| x.layer_norm(w.get(name, [self.c.width]), None, EPS);
        let positions = self.b.positions(0, self.length);
        for i in 0..self.layers.count {
            let _layer = self.b.scope(format!("{}.{i}", self.name));
            let layer = self.module.at(format!("layers.{i}"));
            {
                let _attn = self.b.scope("attn");
                let y = norm(x, &layer, "input_layernorm");
                x = x + self.attention(&layer.at("self_attn"), y, y, Some(positions), mask);
            }
            let mlp = layer.at("mlp");
            let Some((memory, padding)) = memory else {
                let _ffn = self.b.scope("ffn");
                x = x + self.feed_forward(&mlp, norm(x, &layer, "post_attention_layernorm"));
                continue;
            };
            {
                let _cross = self.b.scope("cross");
                let y = norm(x, &layer, "post_attention_layernorm");
                x = x + self.attention(&layer.at("encoder_attn"), y, memory, None, padding);
            }
            let _ffn = self.b.scope("ffn");
            x = x + self.gated_feed_forward(&mlp, norm(x, &layer, "final_layernorm"));
        }
        let _stack = self.b.scope(self.name);
        norm(x, &self.module, if memory.is_some() { "norm" } else { "layer_norm" })
    }

    /// `positions` turn queries and keys; without them, it is cross-attention.
    fn attention(
        &self,
        w: &Module<'b>,
        x: Val<'b>,
        memory: Val<'b>,
        positions: Option<Val<'b>>,
        mask: Val<'b>,
    ) -> Val<'b> {
        let Config { width, heads, inner, rope, attention_bias, .. } = *self.c;
        let [q, k, v] = [("q_proj", x), ("k_proj", memory), ("v_proj", memory)].map(|(name, x)| {
            let bias = attention_bias.then(|| w.bias(name, inner));
            x.linear(w.get(name, [inner, width]), bias).heads(heads.len)
        });
        let [q, k] = [q, k].map(|x| positions.map_or(x, |positions| x.rope(positions, rope)));
        w.linear_no_bias(attention([q, k, v], head_scale(inner, heads), Some(mask)), "o_proj", [width, inner])
    }

    fn feed_forward(&self, w: &Module<'b>, x: Val<'b>) -> Val<'b> {
        let hidden = w.linear(x, "fc1", [self.c.ffn, self.c.width]).activation(self.layers.activation);
        w.linear(hidden, "fc2", [self.c.width, self.c.ffn])
    }

    /// `fc1` makes values in its first half and gates in the second.
    fn gated_feed_forward(&self, w: &Module<'b>, x: Val<'b>) -> Val<'b> {
        let ffn = self.c.ffn.len;
        let both = w.linear(x, "fc1", [self.c.gated_ffn, self.c.width]);
        let [values, gates] = [0, ffn].map(|start| both.slice(2, start, 1, ffn));
        w.linear(gates.activation(self.layers.activation) * values, "fc2", [self.c.width, self.c.ffn])
    }
}
