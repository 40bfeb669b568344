//! A file from the hub into the cache: continued where it was cut off, and named when its digest is right.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use graph::Progress;
use graph::progress::Unit;

use crate::cache::Cache;
use crate::error::HubError;
use crate::web::{ATTEMPTS, At, Facts, Part, Web, pause};

/// Bytes received at once.
const CHUNK_BYTES: usize = 1 << 18;

/// A file as it arrives.
pub(crate) struct Transfer<'a> {
    pub(crate) web: &'a Web<'a>,
    pub(crate) cache: &'a Cache,
    pub(crate) at: At<'a>,
    pub(crate) facts: Facts,
}

/// How an attempt ended.
enum End {
    /// All bytes are there.
    Whole,
    /// Not all, and why.
    Cut(String),
}

impl Transfer<'_> {
    /// Downloads the file, if nobody has meanwhile. Errors: the hub's; a digest that is another one, and then nothing is kept.
    pub(crate) fn run(&self, progress: &dyn Progress) -> Result<(), HubError> {
        let (digest, file) = (&self.facts.digest, self.at.file);
        let _lock = self.cache.lock(digest)?;
        let (blob, partial) = (self.cache.blob(digest), self.cache.partial(digest));
        if blob.is_file() {
            return verified(&blob, digest);
        }
        progress.stage(&format!("download {file}"), self.facts.bytes, Unit::Bytes);
        let was_begun = length(&partial) > 0;
        self.fill(&partial, progress)?;
        let mut found = digest.of(&partial).map_err(HubError::io(&partial))?;
        if found != *digest && was_begun {
            progress.say(&format!("what an earlier download left of {file} is of another file: again from its start"));
            fs::remove_file(&partial).map_err(HubError::io(&partial))?;
            self.fill(&partial, progress)?;
            found = digest.of(&partial).map_err(HubError::io(&partial))?;
        }
        if found == *digest {
            return fs::rename(&partial, &blob).map_err(HubError::io(&blob));
        }
        fs::remove_file(&partial).map_err(HubError::io(&partial))?;
        let (expected, found) = (digest.hex().to_owned(), found.hex().to_owned());
        Err(HubError::WrongDigest { name: self.at.id.name.clone(), file: file.to_owned(), expected, found })
    }

    /// Receives until all bytes are there, or no new ones come.
    fn fill(&self, partial: &Path, progress: &dyn Progress) -> Result<(), HubError> {
        let (mut best, mut failures) = (length(partial), 0);
        progress.advance(best);
        loop {
            let message = match self.receive(partial, progress) {
                Ok(End::Whole) => return Ok(()),
                Ok(End::Cut(message)) => message,
                Err(error) if error.may_pass() => error.to_string().lines().next().unwrap_or_default().to_owned(),
                Err(error) => return Err(error),
            };
            let found = length(partial);
            (best, failures) = if found > best { (found, 1) } else { (best, failures + 1) };
            if failures == ATTEMPTS {
                return Err(HubError::CutOff {
                    name: self.at.id.name.clone(),
                    file: self.at.file.to_owned(),
                    expected: self.facts.bytes,
                    found,
                    times: failures,
                    message,
                });
            }
            progress.say(&format!("{}: the connection ended after {found} bytes; continued there", self.at.file));
            pause(failures);
        }
    }

    /// One connection.
    fn receive(&self, partial: &Path, progress: &dyn Progress) -> Result<End, HubError> {
        let failed = || HubError::io(partial);
        let mut file = File::options().append(true).create(true).open(partial).map_err(failed())?;
        let mut there = file.metadata().map_err(failed())?.len();
        if there > self.facts.bytes {
            file.set_len(0).map_err(failed())?;
            there = 0;
        }
        if there == self.facts.bytes {
            return Ok(End::Whole);
        }
        let Part { from, reader } = self.web.part(&self.at, there)?;
        if from < there {
            // It gives no parts.
            file.set_len(from).map_err(failed())?;
            there = from;
        }
        let (mut reader, mut chunk) = (reader.take(self.facts.bytes - there), vec![0; CHUNK_BYTES]);
        loop {
            match reader.read(&mut chunk) {
                Ok(0) if there == self.facts.bytes => break,
                Ok(0) => return Ok(End::Cut("it was closed".to_owned())),
                Err(error) => return Ok(End::Cut(error.to_string())),
                Ok(n) => {
                    file.write_all(&chunk[..n]).map_err(failed())?;
                    there += n as u64;
                    progress.advance(n as u64);
                }
            }
        }
        file.sync_all().map_err(failed())?;
        Ok(End::Whole)
    }
}

/// Errors: a file of the cache that is not what its name says.
pub(crate) fn verified(blob: &Path, digest: &crate::digest::Digest) -> Result<(), HubError> {
    let found = digest.of(blob).map_err(HubError::io(blob))?;
    if found == *digest {
        return Ok(());
    }
    let file = blob.canonicalize().unwrap_or_else(|_| blob.to_owned());
    Err(HubError::Damaged { file, expected: digest.hex().to_owned(), found: found.hex().to_owned() })
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
