//! What of a repository a checkpoint is read from, as a folder.

use std::fs;
use std::path::PathBuf;

use checkpoint::Files;
use graph::Progress;

use crate::cache::Cache;
use crate::error::HubError;
use crate::id::HubId;
use crate::settings::Settings;
use crate::transfer::{Transfer, verified};
use crate::web::{At, Web};

/// A checkpoint of the hub.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Its folder, for whoever reads checkpoints.
    pub dir: PathBuf,
    /// `org/name`.
    pub name: String,
    /// What was asked for: a branch, a tag or a commit.
    pub revision: String,
    /// The commit that this stands for, in hexadecimal.
    pub commit: String,
}

/// The files of a repository that a checkpoint is read from, in the cache: what is missing there is downloaded, and every file has
/// the digest that the hub says.
///
/// `beside`: names of files that are wanted too where the repository has them.
///
/// Errors: the hub's; a repository without weights; with [`Settings::is_offline`], a file that the cache lacks.
pub fn snapshot(
    id: &HubId,
    settings: &Settings,
    beside: &[&str],
    progress: &dyn Progress,
) -> Result<Snapshot, HubError> {
    let cache = Cache::of(&settings.cache, id);
    let commit = match settings.is_offline {
        true => Cached { id, settings, cache: &cache }.commit(beside)?,
        false => Online { id, web: &Web::new(settings), cache: &cache, progress }.commit(beside)?,
    };
    let dir = cache.snapshot(&commit);
    Ok(Snapshot { dir, name: id.name.clone(), revision: id.revision().to_owned(), commit })
}

/// Names of files that a checkpoint is read from, the weights last. Errors: none of them are weights.
fn wanted(id: &HubId, listed: Vec<String>, beside: &[&str]) -> Result<Vec<String>, HubError> {
    let Some(read) = Files::of_listing(&listed) else {
        let expected = Files::weights().collect::<Vec<_>>().join(", ");
        return Err(HubError::NoWeights { name: id.name.clone(), expected, listed });
    };
    let beside = beside.iter().filter(|name| listed.iter().any(|one| one == *name));
    Ok(beside.chain(&read).map(|name| (*name).to_owned()).collect())
}

/// What the hub has.
struct Online<'a> {
    id: &'a HubId,
    web: &'a Web<'a>,
    cache: &'a Cache,
    progress: &'a dyn Progress,
}

impl Online<'_> {
    fn commit(&self, beside: &[&str]) -> Result<String, HubError> {
        let info = self.web.info(self.id)?;
        let names = wanted(self.id, info.files(), beside)?;
        for name in &names {
            self.fetch(&info.sha, name)?;
        }
        for shard in shards(&self.cache.snapshot(&info.sha), &names)? {
            self.fetch(&info.sha, &shard)?;
        }
        // Whoever reads the cache alone finds the commit only when all of it is there.
        self.cache.note(self.id.revision(), &info.sha)?;
        Ok(info.sha)
    }

    fn fetch(&self, commit: &str, file: &str) -> Result<(), HubError> {
        if let Some(digest) = self.cache.digest(commit, file) {
            return verified(&self.cache.blob(&digest), &digest);
        }
        let at = At { id: self.id, commit, file };
        let transfer = Transfer { web: self.web, cache: self.cache, facts: self.web.facts(&at)?, at };
        transfer.run(self.progress)?;
        self.cache.link(commit, file, &transfer.facts.digest)
    }
}

/// What is there without the hub.
struct Cached<'a> {
    id: &'a HubId,
    settings: &'a Settings,
    cache: &'a Cache,
}

impl Cached<'_> {
    fn commit(&self, beside: &[&str]) -> Result<String, HubError> {
        let revision = self.id.revision();
        let commit =
            self.cache.commit(revision).ok_or_else(|| self.missing(format!("no revision `{revision}` of it")))?;
        let dir = self.cache.snapshot(&commit);
        let entries = fs::read_dir(&dir).map_err(|_| self.missing(format!("no files of {commit}")))?;
        let listed = entries.flatten().filter(|entry| entry.path().is_file());
        let listed = listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let names =
            wanted(self.id, listed, beside).map_err(|_| self.missing(format!("no weights in {}", dir.display())))?;
        let shards = shards(&dir, &names)?;
        for name in names.iter().chain(&shards) {
            match self.cache.digest(&commit, name) {
                Some(digest) => verified(&self.cache.blob(&digest), &digest)?,
                None if dir.join(name).is_file() => {}
                None => return Err(self.missing(format!("no {name} in {}", dir.display()))),
            }
        }
        Ok(commit)
    }

    fn missing(&self, found: String) -> HubError {
        HubError::NotCached { id: self.id.to_string(), cache: self.settings.cache.clone(), found }
    }
}

/// Files that the last of `names` names, where that is an index.
fn shards(dir: &std::path::Path, names: &[String]) -> Result<Vec<String>, HubError> {
    match names.last().filter(|name| name.ends_with(".index.json")) {
        Some(index) => Ok(checkpoint::shards(&dir.join(index))?),
        None => Ok(Vec::new()),
    }
}
