//! `Q4_0`: `d = w_far / -8`, so the weight farthest from zero has code 0 exactly; code = trunc(w / d + 8.5), at most 15.
//! With importance `d` is the best of 19 fits around it.

use graph::ggml::GgmlType;
use half::f16;

use super::block_type::{BlockType, each_block, first_half, integer, push_scale, set_each, set_unit_scale};
use super::parts::{farthest, nibbles, reciprocal};
use super::weighted::symmetric_row;

/// Half of the codes.
const SIDE: f32 = 8.0;

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Q4_0,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, importance, out| symmetric_row(row, importance, SIDE, out, pack),
    shared: 32,
    nearest: integer::<{ -8 }, 7>,
    push_steps: push_scale,
    set_unit_steps: set_unit_scale,
    set_codes: |codes, blocks| set_each(codes, 8, blocks, set_codes),
    scale: first_half,
};

fn block(x: &[f32; 32], out: &mut [u8; 18]) {
    let d = farthest(x) / -SIDE;
    let codes = reciprocal(d).map(|id| x.map(|v| ((v * id + 8.5) as i32).min(15) as u8));
    pack(d, &codes.unwrap_or([0; 32]), out);
}

fn pack(d: f32, codes: &[u8; 32], out: &mut [u8; 18]) {
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    set_codes(codes, out);
}

fn set_codes(codes: &[u8; 32], out: &mut [u8; 18]) {
    out[2..].copy_from_slice(&nibbles(codes));
}
