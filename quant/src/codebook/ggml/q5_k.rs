//! `Q5_K`: per 32 weights a 6-bit scale and minimum, found by 16 trials of 30.5 to 32 steps; with importance by 37 of 30.1
//! to 31.9.

use graph::ggml::GgmlType;
use half::f16;

use super::block_type::{BlockType, each_block, each_block_by_importance, first_half, integer, set_each};
use super::k_search::{SuperBlock, Trials, head, steps, super_block, super_block_by_importance};

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Q5K,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, importance, out| each_block_by_importance(row, importance, out, block_by_importance),
    shared: 32,
    nearest: integer::<0, 31>,
    push_steps: |block, all| all.extend(steps(block.first_chunk().expect("a block is longer than its head"))),
    set_unit_steps: |block| block[..16].copy_from_slice(&head(f16::ONE, f16::ZERO, &[1; 8], &[0; 8])),
    set_codes: |codes, blocks| set_each(codes, 0, blocks, set_codes),
    scale: first_half,
};

fn block(x: &[f32; 256], out: &mut [u8; 176]) {
    pack(&super_block(x, &Trials { top: 31, first: -0.5, step: 0.1, count: 16, overflow: 0.0 }), out);
}

fn block_by_importance(x: &[f32; 256], importance: &[f32; 256], out: &mut [u8; 176]) {
    pack(&super_block_by_importance(x, importance, 31, 63), out);
}

fn pack(found: &SuperBlock, out: &mut [u8; 176]) {
    out[..16].copy_from_slice(&found.head);
    set_codes(&found.codes, out);
}

fn set_codes(codes: &[u8; 256], out: &mut [u8; 176]) {
    let fifth: [u8; 32] = std::array::from_fn(|i| (0..8).fold(0, |bits, b| bits | codes[32 * b + i] >> 4 << b));
    out[16..48].copy_from_slice(&fifth);
    let pairs = codes.as_chunks::<64>().0;
    for (out, codes) in out[48..].as_chunks_mut::<32>().0.iter_mut().zip(pairs) {
        *out = std::array::from_fn(|i| codes[i] & 15 | codes[i + 32] << 4);
    }
}
