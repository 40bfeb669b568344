//! The weights of an artifact, under the names of the checkpoint.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use graph::{AffineTensor, Blob, Block, FloatType, Quantized, Scratch, Weight, WeightData, Weights};
use half::f16;

use crate::error::OnnxError;
use crate::model::{Element, OnnxFile};
use crate::tensors::{offset, unpack};

/// A tensor of a file, its bytes still there.
#[derive(Clone)]
struct Stored {
    file: PathBuf,
    element: Element,
    dims: Vec<usize>,
    blob: Blob,
}

/// Every weight of `expected`, by name and shape, from `files`, which lie in `dir`. A weight that several files hold must be the
/// same in all. Errors: the first thing found wrong.
pub fn weights(expected: &Weights, dir: &Path, files: impl Iterator<Item = PathBuf>) -> Result<Weights, OnnxError> {
    let mut tensors: HashMap<String, Stored> = HashMap::new();
    let mut opened = HashMap::new();
    for file in files {
        for constant in OnnxFile::open_among(&file, &mut opened)?.initializers {
            if !matches!(
                constant.element,
                Element::FLOAT
                    | Element::FLOAT16
                    | Element::INT4
                    | Element::INT8
                    | Element::UINT8
                    | Element::UINT16
                    | Element::INT32
            ) {
                continue; // shapes and indices
            }
            let blob = constant.blob().clone();
            let stored = Stored { file: file.clone(), element: constant.element, dims: constant.dims, blob };
            match tensors.get(&constant.name) {
                None => drop(tensors.insert(constant.name, stored)),
                Some(known) => same(&constant.name, known, &stored)?,
            }
        }
    }
    let scratch = Scratch::new().map_err(OnnxError::io(dir))?;
    let mut out = Weights::default();
    for (_, weight) in expected.iter() {
        out.push(read(&weight.name, &weight.shape, &tensors, dir, &scratch)?);
    }
    Ok(out)
}

