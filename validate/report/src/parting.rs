//! Where one answer leaves another, and what was there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Link;

/// The first token at which a run says something else than what it is judged against, on one input.
///
/// The quantized graph is judged against the float model, an engine against the quantized graph: each parting is one stage's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parting {
    /// Whose it is.
    pub stage: Link,
    /// The place of the run in [`crate::ArtifactReport::runs`].
    pub run: u64,
    /// Tokens said before it, which are equal.
    pub position: u64,
    /// What was expected there; absent where the run went on after an end.
    pub expected: Option<Token>,
    /// What was said there; absent where the run ended.
    pub found: Option<Token>,
    /// Whether the two were nearer to each other than the noise that the stage may have.
    pub is_tie: bool,
    /// The likeliest tokens of either, most expected first; empty when the distributions were not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// KL divergence of the two distributions there, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// The first tensor, in the order of the computation, that is farther off than its stage explains; absent where none is, or
    /// nothing between input and logits was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<TensorParting>,
    /// What there is to say beside; why there is no tensor, say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sentence: String,
}

/// A token and how it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its place in the vocabulary.
    pub id: i64,
    /// As the tokenizer writes it alone.
    pub text: String,
}

/// A token and how likely it was.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Which.
    pub token: Token,
    /// Its probability under what the run is judged against.
    pub expected: f64,
    /// Its probability under the run.
    pub found: f64,
}

/// A value of the graph that is off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorParting {
    /// Its name in the graph.
    pub value: String,
    /// The weight that made it, by the checkpoint's name, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// `‖a - b‖₂ / ‖a‖₂`.
    pub rel_l2: f64,
    /// How far off it may be.
    pub expected_rel_l2: f64,
}
