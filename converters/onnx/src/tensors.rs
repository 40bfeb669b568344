//! Weights as ONNX tensors: which initializers a weight becomes, and their bytes.

use std::io::{self, Write};

use graph::weights::multiple;
use graph::{AffineTensor, Block, Derive, FakeQuant, FloatType, Quantized, Weight, WeightData, WeightError};

use crate::proto::tensor_proto::DataType;

/// How one weight is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `{name}`: floats in the shape of the checkpoint.
    Float(FloatType),
    /// `{name}_quantized` [n, e], `{name}_scale` f32[n], `{name}_zero_point` [n].
    Rows {
        /// As `code + 128` in uint8. onnxruntime's int8 kernels for AVX2 without VNNI saturate at 16 bits when weights
        /// are signed, so that a product of activations (uint8) and weights would depend on the processor.
        unsigned: bool,
        /// Whether there are zeros.
        zeros: bool,
    },
    /// `{name}_quantized` int4 [n, e], two neighbours a byte, rows without padding; `{name}_scale` f32[n],
    /// `{name}_zero_point` int4 [n], all 0.
    Nibbles,
    /// `{name}_quantized` uint8 or uint16 in the shape of the checkpoint, `{name}_scale` f32[], `{name}_zero_point`.
    Steps {
        /// 8 or 16.
        bits: u8,
    },
    /// `{name}_quantized` int32[n], `{name}_scale` f32[n]: a bias in the units of the sums that it is added to.
    Multiples,
    /// The layout of `com.microsoft.MatMulNBits`: `{name}_Q4` or `{name}_Q8` uint8[n, blocks, bytes of a block],
    /// `{name}_scale` f32[n, blocks], `{name}_zero_point` uint8[n, bytes of a row's zeros].
    Blocks {
        /// 4 or 8.
        bits: u8,
        /// Weights a block.
        block: usize,
        /// Whether there are zeros.
        zeros: bool,
    },
}

/// `code + 128`, or at 4 bits `code + 8`: the middle of the unsigned range is what MatMulNBits takes for zero.
pub fn offset(bits: u8) -> i8 {
    match bits {
        4 => 8,
        _ => i8::MIN,
    }
}

/// What reads the codes of a weight with one scale a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// `MatMulInteger`, whose input the graph rounds with one scale.
    IntegerProduct {
        /// As in [`Layout::Rows`].
        unsigned: bool,
    },
    /// `DequantizeLinear`, or the same spelled out.
    Floats,
    /// `MatMulNBits` and `GatherBlockQuantized`.
    Blocks,
}

impl Layout {
    /// The layout of a weight. Errors: why ONNX has none.
    pub fn of(weight: &Weight, reader: Reader) -> Result<Layout, String> {
        let affine = match &weight.data {
            // ONNX Runtime computes in f16 or f32; bf16 fits into f32 exactly.
            WeightData::Stored { dtype: FloatType::F16, .. } => return Ok(Layout::Float(FloatType::F16)),
            WeightData::Derived(Derive::Steps(steps), _) => return Ok(Layout::Steps { bits: steps.bits }),
            WeightData::Derived(Derive::Multiples(_), _) => return Ok(Layout::Multiples),
            WeightData::Stored { .. } | WeightData::Derived(..) | WeightData::Computed(_) => {
                return Ok(Layout::Float(FloatType::F32));
            }
            WeightData::Quantized(Quantized::Ggml { kind, .. }) => {
                return Err(format!("{} is a block type of GGUF", kind.name()));
            }
            WeightData::Quantized(Quantized::Float8(_)) => {
                return Err("no kernel here reads 8-bit floats; int8 is as wide".to_owned());
            }
            WeightData::Quantized(Quantized::Affine(affine)) => affine,
        };
        let zeros = affine.zeros.is_some();
        let outside = |z: &i8| affine.bits == 4 && !(-8..=7).contains(z);
        if affine.zeros.as_ref().is_some_and(|zeros| zeros.iter().any(outside)) {
            return Err("a zero outside -8..7 does not fit into 4 bits".to_owned());
        }
        if (affine.bits, affine.block) == (8, Block::Row) && reader != Reader::Blocks {
            return Ok(Layout::Rows { unsigned: reader == Reader::IntegerProduct { unsigned: true }, zeros });
        }
        Ok(Layout::Blocks { bits: affine.bits, block: block_of(affine)?, zeros })
    }

