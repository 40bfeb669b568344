//! Why validation could not be done.

use std::io;

use crate::runtime::RuntimeError;

/// Validation could not be done; a stage that is broken is a failed [`Check`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The float model itself does not run.
    #[error("the float model cannot be evaluated: {0}")]
    Runtime(#[from] RuntimeError),
    /// The scratch file or the artifact's folder cannot be used.
    #[error("validation: {0}")]
    Io(#[from] io::Error),
    /// The samples do not fit each other.
    #[error("the evaluation data: {0}")]
    Data(String),
    /// Samples for which the model has no positions.
    #[error(
        "{about}: expected {what}s of at most {limit} tokens, for so many the model has positions; found {count} \
         longer ones, up to {found} tokens: {text:?}"
    )]
    TooLong {
        /// Which data.
        about: &'static str,
        /// `input` or `target`.
        what: &'static str,
        /// Tokens that fit.
        limit: usize,
        /// Tokens of the longest.
        found: usize,
        /// The beginning of its input.
        text: String,
        /// How many are too long.
        count: usize,
    },
    /// The graph lacks what a comparison needs.
    #[error("validation: expected {expected}, found none; run the passes first")]
    Lacks {
        /// As `an entry decoder with an output logits`.
        expected: &'static str,
    },
}
