//! The header of a safetensors file, read strictly.
//!
//! A file is a u64 length, that many bytes of JSON, and the data. Every byte of the data belongs to exactly one tensor,
//! so a file cannot hide bytes, and two tensors cannot share any.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use graph::Blob;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::error::CheckpointError;
use crate::json::Unique;
use crate::limits::SAFETENSORS_HEADER_BYTES;

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Element type in the format's words, as `F32`.
    pub dtype: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Row-major little-endian elements.
    pub bytes: Blob,
}

/// The tensors of a file in the order of their data. No data is read.
///
/// Errors: a header longer than the file or 100 MB, JSON that is not a header, a name that comes twice, a shape that does
/// not span its offsets, offsets that overlap, leave a gap or end elsewhere than the file.
pub fn entries(file: &Path) -> Result<Vec<Entry>, CheckpointError> {
    let malformed = |message: String| CheckpointError::malformed(file, message);
    let blob = Blob::open(file).map_err(CheckpointError::io(file))?;
    let mut length = [0; 8];
    if blob.len() < 8 {
        return Err(malformed(format!("expected 8 bytes of header length, found {} bytes", blob.len())));
    }
    blob.read_at(0, &mut length).map_err(CheckpointError::io(file))?;
    let (length, rest) = (u64::from_le_bytes(length), blob.len() - 8);
    if length > rest.min(SAFETENSORS_HEADER_BYTES) {
        let limit = format!("the file has {rest} more and the format allows {SAFETENSORS_HEADER_BYTES}");
        return Err(malformed(format!("the header claims {length} bytes; {limit}")));
    }
    let mut json = vec![0; length as usize];
    blob.read_at(8, &mut json).map_err(CheckpointError::io(file))?;
    if json.first() != Some(&b'{') {
        return Err(malformed("expected the header to start with {".into()));
    }
    let header: Header =
        serde_json::from_slice(&json).map_err(|e| malformed(format!("the header is not valid: {e}")))?;

    let data = blob.slice(8 + length..blob.len()).expect("the header lies inside the file");
    let mut tensors = Vec::new();
    for (name, tensor) in header.0 {
        let range = tensor.check(data.len()).map_err(|message| malformed(format!("{name}: {message}")))?;
        tensors.push((range, name, tensor));
    }
    tensors.sort_by_key(|(range, ..)| (range.start, range.end));
    let (mut end, mut before) = (0, "the header");
    for (range, name, _) in &tensors {
        if range.start < end {
            return Err(malformed(format!("{name}: its data at {range:?} overlaps {before}, which ends at {end}")));
        }
        if range.start > end {
            let hole = range.start - end;
            return Err(malformed(format!("{hole} bytes between {before} and {name} belong to no tensor")));
        }
        (end, before) = (range.end, name);
    }
    if end != data.len() {
        return Err(malformed(format!("{} bytes after {before} belong to no tensor", data.len() - end)));
    }
    let entry = |(range, name, tensor): (Range<u64>, String, HeaderTensor)| Entry {
        name,
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes: data.slice(range).expect("checked against the length of the data"),
    };
    Ok(tensors.into_iter().map(entry).collect())
}

/// Tensors by name in the order of the header; the free text under `__metadata__` is checked and dropped.
struct Header(Vec<(String, HeaderTensor)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl HeaderTensor {
    /// Where the data lies, once dtype, shape, offsets and the length of the data agree.
    fn check(&self, data_len: u64) -> Result<Range<u64>, String> {
        let HeaderTensor { dtype, shape, data_offsets: [start, end] } = self;
        let bits = bits(dtype).ok_or_else(|| format!("expected an element type of safetensors, found {dtype:?}"))?;
        if start > end || *end > data_len {
            return Err(format!("expected offsets inside the {data_len} bytes of data, found {start}..{end}"));
        }
        let elements = shape.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim as u64));
        match elements.and_then(|n| n.checked_mul(bits)) {
            Some(total) if total == (end - start) * 8 => Ok(*start..*end),
            Some(total) => {
                Err(format!("{dtype} {shape:?} takes {} bytes, its offsets span {}", total / 8, end - start))
            }
            None => Err(format!("{dtype} {shape:?} is longer than any file")),
        }
    }
}

/// Bits an element of a type takes.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut tensors, mut seen) = (Vec::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name} comes twice")));
            }
            let within = |e| A::Error::custom(format!("{name}: {e}"));
            if name == "__metadata__" {
                let Unique::<String>(_) = map.next_value().map_err(within)?;
            } else {
                tensors.push((name.clone(), map.next_value().map_err(within)?));
            }
        }
        Ok(Header(tensors))
    }
}