    /// The initializers of a weight, with this layout.
    pub fn parts(self, weight: &Weight) -> Vec<Part> {
        let [n, e] = weight.matrix();
        let part = |suffix: &str, data_type, dims: &[usize], content| Part {
            name: format!("{}{suffix}", weight.name),
            data_type,
            dims: dims.to_vec(),
            content,
        };
        match self {
            Layout::Float(dtype) => {
                let data_type = match dtype {
                    FloatType::F16 => DataType::Float16,
                    FloatType::F32 | FloatType::BF16 => DataType::Float,
                };
                vec![part("", data_type, &weight.shape, Content::Floats(dtype))]
            }
            Layout::Steps { bits } => {
                let codes = if bits == 8 { DataType::Uint8 } else { DataType::Uint16 };
                vec![
                    part("_quantized", codes, &weight.shape, Content::StepCodes),
                    part("_scale", DataType::Float, &[], Content::StepScale),
                    part("_zero_point", codes, &[], Content::StepZero),
                ]
            }
            Layout::Nibbles => vec![
                part("_quantized", DataType::Int4, &[n, e], Content::Nibbles),
                part("_scale", DataType::Float, &[n], Content::Scales { per_row: 1 }),
                part("_zero_point", DataType::Int4, &[n], Content::NibbleZeros),
            ],
            Layout::Multiples => vec![
                part("_quantized", DataType::Int32, &weight.shape, Content::Multiples),
                part("_scale", DataType::Float, &[e], Content::Units),
            ],
            Layout::Rows { unsigned, zeros } => {
                let code_type = if unsigned { DataType::Uint8 } else { DataType::Int8 };
                let mut parts = vec![
                    part("_quantized", code_type, &[n, e], Content::Codes { unsigned }),
                    part("_scale", DataType::Float, &[n], Content::Scales { per_row: 1 }),
                ];
                if zeros || unsigned {
                    parts.push(part("_zero_point", code_type, &[n], Content::Zeros { unsigned }));
                }
                parts
            }
            Layout::Blocks { bits, block, zeros } => {
                let per_row = e.div_ceil(block);
                let bytes = block * usize::from(bits) / 8;
                let suffix = if bits == 4 { "_Q4" } else { "_Q8" };
                let mut parts = vec![
                    part(suffix, DataType::Uint8, &[n, per_row, bytes], Content::Blocks { bits, block }),
                    part("_scale", DataType::Float, &[n, per_row], Content::Scales { per_row }),
                ];
                if zeros {
                    let bytes = (per_row * usize::from(bits)).div_ceil(8);
                    let content = Content::BlockZeros { bits, per_row };
                    parts.push(part("_zero_point", DataType::Uint8, &[n, bytes], content));
                }
                parts
            }
        }
    }
}

/// How many weights of a row `MatMulNBits` takes at a time, and rounds of its input where it multiplies integers. Errors: why
/// it cannot have these weights.
pub fn block_of(affine: &AffineTensor) -> Result<usize, String> {
    match (affine.bits, affine.block) {
        (4 | 8, Block::Row) => Ok(widest_block(affine.shape[1])),
        (4 | 8, Block::Group(block)) if block.is_power_of_two() && block >= 16 => Ok(block),
        (4 | 8, Block::Group(block)) => Err(format!("groups of {block} are not a power of two from 16 on")),
        (bits, _) => Err(format!("{bits} bits are neither 4 nor 8")),
    }
}

/// The widest block, up to the widest that onnxruntime has kernels of its own for, that pads rows of `columns` no more than
/// blocks of 32 do: a row shares one scale, so wide blocks repeat it less often.
fn widest_block(columns: usize) -> usize {
    let padded = |block: usize| columns.next_multiple_of(block);
    [128, 64].into_iter().find(|block| padded(*block) == padded(32)).unwrap_or(32)
}

