//! A checkpoint as it lies on disk: its files, config, tensors by name, and how it decodes.
//!
//! Every reader of bytes from outside keeps to the numbers of [`limits`].

mod checkpoint;
mod config;
mod error;
mod files;
mod finite;
pub mod generation;
pub mod gguf;
pub mod json;
pub mod limits;
pub mod names;
mod pickle;
pub mod protobuf;
pub mod safetensors;
mod sha256;
mod stored;
mod tensors;
mod whole;

pub use checkpoint::Checkpoint;
pub use config::{Config, Size};
pub use error::{CheckpointError, NotFinite, Problem};
pub use files::Files;
pub use finite::check_finite;
pub use generation::{Generation, Overrides};
pub use sha256::sha256;
pub use stored::Integers;
pub use tensors::shards;
pub use whole::Whole;
