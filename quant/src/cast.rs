//! Floats of another type, and weights that stay as they are.

use graph::{FloatType, Progress, Scratch, Weight, WeightData};

use crate::error::QuantError;
use crate::plan::Planned;
use crate::record::Errors;
use crate::scheme::{Method, Scheme};
use crate::{Known, Needs, Outcome, Quantizer, stream};

/// Rounds to nearest even; passes on what has the type already. f16 refuses numbers above 65504.
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
        let stored = match weight.data {
            WeightData::Stored { dtype, .. } => Some(dtype),
            WeightData::Derived(..) | WeightData::Computed(_) | WeightData::Quantized(_) => None,
        };
        let target = match planned.scheme {
            Scheme::Float(dtype) if stored != Some(dtype) => dtype,
            _ => {
                stream::checked(weight, progress)?;
                return Ok(Outcome::new(weight.data.clone(), Vec::new(), Errors::default()));
            }
        };
        let row_bytes = weight.matrix()[1] * target.bytes();
        let streamed = stream::encoded(weight, planned.scheme, row_bytes, scratch, progress, |values, chunk| {
            cast(target, values, chunk);
        })?;
        let data = WeightData::Stored { blob: streamed.blob, dtype: target };
        Ok(Outcome::new(data, Vec::new(), streamed.errors))
    }
}

fn cast(target: FloatType, values: &[f32], out: &mut stream::Chunk) {
    target.encode(values, &mut out.bytes);
    target.decode(&out.bytes, &mut out.decoded);
}
