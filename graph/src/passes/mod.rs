//! What happens to a graph between import and export.
//!
//! [`run`] applies [`PASSES`] in order, and verifies after each:
//!
//! 1. [`fold`]: `x · 1`, `x / 1`, `x + 0`, `x - 0` -> `x`, so that later patterns need no such variants.
//! 2. [`fuse_attention`]: `softmax(cap(q·kᵀ·scale) + bias)·v` -> `Attention`, because every format has its own way to
//!    say it and the next pass must recognise it.
//! 3. [`split`]: `full` -> `encoder`, `decoder`, `decoder_with_past`, which is what engines call.
//!
//! Six more are applied when a format, a file or a recipe asks: [`fold_logit_scale`], [`drop_logit_scale`],
//! [`quantize_activations`], [`quantize_activations_in_blocks`], [`quantize_statically`] and [`rescale_residual`].

mod activations;
mod canonical;
mod npu;
mod pass;
mod scale;

pub use self::activations::quantize_activations::{
    quantize_activations, quantize_activations_in_blocks, quantize_activations_where,
};
pub use self::activations::quantize_statically::quantize_statically;
pub use self::activations::quantize_values::{Kind, Tied, Widths, quantize_values, tied_values};
pub use self::canonical::fold::FOLD;
pub use self::canonical::fuse_attention::FUSE_ATTENTION;
pub use self::canonical::split::Split;
pub use self::npu::expand::{Expand, expand};
pub use self::npu::make_static::{Lengths, POSITION, SLOT, Update, make_static};
pub use self::npu::untie_embeddings::untie_embeddings;
pub use self::pass::{Fired, Pass, PassError};
pub use self::scale::absorb_scales::absorb_scales;
pub use self::scale::fold_logit_scale::{drop_logit_scale, fold_logit_scale};
pub use self::scale::rescale_residual::{rescale_residual, residual_streams};
use crate::ir::graph::Graph;
use crate::ir::verify::verify;

/// The passes of every conversion, in order.
pub const PASSES: &[&dyn Pass] = &[&FOLD, &FUSE_ATTENTION, &Split];

/// Runs [`PASSES`] and verifies the graph after each.
pub fn run(graph: &mut Graph) -> Result<Vec<Fired>, PassError> {
    run_each(graph, PASSES)
}

/// Runs some passes and verifies the graph after each.
pub fn run_each(graph: &mut Graph, passes: &[&dyn Pass]) -> Result<Vec<Fired>, PassError> {
    let mut fired = Vec::new();
    for pass in passes {
        let count = pass.run(graph)?;
        verify(graph).map_err(|source| PassError::Broken { pass: pass.name(), source })?;
        fired.push(Fired { pass: pass.name(), count });
    }
    Ok(fired)
}

#[cfg(test)]
mod tests;
