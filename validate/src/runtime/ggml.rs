//! `trefoil-engine`, compiled in: GGUF artifacts of every family on ggml, under the cargo feature `llama-cpp`.

use converters::Artifact;
use converters::export::gguf::{ENCODER, VERSION_KEY};

use crate::runtime::error::RuntimeError;
use crate::runtime::gguf;
use crate::runtime::interface::{Fit, Options, Present, Program, Runtime, Session};
use crate::runtime::names::GGML;

#[cfg(feature = "llama-cpp")]
use crate::runtime::host;
#[cfg(not(feature = "llama-cpp"))]
use crate::runtime::llama::not_compiled_in;

#[cfg(feature = "llama-cpp")]
mod session;

/// The engine itself, with options that a validation does not set.
#[cfg(feature = "llama-cpp")]
pub use trefoil_engine as engine;

/// Runs GGUF artifacts on ggml, on the CPU, with nothing but the file; without the cargo feature `llama-cpp` it is shown as
/// not run.
///
/// The noise is llama.cpp's, whose arithmetic it has: GELU with `tanh` is a table in f16, 16-bit matrices take their inputs
/// rounded to 16 bits, and quantized ones take them rounded to 8 bits in blocks. The cache is f32, and f16 where the engine is timed, with the decoder's matrices repacked.
pub struct Ggml;

impl Program for Ggml {
    fn name(&self) -> &'static str {
        GGML
    }

    fn runs(&self, format: &str) -> bool {
        format == "gguf"
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        if !self.runs(artifact.format) {
            return Fit::Foreign;
        }
        match gguf::opened(artifact) {
            Some(file) if gguf::family(&file) == Some(ENCODER) => Fit::Foreign,
            Some(file) if file.get(VERSION_KEY).is_none() => Fit::CannotRun(format!(
                "it reads what the GGUF that trefoil writes says of its graph, and this one has no key {VERSION_KEY}"
            )),
            // What nobody can read is refused when it is opened.
            _ => Fit::Runs,
        }
    }

    #[cfg(feature = "llama-cpp")]
    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Ok(Present::compiled_in(engine::ggml_version()))
    }

    #[cfg(not(feature = "llama-cpp"))]
    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Err(not_compiled_in(GGML))
    }
}

impl Runtime for Ggml {
    #[cfg(feature = "llama-cpp")]
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        if let Some(program) = &options.host {
            return host::open(GGML, program, artifact, options, &[]);
        }
        match session::Ggml::open(artifact, options) {
            Ok(session) => Ok(Box::new(session)),
            Err(message) => Err(RuntimeError::Failed { runtime: GGML, message }),
        }
    }

    #[cfg(not(feature = "llama-cpp"))]
    fn open(&self, _: &Artifact, _: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        Err(not_compiled_in(GGML))
    }
}
