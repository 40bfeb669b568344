//! The interface of engines that take a whole input and give an answer: none of their logits is seen.

pub(super) mod asked;
pub(super) mod decoding;
pub(super) mod python;

use converters::Artifact;
use converters::checkpoint::Generation;
use report::Engine;

use super::error::RuntimeError;
use super::interface::{Options, Program};

/// Samples a second of [`Question::Sound`].
pub const SAMPLING_RATE: u32 = 16_000;

/// An engine that answers.
pub trait Answerer: Program {
    /// Opens an artifact, with one decoding for all questions: greedy, and as near to `decoding` as the engine can be told.
    ///
    /// Errors: as [`super::Runtime::open`].
    fn open(
        &self,
        artifact: &Artifact,
        options: &Options,
        decoding: &Generation,
    ) -> Result<Box<dyn Answers>, RuntimeError>;
}

/// An artifact that is asked.
pub trait Answers {
    /// What runs, for the report; what of the decoding it was not told is in its settings.
    fn engine(&self) -> Engine;

    /// How it is asked.
    fn form(&self) -> Form;

    /// Answers in the order of the questions, all of them of its form. Errors: what it refuses.
    fn answer(&mut self, questions: &[Question]) -> Result<Vec<Answer>, RuntimeError>;
}

/// In what an engine takes its inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Token ids.
    Tokens,
    /// Texts, with a tokenizer of its own.
    Text,
    /// Clips, with a front end of its own.
    Sound,
}

/// One input.
#[derive(Clone, PartialEq, Debug)]
pub enum Question<'q> {
    /// Without padding.
    Tokens(&'q [i64]),
    /// For a tokenizer of its own.
    Text {
        /// As a person writes it.
        text: &'q str,
        /// What the model would be fed of it: the first may be the text's language, which some engines are told apart.
        tokens: &'q [i64],
    },
    /// One channel at [`SAMPLING_RATE`], from -1 to 1.
    Sound(Vec<f32>),
}

/// What is said of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// After the prompt.
    pub words: Words,
    /// Whether it ended by itself, as far as the engine tells.
    pub ended: bool,
}

/// An answer in the form in which an engine gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Words {
    /// With the end-of-sequence token.
    Tokens(Vec<i64>),
    /// By a tokenizer of its own.
    Text(String),
}
