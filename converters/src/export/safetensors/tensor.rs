//! A tensor of a file: which ones hold a weight, and their bytes.

use graph::{FloatType, ScalePer, Weight, WeightData, WeightError, transposed};

use super::compressed::{Codes, packed_bytes};
use super::small_floats::{Kind, MX_BLOCK, SmallFloats};
use crate::error::ExportError;

/// Bytes in memory at once, unless one row is longer.
const CHUNK_BYTES: usize = 1 << 20;

/// A tensor of a file.
pub struct Tensor<'a> {
    /// Its name.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Where its bytes come from.
    pub content: Content<'a>,
}

/// Where the bytes of a tensor come from.
pub enum Content<'a> {
    /// A weight, widened to the type where it has another.
    Floats {
        /// The weight.
        weight: &'a Weight,
        /// The type in the file.
        dtype: FloatType,
    },
    /// The same of a matrix whose columns are the rows of the file.
    Turned {
        /// The weight.
        weight: &'a Weight,
        /// The type in the file.
        dtype: FloatType,
    },
    /// Codes, packed or not.
    Codes(Codes<'a>),
    /// f32.
    Scales(Codes<'a>),
    /// Packed or not.
    Zeros(Codes<'a>),
    /// `[rows, columns]`.
    Shape([usize; 2]),
    /// A buffer of the checkpoint that follows from its config.
    Integers(&'a [i64]),
    /// Codes that are small floats.
    SmallFloats {
        /// Whose.
        weight: &'a Weight,
        /// They.
        codes: SmallFloats<'a>,
    },
    /// Their scales.
    SmallFloatScales {
        /// Of which weight.
        weight: &'a Weight,
        /// And which codes.
        codes: SmallFloats<'a>,
        /// Of the model.
        kind: Kind,
    },
}

impl<'a> Tensor<'a> {
    /// Those that hold a weight with integer codes.
    pub fn of_codes(codes: Codes<'a>) -> Vec<Tensor<'a>> {
        let Codes { weight, tensor, kind, packed } = codes;
        let ([rows, columns], groups) = (tensor.shape, codes.groups());
        let name = |suffix: &str| format!("{}{suffix}", weight.name);
        let words = |count: usize| packed_bytes(count, kind.bits) / 4;
        let mut tensors = match packed {
            true => vec![
                Tensor { name: name("_packed"), shape: vec![rows, words(columns)], content: Content::Codes(codes) },
                Tensor { name: name("_shape"), shape: vec![2], content: Content::Shape(tensor.shape) },
            ],
            false => vec![Tensor { name: name(""), shape: vec![rows, columns], content: Content::Codes(codes) }],
        };
        tensors.push(Tensor { name: name("_scale"), shape: vec![rows, groups], content: Content::Scales(codes) });
        if !kind.symmetric {
            let rows = if packed { words(rows) } else { rows };
            tensors.push(Tensor {
                name: name("_zero_point"),
                shape: vec![rows, groups],
                content: Content::Zeros(codes),
            });
        }
        tensors
    }

    /// Those that hold a weight whose codes are small floats, in a model of this kind.
    pub fn of_small_floats(weight: &'a Weight, small: SmallFloats<'a>, kind: Kind) -> Vec<Tensor<'a>> {
        let [rows, columns] = weight.matrix();
        let tensor = |suffix: &str, shape: Vec<usize>, content| Tensor {
            name: format!("{}{suffix}", weight.name),
            shape,
            content,
        };
        let scales = match kind {
            Kind::Float8(ScalePer::Row) => vec![rows, 1],
            Kind::Float8(ScalePer::Tensor) => vec![1],
            Kind::Mxfp4 => vec![rows, columns / MX_BLOCK],
        };
        let codes = match kind {
            Kind::Float8(_) => tensor("", vec![rows, columns], Content::SmallFloats { weight, codes: small }),
            Kind::Mxfp4 => tensor("_packed", vec![rows, columns / 2], Content::SmallFloats { weight, codes: small }),
        };
        vec![codes, tensor("_scale", scales, Content::SmallFloatScales { weight, codes: small, kind })]
    }

    /// The format's word for the element type, and its bytes.
    pub fn dtype(&self) -> (&'static str, usize) {
        match &self.content {
            Content::Scales(_) => ("F32", 4),
            Content::Floats { dtype, .. } | Content::Turned { dtype, .. } => match dtype {
                FloatType::F32 => ("F32", 4),
                FloatType::F16 => ("F16", 2),
                FloatType::BF16 => ("BF16", 2),
            },
            Content::Codes(codes) | Content::Zeros(codes) if codes.packed => ("I32", 4),
            Content::Codes(_) | Content::Zeros(_) => ("I8", 1),
            Content::Shape(_) | Content::Integers(_) => ("I64", 8),
            Content::SmallFloats { codes: SmallFloats::Float8(_), .. } => ("F8_E4M3", 1),
            Content::SmallFloatScales { codes: SmallFloats::Float8(_), .. } => ("F32", 4),
            Content::SmallFloats { .. } | Content::SmallFloatScales { .. } => ("U8", 1),
        }
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype().1 as u64
    }

    /// Calls `out` with the bytes, in order.
    pub fn stream(&self, out: &mut dyn FnMut(&[u8]) -> Result<(), ExportError>) -> Result<(), ExportError> {
        match &self.content {
            Content::Floats { weight, dtype } => match &weight.data {
                WeightData::Stored { blob, dtype: stored } if stored == dtype => {
                    let mut chunk = vec![0; CHUNK_BYTES];
                    for at in (0..blob.len()).step_by(CHUNK_BYTES) {
                        let chunk = &mut chunk[..CHUNK_BYTES.min((blob.len() - at) as usize)];
                        blob.read_at(at, chunk).map_err(|source| unreadable(weight, source))?;
                        out(chunk)?;
                    }
                    Ok(())
                }
                _ => {
                    let (mut values, mut bytes) = (Vec::new(), Vec::new());
                    for rows in chunks(weight) {
                        weight.rows(rows, &mut values)?;
                        bytes.resize(values.len() * dtype.bytes(), 0);
                        dtype.encode(&values, &mut bytes);
                        out(&bytes)?;
                    }
                    Ok(())
                }
            },
            Content::Turned { weight, dtype } => {
                let values = weight.read()?;
                let mut bytes = vec![0; values.len() * dtype.bytes()];
                dtype.encode(&values, &mut bytes);
                out(&transposed(&bytes, weight.matrix(), dtype.bytes()))
            }
            Content::Codes(codes) => {
                for rows in chunks(codes.weight) {
                    out(&codes.rows(rows).map_err(|source| unreadable(codes.weight, source))?)?;
                }
                Ok(())
            }
            Content::Scales(codes) => out(&codes.scales()),
            Content::Zeros(codes) => out(&codes.zeros()),
            Content::Shape(shape) => out(&shape.map(|n| (n as i64).to_le_bytes()).concat()),
            Content::Integers(values) => values.iter().try_for_each(|n| out(&n.to_le_bytes())),
            Content::SmallFloats { weight, codes } => {
                let columns = weight.matrix()[1];
                for rows in chunks(weight) {
                    out(&codes.rows(rows, columns).map_err(|source| unreadable(weight, source))?)?;
                }
                Ok(())
            }
            Content::SmallFloatScales { weight, codes, kind } => {
                out(&codes.scales(weight, *kind).map_err(|source| unreadable(weight, source))?)
            }
        }
    }
}

/// Rows of a weight in pieces of about [`CHUNK_BYTES`] as f32.
fn chunks(weight: &Weight) -> impl Iterator<Item = std::ops::Range<usize>> {
    let [rows, columns] = weight.matrix();
    let step = (CHUNK_BYTES / 4 / columns.max(1)).max(1);
    (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
}

fn unreadable(weight: &Weight, source: std::io::Error) -> ExportError {
    ExportError::Weight(WeightError { weight: weight.name.clone(), source })
}
