//! Rounding of activations: fake quantization.

pub(super) mod quantize_activations;
pub(super) mod quantize_activations_in_blocks;
pub(super) mod quantize_statically;
pub(super) mod quantize_values;

use std::collections::HashMap;

use crate::ir::graph::{Graph, ValueId};
use crate::ir::op::Op;
use crate::rewrite::redirect;
use crate::weights::{Derive, WeightData};

/// A graph without the rounding that these passes put into it: no op that rounds, no weight that is rounded with its values.
pub fn unrounded(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let mut source: HashMap<ValueId, ValueId> = HashMap::new();
    for id in (0..graph.values.len()).map(ValueId) {
        if let (Some(Op::DynamicQuant(_) | Op::FakeQuant(_)), [x]) = (graph.op(id), graph.args(id)) {
            source.insert(id, source.get(x).copied().unwrap_or(*x));
        }
    }
    redirect(&mut graph, &source);
    let ids: Vec<_> = graph.weights.iter().map(|(id, _)| id).collect();
    for id in ids {
        let weight = graph.weights.get_mut(id);
        while let WeightData::Derived(Derive::Steps(_) | Derive::Multiples(_), base) = &weight.data {
            weight.data = (**base).clone();
        }
    }
    graph.sweep();
    graph
}
