//! Finished artifacts and what validation said of them, kept for other runs: of this machine, or of others that share the folder.
//!
//! ```text
//! artifact/NAME/entry        sealed: the manifest, and what a report says beside it
//! artifact/NAME/files/...    what the manifest lists
//! validation/NAME.sealed     sealed: the report of one artifact
//! ```
//!
//! A sealed file begins with the SHA-256 of what follows its first line. Entries come whole, by rename, and everything is held against
//! its digest when it is read, so that what a disk or a transfer did to an entry is seen and never put into a place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use validate::report::{CalibrationReport, OutputFile, Report};

use super::cache::{self, Key, Kind, LISTED};
use super::manifest::{Manifest, hex, sha256};
use super::places::REPORT_BYTES;
use super::unfinished::registry;
use super::whole;

/// Below the folder of an artifact's entry.
const FILES: &str = "files";
/// Read and hashed at a time.
const PIECE: usize = 1 << 20;

/// What is kept beside the files of an artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// As it was made; its recipe's text and its verdict are those of the run that puts the artifact into a place.
    pub manifest: Manifest,
    /// It computes in floats.
    pub is_float: bool,
    /// What its quantizers watched.
    pub calibration: Option<CalibrationReport>,
}

/// What validation said of an artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// Every engine that opens such artifacts, with its version; without one when it was not there.
    pub engines: BTreeMap<String, Option<String>>,
    /// A report of the model and of this artifact alone.
    pub report: Report,
}

/// What a shelf has under a name.
pub enum Found<T> {
    /// It is whole.
    Whole(T),
    /// Nobody put it there.
    Nothing,
    /// It was damaged, in a sentence, and is gone now.
    Damaged(String),
}

/// The name of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(String);

impl Name {
    /// Of what has the same bytes on any processor.
    pub fn anywhere(key: &Key) -> Name {
        Name(key.as_str().to_owned())
    }

    /// Of what a kernel made.
    pub fn of_kernel(key: &Key, kernel: &str) -> Name {
        Name(format!("{}-{}", key.as_str(), &sha256(kernel)[..8]))
    }

    /// For keys and for people.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name first, then those of the same key that other kernels left.
    pub fn with_other_kernels(&self, kind: Kind) -> Vec<Name> {
        let key = self.0.split('-').next().unwrap_or(&self.0);
        let entries = kind.folder().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let names = names.filter_map(|name| name.strip_suffix(kind.extension()).map(str::to_owned));
        let mut others: Vec<String> = names.filter(|name| name.starts_with(key) && *name != self.0).collect();
        others.sort();
        [self.clone()].into_iter().chain(others.into_iter().map(Name)).collect()
    }

    fn place(&self, kind: Kind) -> io::Result<PathBuf> {
        Ok(kind.folder().ok_or_else(no_folder)?.join(format!("{}{}", self.0, kind.extension())))
    }
}

/// There is no place for a cache.
pub fn no_folder() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is neither a home folder nor --cache")
}

