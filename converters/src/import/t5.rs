//! T5 v1.0, v1.1 and Flan, mT5, UMT5, ByT5: modeling_t5.py, modeling_mt5.py and modeling_umt5.py of transformers 5.23.

mod gguf;

use std::collections::BTreeMap;

use checkpoint::gguf::Value;
use checkpoint::{self, Checkpoint, Size};
use graph::{BATCH, Build, DEC, ENC, Op, Sym, Type, Unary, Val, Visible};

use super::layers;
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;

/// The family.
pub(super) struct T5;

/// Names of the embedding, with the reason why they must hold the same.
const EMBEDDING: [(&str, &str); 3] = [
    ("shared.weight", ONE_EMBEDDING),
    ("encoder.embed_tokens.weight", ONE_EMBEDDING),
    ("decoder.embed_tokens.weight", ONE_EMBEDDING),
];
const ONE_EMBEDDING: &str = "T5 has one embedding for encoder and decoder";
const HEAD: &str = "lm_head.weight";

/// Without effect on the logits, beside [`layers::WITHOUT_EFFECT`].
const IGNORED: &[&str] = &["initializer_factor", "n_positions", "output_past", "scalable_attention", "finetuning_task"];

/// config.json as T5Config, MT5Config and UMT5Config read it.
struct Config {
    d_model: Size,
    d_ff: Size,
    inner: Size,
    vocab: Size,
    buckets: Size,
    heads: Size,
    d_kv: usize,
    max_distance: usize,
    num_layers: usize,
    num_decoder_layers: usize,
    eps: f32,
    gated: bool,
    activation: Unary,
    bias_in_every_layer: bool,
    scaled: bool,
    scale_reason: String,
    head: Head,
}

/// Which weight makes the logits.
enum Head {
    /// `lm_head`, which must be there.
    Own,
    /// The embedding; a stored `lm_head` must equal it.
    Tied,
    /// `lm_head` where the file holds one of its own, else the embedding: transformers 5 writes
    /// `tie_word_embeddings = true` for every T5, so that the key says nothing.
    AsStored,
}

impl Config {
    fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        let (heads, d_kv) = (c.size("num_heads"), c.usize("d_kv"));
        let num_layers = checkpoint.layers(c.usize("num_layers"), "num_layers");
        let num_decoder_layers = checkpoint.layers(c.usize_or("num_decoder_layers", num_layers), "num_decoder_layers");

        let buckets =
            Size { len: c.usize_or("relative_attention_num_buckets", 32), name: "relative_attention_num_buckets" };
        let max_distance = c.usize_or("relative_attention_max_distance", 128);
        // Below these, `_relative_position_bucket` divides by zero or takes the logarithm of a number up to 1.
        if buckets.len < 4 {
            c.unsupported(buckets.name, "expected 4 or more");
        } else if max_distance <= buckets.len / 2 {
            c.unsupported(
                "relative_attention_max_distance",
                "expected more than half of relative_attention_num_buckets",
            );
        }

        let (gated, activation) = activation(c);
        let (scaled, scale_reason) = logit_scale(c);
        c.only("is_encoder_decoder", true);
        c.only("is_decoder", false);
        c.only("add_cross_attention", false);
        c.only("tie_encoder_decoder", false);
        c.ignore(layers::WITHOUT_EFFECT);
        c.ignore(IGNORED);
        let config = Config {
            d_model: c.size("d_model"),
            d_ff: c.size("d_ff"),
            inner: Size { len: heads.len * d_kv, name: "num_heads·d_kv" },
            vocab: c.size("vocab_size"),
            buckets,
            heads,
            d_kv,
            max_distance,
            num_layers,
            num_decoder_layers,
            eps: c.f32_or("layer_norm_epsilon", 1e-6),
            gated,
            activation,
            bias_in_every_layer: is(c, "umt5"),
            scaled,
            scale_reason,
            head: head(c),
        };
        checkpoint.config_fits()?;
        Ok(config)
    }
}

fn is(c: &checkpoint::Config, model_type: &str) -> bool {
    c.model_type() == Some(model_type)
}

/// Whether the feed-forward is gated, and by what. `dense_act_fn` and `is_gated_act` win over `feed_forward_proj`, from
/// which they are derived.
fn activation(c: &checkpoint::Config) -> (bool, Unary) {
    let word = c.str_or("feed_forward_proj", if is(c, "mt5") || is(c, "umt5") { "gated-gelu" } else { "relu" });
    let (gated, derived) = match word.strip_prefix("gated-") {
        Some("gelu") => (true, "gelu_new"),
        Some(name) => (true, name),
        None => (false, word),
    };
    let key = if c.str("dense_act_fn").is_some() { "dense_act_fn" } else { "feed_forward_proj" };
    let activation = layers::activation_called(c, key, c.str_or("dense_act_fn", derived));
    (c.bool_or("is_gated_act", gated), activation)
}

fn head(c: &checkpoint::Config) -> Head {
    let version = c.str("transformers_version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let by_5 = version.is_some_and(|major| major >= 5) || c.json().get("scale_decoder_outputs").is_some();
    match c.bool("tie_word_embeddings") {
        Some(false) => Head::Own,
        _ if by_5 => Head::AsStored,
        // The default of MT5 is false in 4.x and true in 5.
        None if is(c, "mt5") => Head::AsStored,
        Some(true) | None => Head::Tied,
    }
}

/// Whether the decoder's output is scaled before the head, and why: what transformers 5.23 does.
fn logit_scale(c: &checkpoint::Config) -> (bool, String) {
    let untied = c.bool("tie_word_embeddings") == Some(false);
    let (scaled, why) = if is(c, "mt5") {
        let tied = c.bool("tie_word_embeddings") == Some(true);
        (false, if tied { "MT5 of 5 never scales, of 4.x does when tied" } else { "MT5 scales in neither 4.x nor 5" })
    } else if is(c, "umt5") {
        (
            true,
            if untied {
                "UMT5 of 5 always scales, of 4.x when tied"
            } else {
                "UMT5 scales when tied in both 4.x and 5"
            },
        )
    } else if let Some(scaled) = c.bool("scale_decoder_outputs") {
        return (scaled, format!("scale_decoder_outputs is {scaled}"));
    } else if untied {
        (false, "tie_word_embeddings is false, so neither 4.x nor 5 scales")
    } else {
        (true, "tie_word_embeddings is not false, so both 4.x and 5 scale")
    };
    (scaled, why.to_owned())
}

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
        if c.scaled {
            // Rounded once from f64, as the Python float is.
            x = x * (c.d_model.len as f64).powf(-0.5) as f32;
        }
        let inputs =
            [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", x.linear(head, None)), ("encoder_hidden", encoder_hidden)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());

        let logit_scale = if c.scaled { "d_model^-0.5" } else { "none" };
        Ok(Semantics { reference: "transformers 5.23", logit_scale: format!("{logit_scale}: {}", c.scale_reason) })
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        gguf::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        gguf::metadata(&Config::read(checkpoint)?, checkpoint)
    }
}

/// The embedding and the head; the same weight twice when tied.
fn embeddings(c: &Config, checkpoint: &Checkpoint) -> [graph::Weight; 2] {
    let shape = [c.vocab, c.d_model];
    let stored = EMBEDDING.iter().find(|(name, _)| checkpoint.has(name));
    let tied = match c.head {
        Head::Own => false,
        Head::Tied => true,
        Head::AsStored => !checkpoint.has(HEAD) || stored.is_none_or(|(name, _)| checkpoint.same(HEAD, name)),
    };
    if tied {
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
