//! Why an engine could not do its work.

use std::path::PathBuf;

use crate::ggml;

/// The engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file is no model.
    #[error(transparent)]
    Import(#[from] Box<converters::ImportError>),
    /// The graph of the model could not be cut into encoder and decoder.
    #[error("{}: {message}", .file.display())]
    Passes {
        /// The file.
        file: PathBuf,
        /// What the pass said.
        message: String,
    },
    /// ggml cannot hold or compute some values; all of them.
    #[error("ggml cannot run this model: {}", .problems.join("\n  "))]
    Refused {
        /// A line each: place, expected, found.
        problems: Vec<String>,
    },
    /// What was fed does not fit.
    #[error("{name}: expected {expected}, found {found}")]
    Input {
        /// The input.
        name: String,
        /// What fits.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A weight cannot be read.
    #[error(transparent)]
    Weight(#[from] graph::WeightError),
    /// ggml has no memory, or failed.
    #[error("{0}")]
    Ggml(String),
}

impl From<ggml::Fault> for EngineError {
    fn from(fault: ggml::Fault) -> EngineError {
        EngineError::Ggml(fault.to_string())
    }
}
