//! ONNX files: their messages, what one says, which shapes its values have, and weights written to and read from them.

pub mod describe;
mod error;
pub mod infer;
pub mod make;
pub mod model;
#[allow(clippy::all, missing_docs, dead_code, reason = "generated from onnx.proto, whole")]
#[rustfmt::skip]
pub mod proto;
pub mod read;
pub mod shown;
pub mod tensors;
mod weigh;
pub mod write;

pub use describe::{Description, Initializer, describe};
pub use error::OnnxError;
pub use infer::{Types, Unknown};
pub use model::{Attribute, Constant, Declared, Element, Extent, Node, OnnxFile, STANDARD};
