//! The file: magic, counts, metadata, tensor table, padding, tensor data. All numbers little-endian.
//!
//! Source: docs/gguf.md and ggml/src/gguf.cpp of llama.cpp (llama-cpp-sys-2 0.1.161).

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;

use graph::{Blob, FloatType, GgmlType};

use super::value::{ARRAY_ID, Array, Value};
use crate::error::CheckpointError;
use crate::limits::{GGUF_HEADER_BYTES, GGUF_KEY_BYTES};

/// The first four bytes.
pub const MAGIC: &[u8; 4] = b"GGUF";
/// Bytes that a tensor starts at a multiple of, unless `general.alignment` says otherwise.
pub const ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor (`GGML_MAX_DIMS`).
pub const MAX_DIMS: u32 = 4;

/// What the elements of a tensor are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TensorType {
    /// Floats.
    Float(FloatType),
    /// Blocks of ggml.
    Ggml(GgmlType),
}

impl TensorType {
    /// `F32`, `Q8_0`, as ggml writes it.
    pub fn name(self) -> &'static str {
        match self {
            TensorType::Float(FloatType::F32) => "F32",
            TensorType::Float(FloatType::F16) => "F16",
            TensorType::Float(FloatType::BF16) => "BF16",
            TensorType::Ggml(kind) => kind.name(),
        }
    }

    /// The number in the tensor table (`enum ggml_type` in ggml.h).
    pub fn id(self) -> u32 {
        match self {
            TensorType::Float(FloatType::F32) => 0,
            TensorType::Float(FloatType::F16) => 1,
            TensorType::Float(FloatType::BF16) => 30,
            TensorType::Ggml(kind) => kind.gguf_id(),
        }
    }

    /// The type with this [`id`](Self::id).
    pub fn from_id(id: u32) -> Option<TensorType> {
        match id {
            0 => Some(TensorType::Float(FloatType::F32)),
            1 => Some(TensorType::Float(FloatType::F16)),
            30 => Some(TensorType::Float(FloatType::BF16)),
            _ => GgmlType::from_gguf_id(id).map(TensorType::Ggml),
        }
    }

    /// Elements that stand together; a row is a multiple of it.
    pub fn block_len(self) -> usize {
        match self {
            TensorType::Float(_) => 1,
            TensorType::Ggml(kind) => kind.block_len(),
        }
    }

    /// Bytes of a tensor of this shape; `None` when rows do not divide into blocks or the number does not fit.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        let elements = shape.iter().try_fold(1_u64, |n, dim| n.checked_mul(*dim as u64))?;
        let (len, bytes) = match self {
            TensorType::Float(dtype) => (1, dtype.bytes()),
            TensorType::Ggml(kind) => (kind.block_len(), kind.block_bytes()),
        };
        let row = shape.last().copied().unwrap_or(1);
        row.is_multiple_of(len).then(|| (elements / len as u64).checked_mul(bytes as u64))?
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An opened file: metadata in the order of the file, and a table of tensors whose bytes stay on disk.
#[derive(Debug)]
pub struct GgufFile {
    /// 2 or 3, which differ in nothing that matters on a little-endian machine.
    pub version: u32,
    /// Keys and values in the order of the file.
    pub metadata: Vec<(String, Value)>,
    /// Tensors in the order of the file.
    pub tensors: Vec<TensorEntry>,
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Its name, for example `enc.blk.0.attn_q.weight`.
    pub name: String,
    /// Outermost first, the reverse of the file's order.
    pub shape: Vec<usize>,
    /// What its elements are.
    pub kind: TensorType,
    /// Where its bytes start in the file.
    pub offset_bytes: u64,
    /// Its bytes.
    pub data: Blob,
}

