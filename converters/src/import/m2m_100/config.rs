//! What M2M100 reads of config.json.

use checkpoint::Checkpoint;

use crate::error::ImportError;
use crate::import::fairseq::{Config, EmbeddingNorm, Family, Positions};

const M2M_100: Family = Family {
    model_type: "m2m_100",
    norm_before: true,
    embedding_norm: EmbeddingNorm::Absent,
    positions: Positions::SinusoidAfterPad,
    activation: "relu",
    scale_embedding: true,
    logits_bias: false,
};

pub(super) fn config(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
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
