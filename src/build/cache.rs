//! What earlier runs found, kept by all that it follows from.
//!
//! A key is the digest of content: whoever asks passes the sections of the recipe that decide, with their defaults filled in, the
//! digests of the checkpoint's files and of what the model is fed. Added here are the version, the processor's matrix kernel and the
//! number of each algorithm ([`quant::RESULTS`]), which is raised when its results change. Paths, comments and threads are in no key.
//!
//! Without a home folder, or on a full disk, nothing is kept, and the next run takes longer; that is all.
//!
//! Finished artifacts and what validation said of them ([`shelf`](super::shelf)) lie beside the findings, under a bound of their own.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use frontend::Input;
use graph::Feeds;
use graph::tensor::Data;
use serde::Serialize;
use sha2::{Digest, Sha256};
use validate::calibration::Calibrated;
use validate::task::Data as Samples;

use crate::build::manifest::{hex, sha256};
use crate::build::whole;

/// Findings take so many bytes at most; those that nobody asked for the longest go first.
pub const MOST_BYTES: u64 = 2_000_000_000;
/// Artifacts and their validations, unless told otherwise.
pub const MOST_ARTIFACT_BYTES: u64 = 20_000_000_000;
/// Names the folder of the cache, for every command.
pub const VARIABLE: &str = "TREFOIL_CACHE";
/// In the folder of an entry, the file that lists the others; its time of change says when somebody last asked for the entry.
pub const LISTED: &str = "entry";

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Statistics of the float model on calibration samples; a file a key.
    Calibration,
    /// Measurements of a search for plans; a file a key, a line a measurement.
    Tune,
    /// Artifacts; a folder a key.
    Artifact,
    /// What validation said of an artifact; a file a key.
    Validation,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Calibration, Kind::Tune, Kind::Artifact, Kind::Validation];

    /// Its folder in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Calibration => "calibration",
            Kind::Tune => "tune",
            Kind::Artifact => "artifact",
            Kind::Validation => "validation",
        }
    }

    /// Of the name of an entry.
    pub fn extension(self) -> &'static str {
        match self {
            Kind::Calibration => ".json",
            Kind::Tune => ".jsonl",
            Kind::Artifact => "",
            Kind::Validation => ".sealed",
        }
    }

    /// Where its entries lie.
    pub fn folder(self) -> Option<PathBuf> {
        Some(folder()?.join(self.name()))
    }

    /// Whether it shares the bound of artifacts.
    fn is_built(self) -> bool {
        matches!(self, Kind::Artifact | Kind::Validation)
    }
}

/// What the command line says of the cache.
#[derive(Default)]
pub struct Asked {
    /// Its folder.
    pub folder: Option<PathBuf>,
    /// Instead of [`MOST_ARTIFACT_BYTES`].
    pub most_artifact_bytes: Option<u64>,
}

static ASKED: OnceLock<Asked> = OnceLock::new();

/// Says so once, before anything is asked for.
pub fn ask(asked: Asked) {
    let _ = ASKED.set(asked);
}

/// The cache's folder: as the command line says, else [`VARIABLE`], else that of the user.
pub fn folder() -> Option<PathBuf> {
    let named = || std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let given = ASKED.get().and_then(|asked| asked.folder.clone()).or_else(named);
    given.map(|given| std::path::absolute(&given).unwrap_or(given)).or_else(validate::cache_folder)
}

/// The bound of artifacts and their validations.
pub fn most_artifact_bytes() -> u64 {
    ASKED.get().and_then(|asked| asked.most_artifact_bytes).unwrap_or(MOST_ARTIFACT_BYTES)
}

/// The name of a finding: a SHA-256 in lowercase hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// Of what a finding follows from, as JSON, and of the code that finds it.
    pub fn of(content: &serde_json::Value) -> Key {
        let code = serde_json::json!([env!("CARGO_PKG_VERSION"), graph::eval::kernel(), quant::RESULTS]);
        Key(sha256(&serde_json::json!([code, content]).to_string()))
    }

    /// The same, of what is found on any processor.
    pub fn anywhere(content: &serde_json::Value) -> Key {
        let code = serde_json::json!([env!("CARGO_PKG_VERSION"), quant::RESULTS]);
        Key(sha256(&serde_json::json!([code, content]).to_string()))
    }

    /// In lowercase hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The digest of all that samples feed to the model: ids or features, prompts, targets.
pub fn fed(calibrated: &Calibrated) -> String {
    let mut digest = Sha256::new();
    for sample in 0..calibrated.data.samples.len() {
        add(&mut digest, calibrated.feeds(sample));
    }
    hex(digest)
}

/// The digest of samples as they were read: what encoders are fed, and targets.
pub fn samples(data: &Samples) -> String {
    let mut digest = Sha256::new();
    for sample in &data.samples {
        let words = serde_json::json!([sample.input, sample.target, sample.target_ids]);
        digest.update(words.to_string());
        let source = Input::batch(&[&sample.source], 0).expect("one source is of one kind");
        add(&mut digest, source);
    }
    hex(digest)
}

fn add(digest: &mut Sha256, feeds: Feeds) {
    for (name, tensor) in feeds {
        digest.update(format!("{name} {:?}\n", tensor.shape()));
        match tensor.data() {
            Data::F32(floats) => floats.iter().for_each(|x| digest.update(x.to_le_bytes())),
            Data::I64(ids) => ids.iter().for_each(|id| digest.update(id.to_le_bytes())),
        }
    }
}

