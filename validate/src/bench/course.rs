//! What engines under a clock are to do, and what it took.

use graph::{Feeds, Tensor};
use metrics::argmax;
use serde::{Deserialize, Serialize};

use super::machine::Memory;

/// What an engine is to do: encode a batch and say `tokens` tokens after the prompt, whatever they are.
///
/// The number of tokens is fixed so that each engine does the same work; which they are depends on its numbers.
#[derive(Clone, Debug)]
pub struct Course {
    /// As [`crate::runtime::Session::encode`] takes it.
    pub source: Feeds,
    /// What every decoder is fed first; not empty.
    pub prompt: Vec<i64>,
    /// At least 1.
    pub tokens: usize,
}

impl Course {
    /// Sequences side by side.
    pub fn rows(&self) -> usize {
        self.source.values().next().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0)
    }
}

/// What one run took, told by the process in which the engine computed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// From the source to the encoder's output.
    pub encoder_ms: f64,
    /// Of each token, the choice of the next included. The first is that of the prompt.
    pub steps_ms: Vec<f64>,
    /// After the run.
    pub memory: Option<Memory>,
}

impl Times {
    /// From the source to the first token.
    pub fn first_token_ms(&self) -> f64 {
        self.encoder_ms + self.steps_ms.first().copied().unwrap_or(0.0)
    }

    /// All tokens after the first.
    pub fn later_ms(&self) -> f64 {
        self.steps_ms.iter().skip(1).sum()
    }

    /// Tokens of all rows after the first, over the time that they took; `None` where there is but one.
    pub fn tokens_per_s(&self, rows: usize) -> Option<f64> {
        let later = self.steps_ms.len().saturating_sub(1) * rows;
        (later > 0 && self.later_ms() > 0.0).then(|| later as f64 * 1e3 / self.later_ms())
    }
}

/// The token with the largest of the last logits of each row.
pub fn said(logits: &Tensor, rows: usize) -> Option<Vec<i64>> {
    let (&[found, positions, vocabulary], data) = (logits.shape(), logits.as_f32()?) else { return None };
    if found != rows || positions == 0 || vocabulary == 0 {
        return None;
    }
    let last = |row: &[f32]| {
        // Logits that are not numbers are no token and no reason to stop a clock.
        argmax(&row[(positions - 1) * vocabulary..]).unwrap_or(0) as i64
    };
    Some(data.chunks_exact(positions * vocabulary).map(last).collect())
}
