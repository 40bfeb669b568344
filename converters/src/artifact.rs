//! A folder that a consumer opens, and how it appears: whole, by rename, or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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
    /// Lists the files of a folder that holds an artifact of a format.
    pub fn list(format: &'static str, dir: &Path) -> io::Result<Artifact> {
        let mut files = Vec::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                match path.is_dir() {
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

// Folders to remove when the program is interrupted.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

const REMOVAL_ATTEMPTS: usize = 100;

/// A folder being written beside its final place; dropped without [`Staging::commit`], it disappears.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    target: PathBuf,
}

impl Staging {
    /// A hidden folder beside `target`, whose parents are made when missing.
    pub fn beside(target: &Path) -> io::Result<Staging> {
        let name = target.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_string_lossy();
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let dir = parent.join(format!(".{name}.partial-{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        // Under the lock, so that no folder begins behind an interrupt.
        let mut unfinished = UNFINISHED.lock().expect("no panic while holding the lock");
        unfinished.insert(dir.clone());
        fs::create_dir(&dir)?;
        drop(unfinished);
        Ok(Staging { dir, target: target.to_owned() })
    }

    /// Where to write.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts the folder in its final place; an older one there is replaced.
    ///
    /// The older one is set aside first and put back when the rename fails, so that one of the two is always there.
    pub fn commit(self) -> io::Result<PathBuf> {
        let target = self.target.clone();
        let aside = self.dir.with_extension("replaced");
        let replaces = target.exists();
        if replaces {
            fs::rename(&target, &aside)?;
        }
        if let Err(error) = fs::rename(&self.dir, &target) {
            if replaces {
                fs::rename(&aside, &target)?;
            }
            return Err(error);
        }
        if replaces {
            fs::remove_dir_all(&aside)?;
        }
        Ok(target)
    }

    /// Removes every unfinished folder; for the handler of an interrupt, which ends the program: whoever begins or drops one
    /// after this waits for ever.
    pub fn remove_unfinished() {
        // A poisoned lock still guards a set of paths that must go.
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for dir in std::mem::take(&mut *unfinished) {
            // Another thread may be putting files there until the folder is gone.
            for _ in 0..REMOVAL_ATTEMPTS {
                if fs::remove_dir_all(&dir).is_ok() || !dir.exists() {
                    break;
                }
            }
        }
        std::mem::forget(unfinished);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Ok(mut unfinished) = UNFINISHED.lock() {
            unfinished.remove(&self.dir);
        }
        // After a commit there is nothing here.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_staging_leaves_the_old_artifact_and_nothing_else() {
        let home = tempfile::tempdir().expect("temporary folder");
        let target = home.path().join("onnx");
        let first = Staging::beside(&target).expect("staged");
        fs::write(first.dir().join("a"), "one").expect("written");
        first.commit().expect("renamed");

        let second = Staging::beside(&target).expect("staged");
        fs::write(second.dir().join("a"), "two").expect("written");
        drop(second);
        assert_eq!(fs::read_to_string(target.join("a")).expect("kept"), "one");
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1);

        let third = Staging::beside(&target).expect("staged");
        fs::write(third.dir().join("b"), "three").expect("written");
        third.commit().expect("renamed");
        let artifact = Artifact::list("onnx", &target).expect("listed");
        assert_eq!((artifact.files.clone(), artifact.bytes().expect("sized")), (vec![PathBuf::from("b")], 5));
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1);
    }
}
