//! SentencePiece's own file, and what it makes of a text.
//!
//! Formulas as in sentencepiece 0.2 (`normalizer.cc`, `unigram_model.cc`, `bpe_model.cc`, `sentencepiece_processor.cc`).

mod bpe;
mod model;
mod text;
mod unigram;

pub(crate) use model::{Algorithm, SPACE, SentencePiece, byte_of};