impl GgufFile {
    /// Reads the metadata and the tensor table, and checks every count, length and offset against the size of the file
    /// before it is used. Errors: [`CheckpointError::Malformed`] with the place, or with all faults of the tensor table.
    pub fn open(path: &Path) -> Result<GgufFile, CheckpointError> {
        let blob = Blob::open(path).map_err(|source| CheckpointError::Io { file: path.to_owned(), source })?;
        read(&blob).map_err(|fault| match fault {
            Fault::Io(source) => CheckpointError::Io { file: path.to_owned(), source },
            Fault::Says(message) => CheckpointError::Malformed { file: path.to_owned(), message },
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The tensor with a name.
    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

enum Fault {
    Io(io::Error),
    Says(String),
}

fn says<T>(message: String) -> Result<T, Fault> {
    Err(Fault::Says(message))
}

fn read(blob: &Blob) -> Result<GgufFile, Fault> {
    let mut head = Cursor { blob, at: 0, end: blob.len().min(GGUF_HEADER_BYTES), window: Vec::new(), start: 0 };
    let magic: [u8; 4] = head.array(&"the magic")?;
    if &magic != MAGIC {
        return says(format!("expected the magic {:?}, found {:?}", "GGUF", String::from_utf8_lossy(&magic)));
    }
    let version = head.u32(&"the version")?;
    if !matches!(version, 2 | 3) {
        let big_endian = if matches!(version.swap_bytes(), 1..=3) { " (a big-endian file)" } else { "" };
        return says(format!("expected version 2 or 3, found {version}{big_endian}"));
    }
    let tensor_count = head.u64(&"the number of tensors")?;
    let key_count = head.u64(&"the number of metadata keys")?;
    // The shortest key takes 13 bytes and the shortest tensor 24, so the counts cannot promise more than the file holds.
    head.holds(key_count, 13, &"metadata keys")?;
    head.holds(tensor_count, 24, &"tensors")?;

    let mut metadata = Vec::new();
    let mut keys = HashSet::new();
    for index in 0..key_count {
        let key = head.string(&format_args!("metadata key {index}"))?;
        if key.len() as u64 > GGUF_KEY_BYTES {
            let found = key.len();
            return says(format!("metadata key {index}: expected at most {GGUF_KEY_BYTES} bytes, found {found}"));
        }
        let id = head.u32(&format_args!("the type of {key}"))?;
        let value = head.value(id, &key)?;
        if !keys.insert(key.clone()) {
            return says(format!("the metadata key {key} appears twice"));
        }
        metadata.push((key, value));
    }
    let mut table = Vec::new();
    for index in 0..tensor_count {
        table.push(head.tensor(&format_args!("tensor {index}"))?);
    }
    let alignment = match metadata.iter().find(|(key, _)| key == "general.alignment") {
        None => ALIGNMENT,
        Some((_, Value::U32(n))) if n.is_power_of_two() => u64::from(*n),
        Some((_, other)) => return says(format!("general.alignment: expected a u32 power of two, found {other:?}")),
    };
    let tensors = place(blob, table, head.at.next_multiple_of(alignment), alignment)?;
    Ok(GgufFile { version, metadata, tensors })
}

/// A row of the tensor table, before its offset is trusted.
struct Row {
    name: String,
    shape: Vec<usize>,
    kind: TensorType,
    offset: u64,
    bytes: u64,
}

/// Gives each tensor its bytes. Errors: all tensors that are misplaced.
fn place(blob: &Blob, table: Vec<Row>, data_start: u64, alignment: u64) -> Result<Vec<TensorEntry>, Fault> {
    let mut faults = Vec::new();
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for Row { name, shape, kind, offset, bytes } in table {
        if !names.insert(name.clone()) {
            faults.push(format!("{name} appears twice"));
        }
        if !offset.is_multiple_of(alignment) {
            faults.push(format!("{name}: expected an offset that is a multiple of {alignment}, found {offset}"));
        }
        let start = data_start.checked_add(offset);
        let range = start.and_then(|start| Some(start..start.checked_add(bytes)?));
        match range.and_then(|range| Some((range.start, blob.slice(range)?))) {
            Some((offset_bytes, data)) => tensors.push(TensorEntry { name, shape, kind, offset_bytes, data }),
            None => faults.push(format!(
                "{name}: expected {bytes} bytes at {data_start} + {offset}, found a file of {} bytes",
                blob.len()
            )),
        }
    }
    let end = |t: &TensorEntry| t.offset_bytes + t.data.len();
    let mut by_start: Vec<&TensorEntry> = tensors.iter().filter(|t| !t.data.is_empty()).collect();
    by_start.sort_by_key(|t| t.offset_bytes);
    let mut furthest: Option<&TensorEntry> = None;
    for tensor in by_start {
        match furthest {
            Some(before) if end(before) > tensor.offset_bytes => {
                faults.push(format!("{} and {} overlap", before.name, tensor.name));
            }
            _ => {}
        }
        if furthest.is_none_or(|before| end(before) < end(tensor)) {
            furthest = Some(tensor);
        }
    }
    match faults.is_empty() {
        true => Ok(tensors),
        false => says(faults.join("; ")),
    }
}

/// A place in the header; every read is checked against its end.
struct Cursor<'a> {
    blob: &'a Blob,
    at: u64,
    end: u64,
    // Bytes of the file from `start` on, so that small reads do not each ask the system.
    window: Vec<u8>,
    start: u64,
}

impl Cursor<'_> {
    /// Refuses a count of things that take at least `bytes` each and cannot all be here.
    fn holds(&self, count: u64, bytes: u64, what: &dyn fmt::Display) -> Result<(), Fault> {
        let left = self.end - self.at;
        if count.checked_mul(bytes).is_some_and(|needed| needed <= left) {
            return Ok(());
        }
        let limit = match self.end < self.blob.len() {
            true => format!("{GGUF_HEADER_BYTES} bytes that a header may take"),
            false => "the file".to_owned(),
        };
        says(format!("at byte {}: expected {count} {what}, found {left} bytes to the end of {limit}", self.at))
    }

    fn take(&mut self, count: u64, what: &dyn fmt::Display) -> Result<&[u8], Fault> {
        self.holds(count, 1, &format_args!("bytes of {what}"))?;
        let in_window = self.at.checked_sub(self.start).filter(|skip| skip + count <= self.window.len() as u64);
        let skip = match in_window {
            Some(skip) => skip as usize,
            None => {
                let len = count.max(1 << 16).min(self.end - self.at);
                self.window.resize(len as usize, 0);
                self.start = self.at;
                self.blob.read_at(self.at, &mut self.window).map_err(Fault::Io)?;
                0
            }
        };
        self.at += count;
        Ok(&self.window[skip..skip + count as usize])
    }

    fn array<const N: usize>(&mut self, what: &dyn fmt::Display) -> Result<[u8; N], Fault> {
        Ok(*self.take(N as u64, what)?.first_chunk().expect("as many as asked for"))
    }

    fn u32(&mut self, what: &dyn fmt::Display) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &dyn fmt::Display) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn string(&mut self, what: &dyn fmt::Display) -> Result<String, Fault> {
        let len = self.u64(&format_args!("the length of {what}"))?;
        let at = self.at;
        match String::from_utf8(self.take(len, what)?.to_vec()) {
            Ok(text) => Ok(text),
            Err(_) => says(format!("at byte {at}: {what} is not UTF-8")),
        }
    }

    /// `count` numbers of `N` bytes.
    fn numbers<const N: usize, T>(
        &mut self,
        count: u64,
        key: &dyn fmt::Display,
        from: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Fault> {
        self.holds(count, N as u64, &format_args!("elements of {key}"))?;
        let bytes = self.take(count * N as u64, key)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|b| from(*b)).collect())
    }

