//! The formats.

mod companions;
pub mod ctranslate2;
pub mod gguf;
pub mod imatrix;
pub mod npu;
pub mod onnx;
pub mod safetensors;
pub mod whisper_cpp;

pub use companions::copy_companions;

use crate::format::Format;

/// Every format, with its default options.
pub const FORMATS: &[&dyn Format] = &[
    &onnx::Onnx::DEFAULT,
    &npu::Npu::DEFAULT,
    &gguf::Gguf::DEFAULT,
    &safetensors::Safetensors::DEFAULT,
    &ctranslate2::CTranslate2::DEFAULT,
    &whisper_cpp::WhisperCpp::DEFAULT,
];
