//! Whether the files of a checkpoint stayed what they were while they were read.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use validate::report::InputFile;

/// A file that was written a moment before it was looked at may be written again without another time: file systems count
/// in ticks, the coarsest of which are two seconds (FAT).
const TICK: Duration = Duration::from_secs(2);

/// Files of a folder as they were before the first byte of them was read.
pub struct Inputs {
    dir: PathBuf,
    began: SystemTime,
    files: Vec<(PathBuf, Metadata)>,
}

/// A checkpoint changed while it was read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: changed while it was read: {}; nothing was written\nhint: convert it again when nobody writes there", .dir.display(), .changed.join(", ")
)]
pub struct Changed {
    /// The checkpoint.
    pub dir: PathBuf,
    /// Its files that did, and how.
    pub changed: Vec<String>,
}

impl Inputs {
    /// Looks at everything in a checkpoint's folder, or at a lone file and what lies beside it.
    pub fn of(checkpoint: &Path) -> io::Result<Inputs> {
        let dir = match checkpoint.is_dir() {
            true => checkpoint,
            false => checkpoint.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            // Through links, which is how the hub's cache stores checkpoints.
            match fs::metadata(&path) {
                Ok(found) if found.is_file() => files.push((path, found)),
                _ => {}
            }
        }
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Inputs { dir: dir.to_owned(), began: SystemTime::now(), files })
    }

    /// Errors: one of the files that were read is another one now, or has other bytes. `digests`: of the bytes that were used.
    pub fn unchanged(&self, digests: &[InputFile]) -> Result<(), Changed> {
        let changed: Vec<String> = digests.iter().filter_map(|input| self.change(input)).collect();
        if changed.is_empty() { Ok(()) } else { Err(Changed { dir: self.dir.clone(), changed }) }
    }

    fn change(&self, input: &InputFile) -> Option<String> {
        let path = self.dir.join(&input.path);
        let of = |why: &str| Some(format!("{} {why}", input.path));
        let Some((_, then)) = self.files.iter().find(|(known, _)| *known == path) else { return of("appeared") };
        let Ok(now) = fs::metadata(&path) else { return of("is gone") };
        if stamp(then) != stamp(&now) {
            return of("was written or replaced");
        }
        let is_young = then.modified().map_or(true, |at| at + TICK >= self.began);
        let has_other_bytes = || converters::checkpoint::sha256(&path).map_or(true, |found| found != input.sha256);
        if is_young && has_other_bytes() { of("has other bytes") } else { None }
    }
}

#[cfg(unix)]
fn stamp(of: &Metadata) -> impl PartialEq + use<> {
    use std::os::unix::fs::MetadataExt;
    (of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec())
}

#[cfg(not(unix))]
fn stamp(of: &Metadata) -> impl PartialEq + use<> {
    (of.len(), of.modified().ok(), of.created().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_or_removed_is_told() {
        let home = tempfile::tempdir().expect("temporary folder");
        let names = ["kept", "written", "replaced", "removed", "same-size"];
        for name in names {
            fs::write(home.path().join(name), name).expect("written");
        }
        let inputs = Inputs::of(home.path()).expect("listed");
        let digests = names.map(|name| {
            let sha256 = converters::checkpoint::sha256(&home.path().join(name)).expect("read");
            InputFile { path: name.to_owned(), bytes: name.len() as u64, sha256 }
        });
        assert!(inputs.unchanged(&digests).is_ok());

        fs::write(home.path().join("written"), "longer than before").expect("written");
        fs::write(home.path().join("other"), "replaced").expect("written");
        fs::rename(home.path().join("other"), home.path().join("replaced")).expect("replaced");
        fs::remove_file(home.path().join("removed")).expect("removed");
        // In the same tick, with the same length: the times may not tell.
        fs::write(home.path().join("same-size"), "SAME-SIZE").expect("written");
        let error = inputs.unchanged(&digests).expect_err("changed");
        let names: Vec<&str> = error.changed.iter().map(|text| text.split(' ').next().expect("a name")).collect();
        assert_eq!(names, ["written", "replaced", "removed", "same-size"], "{error}");
    }
}
