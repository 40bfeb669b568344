//! What a weight does, found from the ops that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use graph::ir::port::LOGITS;
use graph::ir::properties::Reads;
use graph::{Graph, Op, ValueId, WeightId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a weight does in the forward pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A table of `Embed`; also when a Linear shares it, as a tied head does.
    Embedding,
    /// The weight of the last Linear before `logits`, unless it is an embedding too.
    Head,
    /// The weight of any other Linear.
    Linear,
    /// The kernel of a convolution.
    Conv,
    /// A table whose rows are taken by position and not by id.
    Position,
    /// Multiplies a normalized activation.
    Norm,
    /// The bias of a Linear, and what other arithmetic reads as it is.
    Bias,
    /// The table of T5's attention bias by distance.
    RelativeBias,
}

impl Role {
    /// Every role, in the order in which lists show them.
    pub const ALL: &[Role] = &[
        Role::Embedding,
        Role::Head,
        Role::Linear,
        Role::Conv,
        Role::Position,
        Role::Norm,
        Role::Bias,
        Role::RelativeBias,
    ];

    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Embedding => "embedding",
            Role::Head => "head",
            Role::Linear => "linear",
            Role::Conv => "conv",
            Role::Position => "position",
            Role::Norm => "norm",
            Role::Bias => "bias",
            Role::RelativeBias => "relative_bias",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The role of every weight that some value reads.
///
/// A weight with several users has the first of their roles in the order of [`Role::ALL`], so a table that is both
/// embedding and head counts as embedding.
pub fn roles(graph: &Graph) -> BTreeMap<WeightId, Role> {
    let heads = heads(graph);
    let gains = gains(graph);
    let mut roles = BTreeMap::new();
    for index in 0..graph.values.len() {
        let user = ValueId(index);
        let Some(op) = graph.op(user) else { continue };
        for (place, &arg) in graph.args(user).iter().enumerate() {
            let Some(weight) = graph.weight_of(arg) else { continue };
            let role = match op.reads(place) {
                Reads::Table => match graph.op(graph.args(user)[0]) {
                    Some(Op::Positions { .. }) => Role::Position,
                    _ => Role::Embedding,
                },
                Reads::Matrix if heads.contains(&user) => Role::Head,
                Reads::Matrix => Role::Linear,
                Reads::Kernel => Role::Conv,
                Reads::Gain => Role::Norm,
                Reads::Distances => Role::RelativeBias,
                Reads::Operand if gains.contains(&user) => Role::Norm,
                Reads::Operand | Reads::Integers | Reads::Bias => Role::Bias,
            };
            roles.entry(weight).and_modify(|known: &mut Role| *known = (*known).min(role)).or_insert(role);
        }
    }
    roles
}

/// Where weights of Linears read their activation: for each weight that nothing but Linears use, the values it is applied
/// to, in the order of the graph.
pub fn inputs(graph: &Graph) -> BTreeMap<WeightId, Vec<ValueId>> {
    let mut found: BTreeMap<WeightId, Vec<ValueId>> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for index in 0..graph.values.len() {
        let id = ValueId(index);
        let Some(op) = graph.op(id) else { continue };
        for (place, arg) in graph.args(id).iter().enumerate() {
            let Some(weight) = graph.weight_of(*arg) else { continue };
            match (op, place) {
                (Op::Linear, 1) => {
                    let x = graph.args(id)[0];
                    let known = found.entry(weight).or_default();
                    if !known.contains(&x) {
                        known.push(x);
                    }
                }
                _ => drop(others.insert(weight)),
            }
        }
    }
    found.retain(|weight, _| !others.contains(weight));
    found
}

/// Every value that a Linear of the graph reads.
pub fn linear_inputs(graph: &Graph) -> BTreeSet<ValueId> {
    let linears = (0..graph.values.len()).map(ValueId).filter(|id| matches!(graph.op(*id), Some(Op::Linear)));
    linears.map(|id| graph.args(id)[0]).collect()
}

/// The value whose channels the columns of a weight multiply: that of its first Linear, also where the weight is an
/// embedding too.
pub fn input_of(graph: &Graph, weight: WeightId) -> Option<ValueId> {
    let reads = |id: &ValueId| {
        let args = graph.args(*id);
        matches!(graph.op(*id), Some(Op::Linear)) && graph.weight_of(args[1]) == Some(weight)
    };
    (0..graph.values.len()).map(ValueId).find(reads).map(|id| graph.args(id)[0])
}

/// What norms multiply with. It may be computed from the weight, as where a file stores it less 1.
fn gains(graph: &Graph) -> BTreeSet<ValueId> {
    let all = (0..graph.values.len()).map(ValueId);
    let read = all.flat_map(|id| graph.args(id).iter().enumerate().map(move |(place, arg)| (id, place, *arg)));
    let is_gain = |id: ValueId, place| graph.op(id).is_some_and(|op| op.reads(place) == Reads::Gain);
    read.filter(|(id, place, _)| is_gain(*id, *place)).map(|(.., arg)| arg).collect()
}

/// The Linears between which and an output `logits` stands no other Linear.
fn heads(graph: &Graph) -> BTreeSet<ValueId> {
    let mut heads = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut pending: Vec<ValueId> = graph.entries.iter().filter_map(|entry| entry.output(LOGITS)).collect();
    while let Some(id) = pending.pop() {
        match graph.op(id) {
            _ if !seen.insert(id) => {}
            Some(Op::Linear) => drop(heads.insert(id)),
            _ => pending.extend(graph.args(id)),
        }
    }
    heads
}