/// One initializer of a weight.
#[derive(Debug)]
pub struct Part {
    /// The weight's name, and what it holds of it.
    pub name: String,
    /// Type of its elements.
    pub data_type: DataType,
    /// Outermost first.
    pub dims: Vec<usize>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Floats(FloatType),
    Codes { unsigned: bool },
    Nibbles,
    NibbleZeros,
    Blocks { bits: u8, block: usize },
    Scales { per_row: usize },
    Zeros { unsigned: bool },
    BlockZeros { bits: u8, per_row: usize },
    StepCodes,
    StepScale,
    StepZero,
    Multiples,
    Units,
}

// Rows are read and written in pieces of about this many weights.
const PIECE: usize = 1 << 18;

impl Part {
    /// Length of its bytes.
    pub fn bytes(&self) -> u64 {
        let count = self.dims.iter().map(|&d| d as u64).product::<u64>();
        match self.data_type {
            DataType::Float | DataType::Int32 => 4 * count,
            DataType::Float16 | DataType::Uint16 => 2 * count,
            DataType::Int4 => count.div_ceil(2),
            _ => count,
        }
    }

    /// Writes its bytes, holding a few rows at a time.
    pub(crate) fn write(&self, weight: &Weight, out: &mut dyn Write) -> Result<(), WriteError> {
        let [n, e] = weight.matrix();
        let mut pieces = (0..n).step_by((PIECE / e.max(1)).max(1)).map(|start| {
            let end = n.min(start + (PIECE / e.max(1)).max(1));
            start..end
        });
        match self.content {
            Content::Floats(dtype) => pieces.try_for_each(|rows| {
                let mut floats = Vec::new();
                weight.rows(rows, &mut floats)?;
                let mut bytes = vec![0; floats.len() * dtype.bytes()];
                dtype.encode(&floats, &mut bytes);
                Ok(out.write_all(&bytes)?)
            }),
            Content::StepCodes => {
                let steps = steps(weight);
                pieces.try_for_each(|rows| {
                    let mut floats = Vec::new();
                    weight.rows(rows, &mut floats)?;
                    let bytes = floats.iter().flat_map(|x| bytes_of(steps.code(*x), steps.bits));
                    Ok(out.write_all(&bytes.collect::<Vec<u8>>())?)
                })
            }
            Content::StepScale => Ok(out.write_all(&steps(weight).scale.to_le_bytes())?),
            Content::StepZero => {
                let steps = steps(weight);
                Ok(out.write_all(&bytes_of(steps.zero, steps.bits).collect::<Vec<u8>>())?)
            }
            Content::Multiples => {
                let codes = weight.read()?.into_iter().zip(units(weight)).map(|(x, unit)| multiple(x, *unit));
                Ok(out.write_all(&codes.flat_map(i32::to_le_bytes).collect::<Vec<u8>>())?)
            }
            Content::Units => {
                Ok(out.write_all(&units(weight).iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>())?)
            }
            Content::Codes { unsigned } => pieces.try_for_each(|rows| {
                let shift = if unsigned { offset(8) } else { 0 };
                let codes = codes(weight, rows)?;
                Ok(out.write_all(&codes.iter().map(|c| c.wrapping_add(shift).cast_unsigned()).collect::<Vec<u8>>())?)
            }),
            Content::Nibbles => {
                // An even number of rows ends with a byte.
                let step = (PIECE / e.max(1)).max(1).next_multiple_of(2);
                (0..n).step_by(step).try_for_each(|start| {
                    let mut nibbles = codes(weight, start..n.min(start + step))?;
                    if nibbles.len() % 2 == 1 {
                        nibbles.push(0);
                    }
                    let mut bytes = Vec::with_capacity(nibbles.len() / 2);
                    pack(4, &nibbles.iter().map(|code| code.cast_unsigned()).collect::<Vec<u8>>(), &mut bytes);
                    Ok(out.write_all(&bytes)?)
                })
            }
            Content::NibbleZeros => Ok(out.write_all(&vec![0; self.bytes() as usize])?),
            Content::Blocks { bits, block } => pieces.try_for_each(|rows| {
                let mut bytes = Vec::new();
                for row in codes(weight, rows)?.chunks(e.max(1)) {
                    // Padding is the code of zero.
                    let padded: Vec<u8> = (0..e.next_multiple_of(block))
                        .map(|i| row.get(i).copied().unwrap_or(0).wrapping_add(offset(bits)).cast_unsigned())
                        .collect();
                    pack(bits, &padded, &mut bytes);
                }
                Ok(out.write_all(&bytes)?)
            }),
            Content::Scales { per_row } => {
                let affine = affine(weight);
                let have = affine.block.per_row(e);
                let scales = (0..n).flat_map(|row| (0..per_row).map(move |i| (row, i)));
                // A scale of a whole row is repeated.
                let bytes: Vec<u8> = scales
                    .flat_map(|(row, i)| {
                        affine.scales[row * have + if have == 1 { 0 } else { i }].to_f32().to_le_bytes()
                    })
                    .collect();
                Ok(out.write_all(&bytes)?)
            }
            Content::Zeros { unsigned } => {
                let shift = if unsigned { offset(8) } else { 0 };
                let zeros = (0..n).map(|row| zero(affine(weight), row).wrapping_add(shift).cast_unsigned());
                Ok(out.write_all(&zeros.collect::<Vec<u8>>())?)
            }
            Content::BlockZeros { bits, per_row } => {
                let affine = affine(weight);
                let have = affine.block.per_row(e);
                let mut bytes = Vec::new();
                for row in 0..n {
                    let mut zeros: Vec<u8> = (0..per_row)
                        .map(|i| zero(affine, row * have + if have == 1 { 0 } else { i }))
                        .map(|z| z.wrapping_add(offset(bits)).cast_unsigned())
                        .collect();
                    if bits == 4 && per_row % 2 == 1 {
                        zeros.push(0);
                    }
                    pack(bits, &zeros, &mut bytes);
                }
                Ok(out.write_all(&bytes)?)
            }
        }
    }
}

