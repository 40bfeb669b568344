//! Rows of a weight in a variable: written, and read again.

use std::collections::BTreeMap;
use std::ops::Range;

use graph::weights::inverse;
use graph::{AffineTensor, Blob, Block, FloatType, Quantized, Weight, WeightData, WeightError, WeightId, Weights};
use half::f16;

use super::file::Dtype;
use crate::error::ExportError;

/// Bytes in memory at once, unless one row is longer.
const CHUNK_BYTES: usize = 1 << 20;

/// A variable.
pub struct Variable<'a> {
    pub name: String,
    /// None of a scalar.
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub content: Content<'a>,
}

/// What a variable holds.
pub enum Content<'a> {
    /// A scalar.
    Bytes(Vec<u8>),
    /// Rows, one after the other: codes in a variable of integers, else numbers.
    Rows(Vec<Part<'a>>),
    /// Of each of such rows, what its codes are divided by.
    Inverses(Vec<Part<'a>>),
}

/// Rows of a weight.
#[derive(Clone)]
pub enum Part<'a> {
    /// Of [`Weight::matrix`].
    Rows {
        /// Whose.
        id: WeightId,
        /// That weight.
        weight: &'a Weight,
        /// Which.
        rows: Range<usize>,
    },
    /// The first elements of a vector.
    First {
        /// Whose.
        id: WeightId,
        /// That weight.
        weight: &'a Weight,
        /// How many.
        count: usize,
    },
    /// So many zeros, where a weight is none.
    Zeros(usize),
}

/// Takes the next bytes.
type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), ExportError> + 'a;

impl<'a> Part<'a> {
    /// All rows.
    pub fn whole(id: WeightId, weight: &'a Weight) -> Part<'a> {
        Part::Rows { id, weight, rows: 0..weight.matrix()[0] }
    }

    fn len(&self) -> usize {
        match self {
            Part::Rows { weight, rows, .. } => rows.len() * weight.matrix()[1],
            Part::First { count, .. } | Part::Zeros(count) => *count,
        }
    }

    /// Its codes, where it has symmetric ones of 8 bits with a scale a row.
    fn codes(&self) -> Option<&'a AffineTensor> {
        match self {
            Part::Rows { weight: Weight { data: WeightData::Quantized(Quantized::Affine(tensor)), .. }, .. }
                if (tensor.bits, tensor.block.per_row(tensor.shape[1])) == (8, 1) && tensor.zeros.is_none() =>
            {
                Some(tensor)
            }
            Part::Rows { .. } | Part::First { .. } | Part::Zeros(_) => None,
        }
    }

    /// Its codes and its rows.
    fn scaled(&self) -> Option<(&'a AffineTensor, Range<usize>)> {
        let Part::Rows { rows, .. } = self else { return None };
        Some((self.codes()?, rows.clone()))
    }

    /// What it is of.
    fn weight(&self) -> Option<(WeightId, &'a Weight)> {
        match self {
            Part::Rows { id, weight, .. } | Part::First { id, weight, .. } => Some((*id, weight)),
            Part::Zeros(_) => None,
        }
    }

    /// Why it cannot be among the codes of a variable.
    pub fn misfit(&self, scope: &str) -> Option<String> {
        let (_, weight) = self.weight()?;
        let type_name = weight.data.type_name();
        match self.codes() {
            None => Some(format!("{} ({type_name}): {scope} holds int8 with one symmetric scale a row", weight.name)),
            Some(tensor) => {
                let odd = tensor.scales.iter().filter(|scale| inverse(**scale).is_none()).count();
                (odd > 0).then(|| {
                    format!(
                        "{} ({type_name}): {odd} scales are the inverse of no f32; int8-inv has others",
                        weight.name
                    )
                })
            }
        }
    }

    /// That it has codes where the engine reads floats.
    pub fn floats_only(&self) -> String {
        let told = self.weight().map(|(_, weight)| format!("{} ({})", weight.name, weight.data.type_name()));
        format!("{}: the engine reads it as floats only; keep it", told.unwrap_or_default())
    }
}

/// Whether a part is other than floats.
pub fn is_codes(part: &Part<'_>) -> bool {
    part.weight().is_some_and(|(_, weight)| matches!(weight.data, WeightData::Quantized(_)))
}

/// The one type of all stored floats; f32 where they differ, or where any is computed.
pub fn common<'p, 'a: 'p>(parts: impl Iterator<Item = &'p Part<'a>>) -> FloatType {
    let of = |part: &Part<'_>| match part.weight()?.1.data {
        WeightData::Stored { dtype, .. } => Some(dtype),
        WeightData::Derived(..) | WeightData::Computed(_) | WeightData::Quantized(_) => Some(FloatType::F32),
    };
    let mut types = parts.filter_map(of);
    let first = types.next().unwrap_or(FloatType::F32);
    if types.all(|dtype| dtype == first) { first } else { FloatType::F32 }
}

impl Content<'_> {
    /// Calls `out` with the bytes, in order.
    pub fn stream(&self, dtype: Dtype, out: &mut Sink<'_>) -> Result<(), ExportError> {
        match (self, dtype) {
            (Content::Bytes(bytes), _) => out(bytes),
            (Content::Rows(parts), Dtype::Float(dtype)) => parts.iter().try_for_each(|part| floats(part, dtype, out)),
            (Content::Rows(parts), _) => parts.iter().try_for_each(|part| codes(part, out)),
            (Content::Inverses(parts), _) => parts.iter().filter_map(Part::scaled).try_for_each(|(tensor, rows)| {
                let inverses =
                    tensor.scales[rows].iter().map(|scale| inverse(*scale).expect("the layout has no others"));
                out(&inverses.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
            }),
        }
    }
}

