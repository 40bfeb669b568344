use std::collections::HashMap;

use super::quantize_activations::{Input, inputs_of_affine, round};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::op::{Granularity, Op};
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::weights::AffineTensor;

/// `linear(x, w)  ->  linear(DynamicQuant(Block(n))(x), w)` where w is affine and `block_of` says that its kernel rounds the
/// activations in blocks of n.
///
/// What a kernel computes that takes weights in codes and multiplies in integers all the same. A value read by Linears of
/// different blocks is rounded once for each; one that is rounded already stays. Counts the Linears that read rounded
/// activations now.
pub struct QuantizeActivationsInBlocks<'a> {
    /// The length of a block for a weight, asked once per Linear; `None` leaves its input alone.
    pub block_of: &'a (dyn Fn(&AffineTensor) -> Option<usize> + Sync),
}

impl QuantizeActivationsInBlocks<'_> {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "quantize_activations_in_blocks",
        formula: "linear(x, w) -> linear(DynamicQuant(Block(n))(x), w)",
        caller: Caller::Format("onnx"),
        meaning: Meaning::Rounded,
    };
}

impl Pass for QuantizeActivationsInBlocks<'_> {
    fn about(&self) -> &'static About {
        QuantizeActivationsInBlocks::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let mut blocks: HashMap<ValueId, usize> = HashMap::new();
        let rounds = |(input, tensor): (Input, &AffineTensor)| {
            blocks.insert(input.linear, (self.block_of)(tensor)?);
            Some(input)
        };
        let inputs: Vec<Input> = inputs_of_affine(graph).filter_map(rounds).collect();
        let op = |input: &Input| Op::DynamicQuant(Granularity::Block(blocks[&input.linear]));
        round(graph, QuantizeActivationsInBlocks::ABOUT, &inputs, op)
    }
}