/// At 4 bits two neighbours share a byte, the first in its low half. The count is even.
fn pack(bits: u8, unsigned: &[u8], out: &mut Vec<u8>) {
    match bits {
        4 => out.extend(unsigned.as_chunks::<2>().0.iter().map(|[low, high]| low & 15 | high << 4)),
        _ => out.extend(unsigned),
    }
}

/// The inverse of [`pack`].
pub fn unpack(bits: u8, packed: &[u8], out: &mut Vec<u8>) {
    match bits {
        4 => out.extend(packed.iter().flat_map(|b| [b & 15, b >> 4])),
        _ => out.extend(packed),
    }
}

fn steps(weight: &Weight) -> FakeQuant {
    match &weight.data {
        WeightData::Derived(Derive::Steps(steps), _) => *steps,
        _ => unreachable!("only weights rounded to steps have this layout"),
    }
}

fn units(weight: &Weight) -> &[f32] {
    match &weight.data {
        WeightData::Derived(Derive::Multiples(units), _) => units,
        _ => unreachable!("only weights that are multiples have this layout"),
    }
}

/// A code of 8 or 16 bits.
fn bytes_of(code: i32, bits: u8) -> impl Iterator<Item = u8> {
    code.to_le_bytes().into_iter().take(usize::from(bits) / 8)
}

fn zero(affine: &AffineTensor, at: usize) -> i8 {
    affine.zeros.as_ref().map_or(0, |zeros| zeros[at])
}

fn affine(weight: &Weight) -> &AffineTensor {
    match &weight.data {
        WeightData::Quantized(Quantized::Affine(affine)) => affine,
        _ => unreachable!("only affine weights have a layout of codes"),
    }
}

fn codes(weight: &Weight, rows: std::ops::Range<usize>) -> Result<Vec<i8>, WeightError> {
    affine(weight).codes(rows).map_err(|source| WeightError { weight: weight.name.clone(), source })
}

/// Why a part was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    Weight(WeightError),
    Io(io::Error),
}

impl From<WeightError> for WriteError {
    fn from(error: WeightError) -> WriteError {
        WriteError::Weight(error)
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_scale_is_repeated_as_rarely_as_padding_allows() {
        assert_eq!([512, 64, 60, 96, 16, 320].map(widest_block), [128, 64, 64, 32, 32, 64]);
    }

    #[test]
    fn packing_at_four_bits_puts_the_first_weight_low() {
        let (mut packed, mut back) = (Vec::new(), Vec::new());
        pack(4, &[1, 2, 15, 0], &mut packed);
        assert_eq!(packed, [0x21, 0x0f]);
        unpack(4, &packed, &mut back);
        assert_eq!(back, [1, 2, 15, 0]);
    }
}
