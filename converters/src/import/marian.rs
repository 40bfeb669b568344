//! Marian: modeling_marian.py of transformers 5.23.

mod config;
mod crisp_asr;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::Build;

use self::config::config;
use super::fairseq::{self, Config, Tables};
use super::layers::{TIED_HEAD, tied_or_own};
use crate::architecture::{Architecture, Semantics};
use crate::dialect::Dialect;
use crate::error::ImportError;
use crate::transformer::Transformer;

/// The family.
pub(super) struct Marian;

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

    fn dialects(&self) -> &'static [Dialect] {
        &[crisp_asr::DIALECT]
    }
}
