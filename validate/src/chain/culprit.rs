//! The first value of a graph that is farther off than its own weights explain.

use std::collections::{BTreeSet, HashMap};

use graph::eval::{EvalError, Feeds};
use graph::{Graph, Op, ValueId};
use report::TensorParting;

use super::apart::relative;
use super::explained::Explained;
use super::pair::{Carry, Pair, Step};

/// How many times what is explained a value may be off.
const SLACK: f64 = 3.0;

/// Values that may be wrong.
#[derive(Default)]
struct Suspects {
    found: Vec<TensorParting>,
    /// By value that carries an error along: the places of those in `found` that it comes from.
    tainted: HashMap<ValueId, BTreeSet<usize>>,
    /// Relative errors of values that are others, rounded.
    rounded: HashMap<ValueId, f64>,
}

/// Computes both graphs, and gives each op of the second one what the first one reads, so that a value shows the error that its
/// own op adds. A value that is farther off goes on as it is, and is the culprit if an output is off then: where a factor moved from
/// one weight into another, what lies between the two is another value, and all behind is not.
///
/// `pair`: the exact graph and that of `explained`. Errors: those of a call.
pub(super) fn find(pair: &Pair, explained: &Explained, feeds: &Feeds) -> Result<Option<TensorParting>, EvalError> {
    let mut suspects = Suspects::default();
    pair.walk(feeds, &mut |step| suspects.visit(pair.graph(), explained, step))?;
    let Suspects { mut found, tainted, .. } = suspects;
    let first = pair.outputs().filter_map(|id| tainted.get(&id)).flatten().min().copied();
    Ok(first.map(|place| found.swap_remove(place)))
}

impl Suspects {
    fn visit(&mut self, graph: &Graph, explained: &Explained, step: &Step) -> Carry {
        let from: BTreeSet<usize> =
            graph.args(step.id).iter().filter_map(|arg| self.tainted.get(arg)).flatten().copied().collect();
        let Some(expected) = step.expected else {
            if let (Op::DynamicQuant(_) | Op::FakeQuant(_), [Some(x), ..]) = (step.op, step.args) {
                self.rounded.insert(step.id, relative(x, step.found));
            }
            if !from.is_empty() {
                self.tainted.insert(step.id, from);
            }
            return Carry::Found;
        };
        let rel_l2 = relative(expected, step.found);
        let expected_rel_l2 = SLACK * explained.of(step, !from.is_empty(), &self.rounded);
        if rel_l2 == 0.0 || rel_l2 <= expected_rel_l2 {
            return Carry::Expected;
        }
        let from = match from.is_empty() {
            true => {
                let (value, weight) = (graph.value(step.id).name.clone(), weight_of(graph, step.id));
                self.found.push(TensorParting { value, weight, rel_l2, expected_rel_l2 });
                BTreeSet::from([self.found.len() - 1])
            }
            false => from,
        };
        self.tainted.insert(step.id, from);
        Carry::Found
    }
}

/// The first weight that an op reads, by the checkpoint's name.
pub(super) fn weight_of(graph: &Graph, id: ValueId) -> Option<String> {
    let weight = graph.args(id).iter().find_map(|arg| graph.weight_of(*arg))?;
    Some(graph.weights.get(weight).name.clone())
}
