//! The file of an artifact of the format GGUF, whoever wrote it.

use std::path::PathBuf;

use converters::Artifact;
use converters::export::gguf::{FILE, GgufFile, Value};

/// Of an [`Artifact`].
pub(super) const FORMAT: &str = "gguf";

/// The first of its files; where it lists none, the one that trefoil writes.
pub(super) fn path(artifact: &Artifact) -> PathBuf {
    let mut files = artifact.files.iter().filter(|file| file.extension().is_some_and(|end| end == FORMAT));
    artifact.dir.join(files.next().map_or(FILE.as_ref(), PathBuf::as_path))
}

/// The file of an artifact; `None` where it is of another format or cannot be read.
pub(super) fn opened(artifact: &Artifact) -> Option<GgufFile> {
    GgufFile::open(&path(artifact)).ok().filter(|_| artifact.format == FORMAT)
}

/// Whether the file of an artifact can be read and has a key.
pub(super) fn holds(artifact: &Artifact, key: &str) -> bool {
    opened(artifact).is_some_and(|file| file.get(key).is_some())
}

/// `general.architecture` of a file, if it says.
pub(super) fn family(file: &GgufFile) -> Option<&str> {
    match file.get("general.architecture")? {
        Value::String(family) => Some(family),
        _ => None,
    }
}
