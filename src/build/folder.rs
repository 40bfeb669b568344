//! The folder that takes artifacts and their report: one run at a time, and all that a run makes at once or not at all.
//!
//! A run works in `.trefoil/run-XXXXXX` of the folder and holds `.trefoil/lock` while it does. What it leaves when it dies is
//! finished or removed by the next one, under the lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disk, Real, remove_all};
use super::journal::{self, Commit, Journal, NEW, Put, RUN};
use super::unfinished::{Registry, registry};
use crate::show::table::size;

/// What trefoil keeps in an out folder while it works there.
pub const STATE: &str = ".trefoil";
const LOCK: &str = "lock";
/// Whoever unlinks a lock that another one waits for is seen once; a folder that changes for ever is an error.
const LOCK_ATTEMPTS: usize = 100;
/// Of a lock file's words: a process and a machine.
const HOLDER_BYTES: u64 = 512;

/// A folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another run works there.
    #[error(
        "{}: {holder} is working there; expected a folder for this run alone\n\
         hint: wait for it, or give this run another folder with --out", .dir.display()
    )]
    Busy {
        /// The out folder.
        dir: PathBuf,
        /// `process 12 on host`.
        holder: String,
    },
    /// What an earlier run left is not what trefoil writes.
    #[error("{}: not what trefoil writes: {message}\nhint: look at it, and remove it when nothing in it is missed", .path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// Names could not be changed, nor changed back.
    #[error(
        "{}: {source}; some artifacts there are new and some old, each of them whole; the next run finishes it", .dir.display()
    )]
    Halfway {
        /// The out folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    |source| FolderError::Io { path: path.to_owned(), source }
}

/// A folder with this run's lock on it. Dropped without [`OutFolder::commit`], nothing in it has changed.
pub struct OutFolder {
    dir: PathBuf,
    state: PathBuf,
    run: PathBuf,
    /// Folders that had to be made, innermost first.
    made: Vec<PathBuf>,
    /// Released by the system at the latest when the process ends.
    _lock: File,
    disk: Box<dyn Disk>,
}

static COMMITTED: AtomicBool = AtomicBool::new(false);

/// Whether a run of this process has put what it made in its place.
pub fn has_committed() -> bool {
    COMMITTED.load(Ordering::SeqCst)
}

impl OutFolder {
    /// Makes the folder when it is missing, takes its lock, and finishes or removes what dead runs left.
    ///
    /// Errors: another run holds the lock; a state that trefoil does not write; the system.
    pub fn open(dir: &Path) -> Result<OutFolder, FolderError> {
        OutFolder::on(dir, Box::new(Real))
    }

