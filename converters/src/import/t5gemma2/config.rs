//! What T5Gemma2 reads of config.json.

use checkpoint::{self, Checkpoint, Size};
use graph::Rope;

use crate::error::ImportError;
use crate::import::gemma::{Attends, Stack, cap, rope};
use crate::import::layers::WITHOUT_EFFECT;

/// config.json as T5Gemma2Config reads it.
pub(super) struct Config {
    pub encoder: Section,
    pub decoder: Section,
    pub tied: bool,
    pub logit_cap: Option<f32>,
    /// The end-of-image token, if the vocabulary has it.
    pub eoi: Option<usize>,
}

pub(super) struct Section {
    pub stack: Stack,
    pub full: Rope,
    pub sliding: Rope,
}

impl Config {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        let tied = c.bool_or("tie_word_embeddings", true);
        c.only("is_encoder_decoder", true);
        c.ignore(WITHOUT_EFFECT);
        // The encoder's eoi_token_index replaces the one outside.
        c.ignore(&["attention_dropout", "eoi_token_index", "image_token_index", "vocab_size"]);
        let (Some(encoder), Some(decoder)) = (c.section("encoder"), c.section("decoder")) else {
            return Err(checkpoint.does_not_fit().into());
        };
        let eoi = encoder.usize_or("eoi_token_index", 256_000);
        encoder.ignore(WITHOUT_EFFECT);
        encoder.ignore(&[
            "attention_dropout",
            "boi_token_index",
            "image_token_index",
            "is_encoder_decoder",
            "mm_tokens_per_image",
            "tie_word_embeddings",
            "vision_config",
            "vocab_size",
        ]);
        let Some(text) = encoder.section("text_config") else {
            return Err(checkpoint.does_not_fit().into());
        };
        // Only the decoder's makes logits.
        text.ignore(&["final_logit_softcapping"]);
        let config = Config {
            encoder: Section::read(text, checkpoint),
            decoder: Section::read(decoder, checkpoint),
            tied,
            logit_cap: cap(decoder, "final_logit_softcapping", None),
            eoi: Some(eoi),
        };
        for key in ["hidden_size", "vocab_size"] {
            let [ours, theirs] = [decoder, text].map(|c| c.usize(key));
            if ours != theirs {
                decoder.unsupported(key, format!("expected {theirs}, as in encoder.text_config"));
            }
        }
        checkpoint.config_fits()?;
        let eoi = config.eoi.filter(|eoi| *eoi < config.encoder.stack.vocab.len);
        Ok(Config { eoi, ..config })
    }
}

impl Section {
    pub fn read(c: &checkpoint::Config, checkpoint: &Checkpoint) -> Section {
        if cap(c, "attn_logit_softcapping", None).is_some() {
            c.unsupported("attn_logit_softcapping", "transformers 5.23 reads it and leaves the scores as they are");
        }
        // Each pattern-th layer is full, where layer_types does not say.
        let stack = Stack::read(c, checkpoint, c.usize_or("sliding_window_pattern", 6));
        let [full, sliding] = Section::ropes(c, stack.head_dim);
        Section { stack, full, sliding }
    }

    /// `rope_parameters` by kind of layer. Before them, `rope_scaling` was of full layers only.
    fn ropes(c: &checkpoint::Config, head_dim: Size) -> [Rope; 2] {
        let by_kind = c.section_if_given("rope_parameters");
        let [full, sliding] =
            ["full_attention", "sliding_attention"].map(|kind| by_kind.and_then(|c| c.section_if_given(kind)));
        let full = if by_kind.is_none() { c.section_if_given("rope_scaling") } else { full };
        [
            rope(full, c.f32_or("rope_theta", 1_000_000.0), head_dim),
            rope(sliding, c.f32_or("rope_local_base_freq", 10_000.0), head_dim),
        ]
    }

    pub fn rope(&self, attends: Attends) -> Rope {
        match attends {
            Attends::Full => self.full,
            Attends::Sliding => self.sliding,
        }
    }
}
