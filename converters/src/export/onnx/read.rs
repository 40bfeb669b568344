//! The weights of an artifact, under the names of the checkpoint.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use graph::{AffineTensor, Blob, Block, FloatType, Quantized, Scratch, Weight, WeightData, Weights};
use half::f16;
use prost::Message;
use prost::bytes::Bytes;

use super::onnx::tensor_proto::{DataLocation, DataType};
use super::onnx::{ModelProto, TensorProto};
use super::tensors::{offset, unpack};
use crate::ExportError;

// protobuf's own limit; a larger file is not ONNX.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// A tensor of a file, its bytes still there.
#[derive(Clone)]
struct Stored {
    file: PathBuf,
    dtype: DataType,
    dims: Vec<usize>,
    blob: Blob,
}

fn malformed(file: &Path, message: impl Into<String>) -> ExportError {
    ExportError::Malformed { file: file.to_owned(), message: message.into() }
}

fn io_error(file: &Path) -> impl Fn(io::Error) -> ExportError {
    let file = file.to_owned();
    move |source| ExportError::Io { file: file.clone(), source }
}

/// Every weight of `expected`, by name and shape, from `files`, which lie in `dir`. A weight that several files hold must be the
/// same in all. Errors: the first thing found wrong.
pub(in crate::export) fn weights(
    expected: &Weights,
    dir: &Path,
    files: impl Iterator<Item = PathBuf>,
) -> Result<Weights, ExportError> {
    let mut tensors: HashMap<String, Stored> = HashMap::new();
    let mut opened = HashMap::new();
    for file in files {
        for (name, stored) in initializers(dir, &file, &mut opened)? {
            match tensors.get(&name) {
                None => drop(tensors.insert(name, stored)),
                Some(known) => same(&name, known, &stored)?,
            }
        }
    }
    let scratch = Scratch::new().map_err(io_error(dir))?;
    let mut out = Weights::default();
    for (_, weight) in expected.iter() {
        out.push(read(&weight.name, &weight.shape, &tensors, dir, &scratch)?);
    }
    Ok(out)
}

/// The initializers of one graph.
fn initializers(
    dir: &Path,
    file: &Path,
    opened: &mut HashMap<PathBuf, Blob>,
) -> Result<Vec<(String, Stored)>, ExportError> {
    let whole = Blob::open(file).map_err(io_error(file))?;
    if whole.len() > MAX_FILE_BYTES {
        return Err(malformed(file, format!("{} bytes, but protobuf ends at {MAX_FILE_BYTES}", whole.len())));
    }
    let bytes = Bytes::from(fs::read(file).map_err(io_error(file))?);
    let start = bytes.as_ptr() as usize;
    let model = ModelProto::decode(bytes.clone()).map_err(|e| malformed(file, format!("not an ONNX model: {e}")))?;
    let graph = model.graph.ok_or_else(|| malformed(file, "a model without a graph"))?;
    let mut out = Vec::new();
    for proto in graph.initializer {
        let name = proto.name.clone().unwrap_or_default();
        let at = |message: String| malformed(file, format!("{name}: {message}"));
        let dtype = DataType::try_from(proto.data_type.unwrap_or(0))
            .map_err(|e| at(format!("an element type that ONNX lacks: {e}")))?;
        let width = match dtype {
            DataType::Float => 4u64,
            DataType::Int32 => 4,
            DataType::Float16 | DataType::Uint16 => 2,
            DataType::Int8 | DataType::Uint8 => 1,
            _ => continue, // shapes and indices
        };
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
        let expected =
            dims.as_ref().and_then(|dims| dims.iter().try_fold(width, |total, d| total.checked_mul(*d as u64)));
        let (Some(dims), Some(expected)) = (dims, expected) else {
            return Err(at(format!("dimensions {:?} are no shape", proto.dims)));
        };
        let blob = match (&proto.raw_data, proto.data_location == Some(DataLocation::External as i32)) {
            (_, true) => external(dir, file, &name, &proto, opened)?,
            (Some(raw), false) => {
                // prost slices the buffer it decodes from, so the address tells the place in the file.
                let offset = (raw.as_ptr() as usize).wrapping_sub(start) as u64;
                let inside = offset.checked_add(raw.len() as u64).and_then(|end| whole.slice(offset..end));
                if raw.is_empty() {
                    Blob::memory([])
                } else {
                    inside.ok_or_else(|| at("bytes outside the file".into()))?
                }
            }
            (None, false) => return Err(at("no raw bytes".to_owned())),
        };
        if blob.len() != expected {
            return Err(at(format!("expected {expected} bytes for {dims:?}, found {}", blob.len())));
        }
        out.push((name, Stored { file: file.to_owned(), dtype, dims, blob }));
    }
    Ok(out)
}

