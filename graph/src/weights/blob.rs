//! Bytes on disk, read when asked for.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Opens a regular file for reading. Errors: what the system says, and `InvalidInput` for everything else that has a path.
///
/// A device may have no end, and the length that it tells is 0; opening a pipe waits for whoever writes into it.
pub fn open_file(path: &Path) -> io::Result<File> {
    // Before opening, because that may wait for ever; and after, because another file may stand there by then.
    is_regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let found = file.metadata()?;
    is_regular(&found)?;
    log::debug!("read {}, {} bytes", path.display(), found.len());
    Ok(file)
}

fn is_regular(data: &Metadata) -> io::Result<()> {
    match data.is_file() {
        true => Ok(()),
        false => {
            let found = if data.is_dir() { "a folder" } else { "a pipe, a device or a socket" };
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("expected a regular file, found {found}")))
        }
    }
}

/// A handle to a range of bytes of a file or of memory; cloning copies no byte.
///
/// Reads are positioned reads into the caller's buffer rather than a memory map: pages of a map count as resident memory
/// of the process, and a file that shrinks while mapped kills it.
#[derive(Clone)]
pub struct Blob {
    source: Source,
    start: u64,
    len: u64,
}

#[derive(Clone)]
enum Source {
    File(Arc<File>),
    Memory(Arc<[u8]>),
    /// Bytes that stand for others of the same number.
    Zeros,
}

impl Blob {
    /// A whole file. Errors: those of [`open_file`].
    pub fn open(path: &Path) -> io::Result<Blob> {
        let file = open_file(path)?;
        let len = file.metadata()?.len();
        Ok(Blob { source: Source::File(Arc::new(file)), start: 0, len })
    }

    /// Bytes held in memory.
    pub fn memory(bytes: impl Into<Arc<[u8]>>) -> Blob {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        Blob { source: Source::Memory(bytes), start: 0, len }
    }

    /// `len` zeros, which take no memory.
    pub fn zeros(len: u64) -> Blob {
        Blob { source: Source::Zeros, start: 0, len }
    }

    /// Whether these are the same bytes of the same file or memory; equal bytes elsewhere are others.
    pub fn is_same(&self, other: &Blob) -> bool {
        let is_source = match (&self.source, &other.source) {
            (Source::File(a), Source::File(b)) => Arc::ptr_eq(a, b),
            (Source::Memory(a), Source::Memory(b)) => Arc::ptr_eq(a, b),
            (Source::Zeros, Source::Zeros) => true,
            (Source::File(_) | Source::Memory(_) | Source::Zeros, _) => false,
        };
        is_source && (self.start, self.len) == (other.start, other.len)
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of these bytes; `None` when the range does not lie inside.
    pub fn slice(&self, range: Range<u64>) -> Option<Blob> {
        (range.start <= range.end && range.end <= self.len).then(|| Blob {
            source: self.source.clone(),
            start: self.start + range.start,
            len: range.end - range.start,
        })
    }

    /// Fills `out` from `offset_bytes`. Errors: `UnexpectedEof` when the bytes are not there.
    pub fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset_bytes.checked_add(out.len() as u64).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let start = self.start + offset_bytes;
        match &self.source {
            Source::File(file) => read_exact_at(file, out, start),
            Source::Memory(bytes) => {
                let start = start as usize; // a slice of memory, so it fits
                out.copy_from_slice(&bytes[start..start + out.len()]);
                Ok(())
            }
            Source::Zeros => {
                out.fill(0);
                Ok(())
            }
        }
    }

    /// The same bytes in memory. Errors: the file cannot be read.
    pub fn resident(&self) -> io::Result<Blob> {
        match self.source {
            Source::File(_) => Ok(Blob::memory(self.read()?)),
            Source::Memory(_) | Source::Zeros => Ok(self.clone()),
        }
    }

