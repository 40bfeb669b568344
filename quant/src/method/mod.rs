//! How codes are chosen, once the scales of a block are known or while they are sought.

pub mod cast;
pub mod feedback;
pub mod gptq;
pub mod nearest;
pub mod quantizer;
pub mod stream;

use crate::policy::plan::Planned;
use quantizer::Quantizer;

/// Every quantizer; for each scheme and method one applies.
pub const QUANTIZERS: &[&dyn Quantizer] = &[&cast::Cast, &nearest::Nearest, &gptq::Gptq];

pub(crate) fn quantizer_for(planned: &Planned) -> &'static dyn Quantizer {
    let found = QUANTIZERS.iter().find(|quantizer| quantizer.applies(planned.scheme, planned.method));
    *found.expect("a test holds that one applies to each scheme and method")
}
