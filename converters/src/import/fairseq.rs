//! What BART, Marian and M2M100 share with their relatives: one transformer, and the places where [`Family`]s differ.

pub(super) mod crisp_asr;
mod gguf;
mod stack;

use std::collections::BTreeMap;

use checkpoint::{self, Checkpoint, Size};
use graph::{BATCH, Build, DEC, Dim, ENC, Type, Unary, Val, Visible, Weight};

use super::layers::{TIED_HEAD, WITHOUT_EFFECT, activation, check_heads};
use crate::architecture::Semantics;
use crate::error::ImportError;
use crate::transformer::{self, Source, Transformer};

pub(super) use gguf::{NAMES, metadata};
pub(super) use stack::{EPS, EmbeddingNorm, Layers, Memory, Positions, Shared, Stack};

/// Where the families differ.
#[derive(Debug)]
pub(super) struct Family {
    /// The word in config.json.
    pub model_type: &'static str,
    /// The norm of a sublayer comes before it, and one more after each stack; else it comes after the residual.
    pub norm_before: bool,
    /// `layernorm_embedding`.
    pub embedding_norm: EmbeddingNorm,
    /// What is added to the embeddings.
    pub positions: Positions,
    /// Default of `activation_function`.
    pub activation: &'static str,
    /// Default of `scale_embedding`.
    pub scale_embedding: bool,
    /// Whether `final_logits_bias` is added, a buffer that transformers sets to zeros where a file lacks it.
    pub logits_bias: bool,
}

const HEAD: &str = "lm_head.weight";
pub(super) const LOGITS_BIAS: &str = "final_logits_bias";
const ONE: Size = Size { len: 1, name: "1" };
const ONE_EMBEDDING: &str =
    "config.json ties the embeddings of encoder and decoder; set tie_word_embeddings to false if they differ";

/// Training, and which model was distilled; keys of transformers 3, where one class was all families: 4 and 5 read none of
/// them, and what they said of norms and positions shows in the tensors. `normalize_before` alone does not, see
/// [`Config::read`].
pub(super) const IGNORED: &[&str] = &[
    "activation_dropout",
    "add_bias_logits",
    "add_final_layer_norm",
    "attention_dropout",
    "decoder_layerdrop",
    "do_blenderbot_90_layernorm",
    "dropout",
    "encoder_layerdrop",
    "eos_token_ids",
    "extra_layer_norm",
    "finetuning_task",
    "layernorm_variant",
    "model_parallel",
    "normalize_embedding",
    "output_past",
    "save_step",
    "static_position_embeddings",
    "student_decoder_layers",
    "student_encoder_layers",
    "unk_token_id",
];

/// config.json as the families' configs read it.
pub(super) struct Config {
    pub family: &'static Family,
    pub d_model: Size,
    /// Of the encoder's ids.
    pub vocab: Size,
    /// Of the decoder's.
    pub target_vocab: Size,
    pub max_positions: Size,
    pub encoder: Layers,
    pub decoder: Layers,
    pub activation: Unary,
    pub scale_embedding: bool,
    pub tied: bool,
    pub pad: usize,
}

impl Config {
    /// Reads the keys that all families have; the caller has read its own. Errors: dimensions that are not known.
    pub fn read(checkpoint: &Checkpoint, family: &'static Family) -> Result<Config, ImportError> {
        let config = Config::of(checkpoint.config(), checkpoint, family);
        checkpoint.config_fits()?;
        Ok(config)
    }

