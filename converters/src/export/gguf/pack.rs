//! A weight as GGUF's bytes: which type holds it exactly, and its rows in that type.

use graph::{AffineTensor, Blob, Block, FloatType, GgmlType, Quantized, Weight, WeightData, WeightError};

use checkpoint::gguf::{MAX_DIMS, TensorType};

use super::container::{CHUNK_BYTES, Sink};
use crate::dialect::TensorTypes;
use crate::error::ExportError;

/// Weights in a block of `Q8_0` and `Q4_0`.
const BLOCK: usize = 32;

/// The type that holds a weight without changing a number and that the reader takes. Errors: why none does.
///
/// `name` is the one in the file.
pub(in crate::export) fn exact_type(
    name: &str,
    weight: &Weight,
    types: &TensorTypes,
    reader: &str,
) -> Result<TensorType, String> {
    let rank = weight.shape.len();
    if rank > MAX_DIMS as usize {
        return Err(format!("expected at most {MAX_DIMS} dimensions, found {rank}"));
    }
    let float_only = rank < 2 || types.only_f32.iter().any(|end| name.ends_with(end));
    let no_bf16 = types.no_bf16.iter().any(|part| name.contains(part));
    let row = weight.shape.last().copied().unwrap_or(1);
    let taken = |kind: GgmlType| match types.blocks.contains(&kind) {
        true => Ok(TensorType::Ggml(kind)),
        false => {
            let known: Vec<&str> = types.blocks.iter().map(|kind| kind.name()).collect();
            Err(format!("{reader} takes no {kind}; it takes {}", known.join(", ")))
        }
    };
    match &weight.data {
        WeightData::Quantized(_) if float_only => Err(format!("{reader} reads it as F32 only; keep it")),
        WeightData::Quantized(_) if no_bf16 => Err(format!("{reader} reads it as F32 or F16 only; keep it")),
        WeightData::Stored { dtype: FloatType::BF16, .. } if no_bf16 => Ok(TensorType::Float(FloatType::F32)),
        WeightData::Stored { dtype, .. } if !float_only => Ok(TensorType::Float(*dtype)),
        WeightData::Stored { .. } | WeightData::Derived(..) | WeightData::Computed(_) => {
            Ok(TensorType::Float(FloatType::F32))
        }
        WeightData::Quantized(Quantized::Ggml { kind, .. }) => match row.is_multiple_of(kind.block_len()) {
            true => taken(*kind),
            false => Err(format!("rows of {row} are not a multiple of {}", kind.block_len())),
        },
        WeightData::Quantized(Quantized::Affine(tensor)) => taken(affine_type(tensor, row)?),
        WeightData::Quantized(Quantized::Float8(_)) => Err("ggml has no 8-bit floats; q8_0 is as wide".to_owned()),
    }
}

/// `Q8_0` and `Q4_0` are affine codes with one scale every 32 weights; a scale of more weights is repeated.
fn affine_type(tensor: &AffineTensor, row: usize) -> Result<GgmlType, String> {
    let kind = match tensor.bits {
        8 => GgmlType::Q8_0,
        4 => GgmlType::Q4_0,
        bits => return Err(format!("no block type has codes of {bits} bits")),
    };
    if tensor.zeros.is_some() {
        return Err(format!("{kind} has no zero points"));
    }
    match tensor.block {
        _ if !row.is_multiple_of(BLOCK) => Err(format!("rows of {row} are not a multiple of {BLOCK}")),
        Block::Group(n) if !n.is_multiple_of(BLOCK) => Err(format!("groups of {n} are not a multiple of {BLOCK}")),
        Block::Group(_) | Block::Row => Ok(kind),
    }
}

/// Writes a weight as the bytes of a type, a few rows at a time.
///
/// `kind` is what [`exact_type`] chose, or F32, which holds the values of every weight.
pub(in crate::export) fn write(weight: &Weight, kind: TensorType, out: &mut Sink<'_>) -> Result<(), ExportError> {
    match (&weight.data, kind) {
        (WeightData::Stored { blob, dtype }, TensorType::Float(to)) if *dtype == to => copy(weight, blob, out),
        (WeightData::Quantized(Quantized::Ggml { blocks, kind: from }), TensorType::Ggml(to)) if *from == to => {
            copy(weight, blocks, out)
        }
        (WeightData::Quantized(Quantized::Affine(tensor)), TensorType::Ggml(kind)) => {
            write_blocks(weight, tensor, kind, out)
        }
        (_, TensorType::Float(FloatType::F32)) => write_f32(weight, out),
        (data, kind) => panic!("{}: {} was planned as {kind}", weight.name, data.type_name()),
    }
}

fn unreadable(weight: &Weight, source: std::io::Error) -> ExportError {
    ExportError::Weight(WeightError { weight: weight.name.clone(), source })
}

fn copy(weight: &Weight, blob: &Blob, out: &mut Sink<'_>) -> Result<(), ExportError> {
    let mut chunk = vec![0; CHUNK_BYTES.min(blob.len() as usize)];
    let mut at = 0;
    while at < blob.len() {
        let len = chunk.len().min((blob.len() - at) as usize);
        blob.read_at(at, &mut chunk[..len]).map_err(|source| unreadable(weight, source))?;
        out(&chunk[..len])?;
        at += len as u64;
    }
    Ok(())
}

fn write_f32(weight: &Weight, out: &mut Sink<'_>) -> Result<(), ExportError> {
    let [rows, columns] = weight.matrix();
    let step = (CHUNK_BYTES / 4 / columns.max(1)).max(1);
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(step) {
        weight.rows(first..rows.min(first + step), &mut values)?;
        bytes.resize(values.len() * 4, 0);
        FloatType::F32.encode(&values, &mut bytes);
        out(&bytes)?;
    }
    Ok(())
}

fn write_blocks(weight: &Weight, tensor: &AffineTensor, kind: GgmlType, out: &mut Sink<'_>) -> Result<(), ExportError> {
    let [rows, columns] = tensor.shape;
    let (blocks_a_row, scales_a_row) = (columns / BLOCK, tensor.block.per_row(columns));
    let blocks_a_scale = tensor.block.len(columns) / BLOCK;
    let step = (CHUNK_BYTES / columns.max(1)).max(1);
    let mut bytes = Vec::new();
    for first in (0..rows).step_by(step) {
        let codes = tensor.codes(first..rows.min(first + step)).map_err(|source| unreadable(weight, source))?;
        bytes.clear();
        for (index, codes) in codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let (row, block) = (first + index / blocks_a_row, index % blocks_a_row);
            let scale = tensor.scales[row * scales_a_row + block / blocks_a_scale];
            bytes.extend(scale.to_le_bytes());
            match kind {
                GgmlType::Q8_0 => bytes.extend(codes.iter().map(|code| code.cast_unsigned())),
                // Byte i holds weight i in its low half and weight i + 16 in its high half, each as code + 8.
                _ => bytes.extend((0..BLOCK / 2).map(|i| nibble(codes[i]) | nibble(codes[i + BLOCK / 2]) << 4)),
            }
        }
        out(&bytes)?;
    }
    Ok(())
}

/// A code of -8 to 7 as 0 to 15.
fn nibble(code: i8) -> u8 {
    (code + 8).cast_unsigned() & 15
}