    fn on(dir: &Path, disk: Box<dyn Disk>) -> Result<OutFolder, FolderError> {
        // From the first folder on, so that none begins behind an interrupt.
        let mut unfinished = registry();
        let missing = dir.ancestors().take_while(|a| !a.as_os_str().is_empty() && !a.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        let state = dir.join(STATE);
        let opened = fs::create_dir_all(dir).map_err(at(dir)).and_then(|()| {
            let lock = locked(dir, &state)?;
            let run = begun(dir, &state, &*disk).inspect_err(|_| released(&state))?;
            Ok((lock, run))
        });
        let (lock, run) = opened.inspect_err(|_| remove_empty(&made))?;
        unfinished.begin(&run);
        unfinished.hold(&state, &made);
        Ok(OutFolder { dir: dir.to_owned(), state, run, made, _lock: lock, disk })
    }

    /// For files that nobody will miss.
    pub fn scratch(&self) -> &Path {
        &self.run
    }

    /// A new folder whose contents are to stand under `name`.
    pub fn stage(&self, name: &str) -> Result<PathBuf, FolderError> {
        let dir = self.staged(name);
        fs::create_dir(&dir).map_err(at(&dir))?;
        Ok(dir)
    }

    /// Where what is to stand under `name` is made.
    pub fn staged(&self, name: &str) -> PathBuf {
        self.run.join(NEW).join(name)
    }

    /// Puts what was staged under `put` into its place and takes `remove` away: all of it, or nothing and an error.
    ///
    /// After an error the folder is as it was; only [`FolderError::Halfway`] leaves more to do, which the next run does.
    pub fn commit(self, put: &[&str], remove: &[&str]) -> Result<(), FolderError> {
        let puts: io::Result<Vec<Put>> = put.iter().map(|name| Put::of(name, &self.staged(name))).collect();
        let puts = puts.map_err(at(&self.run))?;
        let run = self.run.file_name().expect("a folder of the state").to_string_lossy().into_owned();
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        let journal = Journal { run, put: puts, remove };
        let commit = Commit { dir: &self.dir, state: &self.state, journal: &journal, disk: &*self.disk };
        // The long part; an interrupt in it changes nothing.
        commit.make_durable().map_err(at(&self.run))?;
        // An interrupt from here on waits until all names have changed.
        let unfinished = registry();
        let decided = commit.decide().and_then(|()| commit.forward());
        let done = decided.map_err(|source| {
            let is_undone = !commit.is_decided() || commit.back().and_then(|()| commit.forget()).is_ok();
            match is_undone {
                true => FolderError::Io { path: self.dir.clone(), source },
                false => FolderError::Halfway { dir: self.dir.clone(), source },
            }
        });
        if done.is_ok() {
            COMMITTED.store(true, Ordering::SeqCst);
            // Left behind, it is done once more by the next run, which changes nothing.
            let _ = commit.forget();
        }
        self.end(unfinished, done.is_ok());
        done
    }

    /// Removes the run and lets go of the lock.
    fn end(&self, mut unfinished: MutexGuard<'_, Registry>, keep: bool) {
        unfinished.end(&self.run);
        unfinished.let_go(&self.state);
        if !has_journal(&self.state) {
            // What is left of it is removed by the next run.
            let _ = remove_all(&*self.disk, &self.run);
        }
        released(&self.state);
        if !keep {
            remove_empty(&self.made);
        }
    }
}

impl Drop for OutFolder {
    fn drop(&mut self) {
        let unfinished = registry();
        // After a commit there is nothing here.
        if unfinished.has(&self.run) {
            self.end(unfinished, false);
        }
    }
}

fn has_journal(state: &Path) -> bool {
    fs::symlink_metadata(state.join(journal::FILE)).is_ok()
}

/// Finishes what a dead run had decided in `dir`, if no other run is doing that. For commands that only read there.
///
/// Errors: it cannot be finished.
pub fn settle(dir: &Path) -> Result<(), FolderError> {
    if !has_journal(&dir.join(STATE)) {
        return Ok(());
    }
    match OutFolder::open(dir) {
        Ok(_) | Err(FolderError::Busy { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The same for whatever folder an artifact lies in. The artifact itself is whole in any case.
pub fn settle_around(artifact: &Path) {
    let _ = artifact.parent().map(settle);
}

/// Takes the lock of a state folder, which is made when missing.
fn locked(dir: &Path, state: &Path) -> Result<File, FolderError> {
    let file = state.join(LOCK);
    for _ in 0..LOCK_ATTEMPTS {
        match fs::create_dir(state) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(state)(error)),
            _ => {}
        }
        match fs::symlink_metadata(state) {
            Ok(found) if found.is_dir() => {}
            // The run before this one has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => return Err(FolderError::State { path: state.to_owned(), message: "expected a folder".to_owned() }),
        }
        let mut lock = match lock_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(at(&file))?,
        };
        match lock.try_lock() {
            Ok(()) if is_still(&file, &lock) => {
                let _ = write!(lock, "{}", holder());
                return Ok(lock);
            }
            Ok(()) => continue,
            Err(TryLockError::WouldBlock) => {
                let mut words = String::new();
                let read = lock.rewind().and_then(|()| lock.take(HOLDER_BYTES).read_to_string(&mut words));
                let holder = match read {
                    Ok(_) if !words.is_empty() => words.chars().filter(|c| !c.is_control()).collect(),
                    _ => "another run".to_owned(),
                };
                return Err(FolderError::Busy { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(at(&file)(error)),
        }
    }
    Err(FolderError::State { path: state.to_owned(), message: "expected a folder that stays".to_owned() })
}

fn lock_file(file: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).read(true).write(true).truncate(false);
    #[cfg(unix)]
    {
        // A link would let this write where it should not.
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    let lock = options.open(file)?;
    if lock.metadata()?.is_file() { Ok(lock) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Whether a name still is that of an open file: the run before this one unlinks its lock.
#[cfg(unix)]
fn is_still(file: &Path, lock: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::symlink_metadata(file), lock.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()) && lock.set_len(0).is_ok(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still(_file: &Path, lock: &File) -> bool {
    lock.set_len(0).is_ok()
}

fn holder() -> String {
    #[cfg(unix)]
    let machine = format!(" on {}", rustix::system::uname().nodename().to_string_lossy());
    #[cfg(not(unix))]
    let machine = "";
    format!("process {}{machine}", std::process::id())
}

/// Finishes what dead runs decided, removes what they left, and makes this run's folder.
fn begun(dir: &Path, state: &Path, disk: &dyn Disk) -> Result<PathBuf, FolderError> {
    let left = journal::read(state);
    let left = left.map_err(|message| FolderError::State { path: state.join(journal::FILE), message })?;
    if let Some(journal) = left {
        let commit = Commit { dir, state, journal: &journal, disk };
        let done = commit.forward().or_else(|error| commit.back().map_err(|_| error));
        done.and_then(|()| commit.forget()).map_err(|source| FolderError::Halfway { dir: dir.to_owned(), source })?;
    }
    for entry in fs::read_dir(state).map_err(at(state))? {
        let path = entry.map_err(at(state))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RUN)) {
            remove_all(disk, &path).map_err(at(&path))?;
        }
    }
    let run = tempfile::Builder::new().prefix(RUN).tempdir_in(state).map_err(at(state))?.keep();
    fs::create_dir(run.join(NEW)).map_err(at(&run))?;
    Ok(run)
}

/// Unlinks a lock that is held, and the state folder when nothing else is in it.
fn released(state: &Path) {
    let _ = fs::remove_file(state.join(LOCK));
    // Something that a later run has to finish may be in it.
    let _ = fs::remove_dir(state);
}

/// Removes those of the folders that are empty; what someone else put there stays.
fn remove_empty(made: &[PathBuf]) {
    made.iter().for_each(|dir| drop(fs::remove_dir(dir)));
}

/// How much room there is where temporary files go, when an error is that of a full disk.
pub fn hint_of_room(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let is_full = |error: &(dyn std::error::Error + 'static)| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    };
    causes.into_iter().find(|error| is_full(*error))?;
    let temporary = tempfile::env::temp_dir();
    let place = temporary.ancestors().find(|dir| dir.is_dir())?;
    Some(format!("{} has {} left", place.display(), size(free_bytes(place)?)))
}

/// Bytes that a disk has left, if the system tells.
#[cfg(unix)]
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
pub fn free_bytes(_dir: &Path) -> Option<u64> {
    None
}

/// Removes what an interrupted run would leave. For the handler of an interrupt, which ends the program.
pub fn remove_unfinished() {
    let mut unfinished = registry();
    for (state, made) in unfinished.remove() {
        released(&state);
        remove_empty(&made);
    }
    // Whoever begins or ends a run behind this waits until the program is gone.
    std::mem::forget(unfinished);
}

#[cfg(test)]
mod tests;
