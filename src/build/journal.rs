//! How several names of a folder change together.
//!
//! A journal is what has been decided: which new things take which names, and which names go. It is durable before the first
//! name changes, so that a run that dies in between leaves it to the next one, which goes on where that one stopped. Each name
//! changes in one step where the file system can exchange two names; elsewhere in two, of which the next run makes the second.
//!
//! ```text
//! .trefoil/journal.json         what has been decided, while names change
//! .trefoil/run-XXXXXX/new/NAME  what is to stand at NAME; after an exchange, what stood there
//! .trefoil/run-XXXXXX/old/NAME  what stood at NAME, or went
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, sync_all};
use crate::names::is_name;

/// The journal's name in the state folder.
pub const FILE: &str = "journal.json";
/// Of the folder that a run works in, before its random part.
pub const RUN: &str = "run-";
/// What is to stand in the out folder, below a run's.
pub const NEW: &str = "new";
const OLD: &str = "old";

/// What has been decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// The run's folder in the state folder.
    pub run: String,
    /// What takes a name, in this order.
    pub put: Vec<Put>,
    /// Names that go.
    pub remove: Vec<String>,
}

/// Something new and its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// In the out folder, and in the run's `new`.
    pub name: String,
    /// By which the new thing is known wherever it stands; absent where the system has no such number.
    pub inode: Option<u64>,
}

impl Put {
    /// What lies at a path, which is to be called `name`.
    pub fn of(name: &str, path: &Path) -> io::Result<Put> {
        Ok(Put { name: name.to_owned(), inode: inode(&fs::symlink_metadata(path)?) })
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(metadata))
}

#[cfg(not(unix))]
fn inode(_metadata: &fs::Metadata) -> Option<u64> {
    None
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A journal and where its names are.
pub struct Commit<'a> {
    /// The out folder.
    pub dir: &'a Path,
    /// `.trefoil` in it.
    pub state: &'a Path,
    /// What is decided.
    pub journal: &'a Journal,
    /// Does it.
    pub disk: &'a dyn Disk,
}

impl Commit<'_> {
    fn new_of(&self, name: &str) -> PathBuf {
        self.state.join(&self.journal.run).join(NEW).join(name)
    }

    fn old_of(&self, name: &str) -> PathBuf {
        self.state.join(&self.journal.run).join(OLD).join(name)
    }

    /// Makes the new things durable.
    pub fn make_durable(&self) -> io::Result<()> {
        self.journal.put.iter().try_for_each(|put| sync_all(self.disk, &self.new_of(&put.name)))
    }

    /// Makes the decision durable. After this the new things will stand in the folder, whatever happens.
    pub fn decide(&self) -> io::Result<()> {
        let run = self.state.join(&self.journal.run);
        self.disk.create_dir(&run.join(OLD))?;
        let draft = run.join(FILE);
        self.disk.write(&draft, &serde_json::to_vec_pretty(self.journal).expect("names and numbers"))?;
        for path in [&draft, &run.join(NEW), &run] {
            self.disk.sync(path)?;
        }
        self.disk.rename(&draft, &self.state.join(FILE))?;
        self.disk.sync(self.state)
    }

    /// Changes every name that has not changed yet.
    pub fn forward(&self) -> io::Result<()> {
        for put in &self.journal.put {
            let (new, old, place) = (self.new_of(&put.name), self.old_of(&put.name), self.dir.join(&put.name));
            if self.has_changed(put)? {
                continue;
            }
            if exists(&place)? {
                match self.disk.exchange(&new, &place) {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => self.disk.rename(&place, &old)?,
                    done => {
                        done?;
                        continue;
                    }
                }
            }
            self.disk.rename(&new, &place)?;
        }
        for name in &self.journal.remove {
            let place = self.dir.join(name);
            if exists(&place)? {
                self.disk.rename(&place, &self.old_of(name))?;
            }
        }
        self.disk.sync(self.dir)
    }

    /// Gives every name back what stood there.
    pub fn back(&self) -> io::Result<()> {
        for name in &self.journal.remove {
            let (old, place) = (self.old_of(name), self.dir.join(name));
            if exists(&old)? && !exists(&place)? {
                self.disk.rename(&old, &place)?;
            }
        }
        for put in self.journal.put.iter().rev() {
            let (new, old, place) = (self.new_of(&put.name), self.old_of(&put.name), self.dir.join(&put.name));
            let is_set_aside = exists(&old)?;
            if self.has_changed(put)? {
                match exists(&new)? {
                    true => self.disk.exchange(&new, &place)?,
                    false => self.disk.rename(&place, &new)?,
                }
            }
            if is_set_aside {
                self.disk.rename(&old, &place)?;
            }
        }
        self.disk.sync(self.dir)
    }

    /// Whether the decision is in force.
    pub fn is_decided(&self) -> bool {
        fs::symlink_metadata(self.state.join(FILE)).is_ok()
    }

    /// Forgets the decision, once all names are as they should be.
    pub fn forget(&self) -> io::Result<()> {
        self.disk.remove_file(&self.state.join(FILE))?;
        self.disk.sync(self.state)
    }

    /// Whether the new thing stands at its name.
    fn has_changed(&self, put: &Put) -> io::Result<bool> {
        match (put.inode, fs::symlink_metadata(self.dir.join(&put.name))) {
            (Some(wanted), Ok(found)) => Ok(inode(&found) == Some(wanted)),
            // Without numbers there is no exchange either: what is new has left its place, or has not.
            (None, Ok(_)) => Ok(!exists(&self.new_of(&put.name))?),
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            (_, Err(error)) => Err(error),
        }
    }
}

/// The journal that an earlier run left. Errors: a sentence; it is not one that this program writes.
pub fn read(state: &Path) -> Result<Option<Journal>, String> {
    let file = state.join(FILE);
    let journal: Journal = match converters::limits::read_json(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string())?,
    };
    let names: Vec<&String> =
        journal.put.iter().map(|put| &put.name).chain(&journal.remove).chain([&journal.run]).collect();
    if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
        return Err(format!("expected names of things in one folder, found {name:?}"));
    }
    if !journal.run.starts_with(RUN) {
        return Err(format!("expected a run named {RUN}…, found {}", journal.run));
    }
    Ok(Some(journal))
}
