//! One file that appears whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::disk::{Disk, Real};
use super::unfinished::registry;

/// Of the name of what is being written, before its random part.
pub const PARTIAL: &str = ".partial-";
/// No file takes as long to write; what is older was left by a run that died.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes `file`, in whose place an older one stands until the new one is durable. Its folder is made when missing.
pub fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask, as for any file
    // Under the lock, so that none begins behind an interrupt.
    let mut unfinished = registry();
    let mut partial = builder.tempfile_in(dir)?;
    let path = partial.path().to_owned();
    unfinished.begin(&path);
    drop(unfinished);
    let written = partial.write_all(bytes).and_then(|()| partial.as_file().sync_all());
    let done = written.and_then(|()| partial.persist(file).map(drop).map_err(|error| error.error));
    registry().end(&path);
    done.and_then(|()| Real.sync(dir))
}

/// Removes what dead runs left of entries of a folder that only this program writes to.
pub fn tidy(dir: &Path) {
    let is_left = |entry: &fs::DirEntry| {
        let age =
            entry.metadata().and_then(|found| found.modified()).map(|then| SystemTime::now().duration_since(then));
        entry.file_name().to_string_lossy().starts_with(PARTIAL) && matches!(age, Ok(Ok(age)) if age > LEFT_BEHIND)
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(is_left) {
        let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leftovers_of_yesterday_go() {
        let home = tempfile::tempdir().expect("temporary folder");
        let file = home.path().join("a/b.json");
        write(&file, b"one").expect("written");
        write(&file, b"two").expect("written");
        let dir = file.parent().expect("made");
        assert_eq!((fs::read(&file).expect("there"), fs::read_dir(dir).expect("listed").count()), (b"two".to_vec(), 1));

        let old = fs::File::create(dir.join(".partial-old")).expect("made");
        old.set_modified(SystemTime::now() - 2 * LEFT_BEHIND).expect("set");
        fs::File::create(dir.join(".partial-young")).expect("made");
        tidy(dir);
        assert!(!dir.join(".partial-old").exists() && dir.join(".partial-young").exists() && file.exists());

        // A folder stands in the way.
        let error = write(dir, b"three").expect_err("refused");
        assert!(!error.to_string().is_empty());
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1);
    }
}
