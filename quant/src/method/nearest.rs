//! Rounding to nearest, under scales found from a weight alone or by the importance of its columns.

use graph::{Progress, Scratch, Weight};

use super::quantizer::{Known, Needs, Outcome, Quantizer};
use super::stream;
use crate::error::QuantError;
use crate::policy::plan::Planned;
use crate::scheme::Scheme;
use crate::settings::Method;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Nearest codes ("round to nearest", RTN). Where the importance of input channels is known, scales are those with the least
/// weighted error.
pub struct Nearest;

impl Quantizer for Nearest {
    fn name(&self) -> &'static str {
        "nearest"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn applies(&self, scheme: Scheme, method: Method) -> bool {
        scheme.is_quantized() && method != Method::Gptq
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        let codebook = planned.scheme.codebook().expect("`applies` says so");
        let shape = weight.matrix();
        let rows = codebook.rows(weight, planned.clip, known.importance())?;
        let row_bytes = codebook.row_bytes(shape[1]);
        let streamed = stream::encoded(weight, planned.scheme, row_bytes, 1, scratch, progress, |values, chunk| {
            rows.encode(values, chunk);
        })?;
        Ok(Outcome::coded(&*codebook, shape, streamed))
    }
}