/// Bytes beside the graph; a file is opened once.
fn external(
    dir: &Path,
    file: &Path,
    name: &str,
    proto: &TensorProto,
    opened: &mut HashMap<PathBuf, Blob>,
) -> Result<Blob, ExportError> {
    let value = |key: &str| {
        let entry = proto.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
        entry.and_then(|entry| entry.value.clone())
    };
    let at = |message: String| malformed(file, format!("{name}: {message}"));
    let location = value("location").ok_or_else(|| at("external data without a location".to_owned()))?;
    // A file elsewhere is none of this artifact's.
    if !matches!(Path::new(&location).components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]) {
        return Err(at(format!("external data at {location:?}, outside the folder")));
    }
    let data_file = dir.join(&location);
    if !opened.contains_key(&data_file) {
        opened.insert(data_file.clone(), Blob::open(&data_file).map_err(io_error(&data_file))?);
    }
    let whole = &opened[&data_file];
    let number = |key: &str, default: u64| match value(key) {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| at(format!("{key} {text:?} is no number"))),
    };
    let offset = number("offset", 0)?;
    let length = number("length", whole.len().saturating_sub(offset))?;
    let end = offset.checked_add(length);
    end.and_then(|end| whole.slice(offset..end))
        .ok_or_else(|| at(format!("{length} bytes at {offset} lie outside {location} of {} bytes", whole.len())))
}

