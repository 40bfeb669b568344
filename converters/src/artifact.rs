//! A folder that a consumer opens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::ExportError;

/// Files grown from a checkpoint, in one folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Artifact {
    /// `onnx`, `gguf`, `safetensors`.
    pub format: &'static str,
    /// The folder.
    pub dir: PathBuf,
    /// Its files, relative to the folder, sorted.
    pub files: Vec<PathBuf>,
}

impl Artifact {
    /// Lists the files of a folder that holds an artifact of a format; a link is one, wherever it leads.
    pub fn list(format: &'static str, dir: &Path) -> io::Result<Artifact> {
        let mut files = Vec::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                match entry.file_type()?.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.strip_prefix(dir).expect("below dir").to_owned()),
                }
            }
        }
        files.sort();
        Ok(Artifact { format, dir: dir.to_owned(), files })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> io::Result<u64> {
        self.files.iter().map(|f| Ok(fs::metadata(self.dir.join(f))?.len())).sum()
    }
}

/// Writes a JSON file of an artifact. Errors: it cannot be written.
pub(crate) fn write_json(file: &Path, value: &impl Serialize) -> Result<(), ExportError> {
    let text = serde_json::to_string_pretty(value).expect("names and numbers are JSON") + "\n";
    fs::write(file, text).map_err(|source| ExportError::Io { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_are_files_and_folders_behind_them_are_not_entered() {
        let home = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(home.path().join("onnx")).expect("made");
        fs::write(home.path().join("onnx/a"), "five!").expect("written");
        std::os::unix::fs::symlink("..", home.path().join("onnx/up")).expect("linked");
        let artifact = Artifact::list("onnx", home.path()).expect("listed");
        assert_eq!(artifact.files, ["onnx/a", "onnx/up"].map(PathBuf::from));
    }
}
