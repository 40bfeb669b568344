//! Edits of float weights before, and of biases after, quantization, which leave the float model as it is.

pub mod awq;
pub mod bias;
pub mod equalize;
pub mod rescale;
pub mod sites;
