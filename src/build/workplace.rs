//! A folder for the work of a run that may put nothing into an out folder, on the disk of the cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::cache;
use super::error::PipelineError;
use super::shelf::no_folder;
use super::unfinished::registry;

/// Below the cache's folder.
const WORK: &str = "work";
/// Held while a run works.
const LOCK: &str = "lock";
/// A folder is made before its lock is taken; what is older and not locked was left by a run that died.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// Goes with the run.
pub struct Workplace {
    dir: TempDir,
    /// Released by the system at the latest when the process ends.
    _lock: File,
}

impl Workplace {
    /// A new folder in the cache, or among temporary files where there is no cache. `must_keep`: the run is for its entries in the
    /// cache alone, so that having none is an error.
    pub fn new(must_keep: bool) -> Result<Workplace, PipelineError> {
        let folder = cache::folder();
        let made = folder.as_ref().ok_or_else(no_folder).and_then(|folder| Workplace::within(&folder.join(WORK)));
        match made {
            Ok(workplace) => Ok(workplace),
            Err(source) if must_keep => Err(PipelineError::NotKept { folder: folder.unwrap_or_default(), source }),
            Err(_) => Workplace::within(&std::env::temp_dir()).map_err(PipelineError::io(&std::env::temp_dir())),
        }
    }

    fn within(folder: &Path) -> io::Result<Workplace> {
        fs::create_dir_all(folder)?;
        if folder.ends_with(WORK) {
            left_behind(folder).iter().for_each(|dir| drop(fs::remove_dir_all(dir)));
        }
        // From the first file on, so that none begins behind an interrupt.
        let mut unfinished = registry();
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(folder)?;
        unfinished.begin(dir.path());
        let lock = File::create_new(dir.path().join(LOCK))?;
        // Without locks on this disk, its age alone protects the folder.
        let _ = lock.try_lock();
        Ok(Workplace { dir, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        registry().end(self.dir.path());
    }
}

/// Folders of runs that died.
fn left_behind(folder: &Path) -> Vec<PathBuf> {
    let is_old = |dir: &PathBuf| {
        let then = fs::metadata(dir).and_then(|found| found.modified());
        then.is_ok_and(|then| SystemTime::now().duration_since(then).is_ok_and(|age| age > YOUNG))
    };
    let is_free = |dir: &PathBuf| File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
    let dirs = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    dirs.filter(|dir| is_old(dir) && is_free(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_run_left_goes_and_what_a_long_run_holds_stays() {
        let home = tempfile::tempdir().expect("temporary folder");
        let folder = home.path().join(WORK);
        let [long, dead, young] = [(); 3].map(|()| Workplace::within(&folder).expect("made"));
        let age = |dir: &Path| {
            let yesterday = SystemTime::now() - 2 * YOUNG;
            File::open(dir).and_then(|dir| dir.set_modified(yesterday)).expect("set");
        };
        let dead_path = dead.path().to_owned();
        dead._lock.unlock().expect("held");
        [long.path(), &dead_path].into_iter().for_each(age);
        assert_eq!(left_behind(&folder), [dead_path]);
        drop((long, young, dead));
        assert_eq!(fs::read_dir(&folder).expect("listed").count(), 0);
    }
}
