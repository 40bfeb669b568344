//! llama.cpp, compiled in: GGUF artifacts, under the cargo feature `llama-cpp`.

use converters::Artifact;
use converters::export::gguf::{ENCODER, LLAMA_CPP};

use crate::runtime::error::RuntimeError;
use crate::runtime::gguf;
use crate::runtime::interface::{Fit, Options, Present, Program, Runtime, Session};
use crate::runtime::names::LLAMA;

#[cfg(feature = "llama-cpp")]
use crate::runtime::host;

#[cfg(feature = "llama-cpp")]
mod contexts;
#[cfg(feature = "llama-cpp")]
mod ffi;
#[cfg(feature = "llama-cpp")]
mod header;
#[cfg(feature = "llama-cpp")]
mod session;

/// Runs GGUF artifacts in llama.cpp on the CPU; without the cargo feature `llama-cpp` it is never available.
///
/// The cache is f32 and flash attention is off. What is left of its own noise: GELU is a table in f16, 16-bit matrices
/// take their inputs rounded to 16 bits, and quantized ones take them rounded to 8 bits in blocks.
pub struct LlamaCpp;

impl Program for LlamaCpp {
    fn name(&self) -> &'static str {
        LLAMA
    }

    fn runs(&self, format: &str) -> bool {
        format == "gguf"
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        if !self.runs(artifact.format) {
            return Fit::Foreign;
        }
        match gguf::opened(artifact).as_ref().and_then(gguf::family) {
            Some(ENCODER) => Fit::Foreign,
            Some(family) if !LLAMA_CPP.contains(&family) => {
                let known = LLAMA_CPP.join(", ");
                Fit::CannotRun(format!("of encoder-decoders it knows the architecture {known}, and this is {family}"))
            }
            _ => Fit::Runs,
        }
    }

    #[cfg(feature = "llama-cpp")]
    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Ok(Present::compiled_in(ffi::version()))
    }

    #[cfg(not(feature = "llama-cpp"))]
    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Err(not_compiled_in(LLAMA))
    }
}

impl Runtime for LlamaCpp {
    #[cfg(feature = "llama-cpp")]
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        if let Some(program) = &options.host {
            return host::open(LLAMA, program, artifact, options, &[]);
        }
        match session::Llama::open(artifact, options) {
            Ok(session) => Ok(Box::new(session)),
            Err(message) => Err(RuntimeError::Failed { runtime: LLAMA, message }),
        }
    }

    #[cfg(not(feature = "llama-cpp"))]
    fn open(&self, _: &Artifact, _: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        Err(not_compiled_in(LLAMA))
    }
}

/// llama.cpp on GGUF artifacts that hold an encoder alone: its sessions show what the encoder makes and decode nothing.
pub struct LlamaEncoder;

impl Program for LlamaEncoder {
    fn name(&self) -> &'static str {
        LLAMA
    }

    fn runs(&self, format: &str) -> bool {
        LlamaCpp.runs(format)
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        match gguf::opened(artifact).as_ref().and_then(gguf::family) {
            Some(ENCODER) => Fit::Runs,
            _ => Fit::Foreign,
        }
    }

    fn probe(&self, options: &Options) -> Result<Present, RuntimeError> {
        LlamaCpp.probe(options)
    }
}

impl Runtime for LlamaEncoder {
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        LlamaCpp.open(artifact, options)
    }
}

/// Of engines that are compiled in under the feature.
#[cfg(not(feature = "llama-cpp"))]
pub(super) fn not_compiled_in(runtime: &'static str) -> RuntimeError {
    RuntimeError::Unavailable {
        runtime,
        why: "this trefoil was built without the cargo feature llama-cpp".to_owned(),
        install: "cargo build --release --features llama-cpp, which needs cmake, libclang (libclang-dev on Debian) and a C++ \
                  compiler (g++)"
            .to_owned(),
    }
}

/// What `llama-quantize FROM TO Q4_K_M` writes: the peer that our own files are compared with. Errors: llama.cpp's words.
#[cfg(feature = "llama-cpp")]
pub fn quantize_q4_k_m(from: &std::path::Path, to: &std::path::Path, threads: usize) -> Result<(), String> {
    let path = |path: &std::path::Path| {
        std::ffi::CString::new(path.to_string_lossy().into_owned()).map_err(|e| format!("{}: {e}", path.display()))
    };
    ffi::quantize_q4_k_m(&path(from)?, &path(to)?, i32::try_from(threads).unwrap_or(i32::MAX))
}

#[cfg(all(test, not(feature = "llama-cpp")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_feature_says_how_to_get_it() {
        let artifact = Artifact { format: "gguf", dir: "nowhere".into(), files: Vec::new() };
        let options = Options { offline: true, ..Options::DEFAULT };
        let Err(error) = LlamaCpp.open(&artifact, &options) else { panic!("nothing is compiled in") };
        assert!(matches!(error, RuntimeError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("hint: cargo build --release --features llama-cpp"), "{error}");
    }
}
