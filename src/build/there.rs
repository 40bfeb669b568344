//! Whether what an argument names is there at all.

use std::fs;
use std::io;
use std::path::Path;

/// Errors: there is nothing of that name, or a file where a folder is expected, in words that name neither system call nor number.
pub fn folder(dir: &Path) -> io::Result<()> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            let what = "expected a folder, found a file; give the folder that it lies in";
            Err(io::Error::new(io::ErrorKind::NotADirectory, what))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(absent()),
        Err(error) => Err(error),
    }
}

/// There is nothing of that name.
pub fn absent() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file or folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_folder_and_nothing_is_neither() {
        let home = tempfile::tempdir().expect("temporary folder");
        let file = home.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(folder(home.path()).is_ok());
        assert!(folder(&file).is_err_and(|error| error.to_string().starts_with("expected a folder, found a file")));
        assert!(folder(&home.path().join("none")).is_err_and(|error| error.to_string() == "no such file or folder"));
    }
}
