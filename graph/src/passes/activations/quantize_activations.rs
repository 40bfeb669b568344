use std::collections::HashMap;

use crate::build::Build;
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Granularity, Op};
use crate::ir::ty::Type;
use crate::passes::pass::PassError;
use crate::weights::{AffineTensor, Quantized, WeightData};

/// `linear(x, w)  ->  linear(DynamicQuant(x), w)` where w has 8-bit codes and one symmetric scale a row.
///
/// What engines with integer matrix products compute: they round the activations when the model runs. Scores and
/// probabilities of attention are no Linear and stay in floats. Values read by several Linears are rounded once; those
/// that are rounded already stay. Returns how many Linears read rounded activations now.
pub fn quantize_activations(graph: &mut Graph, granularity: Granularity) -> Result<usize, PassError> {
    quantize_activations_where(graph, granularity, |_| true)
}

/// The same for Linears whose input has a type that is wanted.
pub fn quantize_activations_where(
    graph: &mut Graph,
    granularity: Granularity,
    is_wanted: impl Fn(&Type) -> bool,
) -> Result<usize, PassError> {
    let mut inputs = inputs_of_codes(graph);
    inputs.retain(|input| is_wanted(&graph.value(input.x).ty));
    round(graph, "quantize_activations", &inputs, |_| Op::DynamicQuant(granularity))
}

/// `linear(x, w)  ->  linear(DynamicQuant(Block(n))(x), w)` where w is affine and `block_of` says that its kernel rounds the
/// activations in blocks of n.
///
/// What a kernel computes that takes weights in codes and multiplies in integers all the same. A value read by Linears of
/// different blocks is rounded once for each; one that is rounded already stays. Returns how many Linears read rounded
/// activations now.
pub fn quantize_activations_in_blocks(
    graph: &mut Graph,
    block_of: impl Fn(&AffineTensor) -> Option<usize>,
) -> Result<usize, PassError> {
    let mut blocks = HashMap::new();
    let rounds = |(input, tensor): (Input, &AffineTensor)| {
        blocks.insert(input.linear, block_of(tensor)?);
        Some(input)
    };
    let inputs: Vec<Input> = inputs_of_affine(graph).filter_map(rounds).collect();
    let op = |input: &Input| Op::DynamicQuant(Granularity::Block(blocks[&input.linear]));
    round(graph, "quantize_activations_in_blocks", &inputs, op)
}

/// A Linear, and the value it multiplies with its weight.
pub(super) struct Input {
    linear: ValueId,
    pub(super) x: ValueId,
}

/// The Linears whose weight has 8-bit codes and one symmetric scale a row, unless their input is rounded already.
pub(super) fn inputs_of_codes(graph: &Graph) -> Vec<Input> {
    let symmetric_rows = |t: &AffineTensor| t.bits == 8 && t.zeros.is_none() && t.block.per_row(t.shape[1]) == 1;
    inputs_of_affine(graph).filter(|(_, tensor)| symmetric_rows(tensor)).map(|(input, _)| input).collect()
}

/// The Linears whose weight is affine, unless their input is rounded already.
fn inputs_of_affine(graph: &Graph) -> impl Iterator<Item = (Input, &AffineTensor)> {
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

/// Puts an op before each of these inputs, one for all Linears that read the same value in the same way. Returns how many
/// Linears there are.
pub(super) fn round(
    graph: &mut Graph,
    pass: &'static str,
    inputs: &[Input],
    op: impl Fn(&Input) -> Op,
) -> Result<usize, PassError> {
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
    *graph = b.finish().map_err(|source| PassError::Misfit { pass, source })?;
    graph.sweep();
    Ok(inputs.len())
}
