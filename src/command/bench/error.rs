//! Why nothing can be measured.

use std::io;
use std::path::{Path, PathBuf};

use validate::paper::SizesError;

use crate::command::inspect::InspectError;

/// Nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What lies there cannot be measured.
    #[error("{}: {message}", .dir.display())]
    Artifact {
        /// Its folder.
        dir: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// No engine opens any of the artifacts.
    #[error("no engine opens {}: {}", .artifacts.join(", "), .why.join("\n"))]
    NoEngine {
        /// As they were given.
        artifacts: Vec<String>,
        /// One that could is not on this machine.
        is_missing: bool,
        /// A sentence an engine.
        why: Vec<String>,
    },
    /// Artifacts have sizes and types of their own.
    #[error("{0}: expected --paper beside it, found artifacts; give --paper instead of them, or leave it out")]
    OfPaperAlone(String),
    /// `--paper` has no such models.
    #[error("--engine: expected onnxruntime or ggml with --paper, found {found}; give one of the two, or leave it out")]
    PaperEngine {
        /// As they were given.
        found: String,
    },
    /// What lies there cannot be told.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The config gives no sizes.
    #[error(transparent)]
    Sizes(#[from] SizesError),
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BenchError {
    /// The system refused something with a file.
    pub fn io(file: &Path) -> impl FnOnce(io::Error) -> BenchError {
        |source| BenchError::Io { file: file.to_owned(), source }
    }
}
