//! One test binary, because linking is slow.

mod cli;
mod fixture;
mod gguf;
mod hostile;
mod import;
mod onnx;
#[cfg(feature = "llama-cpp")]
mod llama;
mod quant;
mod recipes;
mod safetensors;
mod tokenizer;
mod validate;
