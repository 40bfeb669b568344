//! What becomes of every weight, and who decided.

use std::fmt;

use graph::WeightId;

use crate::policy::Rule;
use crate::{Clip, Method, Role, Scheme};

/// What every weight of one graph becomes, in the order of the graph.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Each weight that some value reads.
    pub weights: Vec<Planned>,
}

/// What one weight becomes.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// Which, in the graph that was planned.
    pub id: WeightId,
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What it becomes.
    pub scheme: Scheme,
    /// How integer codes get their range; `None` for all other schemes.
    pub clip: Clip,
    /// How its codes are chosen.
    pub method: Method,
    /// Who decided.
    pub decided_by: Decider,
}

/// What in a policy decided about a weight.
#[derive(Clone, PartialEq, Debug)]
pub enum Decider {
    /// A rule of the recipe and its index.
    Rule(usize, Rule),
    /// A default rule, by its reason.
    Default(&'static str),
    /// The scheme of the policy.
    Scheme,
    /// The fallback of the format, in place of a scheme that does not fit.
    Fallback {
        /// What was asked for.
        from: Scheme,
        /// Why it does not fit.
        why: String,
    },
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decider::Rule(index, rule) => write!(f, "rule {} ({rule})", index + 1),
            Decider::Default(reason) => write!(f, "default: {reason}"),
            Decider::Scheme => f.write_str("scheme of the policy"),
            Decider::Fallback { from, why } => write!(f, "fallback instead of {from}: {why}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.map(|role| format!("role: {role}"));
        let pattern = self.pattern.as_ref().map(|pattern| format!("match: \"{pattern}\""));
        let conditions: Vec<String> = role.into_iter().chain(pattern).collect();
        f.write_str(&conditions.join(", "))
    }
}
