//! The families of checkpoints.

use std::path::Path;
use std::sync::Arc;

use graph::{Build, Val};

use crate::checkpoint::{Checkpoint, ImportError, Size};
use crate::{Architecture, Model};

mod t5;

/// Every family.
pub const ARCHITECTURES: &[&dyn Architecture] = &[&t5::T5];

/// Reads a Hugging Face folder as a graph with the one entry `full`.
///
/// Errors: files that are not what they say; an unknown `model_type`; else all problems of config and tensors at once.
pub fn import(dir: &Path) -> Result<Model, ImportError> {
    let checkpoint = Checkpoint::open(dir)?;
    let architecture = architecture(&checkpoint)?;
    let build = Build::new();
    let semantics = architecture.build(&build, &checkpoint)?;
    // A graph with stand-ins for missing weights is not a graph of this checkpoint, so this comes first.
    checkpoint.finish()?;
    Ok(Model { graph: build.finish()?, checkpoint: Arc::new(checkpoint), architecture, semantics })
}

/// Who reads this checkpoint, by its `model_type`.
fn architecture(checkpoint: &Checkpoint) -> Result<&'static dyn Architecture, ImportError> {
    let found = checkpoint.config().model_type();
    let reads = |a: &&&'static dyn Architecture| found.is_some_and(|found| a.model_types().contains(&found));
    ARCHITECTURES.iter().find(reads).copied().ok_or_else(|| ImportError::UnknownModelType {
        file: checkpoint.dir().join("config.json"),
        found: found.map_or_else(|| "missing".to_owned(), |found| format!("{found:?}")),
        known: ARCHITECTURES.iter().flat_map(|a| a.model_types()).copied().collect(),
    })
}

/// A place in the checkpoint's tree of modules, where weights are asked for by their last name.
pub(crate) struct Module<'b> {
    build: &'b Build,
    checkpoint: &'b Checkpoint,
    path: String,
}

impl<'b> Module<'b> {
    /// The module at a path of the checkpoint.
    pub(crate) fn new(build: &'b Build, checkpoint: &'b Checkpoint, path: &str) -> Module<'b> {
        Module { build, checkpoint, path: path.to_owned() }
    }

    /// A module inside.
    pub(crate) fn at(&self, path: impl std::fmt::Display) -> Module<'b> {
        Module { path: format!("{}.{path}", self.path), ..*self }
    }

    /// The weight of the module `name` inside.
    pub(crate) fn get<const N: usize>(&self, name: &str, shape: [Size; N]) -> Val<'b> {
        self.build.weight(self.checkpoint.weight(&format!("{}.{name}.weight", self.path), &shape))
    }
}
