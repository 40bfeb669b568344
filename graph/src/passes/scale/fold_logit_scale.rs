use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op};
use crate::passes::pass::PassError;
use crate::weights::{Derive, WeightId};

/// `linear(rms_norm(x, w) · c, head)` where the result is the logits.
struct Scaled {
    logits: ValueId,
    norm: ValueId,
    weight: WeightId,
    c: f32,
}

/// `linear(rms_norm(x, w) · c, head)  ->  linear(rms_norm(x, w·c), head)` where the result is the logits.
///
/// For engines that know no such scale (llama.cpp's T5). The norm's weight is derived from the stored one and rounded
/// once to f32. Returns `c`, or `None` when the graph scales nothing there.
///
/// Errors: the norm or its weight has another reader, which would be scaled too.
pub fn fold_logit_scale(graph: &mut Graph) -> Result<Option<f32>, PassError> {
    let Some(found) = scaled(graph, "fold_logit_scale")? else { return Ok(None) };
    graph.weights.get_mut(found.weight).derive(Derive::MulScalar(found.c));
    found.without_scale(graph);
    Ok(Some(found.c))
}

/// `linear(rms_norm(x, w) · c, head)  ->  linear(rms_norm(x, w), head)`, for a `w` that is stored times `c`: what
/// [`fold_logit_scale`] made and a file kept.
///
/// Errors: the graph scales by something else, or not at all.
pub fn drop_logit_scale(graph: &mut Graph, c: f32) -> Result<(), PassError> {
    let found = scaled(graph, "drop_logit_scale")?;
    match found {
        Some(found) if found.c == c => {
            found.without_scale(graph);
            Ok(())
        }
        _ => {
            let found = found.map_or("none".to_owned(), |found| found.c.to_string());
            let message = format!("expected a logit scale of {c}, found {found}");
            Err(PassError::Refused { pass: "drop_logit_scale", message })
        }
    }
}

impl Scaled {
    fn without_scale(&self, graph: &mut Graph) {
        if let Def::Op(_, args) = &mut graph.values[self.logits.0].def {
            args[0] = self.norm;
        }
        graph.sweep();
    }
}

fn scaled(graph: &Graph, pass: &'static str) -> Result<Option<Scaled>, PassError> {
    let refused = |message: String| Err(PassError::Refused { pass, message });
    let Some(logits) = graph.entries.iter().find_map(|e| e.output("logits")) else { return Ok(None) };
    let (Some(Op::Linear), &[scaled, ..]) = (graph.op(logits), graph.args(logits)) else { return Ok(None) };
    let (Some(Op::Binary(Binary::Mul)), &[a, b]) = (graph.op(scaled), graph.args(scaled)) else { return Ok(None) };
    let number = |id: ValueId| match graph.value(id).def {
        Def::Const(c) => Some(c),
        Def::Input | Def::Weight(_) | Def::Op(..) => None,
    };
    let Some((norm, c)) = number(b).map(|c| (a, c)).or(number(a).map(|c| (b, c))) else { return Ok(None) };
    let (Some(Op::RmsNorm { .. }), &[_, weight_value]) = (graph.op(norm), graph.args(norm)) else {
        return refused(format!("{}: expected a norm before the logit scale", graph.value(norm).name));
    };
    let users = graph.users();
    let is_port = graph.entries.iter().flat_map(|e| &e.outputs).any(|port| [norm, scaled].contains(&port.value));
    if is_port || [norm, scaled, weight_value].iter().any(|id| users[id.0].len() != 1) {
        return refused(format!("{}: the norm before the logit scale has another reader", graph.value(norm).name));
    }
    let Some(weight) = graph.weight_of(weight_value) else {
        return refused(format!("{}: expected a weight", graph.value(weight_value).name));
    };
    Ok(Some(Scaled { logits, norm, weight, c }))
}
