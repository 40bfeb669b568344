//! What the results of the algorithms are known by.

use crate::calibrate::{ranges, statistics, values};
use crate::codebook::{affine, float8, ggml};
use crate::edit::{awq, bias, equalize, rescale};
use crate::method::gptq;

/// Each algorithm whose results somebody keeps, and its number: raised when the same input gives other results, so that what was kept
/// before is not taken for what would be found now. The number stands beside the algorithm.
pub const RESULTS: &[(&str, u32)] = &[
    ("statistics", statistics::RESULTS),
    ("values", values::RESULTS),
    ("ranges", ranges::RESULTS),
    ("affine", affine::RESULTS),
    ("float8", float8::RESULTS),
    ("ggml", ggml::RESULTS),
    ("gptq", gptq::RESULTS),
    ("equalize", equalize::RESULTS),
    ("awq", awq::RESULTS),
    ("bias_correction", bias::RESULTS),
    ("rescale_residual", rescale::RESULTS),
];
