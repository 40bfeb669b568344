//! What becomes of weights that a CTranslate2 artifact is to hold.

use graph::Block;
use quant::{Plan, Scheme};

/// Gives weights in int8 scales that are the inverse of an f32, which is what the file holds.
pub fn invert_scales(plan: &mut Plan) {
    const INT8: Scheme = Scheme::Affine { bits: 8, block: Block::Row, symmetric: true };
    for planned in plan.weights.iter_mut().filter(|planned| planned.scheme == INT8) {
        planned.scheme = Scheme::INVERTED;
    }
}