    fn one<const N: usize, T>(&mut self, key: &dyn fmt::Display, from: fn([u8; N]) -> T) -> Result<T, Fault> {
        Ok(from(self.array(key)?))
    }

    fn bools(&mut self, count: u64, key: &dyn fmt::Display) -> Result<Vec<bool>, Fault> {
        let bytes = self.numbers(count, key, |[byte]| byte)?;
        match bytes.iter().find(|byte| **byte > 1) {
            None => Ok(bytes.into_iter().map(|byte| byte == 1).collect()),
            Some(byte) => says(format!("{key}: expected a bool of 0 or 1, found {byte}")),
        }
    }

    fn value(&mut self, id: u32, key: &dyn fmt::Display) -> Result<Value, Fault> {
        Ok(match id {
            0 => Value::U8(self.one(key, u8::from_le_bytes)?),
            1 => Value::I8(self.one(key, i8::from_le_bytes)?),
            2 => Value::U16(self.one(key, u16::from_le_bytes)?),
            3 => Value::I16(self.one(key, i16::from_le_bytes)?),
            4 => Value::U32(self.one(key, u32::from_le_bytes)?),
            5 => Value::I32(self.one(key, i32::from_le_bytes)?),
            6 => Value::F32(self.one(key, f32::from_le_bytes)?),
            7 => Value::Bool(self.bools(1, key)?[0]),
            8 => Value::String(self.string(key)?),
            ARRAY_ID => {
                let id = self.u32(&format_args!("the element type of {key}"))?;
                let count = self.u64(&format_args!("the length of {key}"))?;
                Value::Array(self.elements(id, count, key)?)
            }
            10 => Value::U64(self.one(key, u64::from_le_bytes)?),
            11 => Value::I64(self.one(key, i64::from_le_bytes)?),
            12 => Value::F64(self.one(key, f64::from_le_bytes)?),
            other => return says(format!("{key}: expected a value type of 0 to 12, found {other}")),
        })
    }

