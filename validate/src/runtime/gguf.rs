//! The file of an artifact of the format GGUF, whoever wrote it.

use std::path::PathBuf;

use converters::Artifact;
use converters::export::gguf::{FILE, GgufFile};

/// Of an [`Artifact`].
pub(super) const FORMAT: &str = "gguf";

/// The first of its files; where it lists none, the one that trefoil writes.
pub(super) fn path(artifact: &Artifact) -> PathBuf {
    let mut files = artifact.files.iter().filter(|file| file.extension().is_some_and(|end| end == FORMAT));
    artifact.dir.join(files.next().map_or(FILE.as_ref(), PathBuf::as_path))
}

/// Whether the file of an artifact can be read and has a key.
pub(super) fn holds(artifact: &Artifact, key: &str) -> bool {
    artifact.format == FORMAT && GgufFile::open(&path(artifact)).is_ok_and(|file| file.get(key).is_some())
}
