//! One test binary, because linking is slow.

mod cli;
mod fixture;
mod gguf;
mod hostile;
mod import;
#[cfg(feature = "llama-cpp")]
mod llama;
mod recipes;
mod tokenizer;
