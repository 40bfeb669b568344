//! M2M100 and NLLB-200: modeling_m2m_100.py of transformers 5.23.

mod config;
mod crisp_asr;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::Build;

use self::config::config;
use super::fairseq::{self, Tables};
use crate::architecture::{Architecture, Semantics};
use crate::dialect::Dialect;
use crate::error::ImportError;
use crate::transformer::Transformer;

/// The family.
pub(super) struct M2m100;

impl Architecture for M2m100 {
    fn model_types(&self) -> &'static [&'static str] {
        &["m2m_100"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = config(checkpoint)?;
        fairseq::write(b, checkpoint, &c, Tables::of_one_vocabulary(&c, checkpoint));
        Ok(fairseq::semantics())
    }

    fn assumes(&self) -> &'static [&'static str] {
        &["padding ids stand after all others: transformers counts positions of M2M100 without them"]
    }

    fn transformer(&self, checkpoint: &Checkpoint) -> Result<Option<Transformer>, ImportError> {
        Ok(Some(fairseq::transformer(&config(checkpoint)?)))
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        fairseq::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(fairseq::metadata(&config(checkpoint)?, checkpoint))
    }

    fn dialects(&self) -> &'static [Dialect] {
        &[crisp_asr::DIALECT]
    }
}
