//! What the hub calls a file by: the SHA-256 of a large file, git's SHA-1 of another.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A digest in lowercase hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Digest {
    /// Of the bytes: a file that the hub keeps beside git.
    Sha256(String),
    /// Of `blob LENGTH\0` and the bytes: a file in git.
    Git(String),
}

impl Digest {
    /// From an etag, quoted and weak or not. `None`: it is no digest, and so no name of a file.
    pub(crate) fn parse(etag: &str) -> Option<Digest> {
        let etag = etag.trim();
        let hex = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match hex.len() {
            64 if is_hex => Some(Digest::Sha256(hex.to_owned())),
            40 if is_hex => Some(Digest::Git(hex.to_owned())),
            _ => None,
        }
    }

    /// The name of the file in the cache.
    pub(crate) fn hex(&self) -> &str {
        match self {
            Digest::Sha256(hex) | Digest::Git(hex) => hex,
        }
    }

    /// The digest of this kind of a file.
    pub(crate) fn of(&self, path: &Path) -> io::Result<Digest> {
        let mut file = File::open(path)?;
        Ok(match self {
            Digest::Sha256(_) => Digest::Sha256(hashed(Sha256::new(), &mut file)?),
            Digest::Git(_) => {
                let head = format!("blob {}\0", file.metadata()?.len());
                Digest::Git(hashed(Sha1::new_with_prefix(head), &mut file)?)
            }
        })
    }
}

fn hashed<H: sha2::Digest>(mut hash: H, file: &mut File) -> io::Result<String> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&chunk[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "trefoil\n").expect("written");
        // `git hash-object` and `sha256sum`.
        for known in GOLDEN {
            let digest = Digest::parse(&format!("W/\"{known}\"")).expect("a digest");
            assert_eq!(digest.of(file.path()).expect("read").hex(), known);
        }
    }

    const GOLDEN: [&str; 2] = [
        "4b04fbd84ef4e8b56b7970ba2a9423881731ac39",
        "cac8c81647257914c55d2b317323caf7d58f33972d2129d461f9a43fc5497210",
    ];

    #[test]
    fn an_etag_that_is_no_digest_is_no_name() {
        let long = "g".repeat(64);
        for etag in ["", "../../x", "/etc/passwd", "\"abc\"", long.as_str(), &"A".repeat(40)] {
            assert_eq!(Digest::parse(etag), None, "{etag}");
        }
    }
}
