//! What becomes of every weight, and who decided.

use std::fmt;

use graph::{Blob, Graph, WeightData, WeightId};

use super::role::Role;
use super::rule::Rule;
use crate::edit::sites::{Part, Place};
use crate::scheme::Scheme;
use crate::settings::{Clip, Method};

/// What every weight of one graph becomes, in the order of the graph.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Each weight that some value reads.
    pub weights: Vec<Planned>,
}

impl Plan {
    /// Gives every weight of the graph that was planned the type that it is to have, and zeros in the place of its numbers:
    /// for what types alone can tell. Reads nothing and takes no memory.
    pub fn typed(&self, graph: &mut Graph) {
        for planned in &self.weights {
            let weight = graph.weights.get_mut(planned.id);
            let shape = weight.matrix();
            let [rows, columns] = shape.map(|n| n as u64);
            weight.data = match (planned.scheme, planned.scheme.codebook()) {
                (_, Some(codebook)) => {
                    let codes = Blob::zeros(rows * codebook.row_bytes(shape[1]) as u64);
                    WeightData::Quantized(codebook.tensor(shape, codes, &[], Vec::new()))
                }
                (Scheme::Float(dtype), None) => {
                    WeightData::Stored { blob: Blob::zeros(rows * columns * dtype.bytes() as u64), dtype }
                }
                (_, None) => continue,
            };
        }
    }

    /// The same types with the nearest codes, for which no samples are needed.
    pub fn nearest(mut self) -> Plan {
        self.weights.iter_mut().for_each(|planned| planned.method = Method::Nearest);
        self
    }
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

/// The multiplied parts of a place that the plan gives codes, and their plans.
pub(crate) fn coded<'a>(place: &'a Place, plan: &'a Plan) -> Vec<(&'a Part, &'a Planned)> {
    let planned = |part: &'a Part| Some((part, plan.weights.iter().find(|planned| planned.id == part.weight)?));
    place.multiplied.iter().filter_map(planned).filter(|(_, planned)| planned.scheme.is_quantized()).collect()
}
