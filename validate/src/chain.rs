//! Validation as a chain of comparisons, each of which tests one stage.
//!
//! | link | compares | limit |
//! | --- | --- | --- |
//! | import | outputs recorded by transformers with the imported graph | f32 noise |
//! | passes | the graph before the passes with the one after; the whole target with steps | f32 noise |
//! | quantization | the exact graph with the quantized one | the recipe's [`Limits`] |
//! | export | the graph's weights with those read back from the artifact; for NPUs, its graphs with the rules of [`crate::lint`] | equal bits; no error |
//! | runtime | the quantized graph with an engine that runs the artifact | that engine's [`Floor`] |
//!
//! [`Baseline::measure`] runs the first two links and the float model once; [`validate_artifact`] runs the others for each
//! artifact. Logits of the evaluation data are kept in a scratch file, so that memory holds one batch a thread.

mod answerer;
mod answers;
mod apart;
mod artifact;
mod baseline;
mod beside;
mod culprit;
mod encoder;
mod engine;
mod error;
mod explained;
mod histograms;
mod import;
pub mod limits;
mod links;
pub mod measure;
mod noise;
mod pair;
mod partings;
mod quantization;
mod shown;
mod subject;
mod ties;
mod trace;
mod values;
mod walk;
mod words;

pub use artifact::{validate_artifact, validate_in};
pub use baseline::Baseline;
pub use error::ChainError;
pub use limits::{Arithmetic, F32_NOISE, FLOORS, Floor, Limits};
pub use noise::Noise;
pub use quantization::Floats;
pub use subject::{Subject, logits_bytes, too_long};
pub use walk::Context;
pub use words::{WORD_FLOORS, WordFloor};
