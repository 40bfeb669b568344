//! What can be wrong with a tokenizer.

use std::path::PathBuf;

use checkpoint::CheckpointError;

/// A tokenizer cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder has none.
    #[error(
        "{}: expected tokenizer.json, spiece.model, source.spm, sentencepiece.bpe.model, vocab.json, vocab.txt, or a \
         tokenizer_config.json with tokenizer_class ByT5Tokenizer, found none", .dir.display()
    )]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Files(#[from] CheckpointError),
    /// A file is not what its name says, or holds what is not supported.
    #[error("{}: {message}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where, expected, found.
        message: String,
    },
    /// A language is needed, or is none of the tokenizer's.
    #[error("{}: {message}", .file.display())]
    Language {
        /// The tokenizer's file.
        file: PathBuf,
        /// Expected, found, and the nearest.
        message: String,
    },
    /// A text does not tokenize, or ids do not decode.
    #[error("{}: {message}", .file.display())]
    Failed {
        /// The tokenizer's file.
        file: PathBuf,
        /// The tokenizer's own words.
        message: String,
    },
}
