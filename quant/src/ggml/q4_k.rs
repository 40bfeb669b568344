//! `Q4_K`: per 32 weights a 6-bit scale and minimum, found by 21 trials of 14 to 16 steps.

use super::k_search::{Trials, super_block};

pub(super) fn block(x: &[f32; 256], out: &mut [u8; 144]) {
    let found = super_block(x, &Trials { top: 15, first: -1.0, count: 21 });
    out[..16].copy_from_slice(&found.head);
    let pairs = found.codes.as_chunks::<64>().0;
    for (out, codes) in out[16..].as_chunks_mut::<32>().0.iter_mut().zip(pairs) {
        *out = std::array::from_fn(|i| codes[i] | codes[i + 32] << 4);
    }
}
