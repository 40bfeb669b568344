//! The system calls of a commit behind one interface, so that tests can fail and end the program at each of them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What a commit asks of the file system.
pub trait Disk: Send + Sync {
    /// Errors: something is there already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Writes a file that is not there yet. Its bytes are durable only after [`Disk::sync`].
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// In one step. Replaces a file; what else stands at `to` is an error or an empty folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Two names swap what they name, in one step. Errors: `Unsupported` where the file system cannot.
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()>;

    /// Waits until a file's bytes, or a folder's names, would outlive a loss of power.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// A file or a link.
    fn remove_file(&self, file: &Path) -> io::Result<()>;

    /// An empty folder.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl Disk for Real {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create_new(file)?.write_all(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            // What Linux says of file systems without it (NFS among them), and kernels before 3.15.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn exchange(&self, _a: &Path, _b: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(unix)]
    fn sync(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // Some network file systems have nothing to wait for.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    }

    #[cfg(not(unix))]
    fn sync(&self, path: &Path) -> io::Result<()> {
        // Folders cannot be opened there, and a file must be writable to be flushed.
        if path.is_dir() { Ok(()) } else { File::options().write(true).open(path)?.sync_all() }
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }
}

/// Removes a file, a link or a folder with all that is in it; what is not there is removed already.
pub fn remove_all(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.is_dir() {
        return disk.remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        remove_all(disk, &entry?.path())?;
    }
    disk.remove_dir(path)
}

/// Makes a file, or a folder with all that is in it, durable.
pub fn sync_all(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_all(disk, &entry?.path())?;
        }
    }
    disk.sync(path)
}

#[cfg(test)]
pub mod faulty {
    //! A disk that fails.

    use std::sync::Mutex;

    use super::*;

    /// What happens at a call.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Fault {
        /// The program ends before it: nothing is done any more.
        Killed,
        /// The program ends after it.
        KilledAfter,
        /// It fails, and later ones work.
        Fails,
        /// It fails, and so do all later ones but removals: a disk that went read-only, a right that was lost.
        FailsFromHere,
    }

    /// The real disk until a call, counted from 0.
    pub struct Faulty {
        pub at: usize,
        pub fault: Fault,
        pub exchanges: bool,
        calls: Mutex<Vec<String>>,
    }

    impl Faulty {
        pub fn new(at: usize, fault: Fault, exchanges: bool) -> Faulty {
            Faulty { at, fault, exchanges, calls: Mutex::default() }
        }

        /// What was asked for, in order.
        pub fn calls(&self) -> Vec<String> {
            self.calls.lock().expect("no panic while holding the lock").clone()
        }

        fn call<T>(&self, what: String, do_it: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
            let mut calls = self.calls.lock().expect("no panic while holding the lock");
            let number = calls.len();
            calls.push(what);
            drop(calls);
            let failed = || Err(io::Error::other("planted"));
            match self.fault {
                Fault::Killed if number >= self.at => failed(),
                Fault::KilledAfter if number > self.at => failed(),
                Fault::KilledAfter if number == self.at => do_it().and_then(|_| failed()),
                Fault::Fails if number == self.at => failed(),
                Fault::FailsFromHere if number >= self.at => failed(),
                _ => do_it(),
            }
        }
    }

    impl Disk for Faulty {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            self.call(format!("create_dir {}", dir.display()), || Real.create_dir(dir))
        }

        fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
            let number = self.calls().len();
            if self.fault == Fault::KilledAfter && number == self.at {
                // Half of it was written.
                return self.call(format!("write {}", file.display()), || Real.write(file, &bytes[..bytes.len() / 2]));
            }
            self.call(format!("write {}", file.display()), || Real.write(file, bytes))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.call(format!("rename {} {}", from.display(), to.display()), || Real.rename(from, to))
        }

        fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
            if !self.exchanges {
                return Err(io::ErrorKind::Unsupported.into());
            }
            self.call(format!("exchange {} {}", a.display(), b.display()), || Real.exchange(a, b))
        }

        fn sync(&self, path: &Path) -> io::Result<()> {
            // No test takes the power away, and waiting for a disk a thousand times takes minutes.
            self.call(format!("sync {}", path.display()), || Ok(()))
        }

        fn remove_file(&self, file: &Path) -> io::Result<()> {
            self.call(format!("remove_file {}", file.display()), || Real.remove_file(file))
        }

        fn remove_dir(&self, dir: &Path) -> io::Result<()> {
            self.call(format!("remove_dir {}", dir.display()), || Real.remove_dir(dir))
        }
    }
}
