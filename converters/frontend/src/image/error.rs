//! What can be wrong with an image.

use checkpoint::CheckpointError;

/// An image cannot be read or is not what a model takes.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// preprocessor_config.json cannot be read or asks for something else.
    #[error(transparent)]
    Parameters(#[from] CheckpointError),
}