/// Copies an artifact into an empty folder, each file held against its digest. What was copied of a damaged one is removed.
pub fn take_artifact(name: &Name, to: &Path) -> io::Result<Found<Kept>> {
    let Ok(place) = name.place(Kind::Artifact) else { return Ok(Found::Nothing) };
    if !place.exists() {
        return Ok(Found::Nothing);
    }
    let copied = match unsealed::<Kept>(&place.join(LISTED)) {
        Err(problem) => Err(vec![problem]),
        Ok(kept) => copy_all(&kept.manifest.files, &place.join(FILES), to)?.map(|()| kept),
    };
    match copied {
        Ok(kept) => {
            cache::used(&place.join(LISTED));
            Ok(Found::Whole(kept))
        }
        Err(problems) => {
            for entry in fs::read_dir(to)?.flatten() {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
            // Another run may have made room meanwhile.
            Ok(if place.exists() { damaged(&place, &problems) } else { Found::Nothing })
        }
    }
}

/// Keeps a copy of an artifact whose files lie in `from`. An entry that is there already stays.
pub fn put_artifact(name: &Name, from: &Path, kept: &Kept) -> io::Result<()> {
    let place = name.place(Kind::Artifact)?;
    let dir = place.parent().expect("below the folder of its kind");
    fs::create_dir_all(dir)?;
    whole::tidy(dir);
    let mut unfinished = registry();
    let mut builder = tempfile::Builder::new();
    builder.prefix(whole::PARTIAL);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask, for all who share the folder
    let partial = builder.tempdir_in(dir)?;
    unfinished.begin(partial.path());
    drop(unfinished);
    let files = partial.path().join(FILES);
    let put = kept
        .manifest
        .files
        .par_iter()
        .try_for_each(|file| copied(&from.join(&file.path), &files.join(&file.path)).map(drop));
    let put = put.and_then(|()| fs::create_dir_all(&files));
    let put = put.and_then(|()| fs::write(partial.path().join(LISTED), sealed(kept)));
    let put = put.and_then(|()| match fs::rename(partial.path(), &place) {
        // Somebody was faster, with the same.
        Err(_) if place.exists() => Ok(()),
        done => done,
    });
    registry().end(partial.path());
    put?;
    cache::make_room(Kind::Artifact);
    Ok(())
}

/// What validation said, as another run kept it.
pub fn take_findings(name: &Name) -> Found<Findings> {
    let Ok(place) = name.place(Kind::Validation) else { return Found::Nothing };
    if !place.exists() {
        return Found::Nothing;
    }
    match unsealed(&place) {
        Ok(findings) => {
            cache::used(&place);
            Found::Whole(findings)
        }
        Err(_) if !place.exists() => Found::Nothing,
        Err(problem) => damaged(&place, &[problem]),
    }
}

/// Keeps what validation said, in the place of what an earlier one did.
pub fn put_findings(name: &Name, findings: &Findings) -> io::Result<()> {
    let place = name.place(Kind::Validation)?;
    place.parent().inspect(|dir| whole::tidy(dir));
    whole::write(&place, sealed(findings).as_bytes())?;
    cache::make_room(Kind::Validation);
    Ok(())
}

/// Removes an entry and says why.
fn damaged<T>(place: &Path, problems: &[String]) -> Found<T> {
    let left = match cache::remove(place) {
        Ok(()) => "removed".to_owned(),
        Err(error) => format!("it cannot be removed: {error}"),
    };
    Found::Damaged(format!("{}: damaged: {}; {left}", place.display(), problems.join("; ")))
}

fn sealed(content: &impl Serialize) -> String {
    let text = serde_json::to_string(content).expect("only JSON types");
    format!("{}\n{text}", sha256(&text))
}

/// Errors: in words why it is not what was sealed.
fn unsealed<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let of = |problem: String| format!("{}: {problem}", file.file_name().unwrap_or_default().to_string_lossy());
    let bytes = converters::limits::read(file, REPORT_BYTES).map_err(|error| of(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| of(error.to_string()))?;
    let (digest, content) =
        text.split_once('\n').ok_or_else(|| of("expected a digest and a text, found one line".to_owned()))?;
    let found = sha256(content);
    if found != digest {
        return Err(of(format!("expected SHA-256 {digest}, found {found}")));
    }
    serde_json::from_str(content).map_err(|error| of(error.to_string()))
}

/// Copies the files that a manifest lists. `Err` inside: a sentence for each that is not what the manifest says. Errors: `to` cannot
/// be written.
fn copy_all(files: &[OutputFile], from: &Path, to: &Path) -> io::Result<Result<(), Vec<String>>> {
    let copy = |file: &OutputFile| -> io::Result<Option<String>> {
        let of = |problem: String| Some(format!("{}: {problem}", file.path));
        if !is_below(&file.path) {
            return Ok(of("expected a path below the folder".to_owned()));
        }
        let source = from.join(&file.path);
        // What cannot be opened is the entry's fault; what cannot be written is not.
        if let Err(error) = graph::open_file(&source) {
            return Ok(of(error.to_string()));
        }
        let found = copied(&source, &to.join(&file.path))?;
        Ok(if found == file.sha256 { None } else { of(format!("expected SHA-256 {}, found {found}", file.sha256)) })
    };
    let problems: Vec<Option<String>> = files.par_iter().map(copy).collect::<io::Result<_>>()?;
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    Ok(if problems.is_empty() { Ok(()) } else { Err(problems) })
}

fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Copies a file and says the digest of what was copied.
fn copied(from: &Path, to: &Path) -> io::Result<String> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let (mut reader, mut writer) = (graph::open_file(from)?, File::create_new(to)?);
    let (mut digest, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let read = reader.read(&mut piece)?;
        if read == 0 {
            return Ok(hex(digest));
        }
        digest.update(&piece[..read]);
        writer.write_all(&piece[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_one_flipped_bit_of_it_is_told() {
        let home = tempfile::tempdir().expect("temporary folder");
        let file = home.path().join("one");
        fs::write(&file, sealed(&["a", "b"])).expect("written");
        assert_eq!(unsealed::<Vec<String>>(&file), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let whole = fs::read(&file).expect("there");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, &bytes).expect("written");
            assert!(unsealed::<Vec<String>>(&file).is_err(), "byte {at}");
        }
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).expect("written");
            assert!(unsealed::<Vec<String>>(&file).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn an_entry_names_no_file_outside_of_itself() {
        let paths = ["a", "a/b.onnx", "", "/etc/passwd", "../a", "a/../../b", "."];
        assert_eq!(paths.map(is_below), [true, true, false, false, false, false, false]);
    }
}
