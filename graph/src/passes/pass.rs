//! What a pass is, and how it is run.

use crate::build::BuildError;
use crate::ir::graph::Graph;
use crate::ir::verify::{VerifyError, verify};
use crate::rewrite::{Rule, rewrite};

/// A transformation of a graph. Its settings are its fields, and [`run_each`] runs it.
pub trait Pass: Sync {
    /// What it promises.
    fn about(&self) -> &'static About;

    /// Edits the graph. Errors: the graph is not of the form that the pass needs.
    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError>;
}

/// What a pass promises: its row of [`super::TABLE`].
#[derive(PartialEq, Debug)]
pub struct About {
    /// verb_noun.
    pub name: &'static str,
    /// What becomes of what, in a line.
    pub formula: &'static str,
    /// Who runs it.
    pub caller: Caller,
    /// What becomes of the numbers.
    pub meaning: Meaning,
}

/// Who runs a pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Every conversion.
    Conversion,
    /// An importer that reads a file in which this is done already.
    Import,
    /// An export format, for its engines.
    Format(&'static str),
    /// An option of a recipe.
    Recipe(&'static str),
}

/// What becomes of the outputs of an entry.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Meaning {
    /// They stay within this, relative to the largest number of each.
    Kept(f32),
    /// Activations are rounded, and without the rounding ([`super::unrounded`]) the outputs are the same bits.
    Rounded,
    /// They stay with the weights of a file in which another pass is done already.
    Completed,
    /// The entries are others, and a run of theirs gives what a run of the former gives.
    Recut,
}

/// What a pass did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    /// Places that it changed.
    pub count: usize,
    /// A sentence each for what a report should say.
    pub notes: Vec<String>,
}

impl From<usize> for Changed {
    fn from(count: usize) -> Changed {
        Changed { count, notes: Vec::new() }
    }
}

/// What a pass that ran did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fired {
    /// The pass.
    pub pass: &'static str,
    /// Places it changed.
    pub count: usize,
    /// A sentence each for what a report should say.
    pub notes: Vec<String>,
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

impl About {
    pub(super) fn refused(&self, message: impl Into<String>) -> PassError {
        PassError::Refused { pass: self.name, message: message.into() }
    }

    pub(super) fn misfit(&self, source: BuildError) -> PassError {
        PassError::Misfit { pass: self.name, source }
    }

    /// A rule as the whole work of a pass.
    pub(super) fn by_rule(&self, graph: &mut Graph, rule: &Rule) -> Result<Changed, PassError> {
        rewrite(graph, rule).map(Changed::from).map_err(|source| self.misfit(source))
    }
}

/// Runs a pass and verifies the graph after it.
pub fn run_one(graph: &mut Graph, pass: &dyn Pass) -> Result<Fired, PassError> {
    let name = pass.about().name;
    let Changed { count, notes } = pass.run(graph)?;
    verify(graph).map_err(|source| PassError::Broken { pass: name, source })?;
    Ok(Fired { pass: name, count, notes })
}

/// Runs some passes and verifies the graph after each.
pub fn run_each(graph: &mut Graph, passes: &[&dyn Pass]) -> Result<Vec<Fired>, PassError> {
    passes.iter().map(|pass| run_one(graph, *pass)).collect()
}
