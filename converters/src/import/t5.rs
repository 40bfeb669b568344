//! T5 v1.0, v1.1 and Flan, mT5, UMT5, ByT5: modeling_t5.py, modeling_mt5.py and modeling_umt5.py of transformers 5.23.

use std::collections::BTreeMap;

use graph::{BATCH, Build, DEC, ENC, Op, Sym, Type, Unary, Val, Visible};

use super::Module;
use crate::checkpoint::{Checkpoint, ImportError, Problem, Size};
use crate::export::gguf::Value;
use crate::{Architecture, Semantics};

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
const TIED_HEAD: &str = "config.json ties the head; set tie_word_embeddings to false if it has weights of its own";

/// Training, bookkeeping, defaults of `generate` and what other heads use: without effect on the logits.
const IGNORED: &[&str] = &[
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "classifier_dropout",
    "decoder_start_token_id",
    "dropout_rate",
    "dtype",
    "early_stopping",
    "eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "model_type",
    "n_positions",
    "no_repeat_ngram_size",
    "num_beams",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "prefix",
    "problem_type",
    "return_dict",
    "scalable_attention",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

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
        let mt5 = c.model_type() == Some("mt5");
        let umt5 = c.model_type() == Some("umt5");
        let (heads, d_kv) = (c.size("num_heads"), c.usize("d_kv"));
        let num_layers = checkpoint.layers(c.usize("num_layers"), "num_layers");
        let num_decoder_layers = checkpoint.layers(c.usize_or("num_decoder_layers", num_layers), "num_decoder_layers");

        // `dense_act_fn` and `is_gated_act` win over the word that they are derived from.
        let feed_forward_proj = c.str_or("feed_forward_proj", if mt5 || umt5 { "gated-gelu" } else { "relu" });
        let word = feed_forward_proj.rsplit('-').next().unwrap_or(feed_forward_proj);
        let word = if feed_forward_proj == "gated-gelu" { "gelu_new" } else { word };
        let gated = c.bool_or("is_gated_act", feed_forward_proj.starts_with("gated-"));
        let key = if c.str("dense_act_fn").is_some() { "dense_act_fn" } else { "feed_forward_proj" };
        let activation = match c.str_or("dense_act_fn", word) {
            "relu" => Unary::Relu,
            "gelu" => Unary::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Unary::GeluTanh,
            "silu" | "swish" => Unary::Silu,
            "tanh" => Unary::Tanh,
            _ => {
                c.unsupported(key, "expected relu, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, silu, swish or tanh");
                Unary::Relu
            }
        };
        let buckets = Size { len: c.usize_or("relative_attention_num_buckets", 32), name: "relative_attention_num_buckets" };
        let max_distance = c.usize_or("relative_attention_max_distance", 128);
        // Below these, `_relative_position_bucket` divides by zero or takes the logarithm of a number up to 1.
        if buckets.len < 4 {
            c.unsupported(buckets.name, "expected 4 or more");
        } else if max_distance <= buckets.len / 2 {
            c.unsupported("relative_attention_max_distance", "expected more than half of relative_attention_num_buckets");
        }

        let tie = c.bool("tie_word_embeddings");
        let written_by: Option<u32> =
            c.str("transformers_version").and_then(|version| version.split('.').next()?.parse().ok());
        let scale_key = if mt5 || umt5 { None } else { c.bool("scale_decoder_outputs") };
        let head = match tie {
            Some(false) => Head::Own,
            _ if scale_key.is_some() || written_by.is_some_and(|major| major >= 5) => Head::AsStored,
            None if mt5 => Head::AsStored,
            _ => Head::Tied,
        };
        let (scaled, scale_reason) = match (scale_key, tie) {
            (Some(scaled), _) => (scaled, format!("scale_decoder_outputs is {scaled}")),
            _ if mt5 && tie == Some(true) => (false, "MT5 of transformers 5 never scales, 4.x does when tied".to_owned()),
            _ if mt5 => (false, "MT5 of transformers 5 never scales, nor does 4.x when untied".to_owned()),
            (_, Some(false)) if umt5 => (true, "UMT5 of transformers 5 always scales, 4.x only when tied".to_owned()),
            _ if umt5 => (true, "UMT5 of transformers 5 always scales, as does 4.x when tied".to_owned()),
            (_, Some(false)) => (false, "tie_word_embeddings is false, in transformers 4.x and 5 alike".to_owned()),
            _ => (true, "tie_word_embeddings is not false, in transformers 4.x and 5 alike".to_owned()),
        };
        let eps = c.f32_or("layer_norm_epsilon", 1e-6);
        c.only("is_encoder_decoder", true);
        c.only("is_decoder", false);
        c.only("add_cross_attention", false);
        c.only("tie_encoder_decoder", false);
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
            eps,
            gated,
            activation,
            bias_in_every_layer: umt5,
            scaled,
            scale_reason,
            head,
        };
        checkpoint.config_fits()?;
        Ok(config)
    }
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
        let padding = b.op(Op::PaddingMask, &[attention_mask]);
        let causal = b.mask(Visible::Causal, 0, DEC, DEC);

        let stack = |name| Module::new(b, checkpoint, name);
        let encoder = Stack { b, c: &c, module: stack("encoder"), layers: c.num_layers, length: ENC };
        let encoder_hidden = encoder.write(input_ids.embed(shared), padding, None);
        let decoder = Stack { module: stack("decoder"), layers: c.num_decoder_layers, length: DEC, ..encoder };
        let mut x = decoder.write(decoder_input_ids.embed(shared), causal, Some((encoder_hidden, padding)));
        if c.scaled {
            x = x * logit_scale(&c);
        }
        let inputs = [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
        let outputs = [("logits", x.linear(head, None)), ("encoder_hidden", encoder_hidden)];
        b.entry("full", &inputs, &outputs, BTreeMap::new());

        let logit_scale = if c.scaled { "d_model^-0.5" } else { "none" };
        Ok(Semantics { reference: "transformers 5.23", logit_scale: format!("{logit_scale}: {}", c.scale_reason) })
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        GGUF_NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        let c = Config::read(checkpoint)?;
        let mut problems = Vec::new();
        let mut refuse = |key: &str, why: &str| {
            let value = checkpoint.config_json().get(key).map_or_else(|| "missing".to_owned(), ToString::to_string);
            let architecture = "llama.cpp's t5".to_owned();
            problems.push(Problem::Unsupported { key: key.to_owned(), value, architecture, why: why.to_owned() });
        };
        if c.max_distance != 128 {
            refuse("relative_attention_max_distance", "it is fixed at 128 there");
        }
        if !matches!((c.gated, c.activation), (true, Unary::GeluTanh) | (false, Unary::Relu)) {
            let key = if checkpoint.config_json().get("dense_act_fn").is_some() { "dense_act_fn" } else { "feed_forward_proj" };
            refuse(key, "it is gated gelu_new or plain relu there");
        }
        if !problems.is_empty() {
            return Err(ImportError::DoesNotFit { dir: checkpoint.dir().to_owned(), problems });
        }
        let count = |key: &str, n: usize| (format!("t5.{key}"), Value::U32(n as u32)); // at most 2^31
        let start = checkpoint.generation().decoder_start_token_id;
        Ok(vec![
            count("context_length", checkpoint.config().usize_or("n_positions", 512)),
            count("embedding_length", c.d_model.len),
            count("feed_forward_length", c.d_ff.len),
            count("block_count", c.num_layers),
            count("decoder_block_count", c.num_decoder_layers),
            count("attention.head_count", c.heads.len),
            count("attention.key_length", c.d_kv),
            count("attention.value_length", c.d_kv),
            ("t5.attention.layer_norm_epsilon".to_owned(), Value::F32(c.eps)),
            ("t5.attention.layer_norm_rms_epsilon".to_owned(), Value::F32(c.eps)),
            count("attention.relative_buckets_count", c.buckets.len),
            ("t5.decoder_start_token_id".to_owned(), Value::U32(start)),
        ])
    }
}

