//! Why a front end cannot be opened.

use checkpoint::CheckpointError;

use crate::audio::AudioError;
use crate::image::ImageError;

/// Its parameters are not supported, or missing where they have no defaults.
#[derive(Debug, thiserror::Error)]
pub enum FrontEndError {
    /// Of a model that hears.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// Of a model that sees.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Of one that is asked something.
    #[error(transparent)]
    Tasks(#[from] CheckpointError),
}
