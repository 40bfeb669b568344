use super::PassError;
use crate::ir::{Def, Graph, ValueId};
use crate::op::{Binary, Op};
use crate::weights::{Derive, WeightData};

/// `linear(rms_norm(x, w) · c, head)  ->  linear(rms_norm(x, w·c), head)` where the result is the logits.
///
/// For engines that know no such scale (llama.cpp's T5). The norm's weight is derived from the stored one and rounded
/// once to f32. Returns `c`, or `None` when the graph scales nothing there.
///
/// Errors: the norm or its weight has another reader, which would be scaled too.
pub fn fold_logit_scale(graph: &mut Graph) -> Result<Option<f32>, PassError> {
    let refused = |message: String| Err(PassError::Refused { pass: "fold_logit_scale", message });
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
    let data = &mut graph.weights.get_mut(weight).data;
    *data = WeightData::Derived(Derive::MulScalar(c), Box::new(data.clone()));
    if let Def::Op(_, args) = &mut graph.values[logits.0].def {
        args[0] = norm;
    }
    graph.sweep();
    Ok(Some(c))
}
