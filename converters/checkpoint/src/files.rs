//! Where the files of a checkpoint or an artifact are read from: one rule for all who ask.
//!
//! | a folder with | reads |
//! | --- | --- |
//! | a file of [`names::WEIGHTS`] | the folder |
//! | none of them, and `model.gguf` | of each kind of files (configs, front end, tokenizer) what the GGUF file holds; the folder where it holds none of that kind |
//! | neither | the folder |
//!
//! A GGUF file that is opened by its name reads what it holds, and nothing beside it.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::CheckpointError;
use crate::gguf::container::GgufFile;
use crate::gguf::held::{Held, held};
use crate::gguf::keys;
use crate::{json, limits, names};

/// Files that belong together. A GGUF file answers for a kind as a whole, so that none of a tokenizer's files comes from
/// another place than the rest.
const KINDS: [&[&str]; 3] = [&names::CONFIGS, &names::FRONT_END, names::TOKENIZER];

/// The files of a checkpoint or an artifact.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    gguf: Option<Gguf>,
}

/// A GGUF file that stands for others.
#[derive(Clone, Debug)]
struct Gguf {
    file: PathBuf,
    held: Held,
    /// Whether nothing beside it is read.
    is_alone: bool,
}

impl Files {
    /// The files of a folder, or what a GGUF file holds. Errors: the file, or the folder's where it counts, cannot be read.
    pub fn open(dir: &Path) -> Result<Files, CheckpointError> {
        if dir.is_file() {
            return Files::inside(dir, &GgufFile::open(dir)?);
        }
        match Files::gguf_of(dir) {
            Some(file) => Files::around(&file, &GgufFile::open(&file)?),
            None => Ok(Files::folder(dir)),
        }
    }

    /// What lies in a folder, and nothing else.
    pub fn folder(dir: &Path) -> Files {
        Files { dir: dir.to_owned(), gguf: None }
    }

    /// The GGUF file of a folder, if it counts.
    pub(crate) fn gguf_of(dir: &Path) -> Option<PathBuf> {
        let is_there = |name: &str| dir.join(name).is_file();
        (!names::WEIGHTS.iter().any(|name| is_there(name)) && is_there(keys::FILE)).then(|| dir.join(keys::FILE))
    }

