//! What follows from positions: masks and biases by distance.

use super::strided::f32s;
use crate::eval::tensor::Tensor;
use crate::ir::op::Visible;

pub(in crate::eval) fn positions(start: usize, len: usize) -> Tensor {
    Tensor::i64([len], (0..len).map(|i| (start + i) as i64).collect())
}

pub(in crate::eval) fn mask(visible: Visible, start: usize, q: usize, k: usize, hidden: f32) -> Tensor {
    let cell = |i: usize| if visible.sees(start + i / k, i % k) { 0.0 } else { hidden };
    Tensor::f32([q, k], (0..q * k).map(cell).collect())
}

pub(in crate::eval) fn padding_mask(mask: &Tensor, hidden: f32) -> Tensor {
    let cells = mask.as_i64().expect("inference made it i64").iter();
    let out = cells.map(|m| if *m != 0 { 0.0 } else { hidden }).collect();
    Tensor::f32([mask.shape()[0], 1, 1, mask.shape()[1]], out)
}

/// The row of T5's bias table for a distance `key - query` (`_relative_position_bucket`, modeling_t5.py).
///
/// Half of the buckets (of each direction's share) are exact distances, the others grow logarithmically up to
/// `max_distance`, all in f32 as in the original, because a bucket's edge may fall on a whole number.
pub fn relative_bucket(distance: i64, buckets: usize, max_distance: usize, bidirectional: bool) -> usize {
    let (buckets, offset, distance) = match bidirectional {
        true => (buckets / 2, if distance > 0 { buckets / 2 } else { 0 }, distance.unsigned_abs() as usize),
        false => (buckets, 0, usize::try_from(-distance).unwrap_or(0)),
    };
    let max_exact = buckets / 2;
    if distance < max_exact {
        return offset + distance;
    }
    let ratio = (distance as f32 / max_exact as f32).ln() / (max_distance as f64 / max_exact as f64).ln() as f32;
    let large = max_exact + (ratio * (buckets - max_exact) as f32) as usize;
    offset + large.min(buckets - 1)
}

pub(in crate::eval) fn relative_bias(
    table: &Tensor,
    start: usize,
    q: usize,
    k: usize,
    bucket: impl Fn(i64) -> usize,
) -> Tensor {
    let (heads, floats) = (table.shape()[1], f32s(table));
    let mut out = vec![0.0; heads * q * k];
    for query in 0..q {
        for key in 0..k {
            let row = bucket(key as i64 - (start + query) as i64) * heads;
            for head in 0..heads {
                out[(head * q + query) * k + key] = floats[row + head];
            }
        }
    }
    Tensor::f32([1, heads, q, k], out)
}
