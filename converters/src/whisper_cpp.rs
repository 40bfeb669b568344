//! What whisper.cpp's file says of a Whisper beside its weights, its filters and its vocabulary.

/// A Whisper as whisper.cpp is told it.
pub struct Described {
    /// The counts at the beginning of the file, as [`HYPERPARAMETERS`] names them.
    pub hyperparameters: [usize; 10],
    /// So many tokens of its vocabulary are text, and stand before all others.
    pub text_tokens: usize,
    /// Names of tensors, as [`crate::Architecture::gguf_names`] has them.
    pub names: &'static [(&'static str, &'static str)],
    /// What it does not compute, a sentence each.
    pub refused: Vec<String>,
}

/// The names of its counts.
pub const HYPERPARAMETERS: [&str; 10] = [
    "n_vocab",
    "n_audio_ctx",
    "n_audio_state",
    "n_audio_head",
    "n_audio_layer",
    "n_text_ctx",
    "n_text_state",
    "n_text_head",
    "n_text_layer",
    "n_mels",
];
