use std::collections::{HashMap, HashSet};

use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op};
use crate::ir::properties::Reads;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::rewrite::redirect;
use crate::weights::{Derive, WeightId};

/// `linear(x, w, b) · c  ->  linear(x, w·c, b·c)`, and so for embeddings and norms, also where the product stands after
/// layout ops and rotary positions; and `Attention(q, k, v, scale)  ->  Attention(q·scale, k, v, 1)` with the scale in the weights of q.
///
/// A product with a scalar is an op of its own in an engine, and a rounding of its own where activations are quantized. Only
/// weights that nothing else reads are scaled; each is rounded once to f32. Counts the products that went.
pub struct AbsorbScales;

impl AbsorbScales {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "absorb_scales",
        formula: "linear(x, w, b) · c -> linear(x, w·c, b·c)",
        caller: Caller::Format("npu"),
        // Weights are rounded once.
        meaning: Meaning::Kept(1e-5),
    };
}

impl Pass for AbsorbScales {
    fn about(&self) -> &'static About {
        AbsorbScales::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let count = absorb(graph);
        let note = format!("{count} products with a number are in the weights before them");
        Ok(Changed { count, notes: if count == 0 { Vec::new() } else { vec![note] } })
    }
}

fn absorb(graph: &mut Graph) -> usize {
    let (users, ports) = (graph.users(), graph.entries.iter().flat_map(|e| e.inputs.iter().chain(&e.outputs)));
    let ports: HashSet<ValueId> = ports.map(|port| port.value).collect();
    let alone = |id: ValueId| users[id.0].len() == 1 && !ports.contains(&id);
    let mut new_id = HashMap::new();
    let mut absorbed = 0;
    for id in (0..graph.values.len()).map(ValueId) {
        let (source, factor) = match (&graph.value(id).def, graph.args(id)) {
            (Def::Op(Op::Attention { scale, .. }, _), [q, ..]) if *scale != 1.0 => (*q, *scale),
            (Def::Op(Op::Binary(Binary::Mul), _), &[a, b]) => match (&graph.value(a).def, &graph.value(b).def) {
                (_, Def::Const(c)) => (a, *c),
                (Def::Const(c), _) => (b, *c),
                _ => continue,
            },
            _ => continue,
        };
        let Some(weights) = scalable(graph, source, &alone) else { continue };
        for weight in weights {
            graph.weights.get_mut(weight).derive(Derive::MulScalar(factor));
        }
        match &mut graph.values[id.0].def {
            Def::Op(Op::Attention { scale, .. }, _) => *scale = 1.0,
            _ => drop(new_id.insert(id, source)),
        }
        absorbed += 1;
    }
    // A product may stand on another one.
    let mut last = new_id.clone();
    for new in last.values_mut() {
        while let Some(next) = new_id.get(new) {
            *new = *next;
        }
    }
    redirect(graph, &last);
    graph.sweep();
    absorbed
}

/// The weights whose scale is that of a value which one reader has: those in which the op before it is linear, also where ops
/// stand between that take one value and are linear in it.
fn scalable(graph: &Graph, mut id: ValueId, alone: &dyn Fn(ValueId) -> bool) -> Option<Vec<WeightId>> {
    let weight = |id: ValueId| graph.weight_of(id).filter(|_| alone(id));
    loop {
        if !alone(id) {
            return None;
        }
        let (op, args) = (graph.op(id)?, graph.args(id));
        let sets = op.linear_in(args.len());
        let of_weights = |set: &Vec<usize>| set.iter().map(|arg| weight(args[*arg])).collect::<Option<Vec<WeightId>>>();
        if let Some(weights) = sets.iter().find_map(of_weights) {
            return Some(weights);
        }
        let mut floats = (0..args.len()).filter(|arg| op.reads(*arg) != Reads::Integers);
        id = match (floats.next(), floats.next()) {
            (Some(only), None) if sets.contains(&vec![only]) => args[only],
            _ => return None,
        };
    }
}