    /// The same of an object of config.json, whose problems are noted.
    pub fn of(c: &checkpoint::Config, checkpoint: &Checkpoint, family: &'static Family) -> Config {
        let d_model = c.size("d_model");
        let layers = |count, heads, ffn| Layers {
            count: checkpoint.layers_of(c, count),
            heads: c.size(heads),
            ffn: c.size(ffn),
        };
        let encoder = layers("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim");
        let decoder = layers("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim");
        for heads in [encoder.heads, decoder.heads] {
            check_heads(c, heads, d_model);
        }
        // Other names of three keys: transformers 5 lets them overwrite what they are names of.
        c.only("num_hidden_layers", encoder.count);
        c.only("num_attention_heads", encoder.heads.len);
        c.only("hidden_size", d_model.len);
        // No tensor tells whether a norm stands before or after its sublayer.
        c.only("normalize_before", family.norm_before);
        c.only("is_encoder_decoder", true);
        c.only("is_decoder", false);
        c.only("add_cross_attention", false);
        c.only("tie_encoder_decoder", false);
        c.ignore(WITHOUT_EFFECT);
        c.ignore(IGNORED);
        let vocab = c.size("vocab_size");
        Config {
            family,
            d_model,
            vocab,
            target_vocab: vocab,
            max_positions: c.size("max_position_embeddings"),
            encoder,
            decoder,
            activation: activation(c, "activation_function", family.activation),
            scale_embedding: c.bool_or("scale_embedding", family.scale_embedding),
            tied: c.bool_or("tie_word_embeddings", true),
            pad: c.token("pad_token_id").unwrap_or(0),
        }
    }

    /// What embeddings are multiplied by.
    pub fn embedding_scale(&self) -> f32 {
        self.shared().embedding_scale.unwrap_or(1.0)
    }

    fn shared(&self) -> Shared {
        Shared {
            d_model: self.d_model,
            max_positions: self.max_positions,
            activation: self.activation,
            norm_before: self.family.norm_before,
            embedding_norm: self.family.embedding_norm,
            positions: self.family.positions,
            embedding_scale: self.scale_embedding.then(|| root_of(self.d_model)),
            pad: self.pad,
        }
    }
}

/// √width, rounded once from f64, as the Python float is.
pub(super) fn root_of(width: Size) -> f32 {
    (width.len as f64).sqrt() as f32
}

/// Tables of the encoder's and the decoder's tokens, and the head.
pub(super) struct Tables {
    pub encoder: Weight,
    pub decoder: Weight,
    pub head: Weight,
}

impl Tables {
    /// One vocabulary. Tied, all are one weight. Untied, the head is a weight of its own, and so is the table of a stack that
    /// has one stored which is not `shared`.
    pub fn of_one_vocabulary(c: &Config, checkpoint: &Checkpoint) -> Tables {
        let root = checkpoint.prefix("model.");
        let [shared, encoder, decoder] =
            ["shared", "encoder.embed_tokens", "decoder.embed_tokens"].map(|name| format!("{root}{name}.weight"));
        let shape = [c.vocab, c.d_model];
        let names = [&shared, &encoder, &decoder].map(|name| (name.as_str(), ONE_EMBEDDING));
        if c.tied {
            let weight = checkpoint.tied_weight(&[&names[..], &[(HEAD, TIED_HEAD)]].concat(), &shape);
            return Tables { encoder: weight.clone(), decoder: weight.clone(), head: weight };
        }
        let head = checkpoint.weight(HEAD, &shape);
        let stored: Vec<&str> = names.iter().map(|(name, _)| *name).filter(|name| checkpoint.has(name)).collect();
        if stored.windows(2).all(|pair| checkpoint.same(pair[0], pair[1])) {
            let weight = checkpoint.tied_weight(&names, &shape);
            return Tables { encoder: weight.clone(), decoder: weight, head };
        }
        checkpoint.ignore_tensor(&shared);
        let own = |name: &str| checkpoint.weight(if checkpoint.has(name) { name } else { &shared }, &shape);
        Tables { encoder: own(&encoder), decoder: own(&decoder), head }
    }
}

/// Both stacks of a checkpoint.
pub(super) struct Stacks<'b> {
    pub b: &'b Build,
    pub checkpoint: &'b Checkpoint,
    /// The object of config.json that they are of.
    pub config: &'b checkpoint::Config,
    /// Before the names of their modules.
    pub root: String,
    shared: Shared,
    encoder: Layers,
    decoder: Layers,
}

