//! What can go wrong with a file.

use std::io;
use std::path::{Path, PathBuf};

/// A file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file is not what it says.
    #[error("{}: {message}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where, expected, found.
        message: String,
    },
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Rows of a weight cannot be read.
    #[error(transparent)]
    Weight(#[from] graph::WeightError),
}

impl OnnxError {
    pub(crate) fn malformed(file: &Path, message: impl Into<String>) -> OnnxError {
        OnnxError::Malformed { file: file.to_owned(), message: message.into() }
    }

    pub(crate) fn io(file: &Path) -> impl Fn(io::Error) -> OnnxError + use<> {
        let file = file.to_owned();
        move |source| OnnxError::Io { file: file.clone(), source }
    }
}