fn floats(part: &Part<'_>, dtype: FloatType, out: &mut Sink<'_>) -> Result<(), ExportError> {
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    let mut put = |values: &[f32]| {
        bytes.resize(values.len() * dtype.bytes(), 0);
        dtype.encode(values, &mut bytes);
        out(&bytes)
    };
    match part {
        Part::Zeros(count) => put(&vec![0.0; *count]),
        Part::First { weight, count, .. } => put(&weight.read()?[..*count]),
        Part::Rows { weight, rows, .. } => chunks(rows, 4 * weight.matrix()[1]).try_for_each(|rows| {
            weight.rows(rows, &mut values)?;
            put(&values)
        }),
    }
}

fn codes(part: &Part<'_>, out: &mut Sink<'_>) -> Result<(), ExportError> {
    let (Part::Rows { weight, rows, .. }, Some(tensor)) = (part, part.codes()) else { return Ok(()) };
    let unreadable = |source| WeightError { weight: weight.name.clone(), source };
    chunks(rows, tensor.shape[1]).try_for_each(|rows| {
        let codes = tensor.codes(rows).map_err(unreadable)?;
        out(&codes.into_iter().map(i8::cast_unsigned).collect::<Vec<u8>>())
    })
}

/// Rows in pieces of about [`CHUNK_BYTES`].
fn chunks(rows: &Range<usize>, row_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let (step, end) = ((CHUNK_BYTES / row_bytes.max(1)).max(1), rows.end);
    rows.clone().step_by(step).map(move |start| start..end.min(start + step))
}

/// The weights that variables hold, whose bytes are `found`. Errors: a scale that no f16 says.
pub fn weights(variables: &[Variable<'_>], found: &BTreeMap<&str, &Blob>) -> Result<Weights, String> {
    let mut pieces: BTreeMap<WeightId, Pieces<'_>> = BTreeMap::new();
    for Variable { name, dtype, content, .. } in variables {
        let Content::Rows(parts) = content else { continue };
        let (bytes, scales) = (found[name.as_str()], found.get(format!("{name}_scale").as_str()));
        let (mut at, mut row) = (0, 0);
        for part in parts {
            let end = at + (part.len() * dtype.bytes()) as u64;
            if let Some((id, weight)) = part.weight() {
                let rows = if let Part::Rows { rows, .. } = part { rows.clone() } else { 0..1 };
                let blob = bytes.slice(at..end).expect("the shapes are as expected");
                let scales = scales.map(|scales| {
                    let range = 4 * row as u64..4 * (row + rows.len()) as u64;
                    scales.slice(range).expect("the shapes are as expected")
                });
                let piece = Piece { blob, dtype: *dtype, scales };
                pieces.entry(id).or_insert((weight, Vec::new())).1.push((rows.start, piece));
                row += rows.len();
            }
            at = end;
        }
    }
    let mut weights = Weights::default();
    for (weight, mut pieces) in pieces.into_values() {
        pieces.sort_by_key(|(row, _)| *row);
        let pieces: Vec<Piece> = pieces.into_iter().map(|(_, piece)| piece).collect();
        let data = joined(weight, &pieces)?;
        weights.push(Weight { name: weight.name.clone(), shape: weight.shape.clone(), data });
    }
    Ok(weights)
}

/// Of a weight, what variables hold, each with its first row.
type Pieces<'a> = (&'a Weight, Vec<(usize, Piece)>);

/// Rows as a file holds them.
struct Piece {
    blob: Blob,
    dtype: Dtype,
    scales: Option<Blob>,
}

fn joined(weight: &Weight, pieces: &[Piece]) -> Result<WeightData, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", weight.name);
    let (shape, Some(Piece { dtype, scales, .. })) = (weight.matrix(), pieces.first()) else {
        return Err(format!("{}: no variable holds it", weight.name));
    };
    let codes = whole(weight.len() * dtype.bytes(), pieces).map_err(unreadable)?;
    match (dtype, scales) {
        (Dtype::Float(dtype), _) => Ok(WeightData::Stored { blob: codes, dtype: *dtype }),
        (Dtype::I8, Some(scales)) => {
            let bytes = scales.read().map_err(unreadable)?;
            let scale = |bytes: &[u8; 4]| {
                let exact = 1.0 / f32::from_le_bytes(*bytes);
                let scale = f16::from_f32(exact);
                let holds = scale.to_f32() == exact && scale > f16::ZERO;
                let found = || format!("{}: expected the inverse of an f16, found that of {exact:e}", weight.name);
                holds.then_some(scale).ok_or_else(found)
            };
            let mut scales = bytes.as_chunks().0.iter().map(scale).collect::<Result<Vec<f16>, String>>()?;
            // A row that the file leaves out is one of zeros.
            scales.resize(shape[0], f16::ONE);
            let tensor = AffineTensor { shape, bits: 8, block: Block::Row, codes, scales, zeros: None };
            Ok(WeightData::Quantized(Quantized::Affine(tensor)))
        }
        _ => Err(format!("{}: expected floats, or codes with scales", weight.name)),
    }
}

/// The bytes of pieces, one after the other, and zeros up to a length: a row that the file leaves out holds nothing.
fn whole(length: usize, pieces: &[Piece]) -> std::io::Result<Blob> {
    if let [Piece { blob, .. }] = pieces
        && blob.len() == length as u64
    {
        return Ok(blob.clone());
    }
    let mut bytes = Vec::with_capacity(length);
    for piece in pieces {
        bytes.extend(piece.blob.read()?);
    }
    bytes.resize(length, 0);
    Ok(Blob::memory(bytes))
}