fn same(name: &str, a: &Stored, b: &Stored) -> Result<(), OnnxError> {
    let differs = || OnnxError::malformed(&b.file, format!("{name} differs from the one in {}", a.file.display()));
    if a.element != b.element || a.dims != b.dims || a.blob.len() != b.blob.len() {
        return Err(differs());
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    while at < a.blob.len() {
        let count = (a.blob.len() - at).min(left.len() as u64) as usize;
        a.blob.read_at(at, &mut left[..count]).map_err(OnnxError::io(&a.file))?;
        b.blob.read_at(at, &mut right[..count]).map_err(OnnxError::io(&b.file))?;
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
) -> Result<Weight, OnnxError> {
    let find = |suffix: &str| tensors.get(&format!("{name}{suffix}"));
    let weight = |data| Weight { name: name.to_owned(), shape: shape.to_vec(), data };
    if let Some(stored) = find("") {
        let dtype = match stored.element {
            Element::FLOAT => FloatType::F32,
            Element::FLOAT16 => FloatType::F16,
            other => return Err(OnnxError::malformed(&stored.file, format!("{name}: {other} is no float"))),
        };
        check_dims(name, stored, shape)?;
        return Ok(weight(WeightData::Stored { blob: stored.blob.clone(), dtype }));
    }
    let found = [("_quantized", 8), ("_Q8", 8), ("_Q4", 4)].into_iter().find_map(|(s, bits)| Some((s, bits, find(s)?)));
    let Some((suffix, bits, codes)) = found else {
        return Err(OnnxError::malformed(dir, format!("{name}: not in any of the graphs")));
    };
    let scales = find("_scale")
        .ok_or_else(|| OnnxError::malformed(&codes.file, format!("{name}: codes without {name}_scale")))?;
    if suffix == "_quantized" && (codes.element == Element::INT32 || scales.dims.is_empty()) {
        return Ok(weight(dequantized(name, codes, scales, find("_zero_point"), scratch)?));
    }
    let zeros = find("_zero_point");
    let &[n, e] = shape else {
        return Err(OnnxError::malformed(&codes.file, format!("{name}: expected a matrix of codes, found {shape:?}")));
    };
    if codes.element == Element::INT4 {
        check_dims(name, codes, &[n, e])?;
        check_dims(name, scales, &[n])?;
        if !zeros.is_some_and(|zeros| zeros.element == Element::INT4 && zeros.dims == [n] && is_zero(zeros)) {
            return Err(OnnxError::malformed(
                &codes.file,
                format!("{name}_zero_point: expected zeros of int4 that are 0"),
            ));
        }
        let codes = nibbles(codes, [n, e], scratch)?;
        let scales = read_scales(name, scales)?;
        let affine = AffineTensor { shape: [n, e], bits: 4, block: Block::Row, codes, scales, zeros: None };
        return Ok(weight(WeightData::Quantized(Quantized::Affine(affine))));
    }
    let (block, unsigned) = match suffix {
        "_quantized" => {
            check_dims(name, codes, &[n, e])?;
            (e.max(1), codes.element == Element::UINT8)
        }
        _ => {
            let block = codes.dims.get(2).copied().unwrap_or(0).saturating_mul(8 / bits);
            if block == 0 {
                return Err(OnnxError::malformed(
                    &codes.file,
                    format!("{name}{suffix}: expected blocks, found {:?}", codes.dims),
                ));
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
) -> Result<WeightData, OnnxError> {
    let failed = OnnxError::io(&codes.file);
    let width = match codes.element {
        Element::INT32 => 4,
        Element::UINT16 => 2,
        _ => 1,
    };
    let code = |bytes: &[u8]| match (codes.element, bytes) {
        (Element::INT32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]),
        (Element::INT8, &[a]) => i32::from(a.cast_signed()),
        (_, &[a, b]) => i32::from(u16::from_le_bytes([a, b])),
        (_, bytes) => bytes.first().map_or(0, |a| i32::from(*a)),
    };
    let mut units = vec![0.0; (scales.blob.len() / 4) as usize];
    let bytes = scales.blob.read().map_err(&failed)?;
    if scales.element != Element::FLOAT || units.is_empty() {
        return Err(OnnxError::malformed(
            &scales.file,
            format!("{name}_scale: expected f32, found {:?}", scales.element),
        ));
    }
    FloatType::F32.decode(&bytes, &mut units);
    let count = codes.blob.len() / width;
    if units.len() != 1 && units.len() as u64 != count {
        return Err(OnnxError::malformed(
            &scales.file,
            format!("{name}_scale: expected 1 or {count}, found {}", units.len()),
        ));
    }
    let zero = match zero {
        None => 0,
        Some(zero) if zero.element == codes.element => code(&zero.blob.read().map_err(&failed)?),
        Some(zero) => {
            let message = format!("{name}_zero_point: expected {:?}, found {:?}", codes.element, zero.element);
            return Err(OnnxError::malformed(&zero.file, message));
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

fn check_dims(name: &str, stored: &Stored, expected: &[usize]) -> Result<(), OnnxError> {
    match stored.dims == expected {
        true => Ok(()),
        false => {
            Err(OnnxError::malformed(&stored.file, format!("{name}: expected {expected:?}, found {:?}", stored.dims)))
        }
    }
}

/// Codes as the graph holds them, one `i8` a weight, without the padding of the last block.
fn signed(bits: u8, codes: &Stored, [n, e]: [usize; 2], block: usize, scratch: &Scratch) -> Result<Blob, OnnxError> {
    let failed = OnnxError::io(&codes.file);
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

fn is_zero(stored: &Stored) -> bool {
    stored.blob.read().is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}

/// Signed codes of 4 bits, two neighbours a byte, as the graph holds them, one `i8` a weight.
fn nibbles(codes: &Stored, [n, e]: [usize; 2], scratch: &Scratch) -> Result<Blob, OnnxError> {
    let failed = OnnxError::io(&codes.file);
    let count = n * e;
    let range = scratch.reserve(count as u64).map_err(&failed)?;
    let mut packed = vec![0; 1 << 16];
    let mut at = 0;
    while at < codes.blob.len() {
        let piece = &mut packed[..(codes.blob.len() - at).min(1 << 16) as usize];
        codes.blob.read_at(at, piece).map_err(&failed)?;
        let mut unpacked = Vec::with_capacity(2 * piece.len());
        unpack(4, piece, &mut unpacked);
        let first = 2 * at as usize;
        unpacked.truncate(count - first);
        // The sign is the highest of four bits.
        unpacked.iter_mut().for_each(|code| *code = ((*code << 4).cast_signed() >> 4).cast_unsigned());
        range.write_at(first as u64, &unpacked).map_err(&failed)?;
        at += piece.len() as u64;
    }
    Ok(range.into_blob())
}

/// Scales, which the graph holds in f16 and the file in f32.
fn read_scales(name: &str, stored: &Stored) -> Result<Vec<f16>, OnnxError> {
    let bytes = stored.blob.read().map_err(OnnxError::io(&stored.file))?;
    let mut floats = vec![0.0; bytes.len() / 4];
    if stored.element != Element::FLOAT {
        return Err(OnnxError::malformed(
            &stored.file,
            format!("{name}_scale: expected float, found {}", stored.element),
        ));
    }
    FloatType::F32.decode(&bytes, &mut floats);
    let exact = |x: &f32| {
        let half = f16::from_f32(*x);
        (half.to_f32() == *x && half.is_finite()).then_some(half)
    };
    let scales: Option<Vec<f16>> = floats.iter().map(exact).collect();
    scales.ok_or_else(|| OnnxError::malformed(&stored.file, format!("{name}_scale: a scale that f16 does not hold")))
}

fn read_zeros(
    name: &str,
    stored: &Stored,
    bits: u8,
    unsigned: bool,
    [n, per_row]: [usize; 2],
) -> Result<Vec<i8>, OnnxError> {
    let row_bytes = (per_row * usize::from(bits)).div_ceil(8);
    let bytes = stored.blob.read().map_err(OnnxError::io(&stored.file))?;
    if Some(bytes.len()) != n.checked_mul(row_bytes) {
        return Err(OnnxError::malformed(
            &stored.file,
            format!("{name}_zero_point: expected {n} rows of {row_bytes} bytes"),
        ));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Layout;

    #[test]
    fn codes_of_4_bits_come_back_also_where_a_row_ends_within_a_byte() {
        let codes: Vec<i8> = vec![-8, 7, -1, 0, 3, -4, 5, 1, -2];
        let bytes: Vec<u8> = codes.iter().map(|code| code.cast_unsigned()).collect();
        let affine = AffineTensor {
            shape: [3, 3],
            bits: 4,
            block: Block::Row,
            codes: Blob::memory(bytes.clone()),
            scales: vec![f16::ONE; 3],
            zeros: None,
        };
        let data = WeightData::Quantized(Quantized::Affine(affine));
        let weight = Weight { name: "w".to_owned(), shape: vec![3, 3], data };
        let [codes, _, zeros] = &Layout::Nibbles.parts(&weight)[..] else { panic!("three parts") };
        let stored = |part: &crate::tensors::Part| {
            let mut written = Vec::new();
            part.write(&weight, &mut written).expect("written");
            assert_eq!(written.len() as u64, part.bytes());
            let (element, blob) = (Element::INT4, Blob::memory(written));
            Stored { file: PathBuf::new(), element, dims: part.dims.clone(), blob }
        };
        assert_eq!(stored(codes).blob.read().expect("there"), [0x78, 0x0f, 0xc3, 0x15, 0x0e]);
        let scratch = Scratch::new().expect("temporary folder");
        assert_eq!(nibbles(&stored(codes), [3, 3], &scratch).expect("read").read().expect("there"), bytes);
        assert!(is_zero(&stored(zeros)) && !is_zero(&stored(codes)));
    }
}
