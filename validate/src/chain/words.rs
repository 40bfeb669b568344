//! How far the answers of engines that show no logits are known to be from those of the graph.

use super::limits::Arithmetic;

/// What an engine is known to say differently.
#[derive(Clone, Copy, Debug)]
pub struct WordFloor {
    /// [`crate::runtime::Program::name`].
    pub answerer: &'static str,
    /// What it computes with.
    pub arithmetic: Arithmetic,
    /// Relative L2 of the logits of ggml, whose arithmetic it has, with the same weights: its own are not seen. Decides what a tie is.
    pub rel_l2: f64,
    /// Share of words that were seen to differ, but for ties.
    pub measured: f64,
    /// As many may: a sentence or two of a hundred. What is broken says other words everywhere.
    pub words: f64,
    /// Why so much.
    pub reason: &'static str,
}

/// Measured with 40 clips of 311 words on OpenAI's Whisper tiny.en (transcribe.cpp 0.4.1; whisper.cpp in pywhispercpp 1.5.1) and with 500 words of 3159 phonemes on
/// models/g2p-t5 (CrispASR 0.8.45).
pub const WORD_FLOORS: &[WordFloor] = {
    use Arithmetic::{Floats, Halves, Integers};
    &[
        floor("transcribe.cpp", Floats, 4.5e-4, 0.0, 0.02, TABLES),
        floor("transcribe.cpp", Halves, 4.5e-4, 0.0, 0.02, TABLES),
        floor("transcribe.cpp", Integers, 1.4e-2, 0.0, 0.05, BLOCKS),
        floor("whisper.cpp", Halves, 4.5e-4, 0.0064, 0.03, TABLES),
        // With q8_0 one word, with q5_0 two.
        floor("whisper.cpp", Integers, 1.4e-2, 0.0064, 0.05, BLOCKS),
        floor("CrispASR", Floats, 2.6e-4, 0.0, 0.02, CACHES),
        floor("CrispASR", Halves, 2.6e-4, 0.0, 0.02, CACHES),
        floor("CrispASR", Integers, 6.9e-3, 0.0, 0.05, BLOCKS),
    ]
};

const TABLES: &str = "it makes its own features, and its GELU is a table in f16";
const CACHES: &str = "its keys and values are f16";
const BLOCKS: &str = "it rounds the inputs of quantized matrices to 8 bits in blocks";

const fn floor(
    answerer: &'static str,
    arithmetic: Arithmetic,
    rel_l2: f64,
    measured: f64,
    words: f64,
    reason: &'static str,
) -> WordFloor {
    WordFloor { answerer, arithmetic, rel_l2, measured, words, reason }
}

impl WordFloor {
    /// The floor of an engine; `None` when nobody has measured it, so that nothing can be judged.
    pub fn of(answerer: &str, arithmetic: Arithmetic) -> Option<&'static WordFloor> {
        WORD_FLOORS.iter().find(|floor| floor.answerer == answerer && floor.arithmetic == arithmetic)
    }

    /// For the report: `its keys and values are f16 (CrispASR, f32 weights)`.
    pub fn sentence(&self) -> String {
        format!("{} ({}, {})", self.reason, self.answerer, self.arithmetic.label())
    }
}
