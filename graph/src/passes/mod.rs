//! What happens to a graph between import and export.
//!
//! Every transformation is a [`Pass`]: a struct whose fields are its settings, with a row in [`TABLE`]. [`run_one`] and
//! [`run_each`] run it and verify the graph after it; [`run`] runs [`PASSES`], those of every conversion. In the order in which
//! they meet a graph:
//!
//! | pass | formula | caller |
//! | --- | --- | --- |
//! | [`DropLogitScale`] | `linear(rms_norm(x, w) · c, head)` -> `linear(rms_norm(x, w), head)`, of a file whose w is times c | the importer of GGUF |
//! | [`Fold`] | `x · 1`, `x / 1`, `x + 0`, `x - 0` -> `x`, so that later patterns need no such variants | every conversion |
//! | [`FuseAttention`] | `softmax(cap(q·kᵀ·scale) + bias)·v` -> `Attention`, because every format has its own way to say it and the next pass must recognise it | every conversion |
//! | [`Split`] | `full` -> `encoder`, `decoder`, `decoder_with_past`, which is what engines call | every conversion |
//! | [`FoldLogitScale`] | `linear(rms_norm(x, w) · c, head)` -> `linear(rms_norm(x, w·c), head)` | GGUF |
//! | [`UntieEmbeddings`] | `embed(ids, t)`, `linear(x, t)` -> `embed(ids, t')`, `linear(x, t)` | NPU |
//! | [`AbsorbScales`] | `linear(x, w, b) · c` -> `linear(x, w·c, b·c)` | NPU |
//! | [`RescaleResidual`] | `x + f(norm(x; eps))` -> `α·x + α·f(norm(α·x; α²·eps))` | recipe: `rescale_residual` |
//! | [`QuantizeActivations`] | `linear(x, w)` -> `linear(DynamicQuant(x), w)` | recipe: `activations`; ONNX |
//! | [`QuantizeActivationsInBlocks`] | `linear(x, w)` -> `linear(DynamicQuant(Block(n))(x), w)` | ONNX |
//! | [`QuantizeStatically`] | `linear(x, w)` -> `linear(FakeQuant(x), w)` | recipe: `activations` |
//! | [`Expand`] | `Attention`, `Rope` -> matrix products, a softmax and tables | NPU |
//! | [`QuantizeValues`] | `x` -> `FakeQuant(x)` for every value | NPU |
//! | [`MakeStatic`] | entries of any length -> `encoder` and `decoder` of fixed lengths | NPU |
//! | [`FoldHeads`] | `softmax(s)·v` of four axes -> of three, where 16-bit v is an input and s has no mask | NPU |

mod activations;
mod canonical;
mod npu;
mod pass;
mod scale;

pub use self::activations::quantize_activations::QuantizeActivations;
pub use self::activations::quantize_activations_in_blocks::QuantizeActivationsInBlocks;
pub use self::activations::quantize_statically::QuantizeStatically;
pub use self::activations::quantize_values::{Kind, QuantizeValues, Tied, Widths, tied_values};
pub use self::activations::unrounded;
pub use self::canonical::fold::{FOLD, Fold};
pub use self::canonical::fuse_attention::{FUSE_ATTENTION, FuseAttention};
pub use self::canonical::split::Split;
pub use self::npu::expand::Expand;
pub use self::npu::fold_heads::FoldHeads;
pub use self::npu::make_static::{Lengths, MakeStatic, Update};
pub use self::npu::untie_embeddings::UntieEmbeddings;
pub use self::pass::{About, Caller, Changed, Fired, Meaning, Pass, PassError, run_each, run_one};
pub use self::scale::absorb_scales::AbsorbScales;
pub use self::scale::drop_logit_scale::DropLogitScale;
pub use self::scale::fold_logit_scale::{FoldLogitScale, logit_scale};
pub use self::scale::rescale_residual::{RescaleResidual, residual_streams};
use crate::ir::graph::Graph;
pub use crate::ir::port::{POSITION, SLOT};

/// Every pass, in the order in which they meet a graph.
pub const TABLE: &[&About] = &[
    DropLogitScale::ABOUT,
    Fold::ABOUT,
    FuseAttention::ABOUT,
    Split::ABOUT,
    FoldLogitScale::ABOUT,
    UntieEmbeddings::ABOUT,
    AbsorbScales::ABOUT,
    RescaleResidual::ABOUT,
    QuantizeActivations::ABOUT,
    QuantizeActivationsInBlocks::ABOUT,
    QuantizeStatically::ABOUT,
    Expand::ABOUT,
    QuantizeValues::ABOUT,
    MakeStatic::ABOUT,
    FoldHeads::ABOUT,
];

/// The passes of every conversion, in order.
pub const PASSES: &[&dyn Pass] = &[&Fold, &FuseAttention, &Split];

/// Runs [`PASSES`] and verifies the graph after each.
pub fn run(graph: &mut Graph) -> Result<Vec<Fired>, PassError> {
    run_each(graph, PASSES)
}

#[cfg(test)]
mod tests;
