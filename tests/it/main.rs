//! One test binary, because linking is slow.

mod fixture;
mod hostile;
mod import;
#[cfg(feature = "llama-cpp")]
mod llama;