fn same(name: &str, a: &Stored, b: &Stored) -> Result<(), ExportError> {
    let differs = || malformed(&b.file, format!("{name} differs from the one in {}", a.file.display()));
    if a.dtype != b.dtype || a.dims != b.dims || a.blob.len() != b.blob.len() {
        return Err(differs());
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    while at < a.blob.len() {
        let count = (a.blob.len() - at).min(left.len() as u64) as usize;
        a.blob.read_at(at, &mut left[..count]).map_err(io_error(&a.file))?;
        b.blob.read_at(at, &mut right[..count]).map_err(io_error(&b.file))?;
        if left[..count] != right[..count] {
            return Err(differs());
        }
        at += count as u64;
    }
    Ok(())
}

fn read(
    name: &str,
    shape: &[usize],
    tensors: &HashMap<String, Stored>,
    dir: &Path,
    scratch: &Scratch,
) -> Result<Weight, ExportError> {
    let find = |suffix: &str| tensors.get(&format!("{name}{suffix}"));
    let weight = |data| Weight { name: name.to_owned(), shape: shape.to_vec(), data };
    if let Some(stored) = find("") {
        let dtype = match stored.dtype {
            DataType::Float => FloatType::F32,
            DataType::Float16 => FloatType::F16,
            other => return Err(malformed(&stored.file, format!("{name}: {other:?} is no float"))),
        };
        check_dims(name, stored, shape)?;
        return Ok(weight(WeightData::Stored { blob: stored.blob.clone(), dtype }));
    }
    let found = [("_quantized", 8), ("_Q8", 8), ("_Q4", 4)].into_iter().find_map(|(s, bits)| Some((s, bits, find(s)?)));
    let Some((suffix, bits, codes)) = found else {
        return Err(malformed(dir, format!("{name}: not in any of the graphs")));
    };
    let scales = find("_scale").ok_or_else(|| malformed(&codes.file, format!("{name}: codes without {name}_scale")))?;
    if suffix == "_quantized" && (codes.dtype == DataType::Int32 || scales.dims.is_empty()) {
        return Ok(weight(dequantized(name, codes, scales, find("_zero_point"), scratch)?));
    }
    let zeros = find("_zero_point");
    let &[n, e] = shape else {
        return Err(malformed(&codes.file, format!("{name}: expected a matrix of codes, found {shape:?}")));
    };
    let (block, unsigned) = match suffix {
        "_quantized" => {
            check_dims(name, codes, &[n, e])?;
            (e.max(1), codes.dtype == DataType::Uint8)
        }
        _ => {
            let block = codes.dims.get(2).copied().unwrap_or(0).saturating_mul(8 / bits);
            if block == 0 {
                return Err(malformed(&codes.file, format!("{name}{suffix}: expected blocks, found {:?}", codes.dims)));
            }
            check_dims(name, codes, &[n, e.div_ceil(block), block * bits / 8])?;
            (block, true)
        }
    };
    let per_row = e.div_ceil(block);
    let scale_dims: &[usize] = if suffix == "_quantized" { &[n] } else { &[n, per_row] };
    check_dims(name, scales, scale_dims)?;
    let affine = AffineTensor {
        shape: [n, e],
        bits: bits as u8,
        block: if suffix == "_quantized" { Block::Row } else { Block::Group(block) },
        codes: if unsigned { signed(bits as u8, codes, [n, e], block, scratch)? } else { codes.blob.clone() },
        scales: read_scales(name, scales)?,
        zeros: zeros.map(|zeros| read_zeros(name, zeros, bits as u8, unsigned, [n, per_row])).transpose()?,
    };
    Ok(weight(WeightData::Quantized(Quantized::Affine(affine))))
}

/// Codes with one scale for all, or of 32 bits with one each, as the floats that they mean.
fn dequantized(
    name: &str,
    codes: &Stored,
    scales: &Stored,
    zero: Option<&Stored>,
    scratch: &Scratch,
) -> Result<WeightData, ExportError> {
    let failed = io_error(&codes.file);
    let width = match codes.dtype {
        DataType::Int32 => 4,
        DataType::Uint16 => 2,
        _ => 1,
    };
    let code = |bytes: &[u8]| match (codes.dtype, bytes) {
        (DataType::Int32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]),
        (DataType::Int8, &[a]) => i32::from(a.cast_signed()),
        (_, &[a, b]) => i32::from(u16::from_le_bytes([a, b])),
        (_, bytes) => bytes.first().map_or(0, |a| i32::from(*a)),
    };
    let mut units = vec![0.0; (scales.blob.len() / 4) as usize];
    let bytes = scales.blob.read().map_err(&failed)?;
    if scales.dtype != DataType::Float || units.is_empty() {
        return Err(malformed(&scales.file, format!("{name}_scale: expected f32, found {:?}", scales.dtype)));
    }
    FloatType::F32.decode(&bytes, &mut units);
    let count = codes.blob.len() / width;
    if units.len() != 1 && units.len() as u64 != count {
        return Err(malformed(&scales.file, format!("{name}_scale: expected 1 or {count}, found {}", units.len())));
    }
    let zero = match zero {
        None => 0,
        Some(zero) if zero.dtype == codes.dtype => code(&zero.blob.read().map_err(&failed)?),
        Some(zero) => {
            let message = format!("{name}_zero_point: expected {:?}, found {:?}", codes.dtype, zero.dtype);
            return Err(malformed(&zero.file, message));
        }
    };
    let range = scratch.reserve(4 * count).map_err(&failed)?;
    let mut bytes = vec![0; 1 << 16];
    let mut at = 0;
    while at < codes.blob.len() {
        let piece = &mut bytes[..(codes.blob.len() - at).min(1 << 16) as usize];
        codes.blob.read_at(at, piece).map_err(&failed)?;
        let first = (at / width) as usize;
        let float = |(i, bytes): (usize, &[u8])| {
            let unit = if units.len() == 1 { units[0] } else { units[first + i] };
            (code(bytes) - zero) as f32 * unit
        };
        let floats: Vec<f32> = piece.chunks(width as usize).enumerate().map(float).collect();
        let mut out = vec![0; 4 * floats.len()];
        FloatType::F32.encode(&floats, &mut out);
        range.write_at(4 * at / width, &out).map_err(&failed)?;
        at += piece.len() as u64;
    }
    Ok(WeightData::Stored { blob: range.into_blob(), dtype: FloatType::F32 })
}

