//! Weights that are no numbers.

use graph::{Weight, Weights};
use rayon::prelude::*;

use crate::error::{CheckpointError, NotFinite};

/// Bytes of a weight, as f32, that are looked at together.
const CHUNK_BYTES: usize = 1 << 20;

/// Streams every weight and looks for NaN and infinities. Errors: [`CheckpointError::NotFinite`] with the first such element
/// of every weight that has one.
pub fn check_finite(weights: &Weights) -> Result<(), CheckpointError> {
    let all: Vec<&Weight> = weights.iter().map(|(_, weight)| weight).collect();
    let found: Result<Vec<Option<NotFinite>>, CheckpointError> =
        all.par_iter().map(|weight| not_finite(weight)).collect();
    let found: Vec<NotFinite> = found?.into_iter().flatten().collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(CheckpointError::NotFinite(found)),
    }
}

fn not_finite(weight: &Weight) -> Result<Option<NotFinite>, CheckpointError> {
    let [rows, columns] = weight.matrix();
    let step = (CHUNK_BYTES / 4 / columns.max(1)).max(1);
    let mut values = Vec::new();
    for start in (0..rows).step_by(step) {
        weight.rows(start..rows.min(start + step), &mut values)?;
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let (row, column, value) = (start + at / columns, at % columns, values[at]);
            return Ok(Some(NotFinite { weight: weight.name.clone(), row, column, value }));
        }
    }
    Ok(None)
}
