//! `Q4_0`, `Q4_1`, `Q5_0` and `Q5_1` by the importance of channels: the searches of [`k_search`](super::k_search), eight
//! blocks of a row at once.

use std::array::from_fn;

use super::k_search::{Trials, affine, symmetric, transposed};
use super::parts::{LANES, Lanes, counts, sum_of_squares};

/// The blocks of one row of a type without a minimum. `pack` gets the scale and the codes of a block.
pub(super) fn symmetric_row<const BYTES: usize>(
    row: &[f32],
    importance: &[f32],
    side: f32,
    out: &mut [u8],
    pack: fn(f32, &[u8; 32], &mut [u8; BYTES]),
) {
    eight_by_eight(row, importance, out, |x, weight, blocks| {
        let found = symmetric(x, weight, side);
        for (j, (x, out)) in blocks.enumerate() {
            pack(found.scale[j], &found.codes(j, x), out);
        }
    });
}

/// The blocks of one row of a type with a minimum. `pack` gets the scale, the minimum and the codes of a block.
pub(super) fn affine_row<const BYTES: usize>(
    row: &[f32],
    importance: &[f32],
    top: u8,
    out: &mut [u8],
    pack: fn(f32, f32, &[u8; 32], &mut [u8; BYTES]),
) {
    let trials = Trials::by_importance(top);
    eight_by_eight(row, importance, out, |x, weight, blocks| {
        let found = affine(x, weight, &trials);
        for (j, (x, out)) in blocks.enumerate() {
            pack(found.scale[j], -found.depth[j], &found.codes(j, x, top), out);
        }
    });
}

/// Weights of a block and the bytes that they become.
type Block<'a, const BYTES: usize> = (&'a [f32; 32], &'a mut [u8; BYTES]);

/// Calls `search` with the weights of eight blocks, what their errors count, and the blocks. Where fewer than eight are
/// left, the lanes behind the last hold zeros.
fn eight_by_eight<const BYTES: usize>(
    row: &[f32],
    importance: &[f32],
    out: &mut [u8],
    search: impl Fn(&[Lanes; 32], &[Lanes; 32], &mut dyn Iterator<Item = Block<'_, BYTES>>),
) {
    const EIGHT: usize = 32 * LANES;
    let sigma2 = sum_of_squares(row) / row.len() as f32;
    for ((x, importance), out) in row.chunks(EIGHT).zip(importance.chunks(EIGHT)).zip(out.chunks_mut(BYTES * LANES)) {
        let padded = |values: &[f32]| {
            let mut all = [0.0; EIGHT];
            all[..values.len()].copy_from_slice(values);
            transposed::<32>(&all)
        };
        let (lanes, importance) = (padded(x), padded(importance));
        let weight = from_fn(|i| counts(&importance[i], sigma2, &lanes[i]));
        search(&lanes, &weight, &mut x.as_chunks().0.iter().zip(out.as_chunks_mut().0));
    }
}
