use std::collections::HashMap;

use crate::build::Build;
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Granularity, Op};
use crate::ir::ty::Type;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::weights::{AffineTensor, Quantized, WeightData};

/// `linear(x, w)  ->  linear(DynamicQuant(x), w)` where w has 8-bit codes and one symmetric scale per row.
///
/// What engines with integer matrix products compute: they round the activations when the model runs. Scores and
/// probabilities of attention are no Linear and stay in floats. Values read by several Linears are rounded once; those
/// that are rounded already stay. Counts the Linears that read rounded activations now.
pub struct QuantizeActivations<'a> {
    /// What shares a scale.
    pub granularity: Granularity,
    /// Whether a Linear whose input is of this type is wanted.
    pub is_wanted: &'a (dyn Fn(&Type) -> bool + Sync),
}

impl QuantizeActivations<'_> {
    /// For every Linear.
    pub fn all(granularity: Granularity) -> QuantizeActivations<'static> {
        QuantizeActivations { granularity, is_wanted: &|_| true }
    }

    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "quantize_activations",
        formula: "linear(x, w) -> linear(DynamicQuant(x), w)",
        caller: Caller::Recipe("activations"),
        meaning: Meaning::Rounded,
    };
}

impl Pass for QuantizeActivations<'_> {
    fn about(&self) -> &'static About {
        QuantizeActivations::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let mut inputs = inputs_of_codes(graph);
        inputs.retain(|input| (self.is_wanted)(&graph.value(input.x).ty));
        round(graph, QuantizeActivations::ABOUT, &inputs, |_| Op::DynamicQuant(self.granularity))
    }
}

/// A Linear, and the value it multiplies with its weight.
pub(super) struct Input {
    pub(super) linear: ValueId,
    pub(super) x: ValueId,
}

/// The Linears whose weight has 8-bit codes and one symmetric scale per row, unless their input is rounded already.
pub(super) fn inputs_of_codes(graph: &Graph) -> Vec<Input> {
    let symmetric_rows = |t: &AffineTensor| t.bits == 8 && t.zeros.is_none() && t.block.per_row(t.shape[1]) == 1;
    inputs_of_affine(graph).filter(|(_, tensor)| symmetric_rows(tensor)).map(|(input, _)| input).collect()
}

/// The Linears whose weight is affine, unless their input is rounded already.
pub(super) fn inputs_of_affine(graph: &Graph) -> impl Iterator<Item = (Input, &AffineTensor)> {
    (0..graph.values.len()).map(ValueId).filter_map(|linear| {
        let Def::Op(Op::Linear, args) = &graph.value(linear).def else { return None };
        let weight = args.get(1).and_then(|w| graph.weight_of(*w))?;
        let rounded = matches!(graph.op(args[0]), Some(Op::DynamicQuant(_) | Op::FakeQuant(_)));
        match &graph.weights.get(weight).data {
            WeightData::Quantized(Quantized::Affine(tensor)) if !rounded => {
                Some((Input { linear, x: args[0] }, tensor))
            }
            _ => None,
        }
    })
}

/// Puts an op before each of these inputs, one for all Linears that read the same value in the same way. Counts the Linears.
pub(super) fn round(
    graph: &mut Graph,
    about: &About,
    inputs: &[Input],
    op: impl Fn(&Input) -> Op,
) -> Result<Changed, PassError> {
    let b = Build::edit(std::mem::take(graph));
    let mut rounded: HashMap<ValueId, Vec<(Op, ValueId)>> = HashMap::new();
    for input in inputs {
        let Input { linear, x } = *input;
        let (op, known) = (op(input), rounded.entry(x).or_default());
        let have = known.iter().find(|(have, _)| *have == op).map(|(_, made)| *made);
        // A misfit is recorded in the builder, which finish() returns.
        let Some(new) = have.or_else(|| b.op(op.clone(), &[b.val(x)]).id()) else { continue };
        if have.is_none() {
            known.push((op, new));
        }
        b.with_graph_mut(|g| {
            if let Def::Op(_, args) = &mut g.values[linear.0].def {
                args[0] = new;
            }
        });
    }
    *graph = b.finish().map_err(|source| about.misfit(source))?;
    graph.sweep();
    Ok(inputs.len().into())
}