/// A finding. `None` when there is none, or when its file is damaged: it is then made anew.
pub fn read<T: serde::de::DeserializeOwned>(kind: Kind, key: &Key) -> Option<T> {
    let file = place(kind, key)?;
    let found = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let verb = if found.is_some() { "hit" } else { "miss" };
    log::info!("cache {verb}: {}", file.display());
    if found.is_some() {
        used(&file);
    }
    found
}

/// Keeps a finding, whole or not at all.
pub fn write<T: Serialize>(kind: Kind, key: &Key, found: &T) {
    let (Some(file), Ok(bytes)) = (place(kind, key), serde_json::to_vec(found)) else { return };
    file.parent().inspect(|dir| whole::tidy(dir));
    // A disk that is full costs the next run its time.
    let _ = whole::write(&file, &bytes);
    make_room(kind);
}

/// The file of a finding that grows by lines, in a folder that is there. `part`: of machines that share the work, each of which has a
/// file of its own.
pub fn file(kind: Kind, key: &Key, part: Option<&str>) -> Option<PathBuf> {
    let part = part.map_or(String::new(), |part| format!("-{part}"));
    let file = kind.folder()?.join(format!("{}{part}{}", key.0, kind.extension()));
    fs::create_dir_all(file.parent()?).ok()?;
    used(&file);
    make_room(kind);
    Some(file)
}

/// Every file of a finding that grows by lines.
pub fn files(kind: Kind, key: &Key) -> Vec<PathBuf> {
    let entries = kind.folder().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&key.0))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn place(kind: Kind, key: &Key) -> Option<PathBuf> {
    Some(kind.folder()?.join(format!("{}{}", key.0, kind.extension())))
}

/// One finding, or one artifact.
pub struct Entry {
    pub kind: Kind,
    /// A file or, of an artifact, a folder.
    pub file: PathBuf,
    pub bytes: u64,
    /// When somebody last asked for it.
    pub used: SystemTime,
}

/// All entries, the one first that nobody asked for the longest. What is not whole yet is none.
pub fn entries() -> Vec<Entry> {
    let of = |kind: Kind| {
        let files = kind.folder().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        files.filter_map(move |file| entry(kind, file.path()))
    };
    let mut all: Vec<Entry> = Kind::ALL.into_iter().flat_map(of).collect();
    all.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.file.cmp(&b.file)));
    all
}

fn entry(kind: Kind, file: PathBuf) -> Option<Entry> {
    let found = fs::symlink_metadata(&file).ok()?;
    if file.file_name().is_none_or(|name| name.to_string_lossy().starts_with(whole::PARTIAL)) {
        return None;
    }
    if kind != Kind::Artifact {
        let used = found.modified().ok().filter(|_| found.is_file())?;
        return Some(Entry { kind, bytes: found.len(), used, file });
    }
    let used = fs::metadata(file.join(LISTED)).and_then(|listed| listed.modified());
    let bytes = |file: &Path| converters::Artifact::list("", file).map_or(0, |all| all.bytes().unwrap_or(0));
    found.is_dir().then(|| Entry { kind, bytes: bytes(&file), used: used.unwrap_or(SystemTime::UNIX_EPOCH), file })
}

/// Removes all entries. Errors: the first that cannot be removed.
pub fn clear() -> Result<(), (PathBuf, io::Error)> {
    entries().into_iter().try_for_each(|entry| remove(&entry.file).map_err(|error| (entry.file, error)))
}

/// Takes an entry away, a folder at once for all who look.
pub fn remove(entry: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(entry)?.is_dir() {
        return fs::remove_file(entry);
    }
    let dir = entry.parent().unwrap_or(Path::new("."));
    let gone = tempfile::Builder::new().prefix(whole::PARTIAL).tempdir_in(dir)?;
    fs::rename(entry, gone.path().join("gone"))?;
    gone.close()
}

/// Removes what is too much of a kind and those that share its bound.
pub fn make_room(kind: Kind) {
    let most = if kind.is_built() { most_artifact_bytes() } else { MOST_BYTES };
    let all: Vec<Entry> = entries().into_iter().filter(|entry| entry.kind.is_built() == kind.is_built()).collect();
    for entry in too_many(&all, most) {
        let _ = remove(&entry.file);
    }
}

/// Those that go so that the others fit. `all`: the oldest first.
fn too_many(all: &[Entry], most: u64) -> &[Entry] {
    let mut bytes: u64 = all.iter().map(|entry| entry.bytes).sum();
    let mut gone = 0;
    // The last one is what somebody waits for.
    while bytes > most && gone + 1 < all.len() {
        bytes -= all[gone].bytes;
        gone += 1;
    }
    &all[..gone]
}

/// Times of access are not kept on many systems, so the time of change says when an entry was last asked for.
pub fn used(file: &Path) {
    let now = FileTimes::new().set_modified(SystemTime::now());
    let _ = File::options().append(true).open(file).and_then(|file| file.set_times(now));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_nobody_asked_for_the_longest_goes_first_and_the_newest_stays() {
        let entry = |age: u64, bytes: u64| Entry {
            kind: Kind::Tune,
            file: PathBuf::from(format!("{age}")),
            bytes,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(age),
        };
        let all = [entry(1, 40), entry(2, 40), entry(3, 40)];
        let gone = |most| too_many(&all, most).iter().map(|entry| entry.bytes).sum::<u64>();
        assert_eq!([gone(120), gone(119), gone(79), gone(10)], [0, 40, 80, 80]);
    }

    #[test]
    fn a_key_is_of_the_content() {
        let key = |value: serde_json::Value| Key::of(&value);
        assert_eq!(key(serde_json::json!({ "a": 1 })), key(serde_json::json!({ "a": 1 })));
        assert_ne!(key(serde_json::json!({ "a": 1 })), key(serde_json::json!({ "a": 2 })));
    }
}
