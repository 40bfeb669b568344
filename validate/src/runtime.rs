//! Engines that run an artifact, behind one interface.

mod all;
pub mod answering;
mod child;
pub mod crisp_asr;
pub mod ctranslate2;
mod environments;
mod error;
pub mod ggml;
mod gguf;
pub mod hf;
mod host;
pub mod htp;
mod interface;
pub mod interpreter;
pub mod llama;
pub(crate) mod names;
mod npu;
pub mod onnx;
pub mod openvino;
mod packages;
mod pipe;
mod probes;
mod protocol;
pub mod reference;
pub mod rknn;
mod serve;
pub mod transcribe;
pub mod whisper_cpp;

pub use all::{ANSWERERS, ENCODERS, RUNTIMES, programs};
pub use answering::{Answerer, Answers};
pub use child::end_children;
pub use error::RuntimeError;
pub use host::COMMAND;
pub use interface::{AllRows, Between, Fit, Options, Present, Program, Runtime, Session};
pub use probes::{Probed, names, probes};
pub use serve::serve;
