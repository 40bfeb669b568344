//! `Q4_K`: per 32 weights a 6-bit scale and minimum, found by 21 trials of 14 to 16 steps; with importance by 37 of 14.1
//! to 15.9.

use super::k_search::{SuperBlock, Trials, super_block, super_block_by_importance};

pub(super) fn block(x: &[f32; 256], out: &mut [u8; 144]) {
    pack(&super_block(x, &Trials { top: 15, first: -1.0, step: 0.1, count: 21, overflow: 0.0 }), out);
}

pub(super) fn block_by_importance(x: &[f32; 256], importance: &[f32; 256], out: &mut [u8; 144]) {
    pack(&super_block_by_importance(x, importance, 15, u8::MAX), out);
}

fn pack(found: &SuperBlock, out: &mut [u8; 144]) {
    out[..16].copy_from_slice(&found.head);
    set_codes(&found.codes, out);
}

pub(super) fn set_codes(codes: &[u8; 256], out: &mut [u8; 144]) {
    let pairs = codes.as_chunks::<64>().0;
    for (out, codes) in out[16..].as_chunks_mut::<32>().0.iter_mut().zip(pairs) {
        *out = std::array::from_fn(|i| codes[i] | codes[i + 32] << 4);
    }
}
