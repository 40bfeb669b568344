//! Which products of one input are computed as one.

use std::collections::HashMap;

use graph::{Def, Granularity, Graph, Op, ValueId, WeightId};
use onnx::tensors::Layout;

/// Queries, keys and values; a gate and what it opens. The encoder's output is read by the keys and values of all layers, which
/// would lie in memory together.
const JOINED: std::ops::RangeInclusive<usize> = 2..=3;

/// An input, the blocks in which it is rounded, and how the weights are stored.
type Alike = (ValueId, Option<usize>, Layout);

/// Products that are computed as one: of the same input, over weights of the same layout that nothing else reads.
#[derive(Default)]
pub(super) struct Joins {
    groups: Vec<Vec<ValueId>>,
    of: HashMap<ValueId, usize>,
}

impl Joins {
    /// Those of a graph.
    pub(super) fn of(graph: &Graph, layouts: &HashMap<WeightId, Layout>) -> Joins {
        let mut uses: HashMap<WeightId, usize> = HashMap::new();
        let ops = || {
            graph.values.iter().enumerate().filter_map(|(i, value)| match &value.def {
                Def::Op(op, args) => Some((ValueId(i), op, args)),
                _ => None,
            })
        };
        for (_, _, args) in ops() {
            for weight in args.iter().filter_map(|arg| graph.weight_of(*arg)) {
                *uses.entry(weight).or_default() += 1;
            }
        }
        let mut groups: Vec<(Alike, Vec<ValueId>)> = Vec::new();
        for (id, _, args) in ops().filter(|(_, op, _)| **op == Op::Linear) {
            let Some(weight) = graph.weight_of(args[1]).filter(|weight| uses[weight] == 1) else { continue };
            let Some(layout @ Layout::Blocks { .. }) = layouts.get(&weight).copied() else { continue };
            let (x, rounds) = match (graph.op(args[0]), graph.args(args[0])) {
                (Some(Op::DynamicQuant(Granularity::Block(block))), [x]) => (*x, Some(*block)),
                _ => (args[0], None),
            };
            let key = (x, rounds, layout);
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, members)) => members.push(id),
                None => groups.push((key, vec![id])),
            }
        }
        let groups: Vec<Vec<ValueId>> =
            groups.into_iter().map(|(_, members)| members).filter(|members| JOINED.contains(&members.len())).collect();
        let of = groups.iter().enumerate().flat_map(|(i, members)| members.iter().map(move |id| (*id, i))).collect();
        Joins { groups, of }
    }

    /// The products that are computed with `id`, itself included; `None` where it stands alone.
    pub(super) fn group(&self, id: ValueId) -> Option<&[ValueId]> {
        Some(&self.groups[*self.of.get(&id)?])
    }
}
