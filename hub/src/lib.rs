//! Checkpoints of the Hugging Face Hub, in the cache that Python's `huggingface_hub` keeps.
//!
//! ```text
//! HUB/models--org--name/blobs/DIGEST              a file, named by what the hub says its digest is
//!                       refs/main                 the commit that a branch or tag stands for
//!                       snapshots/COMMIT/FILE ->  ../../blobs/DIGEST
//! HUB/.locks/models--org--name/DIGEST.lock        held by whoever downloads
//! ```
//!
//! A file is downloaded as `blobs/DIGEST.incomplete`, continued where it was cut off, and gets its name when its digest is
//! right; the name in `refs` comes last. The hub's client crate, `hf-hub`, is not used: 1.0 neither continues downloads nor
//! looks at the status of a response before it is taken for a file, 0.5 panics on some responses, and both make paths of
//! headers.

mod cache;
mod digest;
mod error;
mod id;
mod settings;
mod snapshot;
mod transfer;
mod web;

pub use error::HubError;
pub use id::{HubId, PREFIX};
pub use settings::Settings;
pub use snapshot::{Snapshot, snapshot};
