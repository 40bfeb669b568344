//! `Q5_1`: `m = min w`, `d = (max w - m) / 31`; code = trunc((w - m) / d + 0.5), at most 31. With importance `m ≤ 0` and
//! `d` are the best of 38 fits.

use graph::ggml::GgmlType;
use half::f16;

use super::block_type::{
    BlockType, each_block, first_half, integer, push_scale_and_minimum, set_each, set_unit_scale_and_no_minimum,
};
use super::parts::{extent, fifth_bits, nibbles, reciprocal};
use super::weighted::affine_row;

/// The largest code.
const TOP: u8 = 31;

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Q5_1,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, importance, out| affine_row(row, importance, TOP, out, pack),
    shared: 32,
    nearest: integer::<0, 31>,
    push_steps: push_scale_and_minimum,
    set_unit_steps: set_unit_scale_and_no_minimum,
    set_codes: |codes, blocks| set_each(codes, 0, blocks, set_codes),
    scale: first_half,
};

fn block(x: &[f32; 32], out: &mut [u8; 24]) {
    let (min, max) = extent(x);
    let d = (max - min) / 31.0;
    let codes = reciprocal(d).map(|id| x.map(|v| (((v - min) * id + 0.5) as i32).min(31) as u8));
    pack(d, min, &codes.unwrap_or([0; 32]), out);
}

fn pack(d: f32, m: f32, codes: &[u8; 32], out: &mut [u8; 24]) {
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(m).to_le_bytes());
    set_codes(codes, out);
}

fn set_codes(codes: &[u8; 32], out: &mut [u8; 24]) {
    out[4..8].copy_from_slice(&fifth_bits(codes).to_le_bytes());
    out[8..].copy_from_slice(&nibbles(codes));
}
