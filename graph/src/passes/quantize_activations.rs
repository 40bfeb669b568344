use std::collections::HashMap;

use super::PassError;
use crate::build::Build;
use crate::ir::{Def, Graph, ValueId};
use crate::op::{Granularity, Op};
use crate::weights::{Quantized, WeightData};

/// `linear(x, w)  ->  linear(DynamicQuant(x), w)` where w has 8-bit codes and one symmetric scale a row.
///
/// What engines with integer matrix products compute: they round the activations when the model runs. Scores and
/// probabilities of attention are no Linear and stay in floats. Values read by several Linears are rounded once; those
/// that are rounded already stay. Returns how many Linears read rounded activations now.
pub fn quantize_activations(graph: &mut Graph, granularity: Granularity) -> Result<usize, PassError> {
    let inputs = inputs_of_codes(graph);
    round(graph, "quantize_activations", &inputs, |_| Op::DynamicQuant(granularity))
}

/// A Linear, and the value it multiplies with its weight.
pub(super) struct Input {
    linear: ValueId,
    pub(super) x: ValueId,
}

/// The Linears whose weight has 8-bit codes and one symmetric scale a row, unless their input is rounded already.
pub(super) fn inputs_of_codes(graph: &Graph) -> Vec<Input> {
    let takes_codes = |args: &[ValueId]| {
        let weight = args.get(1).and_then(|w| graph.weight_of(*w))?;
        let rounded = matches!(graph.op(args[0]), Some(Op::DynamicQuant(_) | Op::FakeQuant(_)));
        match &graph.weights.get(weight).data {
            WeightData::Quantized(Quantized::Affine(t)) => {
                let symmetric_rows = t.bits == 8 && t.zeros.is_none() && t.block.per_row(t.shape[1]) == 1;
                (symmetric_rows && !rounded).then_some(args[0])
            }
            _ => None,
        }
    };
    (0..graph.values.len())
        .map(ValueId)
        .filter_map(|linear| match &graph.value(linear).def {
            Def::Op(Op::Linear, args) => Some(Input { linear, x: takes_codes(args)? }),
            _ => None,
        })
        .collect()
}

/// Puts an op before each of these inputs, one for all Linears that read the same value. Returns how many Linears there are.
pub(super) fn round(
    graph: &mut Graph,
    pass: &'static str,
    inputs: &[Input],
    op: impl Fn(ValueId) -> Op,
) -> Result<usize, PassError> {
    let b = Build::edit(std::mem::take(graph));
    let mut rounded: HashMap<ValueId, ValueId> = HashMap::new();
    for Input { linear, x } in inputs {
        let made = rounded.get(x).copied().or_else(|| b.op(op(*x), &[b.val(*x)]).id());
        // A misfit is recorded in the builder, which finish() returns.
        let Some(new) = made else { continue };
        rounded.insert(*x, new);
        b.with_graph_mut(|g| {
            if let Def::Op(_, args) = &mut g.values[linear.0].def {
                args[0] = new;
            }
        });
    }
    *graph = b.finish().map_err(|source| PassError::Misfit { pass, source })?;
    graph.sweep();
    Ok(inputs.len())
}
