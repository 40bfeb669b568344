//! What an interrupt has to remove: known in one place, and guarded by one lock that a commit holds while names change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Another thread may be putting files into a folder until it is gone.
const REMOVAL_ATTEMPTS: usize = 100;

/// What this process has begun and not finished.
#[derive(Default)]
pub struct Registry {
    /// Files and folders.
    paths: BTreeSet<PathBuf>,
    /// State folders whose lock this process holds, each with the folders that were made for it, innermost first.
    held: BTreeMap<PathBuf, Vec<PathBuf>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { paths: BTreeSet::new(), held: BTreeMap::new() });

/// Who holds it is not interrupted.
pub fn registry() -> MutexGuard<'static, Registry> {
    // A poisoned lock still guards paths that must go.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Something to be removed when the program is interrupted.
    pub fn begin(&mut self, path: &Path) {
        self.paths.insert(path.to_owned());
    }

    /// It stays, or is gone.
    pub fn end(&mut self, path: &Path) {
        self.paths.remove(path);
    }

    /// Whether it is still to be removed.
    pub fn has(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    /// A lock to be given up, and folders to be removed when they are empty.
    pub fn hold(&mut self, state: &Path, made: &[PathBuf]) {
        self.held.insert(state.to_owned(), made.to_owned());
    }

    /// It was given up.
    pub fn let_go(&mut self, state: &Path) {
        self.held.remove(state);
    }

    /// Removes all paths; returns the locks that are held.
    pub fn remove(&mut self) -> BTreeMap<PathBuf, Vec<PathBuf>> {
        for path in std::mem::take(&mut self.paths) {
            for _ in 0..REMOVAL_ATTEMPTS {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if removed.is_ok() || !path.exists() {
                    break;
                }
            }
        }
        std::mem::take(&mut self.held)
    }
}
