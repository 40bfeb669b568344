//! Rounding of activations: fake quantization.

pub(super) mod quantize_activations;
pub(super) mod quantize_statically;
pub(super) mod quantize_values;
