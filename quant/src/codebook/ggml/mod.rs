//! Choosing the codes of ggml's block types: what `llama-quantize` writes, byte for byte, [without](quantize) an importance
//! matrix and [with](quantize_weighted) one. Codes that are chosen elsewhere, under the scales found here, enter by [`codes`].
//!
//! [`graph::ggml::GgmlType`] says what the bytes mean; here is how they are chosen. Source: the `quantize_row_*_ref` and
//! `quantize_row_*_impl` functions of ggml-quants.c in llama.cpp (llama-cpp-sys-2 0.1.161). Equal bytes need equal f32
//! operations in equal order, so sums that the source accumulates one weight after the other are never reassociated, and
//! no multiply-add is fused (ggml's own build fuses none on x86-64 either: the file is compiled for the baseline
//! processor).
//!
//! Where the source leaves C's defined behaviour (converting an infinity to an integer, when the reciprocal of a
//! denormal scale overflows), the bytes are those of x86-64, code 0. The stored f16 scale is 0 in these blocks. Weights
//! so large that a scale passes 65504 get an infinite scale, here as in ggml; [`quantize`] reports neither.

pub mod codes;
mod k_search;
pub mod parts;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod weighted;

use graph::ggml::GgmlType;

use weighted::{affine_row, symmetric_row};

/// The largest importance that [`quantize_weighted`] takes. Up to here no sum over a block overflows f32 as long as f16
/// can hold the scales, so that none becomes NaN.
pub const IMPORTANCE_LIMIT: f32 = 1e18;

/// The blocks of one row (or of several, one after the other).
///
/// `row`: f32[k·block_len], finite; `out`: u8[k·block_bytes]. Panics when the lengths do not fit.
pub fn quantize(kind: GgmlType, row: &[f32], out: &mut [u8]) {
    let (len, bytes) = (kind.block_len(), kind.block_bytes());
    assert!(
        row.len().is_multiple_of(len) && out.len() == row.len() / len * bytes,
        "{kind}: {} bytes for {} weights, at {bytes} bytes for {len}",
        out.len(),
        row.len()
    );
    match kind {
        GgmlType::Q8_0 => each_block(row, out, q8_0::block),
        GgmlType::Q4_0 => each_block(row, out, q4_0::block),
        GgmlType::Q4_1 => each_block(row, out, q4_1::block),
        GgmlType::Q5_0 => each_block(row, out, q5_0::block),
        GgmlType::Q5_1 => each_block(row, out, q5_1::block),
        GgmlType::Q4K => each_block(row, out, q4_k::block),
        GgmlType::Q5K => each_block(row, out, q5_k::block),
        GgmlType::Q6K => each_block(row, out, q6_k::block),
    }
}

/// The blocks of some rows, chosen for the least error in what a layer computes from inputs like those of a calibration.
///
/// `row`: f32[rows·columns], finite, `columns` a multiple of block_len; `importance`: `f32[columns]`, the mean square of
/// each input channel; `out`: u8[k·block_bytes]. Byte for byte `ggml_quantize_chunk(…, imatrix)`. Panics when the lengths
/// do not fit, and when an importance is negative, NaN or above [`IMPORTANCE_LIMIT`]. ggml tests none of this: a
/// NaN gives it a NaN scale in `Q4_0` and `Q5_0`, the plain fit in `Q4_1` and `Q5_1`, and zeros in the K types.
///
/// | type | how much a squared error counts |
/// | --- | --- |
/// | `Q8_0` | without `importance`, which is not used |
/// | `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` | `importance·√(mean w² + w²)`, mean over the row |
/// | `Q4_K`, `Q5_K` | `importance·√(2·mean w² + w²)`, mean over the block |
/// | `Q6_K` | `importance` |
///
/// Only ratios matter while products of three sums over a block stay inside f32: for weights around 0.1, from 1e-15 to
/// 1e10. Beyond, `Q4_K` and `Q5_K` skip the last refinement of their scales.
///
/// **Zeros.** A channel of importance 0 has no say. Where all channels of a block have none, the block of `Q4_0` and
/// `Q5_0`, the super-block of `Q4_K` and `Q5_K` and the 16 weights of `Q6_K` get the scale 0 and mean zeros, whatever the
/// weights; `Q4_1` and `Q5_1` fall back to the plain fit between extremes. That costs nothing on the calibration and may
/// cost much elsewhere: whoever wants such channels kept gives them a small positive importance.
pub fn quantize_weighted(kind: GgmlType, row: &[f32], importance: &[f32], out: &mut [u8]) {
    let (len, bytes, columns) = (kind.block_len(), kind.block_bytes(), importance.len());
    assert!(
        columns > 0
            && columns.is_multiple_of(len)
            && row.len().is_multiple_of(columns)
            && out.len() == row.len() / len * bytes,
        "{kind}: {} bytes for {} weights in rows of {columns}, at {bytes} bytes for {len}",
        out.len(),
        row.len()
    );
    if let Some(at) = importance.iter().position(|v| !(0.0..=IMPORTANCE_LIMIT).contains(v)) {
        panic!("{kind}: importance of column {at}: expected 0 to {IMPORTANCE_LIMIT:e}, found {}", importance[at]);
    }
    for (row, out) in row.chunks_exact(columns).zip(out.chunks_exact_mut(columns / len * bytes)) {
        match kind {
            GgmlType::Q8_0 => each_block(row, out, q8_0::block),
            GgmlType::Q4_0 => symmetric_row(row, importance, q4_0::SIDE, out, q4_0::pack),
            GgmlType::Q4_1 => affine_row(row, importance, q4_1::TOP, out, q4_1::pack),
            GgmlType::Q5_0 => symmetric_row(row, importance, q5_0::SIDE, out, q5_0::pack),
            GgmlType::Q5_1 => affine_row(row, importance, q5_1::TOP, out, q5_1::pack),
            GgmlType::Q4K => each_block_by_importance(row, importance, out, q4_k::block_by_importance),
            GgmlType::Q5K => each_block_by_importance(row, importance, out, q5_k::block_by_importance),
            GgmlType::Q6K => each_block_by_importance(row, importance, out, q6_k::block_by_importance),
        }
    }
}

fn each_block<const LEN: usize, const BYTES: usize>(
    row: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    for (weights, block) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        encode(weights, block);
    }
}

fn each_block_by_importance<const BYTES: usize>(
    row: &[f32],
    importance: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; 256], &[f32; 256], &mut [u8; BYTES]),
) {
    let blocks = row.as_chunks().0.iter().zip(importance.as_chunks().0).zip(out.as_chunks_mut().0);
    for ((weights, importance), block) in blocks {
        encode(weights, importance, block);
    }
}

#[cfg(test)]
mod tests;
