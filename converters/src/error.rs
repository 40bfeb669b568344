//! What can go wrong between a checkpoint and an artifact.

use std::io;
use std::path::PathBuf;

use checkpoint::CheckpointError;

/// A checkpoint cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read, or does not fit its architecture.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No importer for this family.
    #[error("{}: model_type is {found}; known are {}", .file.display(), .known.join(", "))]
    UnknownModelType {
        /// `config.json`.
        file: PathBuf,
        /// Its value, or `missing`.
        found: String,
        /// Every `model_type` that an importer reads.
        known: Vec<&'static str>,
    },
    /// A family that reads images and has no encoder of its own for what its decoder attends to.
    #[error(
        "{}: model_type is {found:?}, a decoder alone: its image tokens stand before the text in one sequence; expected an \
         encoder-decoder, as vision-encoder-decoder is",
        .file.display()
    )]
    DecoderAlone {
        /// `config.json`.
        file: PathBuf,
        /// Its value.
        found: String,
    },
    /// The forward pass cannot be written with these dimensions.
    #[error(transparent)]
    Graph(#[from] graph::BuildError),
}

/// An artifact cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The format cannot hold some weights or values exactly; all are listed.
    #[error("{format} cannot hold {}{}{}", counted(.items), .items.join("\n  "), hinted(.hint))]
    CannotHold {
        /// The format.
        format: &'static str,
        /// What and why, one line each.
        items: Vec<String>,
        /// What the recipe can say to allow it.
        hint: String,
    },
    /// The graph uses something that this format has no words for, or an invariant does not hold.
    #[error("{format}: {message}")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// What was found.
        message: String,
    },
    /// A file of an artifact is not what it says.
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
    /// The checkpoint lacks what the format needs.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A file of the checkpoint, or a GGUF or safetensors file of an artifact, cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An ONNX file cannot be read or written.
    #[error(transparent)]
    Onnx(#[from] onnx::OnnxError),
}

fn counted(items: &[String]) -> String {
    match items.len() {
        1 => "1 thing: ".to_owned(),
        n => format!("{n} things:\n  "),
    }
}

fn hinted(hint: &str) -> String {
    match hint.is_empty() {
        true => String::new(),
        false => format!("\nhint: {hint}"),
    }
}
