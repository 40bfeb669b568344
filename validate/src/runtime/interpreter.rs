//! The interpreter on a file: GGUF artifacts of families that llama.cpp does not run.

use converters::Artifact;
use converters::export::gguf::{ENCODER, FILE, LLAMA_CPP};
use graph::Interpreter;

use crate::runtime::error::RuntimeError;
use crate::runtime::gguf;
use crate::runtime::host;
use crate::runtime::interface::{Fit, Options, Present, Program, Runtime, Session};
use crate::runtime::names::INTERPRETER;
use crate::runtime::reference::{CACHED_WEIGHTS_BYTES, Reference};

/// Opens a GGUF artifact as a checkpoint, with nothing but the file, and evaluates the graph that its config makes.
///
/// The arithmetic is that of the quantized graph, so what differs is what the file lost: the noise floor is 0.
pub struct OwnInterpreter;

impl Program for OwnInterpreter {
    fn name(&self) -> &'static str {
        INTERPRETER
    }

    fn runs(&self, format: &str) -> bool {
        format == "gguf"
    }

    fn fit(&self, artifact: &Artifact) -> Fit {
        if !self.runs(artifact.format) {
            return Fit::Foreign;
        }
        match gguf::opened(artifact).as_ref().and_then(gguf::family) {
            Some(family) if family != ENCODER && !LLAMA_CPP.contains(&family) => Fit::Runs,
            // A file that nobody can read is llama.cpp's to refuse.
            _ => Fit::Foreign,
        }
    }

    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Ok(Present::compiled_in(env!("CARGO_PKG_VERSION").to_owned()))
    }
}

impl Runtime for OwnInterpreter {
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        // Its memory is told apart from this program's only in a process of its own.
        if let (true, Some(program)) = (options.as_used, &options.host) {
            return host::open(INTERPRETER, program, artifact, options, &[]);
        }
        let failed = |message: String| RuntimeError::Failed { runtime: INTERPRETER, message };
        let mut graph = converters::import(&artifact.dir).map_err(|error| failed(error.to_string()))?.graph;
        graph::passes::run(&mut graph).map_err(|error| failed(error.to_string()))?;
        let interpreter = Interpreter::owning(graph).prepared().with_cache(CACHED_WEIGHTS_BYTES);
        let session = Reference::new(Box::new(interpreter));
        Ok(Box::new(session.with_settings(format!("f32, graph and weights of {FILE}"))))
    }
}
