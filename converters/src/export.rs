//! The formats.

use std::path::PathBuf;

use crate::Format;

pub mod gguf;
pub mod onnx;
pub mod safetensors;

/// Every format, with its default options.
pub const FORMATS: &[&dyn Format] = &[&onnx::Onnx::DEFAULT, &gguf::Gguf::DEFAULT, &safetensors::Safetensors::DEFAULT];

/// An artifact cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The format cannot hold some weights or values exactly; all are listed.
    #[error("{format} cannot hold {}: {}{}", counted(.items), .items.join("\n  "), hinted(.hint))]
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
        source: std::io::Error,
    },
    /// Rows of a weight cannot be read.
    #[error(transparent)]
    Weight(#[from] graph::WeightError),
    /// The checkpoint lacks what the format needs.
    #[error(transparent)]
    Import(#[from] crate::ImportError),
}

fn counted(items: &[String]) -> String {
    match items.len() {
        1 => "1 thing".to_owned(),
        n => format!("{n} things\n "),
    }
}

fn hinted(hint: &str) -> String {
    match hint.is_empty() {
        true => String::new(),
        false => format!("\nhint: {hint}"),
    }
}
