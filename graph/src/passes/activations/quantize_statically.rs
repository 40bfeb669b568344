use std::collections::{BTreeMap, BTreeSet};

use super::quantize_activations::{inputs_of_codes, round};
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::Graph;
use crate::ir::op::Op;
use crate::passes::pass::PassError;

const PASS: &str = "quantize_statically";

/// `linear(x, w)  ->  linear(FakeQuant(x), w)` where w has 8-bit codes and one symmetric scale a row.
///
/// At the places of [`super::quantize_activations`], with steps that are known before the model runs: `steps` by the name
/// of the value that is rounded. Names that no such Linear reads are passed over. Returns how many Linears read rounded
/// activations now. Errors, with the graph unchanged: all values without steps, and all steps that no engine takes.
pub fn quantize_statically(graph: &mut Graph, steps: &BTreeMap<String, FakeQuant>) -> Result<usize, PassError> {
    let inputs = inputs_of_codes(graph);
    let name = |x| graph.value(x).name.as_str();
    let faults: BTreeSet<String> = inputs
        .iter()
        .filter_map(|input| match steps.get(name(input.x)) {
            None => Some(format!("{}: expected steps for the input of a Linear, found none", name(input.x))),
            Some(steps) => steps.check().err().map(|message| format!("{}: {message}", name(input.x))),
        })
        .collect();
    if !faults.is_empty() {
        let message = faults.into_iter().collect::<Vec<String>>().join("\n  ");
        return Err(PassError::Refused { pass: PASS, message });
    }
    let by_value: BTreeMap<_, FakeQuant> = inputs.iter().map(|input| (input.x, steps[name(input.x)])).collect();
    round(graph, PASS, &inputs, |input| Op::FakeQuant(by_value[&input.x]))
}