    fn elements(&mut self, id: u32, n: u64, key: &dyn fmt::Display) -> Result<Array, Fault> {
        Ok(match id {
            0 => Array::U8(self.numbers(n, key, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(n, key, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(n, key, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(n, key, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(n, key, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(n, key, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(n, key, f32::from_le_bytes)?),
            7 => Array::Bool(self.bools(n, key)?),
            8 => {
                self.holds(n, 8, &format_args!("strings of {key}"))?;
                Array::String((0..n).map(|i| self.string(&format_args!("{key}[{i}]"))).collect::<Result<_, _>>()?)
            }
            ARRAY_ID => return says(format!("{key}: arrays of arrays are not supported")),
            10 => Array::U64(self.numbers(n, key, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(n, key, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(n, key, f64::from_le_bytes)?),
            other => return says(format!("{key}: expected an element type of 0 to 12, found {other}")),
        })
    }

    fn tensor(&mut self, what: &dyn fmt::Display) -> Result<Row, Fault> {
        let name = self.string(&format_args!("the name of {what}"))?;
        let dims = self.u32(&format_args!("the rank of {name}"))?;
        if dims > MAX_DIMS {
            return says(format!("{name}: expected at most {MAX_DIMS} dimensions, found {dims}"));
        }
        let mut lengths = self.numbers(u64::from(dims), &format_args!("the shape of {name}"), u64::from_le_bytes)?;
        lengths.reverse();
        let id = self.u32(&format_args!("the type of {name}"))?;
        let offset = self.u64(&format_args!("the offset of {name}"))?;
        let Some(kind) = TensorType::from_id(id) else {
            return says(format!("{name}: the tensor type {id} is not supported"));
        };
        let shape: Option<Vec<usize>> = lengths.iter().map(|n| usize::try_from(*n).ok()).collect();
        let sized = shape.and_then(|shape| Some((kind.bytes(&shape)?, shape)));
        match sized {
            Some((bytes, shape)) => Ok(Row { name, shape, kind, offset, bytes }),
            None => says(format!("{name}: {lengths:?} is not a shape that {kind} can have")),
        }
    }
}
