//! A GGUF artifact in `trefoil-engine`, as a session.

use converters::Artifact;
use converters::export::gguf::FILE;
use graph::{Feeds, Tensor};
use trefoil_engine as engine;

use super::NAME;
use crate::runtime::{Engine, RuntimeError, Session};

pub(super) struct Ggml {
    engine: engine::Engine,
    session: engine::Session,
    threads: usize,
    /// What was encoded last.
    source: Option<Feeds>,
}

fn failed(error: impl ToString) -> RuntimeError {
    RuntimeError::Failed { runtime: NAME, message: error.to_string() }
}

impl Ggml {
    /// Errors: what is wrong with the file, in the words of the engine.
    pub(super) fn open(artifact: &Artifact, threads: usize) -> Result<Ggml, String> {
        let options = engine::Options { encoder_threads: threads, ..engine::Options::default() };
        let engine = engine::Engine::open(&artifact.dir.join(FILE), &options).map_err(|e| e.to_string())?;
        Ok(Ggml { session: engine.session(), engine, threads, source: None })
    }
}

impl Session for Ggml {
    fn engine(&self) -> Engine {
        Engine {
            name: NAME.to_owned(),
            version: engine::ggml_version(),
            settings: format!("CPU, f32 cache, {} threads for the encoder and 1 for a step", self.threads.max(1)),
        }
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        if self.source.as_ref() == Some(source) {
            // The same sources again: only the targets start anew.
            self.session.restart();
            return Ok(());
        }
        self.source = None;
        self.session.encode(source).map_err(failed)?;
        self.source = Some(source.clone());
        Ok(())
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let (shape, Some(ids)) = (decoder_input_ids.shape(), decoder_input_ids.as_i64()) else {
            return Err(failed("decoder_input_ids: expected i64[b, n], found floats"));
        };
        let [rows, tokens] = *shape else {
            return Err(failed(format!("decoder_input_ids: expected i64[b, n], found {shape:?}")));
        };
        let logits = self.session.step(ids, tokens).map_err(failed)?;
        Ok(Tensor::f32([rows, tokens, self.engine.vocabulary()], logits))
    }

    fn limit_tokens(&self) -> Option<usize> {
        self.engine.limit_tokens()
    }
}
