//! What lies beside the weights in an artifact.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use checkpoint::{limits, names};

use crate::error::ExportError;
use crate::model::Model;

// What a consumer reads beside the weights, the tokenizer and the front end.
const CONFIGS: [&str; 2] = [names::CONFIG, names::GENERATION_CONFIG];

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
    for name in CONFIGS.iter().chain(&names::FRONT_END).chain(names::TOKENIZER) {
        let failed = |file: &Path| {
            let file = file.join(name);
            |source| ExportError::Io { file, source }
        };
        // Not `fs::copy`, which would copy a read-only permission too.
        match limits::read(&from.join(name), limits::VOCABULARY_BYTES) {
            Ok(bytes) => fs::write(to.join(name), bytes).map_err(failed(to))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(from)(error)),
        }
        copied.push(PathBuf::from(name));
    }
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
        let copied = copy_listed(from.path(), to.path()).expect("copied");
        assert_eq!(copied, [PathBuf::from("config.json"), PathBuf::from("spiece.model")]);
        assert_eq!(fs::read_to_string(to.path().join("spiece.model")).expect("there"), "spiece.model");
        assert_eq!(fs::read_dir(to.path()).expect("listed").count(), 2);
    }
}
