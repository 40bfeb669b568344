//! Writing the files: header, tensors streamed in chunks of rows, shards with their index.
//!
//! A file is the length of the header (u64), the header (JSON, filled up with spaces so that the data starts at a multiple
//! of 8) and the data. Tensors stand by falling size of their elements, then by name, so each is aligned to its elements;
//! safetensors' own writer does the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use graph::{FloatType, Weight, WeightData, WeightError};
use serde_json::json;

use super::compressed::Codes;
use super::small_floats::{Kind, SmallFloats};
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
    /// Codes, packed or not.
    Codes(Codes<'a>),
    /// f32.
    Scales(Codes<'a>),
    /// Packed or not.
    Zeros(Codes<'a>),
    /// `[rows, columns]`.
    Shape([usize; 2]),
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

impl Tensor<'_> {
    /// The format's word for the element type, and its bytes.
    fn dtype(&self) -> (&'static str, usize) {
        match &self.content {
            Content::Floats { dtype: FloatType::F32, .. } | Content::Scales(_) => ("F32", 4),
            Content::Floats { dtype: FloatType::F16, .. } => ("F16", 2),
            Content::Floats { dtype: FloatType::BF16, .. } => ("BF16", 2),
            Content::Codes(codes) | Content::Zeros(codes) if codes.packed => ("I32", 4),
            Content::Codes(_) | Content::Zeros(_) => ("I8", 1),
            Content::Shape(_) => ("I64", 8),
            Content::SmallFloats { codes: SmallFloats::Float8(_), .. } => ("F8_E4M3", 1),
            Content::SmallFloatScales { codes: SmallFloats::Float8(_), .. } => ("F32", 4),
            Content::SmallFloats { .. } | Content::SmallFloatScales { .. } => ("U8", 1),
        }
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype().1 as u64
    }

    /// Calls `out` with the bytes, in order.
    fn stream(&self, out: &mut dyn FnMut(&[u8]) -> Result<(), ExportError>) -> Result<(), ExportError> {
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
            Content::Codes(codes) => {
                for rows in chunks(codes.weight) {
                    out(&codes.rows(rows).map_err(|source| unreadable(codes.weight, source))?)?;
                }
                Ok(())
            }
            Content::Scales(codes) => out(&codes.scales()),
            Content::Zeros(codes) => out(&codes.zeros()),
            Content::Shape(shape) => out(&shape.map(|n| (n as i64).to_le_bytes()).concat()),
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

/// Writes `model.safetensors`, or `model-00001-of-0000n.safetensors` and their index when the tensors pass `limit_bytes`.
///
/// The tensors of one weight stay in one file, which is larger than the limit when they alone are.
pub fn write(weights: &[Vec<Tensor>], limit_bytes: u64, dir: &Path) -> Result<(), ExportError> {
    let mut shards: Vec<Vec<&Tensor>> = vec![Vec::new()];
    let mut filled = 0;
    for tensors in weights {
        let bytes: u64 = tensors.iter().map(Tensor::bytes).sum();
        if filled > 0 && filled + bytes > limit_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        shards.last_mut().expect("never empty").extend(tensors);
        filled += bytes;
    }
    if let [only] = &mut shards[..] {
        return write_file(only, &dir.join("model.safetensors"));
    }
    let mut places = BTreeMap::new();
    let (count, mut total) = (shards.len(), 0);
    for (index, tensors) in shards.iter_mut().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        write_file(tensors, &dir.join(&name))?;
        total += tensors.iter().map(|tensor| tensor.bytes()).sum::<u64>();
        places.extend(tensors.iter().map(|tensor| (tensor.name.clone(), name.clone())));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
    let file = dir.join("model.safetensors.index.json");
    let text = serde_json::to_string_pretty(&index).expect("keys are strings") + "\n";
    std::fs::write(&file, text).map_err(io(&file))
}

fn write_file(tensors: &mut [&Tensor], file: &Path) -> Result<(), ExportError> {
    tensors.sort_by_key(|tensor| (Reverse(tensor.dtype().1), tensor.name.clone()));
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for tensor in tensors.iter() {
        let start = end;
        end += tensor.bytes();
        let entry = json!({ "dtype": tensor.dtype().0, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_string(&header).expect("keys are strings");
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));

    let mut out = BufWriter::new(File::create(file).map_err(io(file))?);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io(file))?;
    out.write_all(header.as_bytes()).map_err(io(file))?;
    for tensor in tensors {
        let mut written = 0;
        tensor.stream(&mut |bytes| {
            written += bytes.len() as u64;
            out.write_all(bytes).map_err(io(file))
        })?;
        assert_eq!(written, tensor.bytes(), "bytes of {} in the header", tensor.name);
    }
    out.flush().map_err(io(file))
}

fn io(file: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
    let file: PathBuf = file.to_owned();
    |source| ExportError::Io { file, source }
}
