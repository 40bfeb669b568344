//! Why an engine could not do its work.

/// An engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Not on this machine.
    #[error("{runtime} is not available: {why}\nhint: {install}")]
    Unavailable {
        /// Its name.
        runtime: &'static str,
        /// What is missing.
        why: String,
        /// The command that would bring it.
        install: String,
    },
    /// It refused the artifact or the call.
    #[error("{runtime}: {message}")]
    Failed {
        /// Its name.
        runtime: &'static str,
        /// Its own words.
        message: String,
    },
}
