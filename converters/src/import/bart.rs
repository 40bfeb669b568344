//! BART, mBART, Pegasus, Blenderbot, Blenderbot-small and PLBart: modeling_{bart,mbart,pegasus,blenderbot,blenderbot_small,plbart}.py
//! of transformers 5.23.

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::Build;

use super::fairseq::{self, Config, EmbeddingNorm, Family, Positions, Tables};
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;
use crate::transformer::Transformer;

/// The families.
pub(super) struct Bart;

/// BART, which Florence-2 reads and says text with.
pub(super) const BART: Family = Family {
    model_type: "bart",
    norm_before: false,
    embedding_norm: EmbeddingNorm::OfSum,
    positions: Positions::Learned { offset: 2 },
    activation: "gelu",
    scale_embedding: false,
    logits_bias: true,
};
/// A stack of it is Donut's decoder, too.
pub(super) const MBART: Family = Family { model_type: "mbart", norm_before: true, ..BART };
const BLENDERBOT: Family = Family {
    model_type: "blenderbot",
    embedding_norm: EmbeddingNorm::Absent,
    positions: Positions::Learned { offset: 0 },
    ..MBART
};

const FAMILIES: &[Family] = &[
    BART,
    MBART,
    Family { model_type: "pegasus", positions: Positions::Sinusoid, ..BLENDERBOT },
    BLENDERBOT,
    Family {
        model_type: "blenderbot-small",
        norm_before: false,
        embedding_norm: EmbeddingNorm::OfTokensInDecoder,
        ..BLENDERBOT
    },
    Family { model_type: "plbart", scale_embedding: true, ..BART },
];

fn config(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
    let model_type = checkpoint.config().model_type();
    let family = FAMILIES.iter().find(|family| model_type == Some(family.model_type));
    Config::read(checkpoint, family.expect("only its own model types are brought here"))
}

impl Architecture for Bart {
    fn model_types(&self) -> &'static [&'static str] {
        &["bart", "mbart", "pegasus", "blenderbot", "blenderbot-small", "plbart"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = config(checkpoint)?;
        fairseq::write(b, checkpoint, &c, Tables::of_one_vocabulary(&c, checkpoint));
        Ok(fairseq::semantics())
    }

    fn transformer(&self, checkpoint: &Checkpoint) -> Result<Option<Transformer>, ImportError> {
        let c = config(checkpoint)?;
        let is_built_in = ["bart", "mbart", "pegasus"].contains(&c.family.model_type);
        Ok(is_built_in.then(|| fairseq::transformer(&c)))
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        fairseq::NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Ok(fairseq::metadata(&config(checkpoint)?, checkpoint))
    }
}
