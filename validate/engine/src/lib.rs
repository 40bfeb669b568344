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
mod error;
mod ggml;
mod host;
mod load;
mod lower;
mod options;
mod session;
mod store;

pub use error::EngineError;
pub use options::{Cache, Options, Repacking};
pub use session::{Engine, Session, evaluate};

/// The compiled-in ggml, as `0.26.0`.
pub fn ggml_version() -> String {
    ggml::version()
}
