//! What Whisper reads of config.json.

use checkpoint::{Checkpoint, Size};
use graph::Unary;

use crate::error::ImportError;
use crate::import::layers::{WITHOUT_EFFECT, activation, check_heads};

/// The default of `nn.LayerNorm`; no key changes it.
pub(super) const EPS: f32 = 1e-5;

/// Training; `scale_embedding`, from which modeling_whisper.py computes a factor that it never applies; and what is read by
/// WhisperForAudioClassification or for timestamps of tokens only.
const IGNORED: &[&str] = &[
    "activation_dropout",
    "alignment_heads",
    "apply_spec_augment",
    "attention_dropout",
    "classifier_proj_size",
    "decoder_layerdrop",
    "dropout",
    "encoder_layerdrop",
    "mask_feature_length",
    "mask_feature_min_masks",
    "mask_feature_prob",
    "mask_time_length",
    "mask_time_min_masks",
    "mask_time_prob",
    "median_filter_width",
    "scale_embedding",
    "use_weighted_layer_sum",
];

/// config.json as WhisperConfig reads it.
pub(super) struct Config {
    pub d_model: Size,
    pub vocab: Size,
    pub mels: Size,
    pub source_positions: Size,
    pub target_positions: Size,
    pub encoder: Layers,
    pub decoder: Layers,
    pub activation: Unary,
    pub tied: bool,
}

/// What differs between the stacks.
#[derive(Clone, Copy)]
pub(super) struct Layers {
    pub count: usize,
    pub heads: Size,
    pub ffn: Size,
}

impl Config {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        c.only("is_encoder_decoder", true);
        c.ignore(WITHOUT_EFFECT);
        c.ignore(IGNORED);
        let encoder_layers = c.usize("encoder_layers");
        // Another name for it: 4.x takes this one where they differ, 5 the other.
        c.only("num_hidden_layers", encoder_layers);
        let config = Config {
            d_model: c.size("d_model"),
            vocab: c.size("vocab_size"),
            mels: c.size("num_mel_bins"),
            source_positions: c.size("max_source_positions"),
            target_positions: c.size("max_target_positions"),
            encoder: Layers {
                count: checkpoint.layers(encoder_layers, "encoder_layers"),
                heads: c.size("encoder_attention_heads"),
                ffn: c.size("encoder_ffn_dim"),
            },
            decoder: Layers {
                count: checkpoint.layers(c.usize("decoder_layers"), "decoder_layers"),
                heads: c.size("decoder_attention_heads"),
                ffn: c.size("decoder_ffn_dim"),
            },
            activation: activation(c, "activation_function", "gelu"),
            tied: c.bool_or("tie_word_embeddings", true),
        };
        for heads in [config.encoder.heads, config.decoder.heads] {
            check_heads(c, heads, config.d_model);
        }
        checkpoint.config_fits()?;
        Ok(config)
    }
}
