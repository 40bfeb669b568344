//! The interface of engines: one that can open artifacts, and an artifact that it has opened.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use converters::Artifact;
use graph::{Feeds, Tensor, Tensors};
use report::{Check, Engine};
use serde::{Deserialize, Serialize};

use super::error::RuntimeError;
use crate::bench::course::{Course, Times, said};
use crate::bench::machine::Memory;

/// An engine that can open artifacts of some formats.
pub trait Program: Sync {
    /// `onnxruntime`, `htp-simulator`, `openvino`, `rknn-simulator`, `transformers`, `ctranslate2`, `ggml`, `llama.cpp`,
    /// `interpreter`, `transcribe.cpp`, `CrispASR`.
    fn name(&self) -> &'static str;

    /// Whether it can open artifacts of a format (`onnx`, `npu`, `gguf`, `safetensors`, `ctranslate2`).
    fn runs(&self, format: &str) -> bool;

    /// What it makes of an artifact, before it opens it.
    fn fit(&self, artifact: &Artifact) -> Fit {
        if self.runs(artifact.format) { Fit::Runs } else { Fit::Foreign }
    }

    /// Starts the engine without an artifact and never fetches it. Errors: [`RuntimeError::Unavailable`] in the words of
    /// [`Runtime::open`]; [`RuntimeError::Failed`] when it is here and does not start.
    fn probe(&self, options: &Options) -> Result<Present, RuntimeError>;
}

/// An engine that shows its logits.
pub trait Runtime: Program {
    /// The runs that a report shows, each with what it is called: a simulator makes one for each chip.
    fn runs_of(&self, options: &Options) -> Vec<(String, Options)> {
        vec![(self.name().to_owned(), options.clone())]
    }

    /// Samples of the data that it runs, from the first, where all would take too long.
    fn samples(&self, _options: &Options) -> Option<usize> {
        None
    }

    /// Opens an artifact. Errors: [`RuntimeError::Unavailable`] when the engine is not on this machine, which a report
    /// shows as "not run" and never as passed; [`RuntimeError::Failed`] when it refuses the artifact.
    fn open(&self, artifact: &Artifact, options: &Options) -> Result<Box<dyn Session>, RuntimeError>;
}

/// An engine that is on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Present {
    /// As it calls itself.
    pub version: String,
    /// Its library or its Python; `this program` where it is compiled in.
    pub place: String,
}

impl Present {
    /// An engine that is compiled in.
    pub(super) fn compiled_in(version: String) -> Present {
        Present { version, place: "this program".to_owned() }
    }
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
    /// Python of a virtual environment, for engines that live in one; that of the active one when absent.
    pub python: Option<PathBuf>,
    /// A program whose hidden command [`super::COMMAND`] calls [`super::serve`]: engines of native code run in a process of it, which may
    /// then abort or hang. In this process when absent.
    pub host: Option<PathBuf>,
    /// How long a process of an engine may take for an answer; minutes to hours when absent, and as the environment
    /// variable `TREFOIL_ENGINE_SECONDS` says.
    pub patience: Option<Duration>,
    /// As users run the engine, for a clock: without the settings that validation makes for the sake of exact numbers.
    pub as_used: bool,
    /// For ONNX: the merged decoder instead of the pair.
    pub merged: bool,
    /// For the Qualcomm HTP simulator: the chips it stands for, by their `soc_model`; [`super::htp::SOC_MODEL`] when empty.
    pub soc_models: Vec<u32>,
    /// For simulators: samples of the data to run, from the first; all when absent.
    pub simulated_samples: Option<usize>,
}

impl Options {
    /// One thread, and nothing else asked for.
    pub const DEFAULT: Options = Options {
        threads: 1,
        offline: false,
        python: None,
        host: None,
        patience: None,
        as_used: false,
        merged: false,
        soc_models: Vec::new(),
        simulated_samples: None,
    };
}

impl Default for Options {
    fn default() -> Options {
        Options::DEFAULT
    }
}

/// An opened artifact: encodes a batch once, then decodes it step by step with its own cache.
pub trait Session {
    /// What runs, for the report.
    fn engine(&self) -> Engine;