impl<'b> Stacks<'b> {
    pub fn new(
        b: &'b Build,
        checkpoint: &'b Checkpoint,
        config: &'b checkpoint::Config,
        root: &str,
        c: &Config,
    ) -> Stacks<'b> {
        // fairseq's version of a stack, which old pickles hold.
        checkpoint.ignore_tensor(&format!("{root}encoder.version"));
        checkpoint.ignore_tensor(&format!("{root}decoder.version"));
        let root = root.to_owned();
        Stacks { b, checkpoint, config, root, shared: c.shared(), encoder: c.encoder, decoder: c.decoder }
    }

    fn stack(&self, name: &'static str, layers: Layers, length: Dim) -> Stack<'b, '_> {
        let Stacks { b, shared, checkpoint, config, .. } = self;
        Stack { b, shared, checkpoint, config, name, path: format!("{}{name}", self.root), layers, length }
    }

    /// Of a source of so many tokens.
    pub fn encoder(&self, length: Dim) -> Stack<'b, '_> {
        self.stack("encoder", self.encoder, length)
    }

    /// Logits without a bias. `[table, head]`: of the decoder's tokens.
    pub fn logits(&self, ids: Val<'b>, causal: Val<'b>, [table, head]: [Weight; 2], memory: Memory<'b>) -> Val<'b> {
        let decoder = self.stack("decoder", self.decoder, DEC.into());
        let x = decoder.embed(ids, self.b.weight(table));
        decoder.write(x, causal, Some(memory)).linear(self.b.weight(head), None)
    }
}

/// Writes the entry `full`.
pub(super) fn write<'b>(b: &'b Build, checkpoint: &'b Checkpoint, c: &Config, tables: Tables) {
    let input_ids = b.input("input_ids", Type::i64([BATCH, ENC]));
    let attention_mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
    let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
    let padding = b.padding_mask(attention_mask);
    let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);

    let stacks = Stacks::new(b, checkpoint, checkpoint.config(), checkpoint.prefix("model."), c);
    let encoder = stacks.encoder(ENC.into());
    let encoder_hidden = encoder.write(encoder.embed(input_ids, b.weight(tables.encoder)), padding, None);
    let memory = Memory { hidden: encoder_hidden, width: c.d_model, mask: Some(padding) };
    let mut logits = stacks.logits(decoder_input_ids, causal, [tables.decoder, tables.head], memory);
    if c.family.logits_bias && checkpoint.has(LOGITS_BIAS) {
        logits = logits + b.weight(checkpoint.weight(LOGITS_BIAS, &[ONE, c.target_vocab]));
    }
    let inputs =
        [("input_ids", input_ids), ("attention_mask", attention_mask), ("decoder_input_ids", decoder_input_ids)];
    b.entry("full", &inputs, &[("logits", logits), ("encoder_hidden", encoder_hidden)], BTreeMap::new());
}

/// The semantics of all families.
pub(super) fn semantics() -> Semantics {
    Semantics { reference: "transformers 5.23", logit_scale: "none: only T5 has one".to_owned() }
}

/// The pass of a family for engines that have it built in.
pub(super) fn transformer(c: &Config) -> Transformer {
    let stack = |layers: Layers| transformer::Stack {
        layers: layers.count,
        heads: layers.heads.len,
        head_width: c.d_model.len / layers.heads.len,
    };
    let first = match c.family.positions {
        Positions::Learned { offset } => offset,
        Positions::Sinusoid => 0,
        Positions::SinusoidAfterPad => c.pad + 1,
    };
    Transformer {
        source: Source::Tokens,
        encoder: stack(c.encoder),
        decoder: stack(c.decoder),
        norm_before: c.family.norm_before,
        activation: c.activation,
        eps: EPS,
        positions: transformer::Positions::Rows { first },
        embedding_scale: c.embedding_scale(),
        logit_scale: None,
        added_start: None,
    }
}