/// `d_model^-0.5`, rounded once from f64 as the Python float is.
fn logit_scale(c: &Config) -> f32 {
    (c.d_model.len as f64).powf(-0.5) as f32
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
        let weight = checkpoint.tied_weight(&[&EMBEDDING[..], &[(HEAD, TIED_HEAD)]].concat(), &shape);
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

const GGUF_NAMES: &[(&str, &str)] = &[
    ("shared", "token_embd"),
    ("encoder.embed_tokens", "token_embd"),
    ("decoder.embed_tokens", "token_embd"),
    ("lm_head", "output"),
    ("encoder.final_layer_norm", "enc.output_norm"),
    ("decoder.final_layer_norm", "dec.output_norm"),
    ("encoder.block.{i}.layer.0.layer_norm", "enc.blk.{i}.attn_norm"),
    ("encoder.block.{i}.layer.0.SelfAttention.q", "enc.blk.{i}.attn_q"),
    ("encoder.block.{i}.layer.0.SelfAttention.k", "enc.blk.{i}.attn_k"),
    ("encoder.block.{i}.layer.0.SelfAttention.v", "enc.blk.{i}.attn_v"),
    ("encoder.block.{i}.layer.0.SelfAttention.o", "enc.blk.{i}.attn_o"),
    ("encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias", "enc.blk.{i}.attn_rel_b"),
    ("encoder.block.{i}.layer.1.layer_norm", "enc.blk.{i}.ffn_norm"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi", "enc.blk.{i}.ffn_up"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi_0", "enc.blk.{i}.ffn_gate"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi_1", "enc.blk.{i}.ffn_up"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wo", "enc.blk.{i}.ffn_down"),
    ("decoder.block.{i}.layer.0.layer_norm", "dec.blk.{i}.attn_norm"),
    ("decoder.block.{i}.layer.0.SelfAttention.q", "dec.blk.{i}.attn_q"),
    ("decoder.block.{i}.layer.0.SelfAttention.k", "dec.blk.{i}.attn_k"),
    ("decoder.block.{i}.layer.0.SelfAttention.v", "dec.blk.{i}.attn_v"),
    ("decoder.block.{i}.layer.0.SelfAttention.o", "dec.blk.{i}.attn_o"),
    ("decoder.block.{i}.layer.0.SelfAttention.relative_attention_bias", "dec.blk.{i}.attn_rel_b"),
    ("decoder.block.{i}.layer.1.layer_norm", "dec.blk.{i}.cross_attn_norm"),
    ("decoder.block.{i}.layer.1.EncDecAttention.q", "dec.blk.{i}.cross_attn_q"),
    ("decoder.block.{i}.layer.1.EncDecAttention.k", "dec.blk.{i}.cross_attn_k"),
    ("decoder.block.{i}.layer.1.EncDecAttention.v", "dec.blk.{i}.cross_attn_v"),
    ("decoder.block.{i}.layer.1.EncDecAttention.o", "dec.blk.{i}.cross_attn_o"),
    ("decoder.block.{i}.layer.2.layer_norm", "dec.blk.{i}.ffn_norm"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wi", "dec.blk.{i}.ffn_up"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wi_0", "dec.blk.{i}.ffn_gate"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wi_1", "dec.blk.{i}.ffn_up"),
    ("decoder.block.{i}.layer.2.DenseReluDense.wo", "dec.blk.{i}.ffn_down"),
];