fn check_dims(name: &str, stored: &Stored, expected: &[usize]) -> Result<(), ExportError> {
    match stored.dims == expected {
        true => Ok(()),
        false => Err(malformed(&stored.file, format!("{name}: expected {expected:?}, found {:?}", stored.dims))),
    }
}

/// Codes as the graph holds them, one `i8` a weight, without the padding of the last block.
fn signed(bits: u8, codes: &Stored, [n, e]: [usize; 2], block: usize, scratch: &Scratch) -> Result<Blob, ExportError> {
    let failed = io_error(&codes.file);
    let row_bytes = match n {
        0 => 0,
        n => (codes.blob.len() / n as u64) as usize,
    };
    let range = scratch.reserve((n * e) as u64).map_err(&failed)?;
    let (mut packed, mut row) = (vec![0; row_bytes], Vec::with_capacity(e.next_multiple_of(block)));
    for i in 0..n {
        codes.blob.read_at((i * row_bytes) as u64, &mut packed).map_err(&failed)?;
        row.clear();
        unpack(bits, &packed, &mut row);
        row.truncate(e);
        row.iter_mut().for_each(|code| *code = code.wrapping_sub(offset(bits).cast_unsigned()));
        range.write_at((i * e) as u64, &row).map_err(&failed)?;
    }
    Ok(range.into_blob())
}

/// Scales, which the graph holds in f16 and the file in f32.
fn read_scales(name: &str, stored: &Stored) -> Result<Vec<f16>, ExportError> {
    let bytes = stored.blob.read().map_err(io_error(&stored.file))?;
    let mut floats = vec![0.0; bytes.len() / 4];
    if stored.dtype != DataType::Float {
        return Err(malformed(&stored.file, format!("{name}_scale: expected f32, found {:?}", stored.dtype)));
    }
    FloatType::F32.decode(&bytes, &mut floats);
    let exact = |x: &f32| {
        let half = f16::from_f32(*x);
        (half.to_f32() == *x && half.is_finite()).then_some(half)
    };
    let scales: Option<Vec<f16>> = floats.iter().map(exact).collect();
    scales.ok_or_else(|| malformed(&stored.file, format!("{name}_scale: a scale that f16 does not hold")))
}

fn read_zeros(
    name: &str,
    stored: &Stored,
    bits: u8,
    unsigned: bool,
    [n, per_row]: [usize; 2],
) -> Result<Vec<i8>, ExportError> {
    let row_bytes = (per_row * usize::from(bits)).div_ceil(8);
    let bytes = stored.blob.read().map_err(io_error(&stored.file))?;
    if Some(bytes.len()) != n.checked_mul(row_bytes) {
        return Err(malformed(&stored.file, format!("{name}_zero_point: expected {n} rows of {row_bytes} bytes")));
    }
    let shift = if unsigned { offset(bits).cast_unsigned() } else { 0 };
    let mut zeros = Vec::with_capacity(n * per_row);
    for row in bytes.chunks(row_bytes.max(1)) {
        let mut unpacked = Vec::new();
        unpack(bits, row, &mut unpacked);
        zeros.extend(unpacked[..per_row].iter().map(|zero| zero.wrapping_sub(shift).cast_signed()));
    }
    Ok(zeros)
}