    /// Encodes a batch and forgets the one before.
    ///
    /// `source`: the encoder's inputs by the names of the graph's ports, all with the batch first, as [`frontend::Input::batch`]
    /// makes them: `input_ids` i64[b, enc] with `attention_mask` i64[b, enc], 0 at padding; `input_features`
    /// f32[b, n_mels, frames]; or `input_values` f32[b, samples] with `attention_mask` i64[b, samples].
    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError>;

    /// What the encoder made of the batch, f32[b, enc, d], where an engine runs an encoder alone; values at padding say nothing.
    /// `None` when it shows none.
    fn encoded(&mut self) -> Result<Option<Tensor>, RuntimeError> {
        Ok(None)
    }

    /// Feeds the next target tokens of every sequence, after those of earlier calls since [`Session::encode`].
    ///
    /// `decoder_input_ids`: i64[b, n], n ≥ 1. Returns the logits f32[b, n, vocabulary] after each of them.
    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError>;

    /// Values between inputs and logits when a batch is encoded and its targets are fed whole, by the names that they have in the
    /// graph: as many as the engine can show. `None` when it shows none.
    fn between(&mut self, _source: &Feeds, _decoder_input_ids: &Tensor) -> Result<Option<Between>, RuntimeError> {
        Ok(None)
    }

    /// Runs a course under a clock, in the process in which the engine computes: logits that cross a pipe would be timed too.
    ///
    /// Errors: those of the session, and logits that are not of the batch.
    fn timed(&mut self, course: &Course) -> Result<Times, RuntimeError> {
        let rows = course.rows();
        let mut times = Times::default();
        let mut at = Instant::now();
        let mut lap = || {
            let now = Instant::now();
            (now - std::mem::replace(&mut at, now)).as_secs_f64() * 1e3
        };
        self.encode(&course.source)?;
        times.encoder_ms = lap();
        let mut ids = Tensor::i64([rows, course.prompt.len()], course.prompt.repeat(rows));
        for _ in 0..course.tokens {
            let logits = self.decode(&ids)?;
            let said = said(&logits, rows).ok_or_else(|| RuntimeError::Failed {
                runtime: "bench",
                message: format!("expected logits of {rows} sequences, found {:?}", logits.shape()),
            })?;
            ids = Tensor::i64([rows, 1], said);
            times.steps_ms.push(lap());
        }
        times.memory = Memory::of(self.process());
        Ok(times)
    }

    /// The process in which the engine computes, when it is not this one.
    fn process(&self) -> Option<u32> {
        None
    }

    /// Goes on with these sequences of the batch alone, in this order, so that one that does not end costs as much as one.
    ///
    /// Returns whether it did; otherwise all stay, and those that have ended are fed padding.
    fn keep(&mut self, _rows: &[usize]) -> Result<bool, RuntimeError> {
        Ok(false)
    }

    /// Whether [`Session::keep`] costs it nothing, since it caches nothing, and a row that is fed padding costs it a new pass over all.
    fn keeps_for_nothing(&self) -> bool {
        false
    }

    /// The longest target the engine can hold, if it has a limit of its own.
    fn limit_tokens(&self) -> Option<usize> {
        None
    }

    /// Sequences that it computes side by side, if it has a limit: more in a batch are a loop, and wait for the longest.
    fn rows_at_once(&self) -> Option<usize> {
        None
    }

    /// What it can tell of itself after it has run, such as where nodes were placed.
    fn checks(&mut self) -> Vec<Check> {
        Vec::new()
    }
}

/// What an engine computed on the way.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Between {
    /// Of the encoder.
    pub encoder: Tensors,
    /// Of the decoder's first step.
    pub decoder: Tensors,
}

/// A session that keeps all sequences of a batch to its end, for artifacts in which they are not alone.
pub struct AllRows(pub Box<dyn Session>);

impl Session for AllRows {
    fn engine(&self) -> Engine {
        self.0.engine()
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        self.0.encode(source)
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        self.0.decode(decoder_input_ids)
    }

    fn between(&mut self, source: &Feeds, decoder_input_ids: &Tensor) -> Result<Option<Between>, RuntimeError> {
        self.0.between(source, decoder_input_ids)
    }

    fn limit_tokens(&self) -> Option<usize> {
        self.0.limit_tokens()
    }

    fn rows_at_once(&self) -> Option<usize> {
        self.0.rows_at_once()
    }

    fn checks(&mut self) -> Vec<Check> {
        self.0.checks()
    }
}
