//! What can be wrong with a clip.

use std::io;
use std::path::PathBuf;

use checkpoint::CheckpointError;

/// A clip cannot be read or is not what a model takes.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The clip.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a WAV, or not a whole one.
    #[error("{}: {message}", .file.display())]
    Malformed {
        /// The clip.
        file: PathBuf,
        /// Where, expected, found.
        message: String,
    },
    /// Samples at another rate: their features would be those of another sound.
    #[error(
        "{}: expected {expected} samples a second, found {found}\nhint: ffmpeg -i {} -ar {expected} -ac 1 resampled.wav",
        .file.display(), .file.display()
    )]
    Rate {
        /// The clip.
        file: PathBuf,
        /// What the model was trained on.
        expected: u32,
        /// What the header says.
        found: u32,
    },
    /// A clip outside the lengths that the model takes.
    #[error("{}: expected {expected}, found {found_seconds:.2} s: {why}", .file.display())]
    Length {
        /// The clip.
        file: PathBuf,
        /// As `at most 30 s`.
        expected: String,
        /// Its length.
        found_seconds: f64,
        /// Where the bound comes from and what to do.
        why: &'static str,
    },
    /// preprocessor_config.json cannot be read or asks for something else.
    #[error(transparent)]
    Parameters(#[from] CheckpointError),
}
