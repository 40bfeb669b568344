//! Digests of files.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::CheckpointError;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// SHA-256 of a file in hexadecimal, streamed.
pub fn sha256(file: &Path) -> Result<String, CheckpointError> {
    let mut reader = graph::open_file(file).map_err(CheckpointError::io(file))?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match reader.read(&mut chunk).map_err(CheckpointError::io(file))? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&chunk[..n]),
        }
    }
}
