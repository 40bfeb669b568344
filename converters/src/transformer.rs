//! A forward pass in a few words.

use graph::Unary;

/// What engines are told of a forward pass that they have built in, beside its weights: how deep, how wide, in which order.
///
/// Which sublayers have biases, gates and norms of their own, the names of the weights tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Transformer {
    /// What is encoded.
    pub source: Source,
    /// The encoder.
    pub encoder: Stack,
    /// The decoder.
    pub decoder: Stack,
    /// The norm of a sublayer comes before it, and one more after each stack; else it comes after the residual.
    pub norm_before: bool,
    /// Of every feed-forward layer; where that is gated, of its gate.
    pub activation: Unary,
    /// Of every norm.
    pub eps: f32,
    /// What attention knows of positions.
    pub positions: Positions,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What the decoder's output is multiplied by before the head.
    pub logit_scale: Option<f32>,
    /// The token that targets begin with, where the family added it for that alone, with a row of zeros.
    pub added_start: Option<usize>,
}

/// What is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Ids of tokens.
    Tokens,
    /// Log-mel features, through two convolutions of which the second halves them.
    Features,
}

/// What differs between the stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Its layers.
    pub layers: usize,
    /// Of each attention.
    pub heads: usize,
    /// Of each head.
    pub head_width: usize,
}

/// What attention knows of positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Positions {
    /// A table in each stack; the first token has this row.
    Rows {
        /// Of the table.
        first: usize,
    },
    /// A bias of each head by distance, of the first layer in all layers; scores are not scaled.
    Distances {
        /// From where on distances count alike.
        max_distance: usize,
    },
}
