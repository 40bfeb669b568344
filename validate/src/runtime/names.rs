//! What engines are called that run in a process of this program.

/// `onnxruntime`.
pub const ONNXRUNTIME: &str = "onnxruntime";
/// Qualcomm's.
pub const HTP: &str = "htp-simulator";
/// ggml.
pub const GGML: &str = "ggml";
/// llama.cpp.
pub const LLAMA: &str = "llama.cpp";
/// The own interpreter.
pub const INTERPRETER: &str = "interpreter";

/// All of them: errors that come over a pipe tell which one failed.
pub const HOSTED: [&str; 5] = [ONNXRUNTIME, HTP, GGML, LLAMA, INTERPRETER];
