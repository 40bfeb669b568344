//! Checkpoints in, artifacts out.
//!
//! [`Checkpoint`] reads a Hugging Face folder; an [`Architecture`] writes its forward pass as a graph; a [`Format`]
//! writes a graph as files and reads their weights back.

mod architecture;
pub mod artifact;
pub mod dialect;
mod error;
mod evidence;
pub mod export;
mod format;
pub mod import;
mod model;
pub mod transformer;
pub mod whisper_cpp;

pub use ::checkpoint::{self, Checkpoint, limits};
pub use ::tokenizer::{self, Tokenizer};
pub use frontend::{self, audio};

pub use architecture::{Architecture, Semantics};
pub use artifact::Artifact;
pub use dialect::Dialect;
pub use error::{ExportError, ImportError};
pub use evidence::{Evidence, Range};
pub use export::FORMATS;
pub use format::Format;
pub use import::{ARCHITECTURES, import, import_config, import_gguf, import_listed};
pub use model::Model;
pub use transformer::Transformer;
