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

mod absorb_scales;
mod expand;
mod fold;
mod fold_logit_scale;
mod fuse_attention;
mod make_static;
mod quantize_activations;
mod quantize_statically;
mod quantize_values;
mod rescale_residual;
mod split;

pub use absorb_scales::{absorb_scales, untie_embeddings};
pub use expand::{Expand, expand};
pub use fold::FOLD;
pub use fold_logit_scale::{drop_logit_scale, fold_logit_scale};
pub use fuse_attention::FUSE_ATTENTION;
pub use make_static::{Lengths, POSITION, SLOT, Update, make_static};
pub use quantize_activations::{quantize_activations, quantize_activations_in_blocks, quantize_activations_where};
pub use quantize_statically::quantize_statically;
pub use quantize_values::{Kind, Tied, Widths, quantize_values, tied_values};
pub use rescale_residual::{rescale_residual, residual_streams};
pub use split::Split;

use crate::build::BuildError;
use crate::ir::Graph;
use crate::rewrite::{Rule, rewrite};
use crate::verify::{VerifyError, verify};

/// A change of a graph that keeps its meaning.
pub trait Pass: Sync {
    /// verb_noun.
    fn name(&self) -> &'static str;

    /// Edits the graph and returns how often it did. Errors: the graph is not of the form that the pass needs.
    fn run(&self, graph: &mut Graph) -> Result<usize, PassError>;
}

/// The passes of every conversion, in order.
pub const PASSES: &[&dyn Pass] = &[&FOLD, &FUSE_ATTENTION, &Split];

/// How often a pass changed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fired {
    /// The pass.
    pub pass: &'static str,
    /// Places it changed.
    pub count: usize,
}

/// A pass could not do its work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PassError {
    /// The graph is not of the form that the pass needs.
    #[error("{pass}: {message}")]
    Refused {
        /// The pass.
        pass: &'static str,
        /// The value, and what was expected of it.
        message: String,
    },
    /// What the pass wrote does not fit.
    #[error("{pass}: {source}")]
    Misfit {
        /// The pass.
        pass: &'static str,
        /// Where and what.
        source: BuildError,
    },
    /// The graph does not hold together after the pass.
    #[error("after {pass}: {source}")]
    Broken {
        /// The pass.
        pass: &'static str,
        /// Every breach.
        source: VerifyError,
    },
}

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

impl Pass for Rule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, graph: &mut Graph) -> Result<usize, PassError> {
        rewrite(graph, self).map_err(|source| PassError::Misfit { pass: self.name, source })
    }
}

#[cfg(test)]
mod tests;
