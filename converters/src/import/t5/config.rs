//! What T5 and its relatives read of config.json.

use checkpoint::{self, Checkpoint, Size};
use graph::Unary;

use crate::error::ImportError;
use crate::import::layers;

/// Without effect on the logits, beside [`layers::WITHOUT_EFFECT`].
const IGNORED: &[&str] = &["initializer_factor", "n_positions", "output_past", "scalable_attention", "finetuning_task"];

/// Names of the embedding, with the reason why they must hold the same.
pub(super) const EMBEDDING: [(&str, &str); 3] = [
    ("shared.weight", ONE_EMBEDDING),
    ("encoder.embed_tokens.weight", ONE_EMBEDDING),
    ("decoder.embed_tokens.weight", ONE_EMBEDDING),
];
const ONE_EMBEDDING: &str = "T5 has one embedding for encoder and decoder";
pub(super) const HEAD: &str = "lm_head.weight";

/// config.json as T5Config, MT5Config and UMT5Config read it.
pub(super) struct Config {
    pub d_model: Size,
    pub d_ff: Size,
    pub inner: Size,
    pub vocab: Size,
    pub buckets: Size,
    pub heads: Size,
    pub d_kv: usize,
    pub max_distance: usize,
    pub num_layers: usize,
    pub num_decoder_layers: usize,
    pub eps: f32,
    pub gated: bool,
    pub activation: Unary,
    pub bias_in_every_layer: bool,
    pub scaled: bool,
    pub scale_reason: String,
    pub head: Head,
}

/// Which weight makes the logits.
pub(super) enum Head {
    /// `lm_head`, which must be there.
    Own,
    /// The embedding; a stored `lm_head` must equal it.
    Tied,
    /// `lm_head` where the file holds one of its own, else the embedding: transformers 5 writes
    /// `tie_word_embeddings = true` for every T5, so that the key says nothing.
    AsStored,
}

impl Config {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        let (heads, d_kv) = (c.size("num_heads"), c.usize("d_kv"));
        let num_layers = checkpoint.layers(c.usize("num_layers"), "num_layers");
        let num_decoder_layers = checkpoint.layers(c.usize_or("num_decoder_layers", num_layers), "num_decoder_layers");

        let buckets =
            Size { len: c.usize_or("relative_attention_num_buckets", 32), name: "relative_attention_num_buckets" };
        let max_distance = c.usize_or("relative_attention_max_distance", 128);
        // Below these, `_relative_position_bucket` divides by zero or takes the logarithm of a number up to 1.
        if buckets.len < 4 {
            c.unsupported(buckets.name, "expected 4 or more");
        } else if max_distance <= buckets.len / 2 {
            c.unsupported(
                "relative_attention_max_distance",
                "expected more than half of relative_attention_num_buckets",
            );
        }

        let (gated, activation) = activation(c);
        let (scaled, scale_reason) = logit_scale(c);
        c.only("is_encoder_decoder", true);
        c.only("is_decoder", false);
        c.only("add_cross_attention", false);
        c.only("tie_encoder_decoder", false);
        c.ignore(layers::WITHOUT_EFFECT);
        c.ignore(IGNORED);
        let config = Config {
            d_model: c.size("d_model"),
            d_ff: c.size("d_ff"),
            inner: Size { len: heads.len * d_kv, name: "num_heads·d_kv" },
            vocab: c.size("vocab_size"),
            buckets,
            heads,
            d_kv,
            max_distance,
            num_layers,
            num_decoder_layers,
            eps: c.f32_or("layer_norm_epsilon", 1e-6),
            gated,
            activation,
            bias_in_every_layer: is(c, "umt5"),
            scaled,
            scale_reason,
            head: head(c),
        };
        checkpoint.config_fits()?;
        Ok(config)
    }

    /// What the decoder's output is multiplied by, rounded once from f64, as the Python float is.
    pub fn logit_scale(&self) -> Option<f32> {
        self.scaled.then(|| (self.d_model.len as f64).powf(-0.5) as f32)
    }
}

fn is(c: &checkpoint::Config, model_type: &str) -> bool {
    c.model_type() == Some(model_type)
}

/// Whether the feed-forward is gated, and by what. `dense_act_fn` and `is_gated_act` win over `feed_forward_proj`, from
/// which they are derived.
fn activation(c: &checkpoint::Config) -> (bool, Unary) {
    let word = c.str_or("feed_forward_proj", if is(c, "mt5") || is(c, "umt5") { "gated-gelu" } else { "relu" });
    let (gated, derived) = match word.strip_prefix("gated-") {
        Some("gelu") => (true, "gelu_new"),
        Some(name) => (true, name),
        None => (false, word),
    };
    let key = if c.str("dense_act_fn").is_some() { "dense_act_fn" } else { "feed_forward_proj" };
    let activation = layers::activation_called(c, key, c.str_or("dense_act_fn", derived));
    (c.bool_or("is_gated_act", gated), activation)
}

fn head(c: &checkpoint::Config) -> Head {
    let version = c.str("transformers_version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let by_5 = version.is_some_and(|major| major >= 5) || c.json().get("scale_decoder_outputs").is_some();
    match c.bool("tie_word_embeddings") {
        Some(false) => Head::Own,
        _ if by_5 => Head::AsStored,
        // The default of MT5 is false in 4.x and true in 5.
        None if is(c, "mt5") => Head::AsStored,
        Some(true) | None => Head::Tied,
    }
}

/// Whether the decoder's output is scaled before the head, and why: what transformers 5.23 does.
fn logit_scale(c: &checkpoint::Config) -> (bool, String) {
    let untied = c.bool("tie_word_embeddings") == Some(false);
    let (scaled, why) = if is(c, "mt5") {
        let tied = c.bool("tie_word_embeddings") == Some(true);
        (false, if tied { "MT5 of 5 never scales, of 4.x does when tied" } else { "MT5 scales in neither 4.x nor 5" })
    } else if is(c, "umt5") {
        (
            true,
            if untied {
                "UMT5 of 5 always scales, of 4.x when tied"
            } else {
                "UMT5 scales when tied in both 4.x and 5"
            },
        )
    } else if let Some(scaled) = c.bool("scale_decoder_outputs") {
        return (scaled, format!("scale_decoder_outputs is {scaled}"));
    } else if untied {
        (false, "tie_word_embeddings is false, so neither 4.x nor 5 scales")
    } else {
        (true, "tie_word_embeddings is not false, so both 4.x and 5 scale")
    };
    (scaled, why.to_owned())
}

/// Whether the head is the embedding.
pub(super) fn is_tied(c: &Config, checkpoint: &Checkpoint) -> bool {
    let stored = EMBEDDING.iter().find(|(name, _)| checkpoint.has(name));
    match c.head {
        Head::Own => false,
        Head::Tied => true,
        Head::AsStored => !checkpoint.has(HEAD) || stored.is_none_or(|(name, _)| checkpoint.same(HEAD, name)),
    }
}