    /// All bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut out = vec![0; self.len as usize];
        self.read_at(0, &mut out)?;
        Ok(out)
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.len)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            n => {
                out = &mut out[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Says where a scratch file is that does not take its bytes.
fn in_scratch(dir: &Path) -> impl Fn(io::Error) -> io::Error {
    let dir = dir.to_owned();
    move |error| io::Error::new(error.kind(), format!("scratch file in {}: {error}", dir.display()))
}

/// A nameless temporary file that takes quantized weights, so that memory holds one piece of one tensor.
///
/// The bytes live as long as a [`Blob`] points at them.
#[derive(Debug)]
pub struct Scratch {
    file: Arc<File>,
    /// The folder on whose disk it is.
    place: Arc<Path>,
    end: Mutex<u64>,
}

impl Scratch {
    /// A scratch file in the folder `dir`, which should be on the disk that takes the artifacts.
    pub fn in_dir(dir: &Path) -> io::Result<Scratch> {
        let file = tempfile::tempfile_in(dir).map_err(in_scratch(dir))?;
        Ok(Scratch { file: Arc::new(file), place: dir.into(), end: Mutex::new(0) })
    }

    /// A scratch file in the temporary folder: the system's, or what [`tempfile::env::override_temp_dir`] put in its place.
    pub fn new() -> io::Result<Scratch> {
        Scratch::in_dir(&tempfile::env::temp_dir())
    }

    /// Room for `len` bytes, to be filled with [`ScratchRange::write_at`].
    pub fn reserve(&self, len: u64) -> io::Result<ScratchRange> {
        let mut end = self.end.lock().expect("no panic while holding the lock");
        let start = *end;
        *end += len;
        self.file.set_len(*end).map_err(in_scratch(&self.place))?;
        Ok(ScratchRange { file: self.file.clone(), place: self.place.clone(), start, len })
    }
}

/// A reserved piece of a [`Scratch`] file; disjoint parts may be written from several threads.
#[derive(Debug)]
pub struct ScratchRange {
    file: Arc<File>,
    place: Arc<Path>,
    start: u64,
    len: u64,
}

impl ScratchRange {
    /// Writes `bytes` at `offset_bytes` of the range. Panics when they do not fit: the writer reserved the length itself.
    pub fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(offset_bytes + bytes.len() as u64 <= self.len, "write past the reserved range");
        write_all_at(&self.file, bytes, self.start + offset_bytes).map_err(in_scratch(&self.place))
    }

    /// The range as readable bytes, once all of it is written.
    pub fn into_blob(self) -> Blob {
        Blob { source: Source::File(self.file), start: self.start, len: self.len }
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_outside_the_bytes_is_refused() {
        let blob = Blob::memory(vec![1, 2, 3, 4]);
        assert!(blob.slice(1..5).is_none());
        assert!(blob.slice(u64::MAX..u64::MAX).is_none());
        let middle = blob.slice(1..3).expect("inside");
        assert_eq!(middle.read().expect("in memory"), [2, 3]);
        assert_eq!(middle.read_at(1, &mut [0; 2]).map_err(|e| e.kind()), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let said = |path: &Path| open_file(path).expect_err("refused").to_string();
        assert_eq!(said(folder.path()), "expected a regular file, found a folder");
        assert_eq!(open_file(&folder.path().join("a")).expect_err("none").kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        {
            assert_eq!(said(Path::new("/dev/zero")), "expected a regular file, found a pipe, a device or a socket");
            let pipe = folder.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
            assert!(Blob::open(&pipe).is_err(), "and nothing waits for a writer");
        }
    }

    #[test]
    fn scratch_ranges_do_not_overlap() {
        let scratch = Scratch::new().expect("temporary folder");
        let (a, b) = (scratch.reserve(3).expect("room"), scratch.reserve(2).expect("room"));
        b.write_at(0, &[8, 9]).expect("write");
        a.write_at(1, &[6, 7]).expect("write");
        a.write_at(0, &[5]).expect("write");
        assert_eq!(
            (a.into_blob().read().expect("read"), b.into_blob().read().expect("read")),
            (vec![5, 6, 7], vec![8, 9])
        );
    }
}
