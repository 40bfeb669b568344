//! How far the answers of engines that show no logits are known to be from those of the graph.

use super::limits::Arithmetic;

/// What an engine is known to say differently.
#[derive(Clone, Copy, Debug)]
pub struct WordFloor {
    /// [`crate::runtime::Program::name`].
    pub answerer: &'static str,
    /// What it computes with.
    pub arithmetic: Arithmetic,
    /// How far its logits are off, relative L2: as those of ggml, whose arithmetic it has, with the same weights. Decides what a tie is.
    pub rel_l2: f64,
    /// Share of words that were seen to differ, but for ties.
    pub measured: f64,
    /// A few times as much: what is broken says other sentences.
    pub words: f64,
    /// Why so much.
    pub reason: &'static str,
}

/// Measured on real weights: see docs/measurements.md.
pub const WORD_FLOORS: &[WordFloor] = &[];

impl WordFloor {
    /// The floor of an engine; `None` when nobody has measured it, so that nothing can be judged.
    pub fn of(answerer: &str, arithmetic: Arithmetic) -> Option<&'static WordFloor> {
        WORD_FLOORS.iter().find(|floor| floor.answerer == answerer && floor.arithmetic == arithmetic)
    }

    /// For the report.
    pub fn sentence(&self) -> String {
        format!("{} ({}, {})", self.reason, self.answerer, self.arithmetic.label())
    }
}
