//! One exception to a policy's scheme: the recipe's own, or one that holds without being asked for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::scheme::Scheme;
use crate::settings::{Clip, Method};

/// A scheme for the weights that have the role and whose name fits the glob.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the weight does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// A glob over the checkpoint's whole name; `*` also matches dots.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What these weights become.
    pub scheme: Scheme,
    /// Instead of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// Instead of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.map(|role| format!("role: {role}"));
        let pattern = self.pattern.as_ref().map(|pattern| format!("match: \"{pattern}\""));
        let conditions: Vec<String> = role.into_iter().chain(pattern).collect();
        f.write_str(&conditions.join(", "))
    }
}

/// A rule that holds when the recipe says nothing else, with its reason.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DefaultRule {
    /// Weights with this role.
    pub role: Role,
    /// What they become.
    pub scheme: Scheme,
    /// What they become when their rows are no multiple of the block of `scheme`.
    pub otherwise: Scheme,
    /// Why.
    pub reason: &'static str,
}
