//! `model.bin`, version 6, little-endian.
//!
//! | bytes | |
//! | --- | --- |
//! | u32 6 | version |
//! | string, u32 | name and revision of the spec |
//! | u32, and for each | variables, by name |
//! | · string, u8, u32 for each dimension, u8, u32, bytes | name, rank, shape, type, length, row-major elements |
//! | u32, and for each two strings | aliases: the other name, and the variable's |
//!
//! A string is a u16, which counts the zero at its end, and UTF-8. Source: python/ctranslate2/specs/model_spec.py and src/models/model.cc
//! of CTranslate2 4.8.5.

use std::io;
use std::path::Path;

use graph::{Blob, FloatType};

use crate::error::ExportError;

/// The file with the weights.
pub const FILE: &str = "model.bin";
/// The format's name in recipes.
pub(super) const NAME: &str = "ctranslate2";
pub(super) const VERSION: u32 = 6;

/// The type of a variable's elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dtype {
    /// Floats.
    Float(FloatType),
    /// 8-bit integers.
    I8,
    /// 16-bit integers.
    I16,
    /// 32-bit integers.
    I32,
}

impl Dtype {
    /// All, by the file's number.
    const ALL: [Dtype; 6] = [
        Dtype::Float(FloatType::F32),
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::Float(FloatType::F16),
        Dtype::Float(FloatType::BF16),
    ];

    pub(super) fn id(self) -> u8 {
        Dtype::ALL.iter().position(|dtype| *dtype == self).expect("all are there") as u8
    }

    /// `f32`, `i8`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Float(dtype) => dtype.name(),
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::I32 => "i32",
        }
    }

    /// Of an element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::Float(dtype) => dtype.bytes(),
            Dtype::I8 => 1,
            Dtype::I16 => 2,
            Dtype::I32 => 4,
        }
    }
}

/// Appends a string.
pub(super) fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16 + 1).to_le_bytes()); // names of variables are short
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// What a file holds.
#[derive(Debug)]
pub struct ModelFile {
    /// Name and revision.
    pub spec: (String, u32),
    /// In the order of the file.
    pub variables: Vec<Stored>,
    /// The other name of each, and that of the variable.
    pub aliases: Vec<(String, String)>,
}

/// A variable of a file.
#[derive(Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Outermost first; none of a scalar.
    pub shape: Vec<usize>,
    /// Of an element.
    pub dtype: Dtype,
    /// Row-major elements.
    pub data: Blob,
}

