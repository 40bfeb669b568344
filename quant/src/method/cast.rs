//! Floats of another type, and weights that stay as they are.

use graph::{FloatType, Progress, Scratch, Weight, WeightData};

use super::quantizer::{Known, Needs, Outcome, Quantizer};
use super::stream;
use crate::codebook::rows::Chunk;
use crate::error::QuantError;
use crate::measure::Errors;
use crate::policy::plan::Planned;
use crate::scheme::Scheme;
use crate::settings::Method;

/// Rounds to nearest even; passes on what has the type already. f16 refuses numbers above 65504.
///
/// A kept weight with factors on it goes back to the checkpoint's type when that holds each product exactly, as it does
/// those with powers of two that neither over- nor underflow; else it is what the products are, f32.
pub struct Cast;

impl Quantizer for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn applies(&self, scheme: Scheme, _method: Method) -> bool {
        matches!(scheme, Scheme::Keep | Scheme::Float(_))
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        _known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        match (planned.scheme, &weight.data) {
            (Scheme::Float(dtype), WeightData::Stored { dtype: stored, .. }) if *stored == dtype => {
                kept(weight, progress)
            }
            (Scheme::Float(dtype), _) => in_type(weight, dtype, scratch, progress),
            (Scheme::Keep, WeightData::Derived(_, base)) => {
                let WeightData::Stored { dtype: dtype @ (FloatType::F16 | FloatType::BF16), .. } = *base.base() else {
                    return kept(weight, progress);
                };
                match in_type(weight, dtype, scratch, progress) {
                    Ok(outcome) if outcome.errors.max_abs == 0.0 => Ok(outcome),
                    Ok(_) | Err(QuantError::Refused(_)) => kept(weight, &graph::progress::Quiet),
                    Err(other) => Err(other),
                }
            }
            _ => kept(weight, progress),
        }
    }
}

fn in_type(
    weight: &Weight,
    dtype: FloatType,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<Outcome, QuantError> {
    let row_bytes = weight.matrix()[1] * dtype.bytes();
    let streamed = stream::encoded(weight, Scheme::Float(dtype), row_bytes, 1, scratch, progress, |values, chunk| {
        cast(dtype, values, chunk);
    })?;
    let data = WeightData::Stored { blob: streamed.blob, dtype };
    Ok(Outcome::float(data, streamed.errors))
}

fn kept(weight: &Weight, progress: &dyn Progress) -> Result<Outcome, QuantError> {
    stream::checked(weight, progress)?;
    Ok(Outcome::float(weight.data.clone(), Errors::default()))
}

fn cast(target: FloatType, values: &[f32], out: &mut Chunk) {
    target.encode(values, &mut out.bytes);
    target.decode(&out.bytes, &mut out.decoded);
}
