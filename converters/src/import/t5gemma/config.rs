//! What T5Gemma reads of config.json.

use checkpoint::{self, Checkpoint};
use graph::Rope;

use crate::error::ImportError;
use crate::import::gemma::{Stack, cap, rope};
use crate::import::layers::WITHOUT_EFFECT;

/// config.json as T5GemmaConfig reads it.
pub(super) struct Config {
    pub encoder: Section,
    pub decoder: Section,
    pub tied: bool,
    pub logit_cap: Option<f32>,
}

pub(super) struct Section {
    pub stack: Stack,
    pub rope: Rope,
    pub score_cap: Option<f32>,
}

impl Config {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        let tied = c.bool_or("tie_word_embeddings", true);
        c.only("is_encoder_decoder", true);
        c.ignore(WITHOUT_EFFECT);
        // Each stack has a vocabulary of its own.
        c.ignore(&["attention_dropout", "vocab_size"]);
        let sections = (c.section("encoder"), c.section("decoder"));
        let (Some(encoder), Some(decoder)) = sections else {
            return Err(checkpoint.does_not_fit().into());
        };
        // Only the decoder's makes logits.
        encoder.ignore(&["final_logit_softcapping"]);
        let config = Config {
            encoder: Section::read(encoder, checkpoint),
            decoder: Section::read(decoder, checkpoint),
            tied,
            logit_cap: cap(decoder, "final_logit_softcapping", Some(30.0)),
        };
        checkpoint.config_fits()?;
        Ok(config)
    }
}

impl Section {
    pub fn read(c: &checkpoint::Config, checkpoint: &Checkpoint) -> Section {
        let stack = Stack::read(c, checkpoint, 2);
        let parameters = c.section_if_given("rope_parameters").or_else(|| c.section_if_given("rope_scaling"));
        let rope = rope(parameters, c.f32_or("rope_theta", 10000.0), stack.head_dim);
        Section { rope, score_cap: cap(c, "attn_logit_softcapping", Some(50.0)), stack }
    }
}