impl ModelFile {
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
        let version = self.u32("the version")?;
        if version != VERSION {
            return Err(Fault::Malformed(format!("expected version {VERSION}, found {version}")));
        }
        let spec = (self.string("the name of the spec")?, self.u32("its revision")?);
        // Counts are not believed: each entry takes bytes of the file.
        let variables = (0..self.u32("the number of variables")?).map(|_| self.variable()).collect::<Result<_, _>>()?;
        let aliases = (0..self.u32("the number of aliases")?)
            .map(|_| Ok((self.string("an alias")?, self.string("the name behind an alias")?)))
            .collect::<Result<_, Fault>>()?;
        match self.blob.len() - self.at {
            0 => Ok(ModelFile { spec, variables, aliases }),
            rest => Err(Fault::Malformed(format!("expected the end of the file, found {rest} bytes more"))),
        }
    }

    fn variable(&mut self) -> Result<Stored, Fault> {
        let name = self.string("the name of a variable")?;
        let [rank] = self.array("a rank")?;
        let dims = self.take(4 * usize::from(rank), "a shape")?;
        let shape: Vec<usize> = dims.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n) as usize).collect();
        let [id] = self.array("a type")?;
        let Some(dtype) = Dtype::ALL.get(usize::from(id)).copied() else {
            return Err(Fault::Malformed(format!("{name}: expected a type from 0 to 5, found {id}")));
        };
        let bytes = self.u32("a length")?;
        let expected = shape.iter().try_fold(dtype.bytes(), |product, n| product.checked_mul(*n));
        if expected != Some(bytes as usize) {
            return Err(Fault::Malformed(format!(
                "{name}: expected as many bytes as {shape:?} of {dtype:?} take, found {bytes}"
            )));
        }
        let left = self.blob.len() - self.at;
        let data = self.blob.slice(self.at..self.at + u64::from(bytes)).ok_or_else(|| {
            Fault::Malformed(format!("{name}: expected {bytes} bytes, found {left} before the end of the file"))
        })?;
        self.at += u64::from(bytes);
        Ok(Stored { name, shape, dtype, data })
    }

    fn string(&mut self, what: &str) -> Result<String, Fault> {
        let bytes = usize::from(u16::from_le_bytes(self.array(what)?));
        let mut text = self.take(bytes, what)?;
        if text.pop() != Some(0) {
            return Err(Fault::Malformed(format!("expected {what} with a zero at its end")));
        }
        String::from_utf8(text).map_err(|error| Fault::Malformed(format!("{what}: {error}")))
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        Ok(self.take(N, what)?.try_into().expect("as many"))
    }

    /// The next bytes, which a u16 or a u8 has counted.
    fn take(&mut self, count: usize, what: &str) -> Result<Vec<u8>, Fault> {
        let left = self.blob.len() - self.at;
        if left < count as u64 {
            return Err(Fault::Malformed(format!(
                "expected {what} in {count} bytes, found {left} before the end of the file"
            )));
        }
        let mut bytes = vec![0; count];
        self.blob.read_at(self.at, &mut bytes).map_err(Fault::Io)?;
        self.at += count as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(parts: &[&[u8]]) -> Result<ModelFile, ExportError> {
        let home = tempfile::tempdir().expect("temporary folder");
        let path = home.path().join(FILE);
        std::fs::write(&path, parts.concat()).expect("written");
        ModelFile::open(&path)
    }

    fn string(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, text);
        bytes
    }

    /// One variable `[2, 3]` of i8, and an alias.
    fn whole() -> Vec<u8> {
        let head =
            [&6_u32.to_le_bytes()[..], &string("TransformerSpec"), &7_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
        let shape = [2_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        let variable = [&string("a")[..], &[2], &shape, &[1], &6_u32.to_le_bytes(), &[1, 2, 3, 4, 5, 6]].concat();
        let aliases = [&1_u32.to_le_bytes()[..], &string("b"), &string("a")].concat();
        [head, variable, aliases].concat()
    }

    #[test]
    fn a_file_is_read_whole_and_no_beginning_of_it_is() {
        let bytes = whole();
        let read = file(&[&bytes]).expect("whole");
        let [variable] = &read.variables[..] else { panic!("{read:?}") };
        assert_eq!((read.spec.0.as_str(), read.spec.1), ("TransformerSpec", 7));
        assert_eq!((variable.name.as_str(), &variable.shape[..], variable.dtype), ("a", &[2, 3][..], Dtype::I8));
        assert_eq!(variable.data.read().expect("in memory"), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read.aliases, [("b".to_owned(), "a".to_owned())]);
        for cut in 0..bytes.len() {
            let error = file(&[&bytes[..cut]]).expect_err("cut off").to_string();
            assert!(error.contains("before the end of the file"), "{cut}: {error}");
        }
        let error = file(&[&bytes, &[0]]).expect_err("longer").to_string();
        assert!(error.ends_with("expected the end of the file, found 1 bytes more"), "{error}");
    }

    #[test]
    fn what_a_file_says_of_sizes_is_not_believed() {
        let bytes = whole();
        // The version, the count of variables, the first dimension, the type, the length.
        let places = [
            (0, 5, "expected version 6, found 5"),
            (26, 2, "at byte "),
            (35, 255, "a: expected as many bytes as [255, 3] of I8 take, found 6"),
            (43, 9, "a: expected a type from 0 to 5, found 9"),
            (44, 7, "a: expected as many bytes as [2, 3] of I8 take, found 7"),
        ];
        for (at, byte, expected) in places {
            let mut changed = bytes.clone();
            changed[at] = byte;
            let error = file(&[&changed]).expect_err("refused").to_string();
            assert!(error.contains(expected), "{at}: {error}");
        }
        let huge = [&6_u32.to_le_bytes()[..], &string("s"), &[0; 4], &u32::MAX.to_le_bytes()];
        let error = file(&huge).expect_err("refused").to_string();
        assert!(error.contains("expected the name of a variable in 2 bytes, found 0"), "{error}");
    }
}
