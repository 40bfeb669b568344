//! How far the residual streams of a model must shrink to be held in f16; see [`graph::passes::RescaleResidual`].

use graph::passes::{PassError, residual_streams};
use graph::{Graph, ValueId};

use crate::calibrate::statistics::{Observed, Statistics};

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Half of the largest number of f16: a factor 2 for inputs that calibration did not see.
pub const ROOM: f32 = 65504.0 / 2.0;

/// What calibration says of a residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// Largest magnitude of any of its values.
    pub max_abs: f32,
    /// The largest power of two up to 1 with `max_abs · alpha ≤` [`ROOM`].
    pub alpha: f32,
}

/// The streams of encoder and decoder; or why they cannot be scaled.
///
/// A value of which the statistics know nothing counts as 0: they are those of the graph, whose entry `full` computes all.
pub fn extents(graph: &Graph, statistics: &Statistics) -> [Result<Extent, PassError>; 2] {
    let seen = |id: &ValueId| statistics.extents.get(&graph.value(*id).name).copied().map_or(0.0, Observed::max_abs);
    residual_streams(graph).map(|stream| {
        let max_abs = stream?.iter().map(seen).fold(0.0, f32::max);
        Ok(Extent { max_abs, alpha: fitting(max_abs) })
    })
}

fn fitting(max_abs: f32) -> f32 {
    let mut alpha = 1.0;
    while max_abs * alpha > ROOM {
        alpha /= 2.0;
    }
    alpha
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_the_largest_that_leaves_half_of_f16_free() {
        let found = [0.0, 32752.0, 32753.0, 65504.0, 65505.0, 1e6, f32::MAX].map(fitting);
        assert_eq!(found[..6], [1.0, 1.0, 0.5, 0.5, 0.25, 1.0 / 32.0]);
        assert_eq!(found[6], 2f32.powi(-114)); // (2 - ε)·2^127 · 2^-114 < 2^14
    }
}
