use std::collections::HashMap;

use super::PassError;
use crate::build::Build;
use crate::ir::{Def, Graph, ValueId};
use crate::op::{Granularity, Op};
use crate::weights::{Quantized, WeightData};

/// `linear(x, w)  ->  linear(DynamicQuant(x), w)` where w has 8-bit codes and one symmetric scale a row.
///
/// What engines with integer matrix products compute: they round the activations when the model runs. Scores and
/// probabilities of attention are no Linear and stay in floats. Values read by several Linears are rounded once.
/// Returns how many Linears read rounded activations now.
pub fn quantize_activations(graph: &mut Graph, granularity: Granularity) -> Result<usize, PassError> {
    let takes_codes = |graph: &Graph, args: &[ValueId]| {
        let weight = args.get(1).and_then(|w| graph.weight_of(*w))?;
        match &graph.weights.get(weight).data {
            WeightData::Quantized(Quantized::Affine(t)) => {
                (t.bits == 8 && t.zeros.is_none() && t.block.per_row(t.shape[1]) == 1).then_some(args[0])
            }
            _ => None,
        }
    };
    let linears: Vec<(ValueId, ValueId)> = (0..graph.values.len())
        .map(ValueId)
        .filter_map(|id| match &graph.value(id).def {
            Def::Op(Op::Linear, args) => Some((id, takes_codes(graph, args)?)),
            _ => None,
        })
        .collect();
    let b = Build::edit(std::mem::take(graph));
    let mut rounded: HashMap<ValueId, ValueId> = HashMap::new();
    for (linear, x) in &linears {
        let made = rounded.get(x).copied().or_else(|| b.op(Op::DynamicQuant(granularity), &[b.val(*x)]).id());
        // A misfit is recorded in the builder, which finish() returns.
        let Some(new) = made else { continue };
        rounded.insert(*x, new);
        b.with_graph_mut(|g| {
            if let Def::Op(_, args) = &mut g.values[linear.0].def {
                args[0] = new;
            }
        });
    }
    *graph = b.finish().map_err(|source| PassError::Misfit { pass: "quantize_activations", source })?;
    graph.sweep();
    Ok(linears.len())
}
