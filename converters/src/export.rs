//! The formats.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Format, Model, audio, limits, tokenizer};

pub mod gguf;
pub mod imatrix;
pub mod npu;
pub mod onnx;
pub mod safetensors;

/// Every format, with its default options.
pub const FORMATS: &[&dyn Format] =
    &[&onnx::Onnx::DEFAULT, &npu::Npu::DEFAULT, &gguf::Gguf::DEFAULT, &safetensors::Safetensors::DEFAULT];

// What a consumer reads beside the weights, the tokenizer and the front end.
const COMPANIONS: [&str; 2] = ["config.json", "generation_config.json"];

/// Copies the configs and the files of the tokenizer and the front end from the checkpoint into `dir`, byte for byte.
///
/// Returns their names. Files that the checkpoint lacks are left out; those that a GGUF artifact holds in its metadata are
/// written from there.
pub fn copy_companions(model: &Model, dir: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let mut copied = copy_listed(model.checkpoint.dir(), dir)?;
    for (name, text) in model.checkpoint.whole().iter().flat_map(|whole| &whole.files) {
        let file = dir.join(name);
        fs::write(&file, text).map_err(|source| ExportError::Io { file, source })?;
        copied.push(PathBuf::from(name));
    }
    copied.sort();
    copied.dedup();
    Ok(copied)
}

fn copy_listed(from: &Path, to: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let mut copied = Vec::new();
    for name in COMPANIONS.iter().chain(&audio::FILES).chain(tokenizer::FILES) {
        let failed = |source| ExportError::Io { file: from.join(name), source };
        // Not `fs::copy`, which would copy a read-only permission too.
        match limits::read(&from.join(name), limits::VOCABULARY_BYTES) {
            Ok(bytes) => fs::write(to.join(name), bytes).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        }
        copied.push(PathBuf::from(name));
    }
    Ok(copied)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_copied_and_weights_are_not() {
        let (from, to) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        for name in ["config.json", "spiece.model", "model.safetensors", "README.md"] {
            fs::write(from.path().join(name), name).expect("written");
        }
        let copied = copy_listed(from.path(), to.path()).expect("copied");
        assert_eq!(copied, [PathBuf::from("config.json"), PathBuf::from("spiece.model")]);
        assert_eq!(fs::read_to_string(to.path().join("spiece.model")).expect("there"), "spiece.model");
        assert_eq!(fs::read_dir(to.path()).expect("listed").count(), 2);
    }
}
