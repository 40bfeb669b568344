//! Whether an artifact's folder holds what its manifest says: these files, whole, and no other.
//!
//! The manifest may be anybody's. Its paths are compared with what the folder lists and are never opened, so that none leads out
//! of it; a link is named and not followed.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use converters::{Artifact, checkpoint};
use rayon::prelude::*;
use serde::Serialize;
use validate::report::OutputFile;
use validate::report::figures::short;

use crate::build::error::PipelineError;
use crate::build::manifest::{self, Manifest, UNLISTED};

/// One thing that is wrong.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fault {
    /// A file of the folder, or a tensor.
    pub about: String,
    /// Expected and found.
    pub text: String,
}

impl Fault {
    /// Of a file or a tensor.
    pub fn new(about: impl Into<String>, text: impl Into<String>) -> Fault {
        Fault { about: about.into(), text: text.into() }
    }
}

/// A folder beside its manifest.
pub struct Folder {
    /// None where it cannot be read, which is a fault.
    pub manifest: Option<Manifest>,
    /// Everything that is wrong, by file.
    pub faults: Vec<Fault>,
    /// Regular files of the folder.
    pub files: Vec<PathBuf>,
    /// Whether every file of the manifest can be opened and nothing else would be, whatever its bytes are.
    pub can_be_read: bool,
}

impl Folder {
    /// Lists a folder and reads every file of it. Errors: the system refuses; no manifest.
    pub fn of(dir: &Path) -> Result<Folder, PipelineError> {
        let listed = Artifact::list("", dir).map_err(PipelineError::io(dir))?.files;
        let (files, mut faults) = regular(dir, listed)?;
        let has_manifest = files.iter().any(|file| file == Path::new(manifest::FILE));
        let manifest = match Manifest::read(dir) {
            _ if !has_manifest => None,
            Ok(manifest) => manifest,
            Err(error) => {
                faults.push(Fault::new(manifest::FILE, format!("expected the manifest of an artifact: {error}")));
                None
            }
        };
        let mut can_be_read = faults.is_empty();
        if let Some(manifest) = &manifest {
            let names = names(manifest, &files);
            can_be_read &= names.is_empty();
            faults.extend(names);
            faults.extend(digests(dir, manifest, &files)?);
        }
        faults.sort_by(|a, b| a.about.cmp(&b.about));
        Ok(Folder { manifest, faults, files, can_be_read })
    }
}

/// The regular files among those of a folder, and a fault for each other one.
fn regular(dir: &Path, listed: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Vec<Fault>), PipelineError> {
    let (mut files, mut faults) = (Vec::new(), Vec::new());
    for file in listed {
        let at = dir.join(&file);
        let kind = fs::symlink_metadata(&at).map_err(PipelineError::io(&at))?.file_type();
        match kind {
            kind if kind.is_file() => files.push(file),
            kind if kind.is_symlink() => {
                faults.push(Fault::new(shown(&file), "expected a file, found a link, which is not followed"));
            }
            _ => faults.push(Fault::new(shown(&file), "expected a file, found something else")),
        }
    }
    Ok((files, faults))
}

/// Names that the manifest should not have, names that are not there, and names that are too many.
fn names(manifest: &Manifest, files: &[PathBuf]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut known: HashMap<&Path, u64> = HashMap::new();
    for OutputFile { path, bytes, .. } in &manifest.files {
        if !is_inside(path) || UNLISTED.contains(&path.as_str()) {
            faults.push(Fault::new(path, format!("expected the name of a file of this folder in {}", manifest::FILE)));
        } else if known.insert(Path::new(path), *bytes).is_some() {
            faults.push(Fault::new(path, format!("expected once in {}, found again", manifest::FILE)));
        } else if !files.iter().any(|file| file == Path::new(path)) {
            faults.push(Fault::new(path, format!("expected a file of {bytes} bytes, found none")));
        }
    }
    let beside: Vec<&str> = manifest.beside().collect();
    let missing = beside.iter().filter(|name| !files.iter().any(|file| file == Path::new(name)));
    faults.extend(missing.map(|name| Fault::new(*name, "expected a file, found none")));
    let is_known = |file: &Path| known.contains_key(file) || beside.iter().any(|name| Path::new(name) == file);
    let others = files.iter().filter(|file| !is_known(file));
    faults.extend(
        others.map(|file| Fault::new(shown(file), format!("expected no file that {} does not name", manifest::FILE))),
    );
    faults
}

/// Lengths and digests of what is there under the manifest's names.
fn digests(dir: &Path, manifest: &Manifest, files: &[PathBuf]) -> Result<Vec<Fault>, PipelineError> {
    let pairs: Vec<(&OutputFile, &PathBuf)> = manifest
        .files
        .iter()
        .filter_map(|then| Some((then, files.iter().find(|file| *file == Path::new(&then.path))?)))
        .collect();
    let compared = |(then, file): &(&OutputFile, &PathBuf)| -> Result<Option<Fault>, PipelineError> {
        let at = dir.join(file);
        let bytes = fs::symlink_metadata(&at).map_err(PipelineError::io(&at))?.len();
        if bytes != then.bytes {
            let text = format!("expected {} bytes, found {bytes}", then.bytes);
            return Ok(Some(Fault::new(&then.path, text)));
        }
        let found = checkpoint::sha256(&at)?;
        if found == then.sha256 {
            return Ok(None);
        }
        let twin = manifest.files.iter().find(|other| other.sha256 == found);
        let of = twin.map_or(String::new(), |other| format!(", that of {}", other.path));
        let text = format!("expected SHA-256 {}…, found {}…{of}", short(&then.sha256), short(&found));
        Ok(Some(Fault::new(&then.path, text)))
    };
    let found: Result<Vec<Option<Fault>>, PipelineError> = pairs.par_iter().map(compared).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Whether a path of a manifest is one below its folder, as manifests write it.
fn is_inside(path: &str) -> bool {
    let is_plain = |part: Component| matches!(part, Component::Normal(_));
    let parts: Vec<&str> = path.split('/').collect();
    !path.contains('\\')
        && Path::new(path).components().all(is_plain)
        && parts.iter().all(|part| !["", "."].contains(part))
}

fn shown(file: &Path) -> String {
    file.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_manifest_stay_below_its_folder() {
        for inside in ["a", "a/b.onnx", "..a", "a..b/c"] {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in ["", "..", "../a", "a/../b", "/a", "a//b", "./a", "a/", "a\\b", "."] {
            assert!(!is_inside(outside), "{outside}");
        }
    }
}
