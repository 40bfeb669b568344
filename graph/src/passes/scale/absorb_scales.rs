use std::collections::{HashMap, HashSet};

use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op};
use crate::rewrite::redirect;
use crate::weights::{Derive, WeightId};

/// `linear(x, w, b) · c  ->  linear(x, w·c, b·c)`, and so for embeddings and norms, also where the product stands after
/// layout ops; and `Attention(q, k, v, scale)  ->  Attention(q·scale, k, v, 1)` with the scale in the weights of q.
///
/// A product with a scalar is an op of its own in an engine, and a rounding of its own where activations are quantized. Only
/// weights that nothing else reads are scaled; each is rounded once to f32. Returns how many products went.
pub fn absorb_scales(graph: &mut Graph) -> usize {
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

/// The weights whose scale is that of a value which one reader has.
fn scalable(graph: &Graph, mut id: ValueId, alone: &dyn Fn(ValueId) -> bool) -> Option<Vec<WeightId>> {
    loop {
        if !alone(id) {
            return None;
        }
        let args = graph.args(id);
        let weights = match graph.op(id)? {
            Op::Reshape(_) | Op::Transpose(_) | Op::Slice { .. } | Op::Rope(_) => {
                id = args[0];
                continue;
            }
            Op::Linear | Op::Embed | Op::RmsNorm { .. } | Op::LayerNorm { .. } => &args[1..],
            _ => return None,
        };
        return weights.iter().map(|w| graph.weight_of(*w).filter(|_| alone(*w))).collect();
    }
}
