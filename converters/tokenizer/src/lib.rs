//! Text to token ids and back, and the vocabulary that GGUF wants.

mod added;
mod byte_level;
mod byte_pairs;
mod bytes;
mod charsmap;
mod clean_up;
mod error;
mod folder;
mod framing;
mod json;
mod languages;
mod pieces;
mod pipeline;
mod scored;
mod sentencepiece;
mod tokenizer;
mod unigram;
mod vocabulary;
mod word_pieces;
mod words;

pub use byte_pairs::{BytePairs, Spelling, gpt2_bytes};
pub use error::TokenizerError;
pub use languages::Languages;
pub use scored::{Joins, Sides};
pub use tokenizer::Tokenizer;
pub use vocabulary::{PieceType, Vocabulary};
