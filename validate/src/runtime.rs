//! Engines that run an artifact, behind one interface.

use std::path::PathBuf;

use converters::Artifact;
use graph::{Feeds, Tensor};

pub mod hf;
pub mod interpreter;
pub mod llama;
pub mod onnx;
pub mod reference;

/// An engine that can open artifacts of some formats.
pub trait Runtime: Sync {
    /// `onnxruntime`, `transformers`, `llama.cpp`, `interpreter`.
    fn name(&self) -> &'static str;

    /// Whether it can open artifacts of a format (`onnx`, `gguf`, `safetensors`).
    fn runs(&self, format: &str) -> bool;

    /// What it makes of an artifact, before it opens it.
    fn fit(&self, artifact: &Artifact) -> Fit {
        if self.runs(artifact.format) { Fit::Runs } else { Fit::Foreign }
    }

    /// Opens an artifact. Errors: [`RuntimeError::Unavailable`] when the engine is not on this machine, which a report
    /// shows as "not run" and never as passed; [`RuntimeError::Failed`] when it refuses the artifact.
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError>;
}

/// What an engine makes of an artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It can be opened.
    Runs,
    /// The format is its own and the model is not, for this reason; a report shows it as "not run".
    CannotRun(String),
    /// It is another engine's.
    Foreign,
}

/// What every engine is told when it opens an artifact.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads the engine may use.
    pub threads: usize,
    /// Never fetch an engine from a registry.
    pub offline: bool,
    /// Python of a virtual environment, for engines that live in one; looked up when absent.
    pub python: Option<PathBuf>,
    /// For ONNX: the merged decoder instead of the pair.
    pub merged: bool,
}

/// An opened artifact: encodes a batch once, then decodes it step by step with its own cache.
pub trait Session {
    /// What runs, for the report.
    fn engine(&self) -> Engine;

    /// Encodes a batch and forgets the one before.
    ///
    /// `source`: the encoder's inputs by the names of the graph's ports, all with the batch first: `input_ids` i64[b, enc] with
    /// `attention_mask` i64[b, enc], 0 at padding; `input_features` f32[b, n_mels, frames]; or `input_values`
    /// f32[b, samples] with `attention_mask` i64[b, samples].
    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError>;

    /// Feeds the next target tokens of every sequence, after those of earlier calls since [`Session::encode`].
    ///
    /// `decoder_input_ids`: i64[b, n], n ≥ 1. Returns the logits f32[b, n, vocabulary] after each of them.
    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError>;

    /// The longest target the engine can hold, if it has a limit of its own.
    fn limit_tokens(&self) -> Option<usize> {
        None
    }
}

/// An engine as the report names it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Engine {
    /// `onnxruntime`.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What was set and matters for numbers, as `optimizations off, 2 threads`.
    pub settings: String,
}

/// An engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Not on this machine.
    #[error("{runtime} is not available: {why}\nhint: {install}")]
    Unavailable {
        /// Its name.
        runtime: &'static str,
        /// What is missing.
        why: String,
        /// The command that would bring it.
        install: String,
    },
    /// It refused the artifact or the call.
    #[error("{runtime}: {message}")]
    Failed {
        /// Its name.
        runtime: &'static str,
        /// Its own words.
        message: String,
    },
}

/// Every engine. [`reference`], which gives graphs their meaning, runs no artifacts and is not among them.
pub const RUNTIMES: &[&dyn Runtime] =
    &[&onnx::OnnxRuntime, &hf::Transformers, &llama::LlamaCpp, &interpreter::OwnInterpreter];
