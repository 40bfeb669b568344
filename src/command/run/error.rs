//! Why nothing is answered.

use std::io;
use std::path::{Path, PathBuf};

use validate::RuntimeError;

use crate::build::error::PipelineError;
use crate::build::manifest;
use crate::command::inspect::InspectError;
use crate::recipe::yaml::nearest;

/// Nothing is answered.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What lies there cannot be told.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The folder has no `trefoil.json`, which says how the model decodes.
    #[error("{}: expected a {}, found none; only artifacts of trefoil have one", .0.display(), manifest::FILE)]
    NoManifest(PathBuf),
    /// No engine of this name runs such an artifact.
    #[error("no engine named {found} runs {kind}{}; expected one of {}", suggested(.found, .known), .known.join(", "))]
    NoEngine {
        /// What was asked for.
        found: String,
        /// Kind of artifact.
        kind: &'static str,
        /// Those that do.
        known: Vec<&'static str>,
    },
    /// None shows logits of such an artifact.
    #[error("{}: no engine that shows logits opens this {kind}: {why}", .dir.display())]
    NothingDecodes {
        /// The artifact.
        dir: PathBuf,
        /// Its kind.
        kind: &'static str,
        /// What it is run with instead.
        why: &'static str,
    },
    /// No engine could be opened; every one says why.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unavailable(Vec<RuntimeError>),
    /// The engine failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Settings of decoding that do not fit the artifact.
    #[error("{}", .0.join("\n"))]
    Decode(Vec<String>),
    /// The text cannot be tokenized, or the clip or image not be read.
    #[error("{0}")]
    Input(String),
    /// Of several inputs none.
    #[error("none of {asked} inputs is answered; each says why{hint}")]
    Nothing {
        /// How many.
        asked: usize,
        /// A line of its own, or nothing.
        hint: String,
    },
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RunError {
    /// The system refused something with a file.
    pub fn io(file: &Path) -> impl FnOnce(io::Error) -> RunError {
        |source| RunError::Io { file: file.to_owned(), source }
    }
}

fn suggested(found: &str, known: &[&str]) -> String {
    nearest(found, known).map_or(String::new(), |word| format!("; did you mean {word}?"))
}
