//! mBART as a decoder of its own: `MBartForCausalLM` of modeling_mbart.py of transformers 5.23, in Donut and Nougat.

use checkpoint::{self, Checkpoint, Size};
use graph::Val;

use super::source::Source;
use crate::import::bart::MBART;
use crate::import::fairseq::{self, Layers, Shared, root_of};
use crate::import::layers::{activation, check_heads};

/// The module that makes the logits.
pub(super) const HEAD: &str = "decoder.lm_head";

/// Of mBART's encoder, which is not there: other names of the three first speak of it too.
const OF_ENCODER: &[&str] =
    &["encoder_attention_heads", "encoder_ffn_dim", "encoder_layers", "num_attention_heads", "num_hidden_layers"];

/// config.json's `decoder` as MBartConfig reads it.
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
        c.only("hidden_size", d_model.len);
        c.only("normalize_before", true);
        c.ignore(OF_ENCODER);
        c.ignore(fairseq::IGNORED);
        let shared = Shared {
            d_model,
            max_positions: Size { len: c.usize_or("max_position_embeddings", 1024), name: "max_position_embeddings" },
            activation: activation(c, "activation_function", MBART.activation),
            norm_before: MBART.norm_before,
            embedding_norm: MBART.embedding_norm,
            positions: MBART.positions,
            embedding_scale: c.bool_or("scale_embedding", MBART.scale_embedding).then(|| root_of(d_model)),
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
