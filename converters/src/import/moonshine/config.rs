//! What Moonshine reads of config.json.

use checkpoint::{self, Checkpoint, Size};
use graph::{Layout, Rope, Unary};

use crate::error::ImportError;
use crate::import::layers::{WITHOUT_EFFECT, activation};

/// The defaults of `nn.LayerNorm` and of the `nn.GroupNorm` there; no key changes them.
pub(super) const EPS: f32 = 1e-5;

/// Of the three convolutions.
pub(super) const STRIDES: [usize; 3] = [64, 3, 2];
pub(super) const KERNELS: [Size; 3] =
    [Size { len: 127, name: "kernel" }, Size { len: 7, name: "kernel" }, Size { len: 3, name: "kernel" }];

/// Training; and the zeros that `pad_head_dim_to_multiple_of` appends to heads, which add nothing to a score and are cut off.
const IGNORED: &[&str] = &["attention_dropout", "max_position_embeddings", "pad_head_dim_to_multiple_of"];

/// config.json as MoonshineConfig reads it.
pub(super) struct Config {
    pub width: Size,
    pub ffn: Size,
    pub gated_ffn: Size,
    pub vocab: Size,
    pub heads: Size,
    pub inner: Size,
    pub rope: Rope,
    pub encoder: Layers,
    pub decoder: Layers,
    pub attention_bias: bool,
    pub tied: bool,
}

/// What differs between the stacks.
#[derive(Clone, Copy)]
pub(super) struct Layers {
    pub count: usize,
    pub activation: Unary,
}

impl Config {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        let width = c.size("hidden_size");
        let ffn = c.size("intermediate_size");
        let heads = heads(c);
        let head_width = head_width(c, width, heads);
        let layers = |count, key, activation_key, default| Layers {
            count: checkpoint.layers(count, key),
            activation: activation(c, activation_key, default),
        };
        c.only("is_encoder_decoder", true);
        c.ignore(WITHOUT_EFFECT);
        c.ignore(IGNORED);
        let config = Config {
            width,
            ffn,
            gated_ffn: Size { len: 2 * ffn.len, name: "2·intermediate_size" },
            vocab: c.size("vocab_size"),
            heads,
            inner: Size { len: heads.len * head_width, name: "encoder_num_attention_heads·head_dim" },
            rope: rope(c, head_width),
            encoder: layers(
                c.usize("encoder_num_hidden_layers"),
                "encoder_num_hidden_layers",
                "encoder_hidden_act",
                "gelu",
            ),
            decoder: layers(
                c.usize("decoder_num_hidden_layers"),
                "decoder_num_hidden_layers",
                "decoder_hidden_act",
                "silu",
            ),
            attention_bias: c.bool_or("attention_bias", false),
            tied: c.bool_or("tie_word_embeddings", true),
        };
        checkpoint.config_fits()?;
        Ok(config)
    }
}

/// The heads of both stacks. Each attention of the encoder overwrites the counts of the config that the decoder is then made
/// from, and queries are split by the number of key heads: transformers runs no other checkpoint as its config says.
fn heads(c: &checkpoint::Config) -> Size {
    let heads = c.size("encoder_num_attention_heads");
    for key in ["decoder_num_attention_heads", "encoder_num_key_value_heads", "decoder_num_key_value_heads"] {
        if c.usize_or(key, heads.len) != heads.len {
            c.unsupported(
                key,
                format!(
                    "expected encoder_num_attention_heads = {}; transformers 5.23 takes it for all heads",
                    heads.len
                ),
            );
        }
    }
    heads
}

/// `head_dim`, else `hidden_size / heads` rounded down.
fn head_width(c: &checkpoint::Config, width: Size, heads: Size) -> usize {
    let default = width.len / heads.len;
    if default == 0 {
        c.unsupported(heads.name, format!("expected at most hidden_size = {}", width.len));
    }
    c.usize_or("head_dim", default.max(1))
}

/// From `rope_parameters` as transformers 5 writes it, or the keys of 4.x.
fn rope(c: &checkpoint::Config, head_width: usize) -> Rope {
    c.only("rope_scaling", serde_json::Value::Null);
    let section = c.section_if_given("rope_parameters").inspect(|section| section.only("rope_type", "default"));
    let value = |key, default| {
        let outside = c.f64_or(key, default);
        section.map_or(outside, |section| section.f64_or(key, outside))
    };
    let (theta, part) = (value("rope_theta", 10_000.0), value("partial_rotary_factor", 0.9));
    // `arange(0, dim, 2) / dim`: an odd `dim` turns one place more, by exponents over `dim`.
    let turned = head_width as f64 * part;
    // More than twice the width is refused however much it is.
    let dim = (turned as usize).min(2 * head_width);
    let dims = dim.next_multiple_of(2);
    if dim == 0 || dims > head_width {
        let least = if turned > dims as f64 { "more than " } else { "" };
        c.unsupported("partial_rotary_factor", format!("it turns {least}{dims} places of heads of {head_width}"));
    }
    let theta = theta.powf(dims as f64 / dim.max(1) as f64) as f32;
    if !theta.is_finite() || theta <= 0.0 {
        c.unsupported("rope_theta", "expected a number above 0");
    }
    Rope { theta, factor: 1.0, dims, layout: Layout::Pairs }
}
