//! GPT-2 as a decoder: modeling_gpt2.py of transformers 5.23, `GPT2LMHeadModel` with cross-attention.

use checkpoint::{self, Checkpoint, Size};
use graph::{DEC, Unary, Val, Visible};

use super::source::Source;
use crate::import::layers::{activation, attention, check_heads, head_scale};
use crate::import::module::Module;

/// The module that makes the logits.
pub(super) const HEAD: &str = "decoder.lm_head";

/// Training, and what other heads read.
const IGNORED: &[&str] = &[
    "attn_pdrop",
    "embd_pdrop",
    "n_ctx",
    "resid_pdrop",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// Modules of the class `Conv1D`, which store their matrix as `[in, out]`.
const CONV1D: [&str; 4] = ["c_attn", "q_attn", "c_proj", "c_fc"];

/// Whether the checkpoint has this matrix as `[in, out]`.
pub(super) fn is_conv1d(name: &str) -> bool {
    let Some(module) = name.strip_prefix("decoder.transformer.h.").and_then(|name| name.strip_suffix(".weight")) else {
        return false;
    };
    CONV1D.iter().any(|last| module.rsplit('.').next() == Some(last))
}

/// config.json's `decoder` as GPT2Config reads it.
pub(super) struct Config<'c> {
    width: Size,
    vocab: Size,
    positions: Size,
    ffn: Size,
    heads: Size,
    layers: usize,
    activation: Unary,
    eps: f32,
    scaled: bool,
    scaled_by_layer: bool,
    config: &'c checkpoint::Config,
}

impl<'c> Config<'c> {
    pub fn read(c: &'c checkpoint::Config, checkpoint: &Checkpoint) -> Config<'c> {
        let width = c.size("n_embd");
        let heads = c.size("n_head");
        check_heads(c, heads, width);
        // The same numbers in another precision, which f32 has anyway.
        c.ignore(&["reorder_and_upcast_attn"]);
        c.ignore(IGNORED);
        Config {
            width,
            vocab: c.size("vocab_size"),
            positions: Size { len: c.usize_or("n_positions", 1024), name: "n_positions" },
            ffn: Size { len: c.usize_or("n_inner", 4 * width.len), name: "n_inner" },
            heads,
            layers: checkpoint.layers_of(c, "n_layer"),
            activation: activation(c, "activation_function", "gelu_new"),
            eps: c.f32_or("layer_norm_epsilon", 1e-5),
            scaled: c.bool_or("scale_attn_weights", true),
            scaled_by_layer: c.bool_or("scale_attn_by_inverse_layer_idx", false),
            config: c,
        }
    }

    pub fn width(&self) -> Size {
        self.width
    }

    /// The logits.
    pub fn write(&self, source: &Source<'c>) -> Val<'c> {
        let Source { b, checkpoint, ids, .. } = *source;
        let names = ["decoder.transformer.wte.weight", "decoder.lm_head.weight"];
        let [table, head] =
            source.table_and_head(self.config, names, [self.vocab, self.width]).map(|weight| b.weight(weight));
        let transformer = Module::new(b, checkpoint, "decoder.transformer");
        let positions = b.positions(0, DEC).embed(transformer.get("wpe", [self.positions, self.width]));
        let mut x = ids.embed(table) + positions;
        for i in 0..self.layers {
            let _layer = b.scope(format!("decoder.{i}"));
            x = self.layer(source, &transformer.at(format!("h.{i}")), i, x);
        }
        let _stack = b.scope("decoder");
        transformer.layer_norm(x, "ln_f", self.width, self.eps).linear(head, None)
    }

    fn layer(&self, source: &Source<'c>, w: &Module<'c>, i: usize, mut x: Val<'c>) -> Val<'c> {
        let (b, n) = (source.b, self.width);
        // Masks of old files, which follow from the number of positions.
        for name in ["attn.bias", "attn.masked_bias", "crossattention.bias", "crossattention.masked_bias"] {
            source.checkpoint.ignore_tensor(&w.inside(name));
        }
        {
            let _attn = b.scope("attn");
            let w_attn = w.at("attn");
            let y = w.layer_norm(x, "ln_1", n, self.eps);
            let all = w_attn.conv1d(y, "c_attn", [times(3, n), n]);
            let [q, k, v] = [0, 1, 2].map(|part| all.slice(2, part * n.len, 1, n.len).heads(self.heads.len));
            let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
            x = x + w_attn.conv1d(self.mixed([q, k, v], i, Some(causal)), "c_proj", [n, n]);
        }
        {
            let _cross = b.scope("cross");
            let w_cross = w.at("crossattention");
            let y = w.layer_norm(x, "ln_cross_attn", n, self.eps);
            let q = w_cross.conv1d(y, "q_attn", [n, n]).heads(self.heads.len);
            let both = w_cross.conv1d(source.memory, "c_attn", [times(2, n), source.width]);
            let [k, v] = [0, 1].map(|part| both.slice(2, part * n.len, 1, n.len).heads(self.heads.len));
            x = x + w_cross.conv1d(self.mixed([q, k, v], i, None), "c_proj", [n, n]);
        }
        let _ffn = b.scope("ffn");
        let w_ffn = w.at("mlp");
        let y = w.layer_norm(x, "ln_2", n, self.eps);
        let hidden = w_ffn.conv1d(y, "c_fc", [self.ffn, n]).activation(self.activation);
        x + w_ffn.conv1d(hidden, "c_proj", [n, self.ffn])
    }

    /// Values by the attention of layer `i`, heads side by side.
    fn mixed(&self, heads: [Val<'c>; 3], i: usize, mask: Option<Val<'c>>) -> Val<'c> {
        let of_width = if self.scaled { head_scale(self.width, self.heads) } else { 1.0 };
        let scale = if self.scaled_by_layer { of_width / (i + 1) as f64 } else { of_width };
        attention(heads, scale, mask)
    }
}

/// So many matrices in one.
fn times(count: usize, width: Size) -> Size {
    let name = if count == 2 { "2·n_embd" } else { "3·n_embd" };
    Size { len: count * width.len, name }
}
