//! The folder of a repository in the cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::HubError;
use crate::id::HubId;
use crate::web::is_commit;

/// A repository in the cache.
pub(crate) struct Cache {
    dir: PathBuf,
    locks: PathBuf,
}

/// Held while a file is downloaded.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl Cache {
    pub(crate) fn of(cache: &Path, id: &HubId) -> Cache {
        Cache { dir: cache.join(id.folder()), locks: cache.join(".locks").join(id.folder()) }
    }

    /// Where a file of this digest is, or would be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    /// Where it is as long as bytes are missing.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(format!("{}.incomplete", digest.hex()))
    }

    /// The files of a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// Waits until nobody else downloads a file of this digest.
    pub(crate) fn lock(&self, digest: &Digest) -> Result<Lock, HubError> {
        let path = self.locks.join(format!("{}.lock", digest.hex()));
        made(&self.locks)?;
        made(&self.dir.join("blobs"))?;
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(HubError::io(&path))?;
        file.lock().map_err(HubError::io(&path))?;
        Ok(Lock(file))
    }

    /// The digest that a file of a commit is stored under. `None`: it is not there, or is no link.
    pub(crate) fn digest(&self, commit: &str, file: &str) -> Option<Digest> {
        let link = self.snapshot(commit).join(file);
        let target = fs::read_link(&link).ok().filter(|_| link.is_file())?;
        Digest::parse(target.file_name()?.to_str()?)
    }

    /// Gives a file its name in a commit.
    pub(crate) fn link(&self, commit: &str, file: &str, digest: &Digest) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        if link.is_file() {
            return Ok(());
        }
        made(link.parent().expect("a file of a folder"))?;
        let up = "../".repeat(1 + file.split('/').count());
        // One that leads nowhere is in the way.
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(HubError::io(&link)(error)),
            _ => {}
        }
        match linked(&PathBuf::from(format!("{up}blobs/{}", digest.hex())), &self.blob(digest), &link) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(HubError::io(&link)),
        }
    }

    /// The commit that a revision stood for when it was last downloaded.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.dir.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|word| is_commit(word))
    }

    /// Notes the commit that a revision stands for.
    pub(crate) fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.dir.join("refs").join(revision);
        made(path.parent().expect("in refs"))?;
        let unfinished = path.with_extension(format!("{}.incomplete", std::process::id()));
        fs::write(&unfinished, commit).map_err(HubError::io(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(HubError::io(&path))
    }
}

fn made(dir: &Path) -> Result<(), HubError> {
    fs::create_dir_all(dir).map_err(HubError::io(dir))
}

#[cfg(unix)]
fn linked(relative: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

// Links need a privilege there, and Python's client copies too.
#[cfg(not(unix))]
fn linked(_relative: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    fs::copy(blob, link).map(drop)
}
