//! What can be wrong with a policy.

use super::rule::Rule;
use crate::scheme::Scheme;

/// Everything that is wrong with a policy for a graph.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{}", told(.0))]
pub struct PolicyError(pub Vec<PolicyFault>);

fn told(faults: &[PolicyFault]) -> String {
    let mut lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if faults.iter().any(|fault| matches!(fault, PolicyFault::NotApplicable { scheme: Scheme::Ggml(_), .. })) {
        lines.push(
            "hint: a rule for these weights, or `gguf: { fallback: nearest }` for all such, says what they become"
                .into(),
        );
    }
    lines.join("\n")
}

/// One thing that is wrong with a policy. Rules are counted from 1 in messages.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum PolicyFault {
    /// No weight of the model fits.
    #[error("rule {} ({rule}) matches no weight of the model; `trefoil inspect` lists the names", .index + 1)]
    MatchesNothing {
        /// From 0.
        index: usize,
        /// The rule.
        rule: Rule,
    },
    /// Earlier rules decide all weights that fit.
    #[error("rule {} ({rule}) decides nothing, because earlier rules match the same weights; put it before them", .index + 1)]
    DecidesNothing {
        /// From 0.
        index: usize,
        /// The rule.
        rule: Rule,
    },
    /// The glob cannot be read.
    #[error("rule {} ({rule}): {why} in the glob", .index + 1)]
    BadGlob {
        /// From 0.
        index: usize,
        /// The rule.
        rule: Rule,
        /// What the glob parser says.
        why: String,
    },
    /// Neither role nor glob.
    #[error("rule {} ({rule}) has neither `role` nor `match`; the scheme of the policy is the one for all weights", .index + 1)]
    Unconditional {
        /// From 0.
        index: usize,
        /// The rule.
        rule: Rule,
    },
    /// Clipping where there are no integer codes to choose.
    #[error("rule {} ({rule}): `clip: mse` needs an int4 or int8 scheme", .index + 1)]
    ClipOfNoCodes {
        /// From 0.
        index: usize,
        /// The rule.
        rule: Rule,
    },
    /// The weight's shape does not fit the scheme.
    #[error("{weight} cannot become {scheme}: {why}")]
    NotApplicable {
        /// The weight.
        weight: String,
        /// What it should become.
        scheme: Scheme,
        /// Expected and found.
        why: String,
    },
    /// A setting of the policy changes nothing.
    #[error("`{setting}` has no effect: {why}")]
    NoEffect {
        /// As the recipe writes it.
        setting: &'static str,
        /// The reason.
        why: &'static str,
    },
}
