//! `Q4_K`: per 32 weights a 6-bit scale and minimum, found by 21 trials of 14 to 16 steps; with importance by 37 of 14.1
//! to 15.9.

use graph::ggml::GgmlType;
use half::f16;

use super::block_type::{BlockType, each_block, each_block_by_importance, first_half, integer, set_each};
use super::k_search::{SuperBlock, Trials, head, steps, super_block, super_block_by_importance};

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Q4K,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, importance, out| each_block_by_importance(row, importance, out, block_by_importance),
    shared: 32,
    nearest: integer::<0, 15>,
    push_steps: |block, all| all.extend(steps(block.first_chunk().expect("a block is longer than its head"))),
    set_unit_steps: |block| block[..16].copy_from_slice(&head(f16::ONE, f16::ZERO, &[1; 8], &[0; 8])),
    set_codes: |codes, blocks| set_each(codes, 0, blocks, set_codes),
    scale: first_half,
};

fn block(x: &[f32; 256], out: &mut [u8; 144]) {
    pack(&super_block(x, &Trials { top: 15, first: -1.0, step: 0.1, count: 21, overflow: 0.0 }), out);
}

fn block_by_importance(x: &[f32; 256], importance: &[f32; 256], out: &mut [u8; 144]) {
    pack(&super_block_by_importance(x, importance, 15, u8::MAX), out);
}

fn pack(found: &SuperBlock, out: &mut [u8; 144]) {
    out[..16].copy_from_slice(&found.head);
    set_codes(&found.codes, out);
}

fn set_codes(codes: &[u8; 256], out: &mut [u8; 144]) {
    let pairs = codes.as_chunks::<64>().0;
    for (out, codes) in out[16..].as_chunks_mut::<32>().0.iter_mut().zip(pairs) {
        *out = std::array::from_fn(|i| codes[i] | codes[i + 32] << 4);
    }
}
