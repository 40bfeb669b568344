//! Marian: modeling_marian.py of transformers 5.23.

use checkpoint::gguf::Value;
use checkpoint::{Checkpoint, Size};
use graph::Build;

use super::fairseq::{self, Config, EmbeddingNorm, Family, Positions, Tables};
use super::layers::{TIED_HEAD, tied_or_own};
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;
use crate::transformer::Transformer;

/// The family.
pub(super) struct Marian;

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
fn config(checkpoint: &Checkpoint) -> Result<(Config, bool), ImportError> {
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

/// Of two vocabularies: the head is tied to the decoder's alone.
fn tables(c: &Config, checkpoint: &Checkpoint) -> Tables {
    let encoder = checkpoint.weight("model.encoder.embed_tokens.weight", &[c.vocab, c.d_model]);
    let names = ["model.decoder.embed_tokens.weight", "lm_head.weight"];
    let [decoder, head] = tied_or_own(checkpoint, c.tied, names, TIED_HEAD, &[c.target_vocab, c.d_model]);
    Tables { encoder, decoder, head }
}

impl Architecture for Marian {
    fn model_types(&self) -> &'static [&'static str] {
        &["marian"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let (c, shared) = config(checkpoint)?;
        let tables = if shared { Tables::of_one_vocabulary(&c, checkpoint) } else { tables(&c, checkpoint) };
        fairseq::write(b, checkpoint, &c, tables);
        Ok(fairseq::semantics())
    }

    fn transformer(&self, checkpoint: &Checkpoint) -> Result<Option<Transformer>, ImportError> {
        let added_start = usize::try_from(checkpoint.generation().decoder_start_token_id).ok();
        Ok(Some(Transformer { added_start, ..fairseq::transformer(&config(checkpoint)?.0) }))
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        fairseq::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(fairseq::metadata(&config(checkpoint)?.0, checkpoint))
    }
}
