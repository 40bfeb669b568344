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

mod block_type;
pub mod blocks;
pub mod codes;
mod k_search;
mod mxfp4;
pub mod parts;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod types;
mod weighted;

#[cfg(test)]
pub(crate) use blocks::ratios;
pub use blocks::{IMPORTANCE_LIMIT, quantize, quantize_weighted};

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

#[cfg(test)]
mod tests;
