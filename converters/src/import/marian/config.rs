//! What Marian reads of config.json.

use checkpoint::{Checkpoint, Size};

use crate::error::ImportError;
use crate::import::fairseq::{Config, EmbeddingNorm, Family, Positions};

const MARIAN: Family = Family {
    model_type: "marian",
    norm_before: false,
    embedding_norm: EmbeddingNorm::Absent,
    positions: Positions::Sinusoid,
    activation: "gelu",
    scale_embedding: false,
    logits_bias: true,
};

/// The config, and whether both sides have one table of tokens.
pub(super) fn config(checkpoint: &Checkpoint) -> Result<(Config, bool), ImportError> {
    let c = checkpoint.config();
    let shared = c.bool_or("share_encoder_decoder_embeddings", true);
    let decoder_vocab = c.usize_or("decoder_vocab_size", c.usize("vocab_size"));
    if shared {
        c.only("decoder_vocab_size", c.usize("vocab_size"));
    }
    let target_vocab = Size { len: decoder_vocab, name: "decoder_vocab_size" };
    let config = Config::read(checkpoint, &MARIAN)?;
    Ok(if shared { (config, shared) } else { (Config { target_vocab, ..config }, shared) })
}
