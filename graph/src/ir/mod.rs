//! What a graph is made of.

pub mod fake_quant;
pub mod graph;
pub mod infer;
pub mod op;
pub mod port;
pub mod properties;
pub mod same;
pub mod text;
pub mod ty;
pub mod verify;
