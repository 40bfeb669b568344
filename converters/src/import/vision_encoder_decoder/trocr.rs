//! TrOCR's decoder: modeling_trocr.py of transformers 5.23, which is BART's with keys of a width of their own.

use checkpoint::{self, Checkpoint, Size};
use graph::Val;

use super::source::Source;
use crate::import::fairseq::{EmbeddingNorm, Layers, Positions, Shared, root_of};
use crate::import::layers::{activation, check_heads};

/// The module that makes the logits.
pub(super) const HEAD: &str = "decoder.output_projection";

/// Training.
const IGNORED: &[&str] = &["activation_dropout", "attention_dropout", "decoder_layerdrop", "dropout"];

/// config.json's `decoder` as TrOCRConfig reads it.
pub(super) struct Config<'c> {
    shared: Shared,
    layers: Layers,
    vocab: Size,
    config: &'c checkpoint::Config,
}

impl<'c> Config<'c> {
    pub fn read(c: &'c checkpoint::Config, checkpoint: &Checkpoint) -> Config<'c> {
        let d_model = c.size("d_model");
        let layers = Layers {
            count: checkpoint.layers_of(c, "decoder_layers"),
            heads: c.size("decoder_attention_heads"),
            ffn: c.size("decoder_ffn_dim"),
        };
        check_heads(c, layers.heads, d_model);
        // Other names of three keys, which transformers 5 lets overwrite what they are names of.
        c.only("num_hidden_layers", layers.count);
        c.only("num_attention_heads", layers.heads.len);
        c.only("hidden_size", d_model.len);
        c.ignore(IGNORED);
        let positions = match c.bool_or("use_learned_position_embeddings", true) {
            true => Positions::Learned { offset: 2 },
            false => Positions::SinusoidAfterPad,
        };
        let embedding_norm = match c.bool_or("layernorm_embedding", true) {
            true => EmbeddingNorm::OfSum,
            false => EmbeddingNorm::Absent,
        };
        let shared = Shared {
            d_model,
            max_positions: Size { len: c.usize_or("max_position_embeddings", 512), name: "max_position_embeddings" },
            activation: activation(c, "activation_function", "gelu"),
            norm_before: false,
            embedding_norm,
            positions,
            embedding_scale: c.bool_or("scale_embedding", false).then(|| root_of(d_model)),
            pad: c.token("pad_token_id").unwrap_or(1),
        };
        Config { shared, layers, vocab: c.size("vocab_size"), config: c }
    }

    pub fn width(&self) -> Size {
        self.shared.d_model
    }

    /// The logits.
    pub fn write(&self, source: &Source<'c>) -> Val<'c> {
        source.stack(self.config, HEAD, &self.shared, self.layers, self.vocab)
    }
}
