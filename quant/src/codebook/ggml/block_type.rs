//! What is to be known of a block type to choose, read and replace its codes.

use half::f16;

use graph::ggml::GgmlType;

use super::parts::{Step, half_at};
use crate::codebook::grid::rounded;

/// One block type. Codes are integers; a weight means `scale·code - offset`.
pub(super) struct BlockType {
    /// Which.
    pub kind: GgmlType,
    /// The blocks of a row.
    pub encode: fn(&[f32], &mut [u8]),
    /// The same; a squared error counts as much as the importance of its column.
    pub encode_by_importance: fn(&[f32], &[f32], &mut [u8]),
    /// Weights that share a step.
    pub shared: usize,
    /// The code nearest to `(w + offset) / scale`, of those that are ever chosen.
    pub nearest: fn(f32) -> f32,
    /// Appends the steps of one block, in the order of its weights.
    pub push_steps: fn(&[u8], &mut Vec<Step>),
    /// Makes every weight of a block mean its code.
    pub set_unit_steps: fn(&mut [u8]),
    /// Puts codes into blocks; scales and minima stay.
    pub set_codes: fn(&[i8], &mut [u8]),
    /// The scale of a block as statistics show it: `d`, of a super-block where there are such.
    pub scale: fn(&[u8]) -> f32,
}

/// The nearest integer, halves to even, from `LOWEST` to `HIGHEST`.
pub(super) fn integer<const LOWEST: i8, const HIGHEST: i8>(v: f32) -> f32 {
    rounded(v, f32::from(LOWEST), f32::from(HIGHEST))
}

/// Encodes block after block.
pub(super) fn each_block<const LEN: usize, const BYTES: usize>(
    row: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    for (weights, block) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        encode(weights, block);
    }
}

/// The same with the importance of each block's columns.
pub(super) fn each_block_by_importance<const LEN: usize, const BYTES: usize>(
    row: &[f32],
    importance: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN], &[f32; LEN], &mut [u8; BYTES]),
) {
    let blocks = row.as_chunks().0.iter().zip(importance.as_chunks().0).zip(out.as_chunks_mut().0);
    for ((weights, importance), block) in blocks {
        encode(weights, importance, block);
    }
}

/// `set` gets the codes of each block as its bytes hold them: `code + side`.
pub(super) fn set_each<const LEN: usize, const BYTES: usize>(
    codes: &[i8],
    side: i8,
    blocks: &mut [u8],
    set: fn(&[u8; LEN], &mut [u8; BYTES]),
) {
    for (codes, block) in codes.as_chunks::<LEN>().0.iter().zip(blocks.as_chunks_mut().0) {
        set(&codes.map(|code| code.wrapping_add(side).cast_unsigned()), block);
    }
}

/// `d`, where a block begins with it.
pub(super) fn first_half(block: &[u8]) -> f32 {
    half_at(block, 0)
}

/// The step of a block `d | codes`.
pub(super) fn push_scale(block: &[u8], steps: &mut Vec<Step>) {
    steps.push(Step { scale: half_at(block, 0), offset: 0.0 });
}

/// The step of a block `d | m | codes`.
pub(super) fn push_scale_and_minimum(block: &[u8], steps: &mut Vec<Step>) {
    steps.push(Step { scale: half_at(block, 0), offset: -half_at(block, 2) });
}

/// Sets `d` to 1.
pub(super) fn set_unit_scale(block: &mut [u8]) {
    block[..2].copy_from_slice(&f16::ONE.to_le_bytes());
}

/// Sets `d` to 1 and `m` to 0.
pub(super) fn set_unit_scale_and_no_minimum(block: &mut [u8]) {
    set_unit_scale(block);
    block[2..4].fill(0);
}
