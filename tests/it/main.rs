//! One test binary, because linking is slow.

mod bounds;
mod calibration;
mod cli;
mod consumers;
mod decoding;
mod edits;
mod equalized;
mod families;
mod fixture;
mod foreign;
mod gemma;
mod gguf;
mod gguf_checkpoint;
mod gguf_names;
mod hostile;
mod import;
mod lint;
#[cfg(feature = "llama-cpp")]
mod llama;
mod mu;
mod npu;
mod npu_engines;
mod npu_graph;
mod npu_recipes;
mod onnx;
mod onnx_file;
mod passes;
mod quant;
mod recipes;
mod safetensors;
mod speech;
mod tokenizer;
mod validate;
