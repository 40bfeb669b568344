use std::collections::{BTreeMap, BTreeSet};

use super::quantize_activations::{inputs_of_codes, round};
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::Graph;
use crate::ir::op::Op;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};

/// `linear(x, w)  ->  linear(FakeQuant(x), w)` where w has 8-bit codes and one symmetric scale per row.
///
/// At the places of [`QuantizeActivations`](super::quantize_activations::QuantizeActivations), with scales and zero points that
/// are known before the model runs. Counts the Linears that read rounded activations now. Errors, with the graph unchanged: all
/// values without steps, and all steps that no engine takes.
pub struct QuantizeStatically<'a> {
    /// By the name of the value that is rounded; names that no such Linear reads are passed over.
    pub steps: &'a BTreeMap<String, FakeQuant>,
}

impl QuantizeStatically<'_> {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "quantize_statically",
        formula: "linear(x, w) -> linear(FakeQuant(x), w)",
        caller: Caller::Recipe("activations"),
        meaning: Meaning::Rounded,
    };
}

impl Pass for QuantizeStatically<'_> {
    fn about(&self) -> &'static About {
        QuantizeStatically::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let steps = self.steps;
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
            return Err(QuantizeStatically::ABOUT.refused(message));
        }
        let by_value: BTreeMap<_, FakeQuant> = inputs.iter().map(|input| (input.x, steps[name(input.x)])).collect();
        round(graph, QuantizeStatically::ABOUT, &inputs, |input| Op::FakeQuant(by_value[&input.x]))
    }
}
