//! What lies beside the weights in an artifact.

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::{Files, names};

use crate::error::ExportError;
use crate::model::Model;

/// Writes the configs and the files of the tokenizer and the front end into `dir`, byte for byte as the checkpoint has them.
///
/// Returns their names. Files that the checkpoint lacks are left out.
pub fn copy_companions(model: &Model, dir: &Path) -> Result<Vec<PathBuf>, ExportError> {
    copy(model.checkpoint.files(), dir)
}

fn copy(from: &Files, to: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let mut copied = Vec::new();
    for name in names::CONFIGS.iter().chain(&names::FRONT_END).chain(names::TOKENIZER) {
        // Not `fs::copy`, which would copy a read-only permission too.
        let Some(bytes) = from.read(name)? else { continue };
        let file = to.join(name);
        fs::write(&file, bytes).map_err(|source| ExportError::Io { file, source })?;
        copied.push(PathBuf::from(name));
    }
    copied.sort();
    Ok(copied)
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
        let copied = copy(&Files::folder(from.path()), to.path()).expect("copied");
        assert_eq!(copied, [PathBuf::from("config.json"), PathBuf::from("spiece.model")]);
        assert_eq!(fs::read_to_string(to.path().join("spiece.model")).expect("there"), "spiece.model");
        assert_eq!(fs::read_dir(to.path()).expect("listed").count(), 2);
    }
}
