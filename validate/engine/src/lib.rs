//! A GGUF artifact of any family on ggml: encode a batch once, then decode it step by step.
//!
//! The forward pass is the graph that [`converters::import_gguf`] makes of the file, lowered op by op ([`graph::Op`]) to a
//! graph of ggml; the weights are uploaded in the types of the file. What the graph means is what [`graph::Interpreter`]
//! says, and what differs is ggml's arithmetic: matrices of blocks take their inputs rounded to 8 bits.
//!
//! ```no_run
//! use trefoil_engine::{Engine, Options};
//!
//! # fn main() -> Result<(), trefoil_engine::EngineError> {
//! let engine = Engine::open("model.gguf".as_ref(), &Options::default())?;
//! let mut session = engine.session();
//! session.encode_tokens(&[&[17, 4, 1]])?;
//! let logits = session.step(&[0], 1)?; // one row, one token: logits of the whole vocabulary
//! # let _ = logits;
//! # Ok(())
//! # }
//! ```
//!
//! An [`Engine`] and its sessions stay on the thread that made them; threads of ggml work for them.

mod capi;
mod ggml;
mod host;
mod load;
mod lower;
mod session;
mod store;

use std::path::PathBuf;

pub use session::{Cache, Engine, Options, Repacking, Session, evaluate};

/// The compiled-in ggml, as `0.26.0`.
pub fn ggml_version() -> String {
    ggml::version()
}

/// The engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file is no model.
    #[error(transparent)]
    Import(#[from] Box<converters::ImportError>),
    /// The graph of the model could not be cut into encoder and decoder.
    #[error("{}: {message}", .file.display())]
    Passes {
        /// The file.
        file: PathBuf,
        /// What the pass said.
        message: String,
    },
    /// ggml cannot hold or compute some values; all of them.
    #[error("ggml cannot run this model: {}", .problems.join("\n  "))]
    Refused {
        /// A line each: place, expected, found.
        problems: Vec<String>,
    },
    /// What was fed does not fit.
    #[error("{name}: expected {expected}, found {found}")]
    Input {
        /// The input.
        name: String,
        /// What fits.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A weight cannot be read.
    #[error(transparent)]
    Weight(#[from] graph::WeightError),
    /// ggml has no memory, or failed.
    #[error("{0}")]
    Ggml(String),
}

impl From<ggml::Fault> for EngineError {
    fn from(fault: ggml::Fault) -> EngineError {
        EngineError::Ggml(fault.to_string())
    }
}
