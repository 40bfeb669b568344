//! `ggml-model.bin`, little-endian.
//!
//! | bytes | |
//! | --- | --- |
//! | u32 0x67676d6c | magic |
//! | i32 × 11 | counts, and the type of matrices: `ggml_ftype` + 1000 · the version of blocks |
//! | i32, i32, f32 × both | filters: mels, bins of the spectrum, row after row |
//! | i32, and for each | tokens of text, by id |
//! | · i32, bytes | |
//! | to the end | tensors |
//! | · i32, i32, i32, i32 × rank, bytes, bytes | rank, length of the name, `ggml_type`, lengths from the innermost on, name, data |

use std::io;
use std::path::Path;

use checkpoint::gguf::{TensorEntry, TensorType};
use graph::Blob;

use crate::error::ExportError;
use crate::whisper_cpp::HYPERPARAMETERS;

/// The file, as its own converters call it.
pub const FILE: &str = "ggml-model.bin";
/// The format's name in recipes.
pub const NAME: &str = "whisper.cpp";
pub(super) const MAGIC: u32 = 0x6767_6d6c;
/// Counts before the type of matrices.
const COUNTS: usize = 10;
const MAX_RANK: u32 = 4;
/// What the version of blocks is multiplied by in the type of matrices.
pub(super) const VERSION_FACTOR: u32 = 1000;

/// What a file holds.
#[derive(Debug)]
pub struct ModelFile {
    /// Without the type of matrices.
    pub hyperparameters: [u32; COUNTS],
    /// `ggml_ftype` + 1000 · the version of blocks.
    pub file_type: u32,
    /// Mels and bins.
    pub filters_shape: [usize; 2],
    /// f32[mels, bins], row after row.
    pub filters: Vec<f32>,
    /// By id.
    pub tokens: Vec<Vec<u8>>,
    /// In the order of the file.
    pub tensors: Vec<TensorEntry>,
}

impl ModelFile {
    /// Whether a file begins as one.
    pub fn is_at(path: &Path) -> bool {
        let magic = Blob::open(path).ok().and_then(|blob| blob.slice(0..4)).and_then(|blob| blob.read().ok());
        magic.is_some_and(|bytes| bytes == MAGIC.to_le_bytes())
    }

    /// Its counts with their names.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, u32)> {
        HYPERPARAMETERS.into_iter().zip(self.hyperparameters).chain([
            ("ftype", self.file_type % VERSION_FACTOR),
            ("qntvr", self.file_type / VERSION_FACTOR),
            ("tokens", self.tokens.len() as u32), // counted by a u32
        ])
    }

    /// Errors: it cannot be read, or is no such file, with the offset.
    pub fn open(path: &Path) -> Result<ModelFile, ExportError> {
        let failed = |source| ExportError::Io { file: path.to_owned(), source };
        let blob = Blob::open(path).map_err(failed)?;
        let mut reader = Reader { blob, at: 0 };
        reader.file().map_err(|fault| match fault {
            Fault::Io(source) => failed(source),
            Fault::Malformed(message) => {
                let message = format!("at byte {}: {message}", reader.at);
                ExportError::Malformed { file: path.to_owned(), message }
            }
        })
    }
}

/// What the file cannot hold.
pub(super) fn cannot_hold(items: Vec<String>, hint: &str) -> ExportError {
    ExportError::CannotHold { format: NAME, items, hint: hint.to_owned() }
}

enum Fault {
    Io(io::Error),
    Malformed(String),
}

struct Reader {
    blob: Blob,
    at: u64,
}

impl Reader {
    fn file(&mut self) -> Result<ModelFile, Fault> {
        let magic = self.u32("the magic number")?;
        if magic != MAGIC {
            return Err(Fault::Malformed(format!("expected the magic number {MAGIC:#x}, found {magic:#x}")));
        }
        let mut hyperparameters = [0; COUNTS];
        for count in &mut hyperparameters {
            *count = self.u32("a count")?;
        }
        let file_type = self.u32("the type of matrices")?;
        let filters_shape = [self.u32("the mels of filters")? as usize, self.u32("their bins")? as usize];
        let bytes = filters_shape.iter().try_fold(4_u64, |product, n| product.checked_mul(*n as u64));
        let filters = self.bytes(bytes.unwrap_or(u64::MAX), "filters")?.read().map_err(Fault::Io)?;
        let filters = filters.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        // Counts are not believed: each entry takes bytes of the file.
        let count = self.u32("the number of tokens")?;
        let mut tokens = Vec::new();
        for _ in 0..count {
            let len = self.u32("the length of a token")?;
            tokens.push(self.bytes(len.into(), "a token")?.read().map_err(Fault::Io)?);
        }
        let mut tensors = Vec::new();
        while self.at < self.blob.len() {
            tensors.push(self.tensor()?);
        }
        Ok(ModelFile { hyperparameters, file_type, filters_shape, filters, tokens, tensors })
    }

    fn tensor(&mut self) -> Result<TensorEntry, Fault> {
        let rank = self.u32("a rank")?;
        if rank > MAX_RANK {
            return Err(Fault::Malformed(format!("expected a rank of at most {MAX_RANK}, found {rank}")));
        }
        let len = self.u32("the length of a name")?;
        let id = self.u32("a type")?;
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.insert(0, self.u32("a length")? as usize);
        }
        let name = String::from_utf8(self.bytes(len.into(), "a name")?.read().map_err(Fault::Io)?);
        let name = name.map_err(|error| Fault::Malformed(format!("a name: {error}")))?;
        let kind = TensorType::from_id(id)
            .ok_or_else(|| Fault::Malformed(format!("{name}: expected a type of ggml, found {id}")))?;
        let bytes = kind
            .bytes(&shape)
            .ok_or_else(|| Fault::Malformed(format!("{name}: {shape:?} is nothing that {kind} can hold")))?;
        let offset_bytes = self.at;
        let data = self.bytes(bytes, "a tensor")?;
        Ok(TensorEntry { name, shape, kind, offset_bytes, data })
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        let bytes = self.bytes(4, what)?.read().map_err(Fault::Io)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("as many")))
    }

    /// The next bytes of the file.
    fn bytes(&mut self, count: u64, what: &str) -> Result<Blob, Fault> {
        let left = self.blob.len() - self.at;
        let end = self.at.checked_add(count).filter(|_| count <= left);
        let found = end.and_then(|end| self.blob.slice(self.at..end)).ok_or_else(|| {
            Fault::Malformed(format!("expected {what} in {count} bytes, found {left} before the end of the file"))
        })?;
        self.at += count;
        Ok(found)
    }
}
