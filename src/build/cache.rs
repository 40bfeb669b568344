//! What earlier runs found, kept by all that it follows from.
//!
//! A key is the digest of content: whoever asks passes the sections of the recipe that decide, with their defaults filled in, the
//! digests of the checkpoint's files and of what the model is fed. Added here are the version, the processor's matrix kernel and the
//! number of each algorithm ([`quant::RESULTS`]), which is raised when its results change. Paths, comments and threads are in no key.
//!
//! Without a home folder, or on a full disk, nothing is kept, and the next run takes longer; that is all.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use graph::tensor::Data;
use serde::Serialize;
use sha2::{Digest, Sha256};
use validate::calibration::Calibrated;

use crate::build::manifest::{hex, sha256};
use crate::build::whole;

/// Findings take so many bytes at most; those that nobody asked for the longest go first.
pub const MOST_BYTES: u64 = 2_000_000_000;

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Statistics of the float model on calibration samples; a file a key.
    Calibration,
    /// Measurements of a search for plans; a file a key, a line a measurement.
    Tune,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 2] = [Kind::Calibration, Kind::Tune];

    /// Its folder in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Calibration => "calibration",
            Kind::Tune => "tune",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Kind::Calibration => "json",
            Kind::Tune => "jsonl",
        }
    }

    fn folder(self) -> Option<PathBuf> {
        Some(validate::cache_folder()?.join(self.name()))
    }
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
}

/// The digest of all that samples feed to the model: ids or features, prompts, targets.
pub fn fed(calibrated: &Calibrated) -> String {
    let mut digest = Sha256::new();
    for sample in 0..calibrated.data.samples.len() {
        for (name, tensor) in calibrated.feeds(sample) {
            digest.update(format!("{name} {:?}\n", tensor.shape()));
            match tensor.data() {
                Data::F32(floats) => floats.iter().for_each(|x| digest.update(x.to_le_bytes())),
                Data::I64(ids) => ids.iter().for_each(|id| digest.update(id.to_le_bytes())),
            }
        }
    }
    hex(digest)
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
    make_room();
}

/// The file of a finding that grows by lines, in a folder that is there.
pub fn file(kind: Kind, key: &Key) -> Option<PathBuf> {
    let file = place(kind, key)?;
    fs::create_dir_all(file.parent()?).ok()?;
    used(&file);
    make_room();
    Some(file)
}

fn place(kind: Kind, key: &Key) -> Option<PathBuf> {
    Some(kind.folder()?.join(format!("{}.{}", key.0, kind.extension())))
}

/// One finding.
pub struct Entry {
    pub kind: Kind,
    pub file: PathBuf,
    pub bytes: u64,
    /// When somebody last asked for it.
    pub used: SystemTime,
}

/// All findings, the one first that nobody asked for the longest.
pub fn entries() -> Vec<Entry> {
    let of = |kind: Kind| {
        let files = kind.folder().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        files.filter_map(move |file| {
            let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Entry { kind, file: file.path(), bytes: found.len(), used: found.modified().ok()? })
        })
    };
    let mut all: Vec<Entry> = Kind::ALL.into_iter().flat_map(of).collect();
    all.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.file.cmp(&b.file)));
    all
}

/// Removes all findings. Errors: the first file that cannot be removed.
pub fn clear() -> Result<(), (PathBuf, std::io::Error)> {
    entries().into_iter().try_for_each(|entry| fs::remove_file(&entry.file).map_err(|error| (entry.file, error)))
}

fn make_room() {
    let all = entries();
    for entry in too_many(&all, MOST_BYTES) {
        let _ = fs::remove_file(&entry.file);
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

/// Times of access are not kept on many systems, so the time of change says when a finding was last asked for.
fn used(file: &Path) {
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
