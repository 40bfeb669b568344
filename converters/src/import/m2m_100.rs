//! M2M100 and NLLB-200: modeling_m2m_100.py of transformers 5.23.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::Build;

use super::fairseq::{self, Config, EmbeddingNorm, Family, Positions, Tables};
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;
use crate::transformer::Transformer;

/// The family.
pub(super) struct M2m100;

const M2M_100: Family = Family {
    model_type: "m2m_100",
    norm_before: true,
    embedding_norm: EmbeddingNorm::Absent,
    positions: Positions::SinusoidAfterPad,
    activation: "relu",
    scale_embedding: true,
    logits_bias: false,
};

fn config(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
    let c = checkpoint.config();
    if c.token("pad_token_id").is_none() {
        c.unsupported("pad_token_id", "the first position is the one after it");
    }
    // The wavelengths lie between two ends, so there are two of them.
    if c.usize("d_model") < 4 {
        c.unsupported("d_model", "expected 4 or more");
    }
    Config::read(checkpoint, &M2M_100)
}

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
}
