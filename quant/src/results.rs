//! What the results of the algorithms are known by.

use crate::calibrate::{gram, ranges, statistics, values};
use crate::codebook::{affine, ggml};
use crate::edit::{awq, bias, equalize, rescale};
use crate::method::{feedback, gptq, nearest};

/// Each algorithm whose results somebody keeps, and its number: raised when the same input gives other results, so that what was kept
/// before is not taken for what would be found now. The number stands beside the algorithm.
pub const RESULTS: &[(&str, u32)] = &[
    ("statistics", statistics::RESULTS),
    ("values", values::RESULTS),
    ("ranges", ranges::RESULTS),
    ("gram", gram::RESULTS),
    ("nearest", nearest::RESULTS),
    ("affine", affine::RESULTS),
    ("ggml", ggml::RESULTS),
    ("feedback", feedback::RESULTS),
    ("gptq", gptq::RESULTS),
    ("equalize", equalize::RESULTS),
    ("awq", awq::RESULTS),
    ("bias correction", bias::RESULTS),
    ("rescale residual", rescale::RESULTS),
];
