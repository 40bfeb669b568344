//! What Mu reads of config.json and of the shapes of its tensors.

use checkpoint::{Checkpoint, Size};
use graph::{Layout, Rope};

use crate::error::ImportError;
use crate::import::layers::WITHOUT_EFFECT;

pub(super) const TABLE: &str = "transformer.wte.weight";

/// `RMSNorm` of the authors' code.
pub(super) const EPS: f32 = 1e-6;
/// `qkv_embd / n_head` of MuConfig.
const HEAD_WIDTH: usize = 64;

/// MuConfig: what config.json says, else what the shapes of the tensors say, else MuConfig's default.
pub(super) struct Config {
    pub n_embd: Size,
    pub qkv: Size,
    pub kv: Size,
    pub hidden: Size,
    pub vocab: Size,
    pub n_head: usize,
    pub n_kv_head: usize,
    pub is_interleaved: bool,
    pub rope: Rope,
    pub encoder_layers: usize,
    pub decoder_layers: usize,
}

impl Config {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, ImportError> {
        let c = checkpoint.config();
        let length = |tensor: &str, axis: usize| checkpoint.shape(tensor)?.get(axis).copied();
        let size = |key: &'static str, tensor: &str, axis: usize, default: usize| Size {
            len: c.usize_or(key, length(tensor, axis).unwrap_or(default)),
            name: key,
        };
        let qkv = size("qkv_embd", "transformer.e.0.attn.q_linear.weight", 0, 6 * HEAD_WIDTH);
        let n_head = c.usize_or("n_head", (qkv.len / HEAD_WIDTH).max(1));
        let width = if c.json().get("n_head").is_some() { qkv.len / n_head } else { HEAD_WIDTH };
        if qkv.len != n_head * width {
            c.unsupported("n_head", format!("expected a divisor of qkv_embd = {}, or heads of {HEAD_WIDTH}", qkv.len));
        }
        let keys = length("transformer.e.0.attn.k_linear.weight", 0).unwrap_or(3 * width);
        let n_kv_head = c.usize_or("n_kv_head", keys.checked_div(width).unwrap_or(1).max(1));
        if !n_head.is_multiple_of(n_kv_head) {
            c.unsupported("n_kv_head", format!("expected a divisor of n_head = {n_head}"));
        }
        if c.f32_or("rope_factor", 1.0) != 1.0 {
            c.unsupported(
                "rope_factor",
                "only 1.0 is, as any other changes the frequencies with the length of a sequence",
            );
        }
        let theta = c.f32_or("rope_theta", 10000.0);
        if theta <= 0.0 {
            c.unsupported("rope_theta", "expected a number above 0");
        }
        let rope = Rope { theta, factor: 1.0, dims: width, layout: Layout::Half };
        c.ignore(WITHOUT_EFFECT);
        c.ignore(&["block_size", "dropout"]);
        let layers = |key, stack: &str| checkpoint.layers(c.usize_or(key, depth(checkpoint, stack)), key);
        let config = Config {
            n_embd: size("n_embd", TABLE, 1, 1024),
            qkv,
            kv: Size { len: n_kv_head * width, name: "n_kv_head·qkv_embd/n_head" },
            hidden: size("hidden_dim", "transformer.e.0.mlp.fc1.weight", 0, 4096),
            vocab: size("vocab_size", TABLE, 0, 32128),
            n_head,
            n_kv_head,
            is_interleaved: c.bool_or("is_interleaved", false),
            rope,
            encoder_layers: layers("n_encoder_layer", "transformer.e"),
            decoder_layers: layers("n_decoder_layer", "transformer.h"),
        };
        checkpoint.config_fits()?;
        Ok(config)
    }
}

/// Layers that a stack has in the file; one if none, so that the first is told as missing.
fn depth(checkpoint: &Checkpoint, stack: &str) -> usize {
    (0..).take_while(|i| checkpoint.has(&format!("{stack}.{i}.ln1.weight"))).count().max(1)
}
