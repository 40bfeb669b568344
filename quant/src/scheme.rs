//! What a weight can be turned into.

use graph::{Block, FloatType, GgmlType};

/// A representation of a weight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// As the checkpoint stores it.
    Keep,
    /// Floats of a type, rounded to nearest even.
    Float(FloatType),
    /// Integer codes with scales.
    Affine {
        /// 4 or 8.
        bits: u8,
        /// What shares a scale.
        block: Block,
        /// Without zeros.
        symmetric: bool,
    },
    /// Blocks of llama.cpp.
    Ggml(GgmlType),
}

/// How the range of a block is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Clip {
    /// The largest magnitude.
    None,
    /// The range with the least squared error.
    Mse,
}
