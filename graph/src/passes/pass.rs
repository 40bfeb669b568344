//! What a pass is.

use crate::build::BuildError;
use crate::ir::graph::Graph;
use crate::ir::verify::VerifyError;
use crate::rewrite::{Rule, rewrite};

/// A change of a graph that keeps its meaning.
pub trait Pass: Sync {
    /// verb_noun.
    fn name(&self) -> &'static str;

    /// Edits the graph and returns how often it did. Errors: the graph is not of the form that the pass needs.
    fn run(&self, graph: &mut Graph) -> Result<usize, PassError>;
}

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

impl Pass for Rule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, graph: &mut Graph) -> Result<usize, PassError> {
        rewrite(graph, self).map_err(|source| PassError::Misfit { pass: self.name, source })
    }
}