    /// The names of a repository's files that a checkpoint is read from, the one with weights last: the first of
    /// [`Files::weights`] that is listed. `None`: none is.
    pub fn of_listing(listed: &[String]) -> Option<Vec<&'static str>> {
        let is_listed = |name: &&'static str| listed.iter().any(|one| one == name);
        let weights = Files::weights().find(is_listed)?;
        Some(KINDS.into_iter().flatten().copied().filter(is_listed).chain([weights]).collect())
    }

    /// The files that can hold the weights, in the order of preference.
    pub fn weights() -> impl Iterator<Item = &'static str> {
        names::WEIGHTS.into_iter().chain([keys::FILE])
    }

    /// What a GGUF file holds, and what lies beside it. Errors: a key of a file is of another type.
    pub(crate) fn around(file: &Path, gguf: &GgufFile) -> Result<Files, CheckpointError> {
        Ok(Files::with(file, held(file, gguf)?, false))
    }

    /// What a GGUF file holds, and nothing beside it. Errors: a key of a file is of another type.
    pub(crate) fn inside(file: &Path, gguf: &GgufFile) -> Result<Files, CheckpointError> {
        Ok(Files::with(file, held(file, gguf)?, true))
    }

    fn with(file: &Path, held: Held, is_alone: bool) -> Files {
        let dir = file.parent().unwrap_or(Path::new("."));
        Files { dir: dir.to_owned(), gguf: Some(Gguf { file: file.to_owned(), held, is_alone }) }
    }

    /// The folder, for messages and for what has no other name.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file as errors call it, whether or not it is there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The GGUF file that answers for a name.
    fn answers(&self, name: &str) -> Option<&Gguf> {
        let kind = KINDS.iter().find(|kind| kind.contains(&name));
        let holds = |gguf: &&Gguf| kind.is_some_and(|kind| kind.iter().any(|other| gguf.held.contains_key(other)));
        self.gguf.as_ref().filter(|gguf| gguf.is_alone || holds(gguf))
    }

    /// The path of a regular file of the folder, if it is there and counts.
    pub fn locate(&self, name: &str) -> Option<PathBuf> {
        let path = self.path(name);
        (self.answers(name).is_none() && path.is_file()).then_some(path)
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        match self.answers(name) {
            Some(gguf) => gguf.held.contains_key(name),
            None => self.locate(name).is_some(),
        }
    }

    /// The bytes of a small file; `None` when there is none. Errors: it is no regular file, or longer than
    /// [`limits::VOCABULARY_BYTES`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        if let Some(gguf) = self.answers(name) {
            return Ok(gguf.held.get(name).cloned());
        }
        let path = self.path(name);
        match limits::read(&path, limits::VOCABULARY_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CheckpointError::Io { file: path, source }),
        }
    }

    /// A JSON file of at most [`limits::JSON_BYTES`]; `None` when there is none. Errors: what the parser says, with line and
    /// column, and the file that holds it.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CheckpointError> {
        let Some(Gguf { file, held, .. }) = self.answers(name) else {
            return self.locate(name).map(|path| json::read(&path)).transpose();
        };
        let parsed = held.get(name).map(|text| json::parse(text)).transpose();
        parsed.map_err(|message| CheckpointError::malformed(file, format!("its {name}: {message}")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Files of a folder with these files, whose contents are their names, and a GGUF file that holds others.
    fn files(beside: &[&str], held: Option<&[&'static str]>, is_alone: bool) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().expect("temporary folder");
        for name in beside {
            fs::write(dir.path().join(name), name).expect("written");
        }
        let held = held.map(|names| names.iter().map(|name| (*name, b"held".to_vec())).collect());
        let files = match held {
            Some(held) => Files::with(&dir.path().join(keys::FILE), held, is_alone),
            None => Files::folder(dir.path()),
        };
        (dir, files)
    }

    fn read(files: &Files, name: &str) -> Option<String> {
        let bytes = files.read(name).expect("readable");
        assert_eq!(files.has(name), bytes.is_some(), "{name}");
        bytes.map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn a_gguf_file_answers_for_each_kind_of_files_that_it_holds_one_of() {
        let beside = ["config.json", "generation_config.json", "tokenizer.json", "spiece.model", "notes.txt"];
        let (_dir, both) = files(&beside, Some(&["config.json", "vocab.json"]), false);
        assert_eq!(read(&both, "config.json").as_deref(), Some("held"));
        assert_eq!(read(&both, "generation_config.json"), None);
        assert_eq!(read(&both, "vocab.json").as_deref(), Some("held"));
        assert_eq!(read(&both, "spiece.model"), None);
        assert_eq!(read(&both, "notes.txt").as_deref(), Some("notes.txt"));
        let (_dir, config) = files(&beside, Some(&["config.json"]), false);
        assert_eq!(read(&config, "spiece.model").as_deref(), Some("spiece.model"));
        let (_dir, alone) = files(&beside, Some(&["config.json"]), true);
        assert_eq!((read(&alone, "spiece.model"), read(&alone, "notes.txt")), (None, None));
        let (_dir, folder) = files(&beside, None, false);
        assert_eq!(read(&folder, "config.json").as_deref(), Some("config.json"));
        assert_eq!(read(&folder, "vocab.json"), None);
    }

    #[test]
    fn of_a_repository_that_is_read_which_would_be_read_of_a_folder() {
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = listed(&[
            "flax_model.msgpack",
            "pytorch_model.bin",
            "model.gguf",
            "config.json",
            "onnx/model.onnx",
            "vocab.json",
        ]);
        assert_eq!(Files::of_listing(&all), Some(vec!["config.json", "vocab.json", "pytorch_model.bin"]));
        assert_eq!(Files::of_listing(&listed(&["model.gguf", "README.md"])), Some(vec!["model.gguf"]));
        assert_eq!(Files::of_listing(&listed(&["config.json", "tf_model.h5"])), None);
    }

    #[test]
    fn weights_of_its_own_make_a_folder_count_whatever_gguf_file_lies_there() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(Files::gguf_of(dir.path()), None);
        fs::write(dir.path().join(keys::FILE), "no GGUF").expect("written");
        assert!(Files::open(dir.path()).is_err());
        for name in names::WEIGHTS {
            fs::write(dir.path().join(name), "").expect("written");
            assert!(Files::open(dir.path()).is_ok(), "{name}");
            fs::remove_file(dir.path().join(name)).expect("removed");
        }
    }
}
