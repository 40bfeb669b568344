//! Rows of one weight through memory: read, encoded, compared with what they became, written.

use std::ops::Range;

use graph::{Blob, Progress, Scratch, Weight};
use rayon::prelude::*;

use crate::codebook::rows::Chunk;
use crate::error::{QuantError, Refusal};
use crate::measure::{Errors, OutputErrors};
use crate::scheme::Scheme;

/// Weights a chunk holds, unless one row is longer: 256 kB as f32, so that a chunk and what it becomes stay in the
/// second-level cache.
const CHUNK: usize = 1 << 16;

/// What a whole weight became.
#[derive(Debug)]
pub struct Streamed {
    /// All bytes, row after row.
    pub blob: Blob,
    /// In row order.
    pub scales: Vec<f32>,
    /// As many as scales, or none.
    pub zeros: Vec<i8>,
    /// Original against decoded.
    pub errors: Errors,
    /// The same for the outputs of a Linear, when every chunk measured it.
    pub outputs: Option<OutputErrors>,
}

/// Encodes all rows of a weight, chunk by chunk on all threads of the pool.
///
/// `encode` gets the weights of some whole rows, of `rows_at_once` at least while there are so many. Chunks are cut by the shape alone and their sums added in order, so the
/// result is the same at any number of threads. Errors: [`Refusal::NotFinite`] when a weight is NaN or infinite,
/// [`Refusal::Overflow`] when what it became is.
pub fn encoded(
    weight: &Weight,
    scheme: Scheme,
    row_bytes: usize,
    rows_at_once: usize,
    scratch: &Scratch,
    progress: &dyn Progress,
    encode: impl Fn(&[f32], &mut Chunk) + Sync,
) -> Result<Streamed, QuantError> {
    let failed = |source| QuantError::Scratch { weight: weight.name.clone(), source };
    let [rows, columns] = weight.matrix();
    let bytes = row_bytes.checked_mul(rows).expect("the weight itself is addressable and the result is not larger");
    let room = scratch.reserve(bytes as u64).map_err(failed)?;
    let chunks = over_chunks(weight, rows_at_once, |rows: Range<usize>, values: &[f32], chunk: &mut Chunk| {
        chunk.reset(rows.len(), columns, row_bytes);
        encode(values, chunk);
        let errors = Errors::between(values, &chunk.decoded);
        if !errors.error_squares.is_finite() {
            let at = first_not_finite(&chunk.decoded).expect("the squares of finite differences are finite in f64");
            let (row, column, value) = (rows.start + at / columns, at % columns, values[at]);
            let overflow = Refusal::Overflow { weight: weight.name.clone(), row, column, value, scheme };
            return Ok(Err(overflow));
        }
        room.write_at((rows.start * row_bytes) as u64, &chunk.bytes).map_err(failed)?;
        progress.advance(4 * values.len() as u64);
        Ok(Ok((std::mem::take(&mut chunk.scales), std::mem::take(&mut chunk.zeros), errors, chunk.outputs)))
    })?;
    let (mut scales, mut zeros, mut errors) = (Vec::new(), Vec::new(), Errors::default());
    let mut outputs = Some(OutputErrors::default());
    for (chunk_scales, chunk_zeros, chunk_errors, chunk_outputs) in chunks {
        scales.extend(chunk_scales);
        zeros.extend(chunk_zeros);
        errors = errors.and(chunk_errors);
        outputs = outputs.zip(chunk_outputs).map(|(sum, chunk)| sum.and(chunk));
    }
    Ok(Streamed { blob: room.into_blob(), scales, zeros, errors, outputs })
}

/// Reads all rows of a weight that stays as it is. Errors: [`Refusal::NotFinite`].
pub fn checked(weight: &Weight, progress: &dyn Progress) -> Result<(), QuantError> {
    over_chunks(weight, 1, |_, values, _| {
        progress.advance(4 * values.len() as u64);
        Ok(Ok(()))
    })?;
    Ok(())
}

/// Calls `work` with the rows of each chunk and gives its results in order, or the refusal of the earliest chunk.
pub(crate) fn over_chunks<T: Send>(
    weight: &Weight,
    rows_at_once: usize,
    work: impl Fn(Range<usize>, &[f32], &mut Chunk) -> Result<Result<T, Refusal>, QuantError> + Sync,
) -> Result<Vec<T>, QuantError> {
    if weight.is_empty() {
        return Ok(Vec::new());
    }
    let [rows, columns] = weight.matrix();
    let step = (CHUNK / columns).max(rows_at_once);
    let one = |(values, chunk): &mut (Vec<f32>, Chunk), start: usize| {
        let range = start * step..rows.min((start + 1) * step);
        weight.rows(range.clone(), values)?;
        if let Some(at) = first_not_finite(values) {
            let (row, column, value) = (range.start + at / columns, at % columns, values[at]);
            return Ok(Err(Refusal::NotFinite { weight: weight.name.clone(), row, column, value }));
        }
        work(range, values, chunk)
    };
    let done: Vec<Result<T, Refusal>> = (0..rows.div_ceil(step))
        .into_par_iter()
        .map_init(<(Vec<f32>, Chunk)>::default, one)
        .collect::<Result<_, QuantError>>()?;
    done.into_iter().collect::<Result<Vec<T>, Refusal>>().map_err(|refusal| QuantError::Refused(vec![refusal]))
}

/// The index of the first NaN or infinity.
fn first_not_finite(values: &[f32]) -> Option<usize> {
    // One pass without branches for the usual answer.
    let all_finite = values.iter().fold(true, |all, x| all & x.is_finite());
    if all_finite { None } else { values.iter().position(|x| !x.is_finite()) }
}
