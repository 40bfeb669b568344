use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op};
use crate::ir::port::LOGITS;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::weights::{Derive, WeightId};

/// `linear(rms_norm(x, w) · c, head)` where the result is the logits.
pub(super) struct Scaled {
    logits: ValueId,
    norm: ValueId,
    weight: WeightId,
    pub(super) c: f32,
}

/// `linear(rms_norm(x, w) · c, head)  ->  linear(rms_norm(x, w·c), head)` where the result is the logits.
///
/// For engines that know no such scale (llama.cpp's T5). The norm's weight is derived from the stored one and rounded
/// once to f32. Changes nothing where the graph scales nothing there.
///
/// Errors: the norm or its weight has another reader, which would be scaled too.
pub struct FoldLogitScale;

impl FoldLogitScale {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "fold_logit_scale",
        formula: "linear(rms_norm(x, w) · c, head) -> linear(rms_norm(x, w·c), head)",
        caller: Caller::Format("gguf"),
        // A weight is rounded once.
        meaning: Meaning::Kept(1e-6),
    };
}

impl Pass for FoldLogitScale {
    fn about(&self) -> &'static About {
        FoldLogitScale::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let Some(found) = scaled(graph).map_err(|message| FoldLogitScale::ABOUT.refused(message))? else {
            return Ok(Changed::default());
        };
        graph.weights.get_mut(found.weight).derive(Derive::MulScalar(found.c));
        found.without_scale(graph);
        Ok(1.into())
    }
}

/// The c of [`FoldLogitScale`]; `None` when the graph scales nothing there. Errors: those of the pass.
pub fn logit_scale(graph: &Graph) -> Result<Option<f32>, PassError> {
    let found = scaled(graph).map_err(|message| FoldLogitScale::ABOUT.refused(message))?;
    Ok(found.map(|found| found.c))
}

impl Scaled {
    pub(super) fn without_scale(&self, graph: &mut Graph) {
        if let Def::Op(_, args) = &mut graph.values[self.logits.0].def {
            args[0] = self.norm;
        }
        graph.sweep();
    }
}

/// Errors: the norm or its weight has another reader.
pub(super) fn scaled(graph: &Graph) -> Result<Option<Scaled>, String> {
    let Some(logits) = graph.entries.iter().find_map(|e| e.output(LOGITS)) else { return Ok(None) };
    let (Some(Op::Linear), &[scaled, ..]) = (graph.op(logits), graph.args(logits)) else { return Ok(None) };
    let (Some(Op::Binary(Binary::Mul)), &[a, b]) = (graph.op(scaled), graph.args(scaled)) else { return Ok(None) };
    let number = |id: ValueId| match graph.value(id).def {
        Def::Const(c) => Some(c),
        Def::Input | Def::Weight(_) | Def::Op(..) => None,
    };
    let Some((norm, c)) = number(b).map(|c| (a, c)).or(number(a).map(|c| (b, c))) else { return Ok(None) };
    let (Some(Op::RmsNorm { .. }), &[_, weight_value]) = (graph.op(norm), graph.args(norm)) else {
        return Err(format!("{}: expected a norm before the logit scale", graph.value(norm).name));
    };
    let users = graph.users();
    let is_port = graph.entries.iter().flat_map(|e| &e.outputs).any(|port| [norm, scaled].contains(&port.value));
    if is_port || [norm, scaled, weight_value].iter().any(|id| users[id.0].len() != 1) {
        return Err(format!("{}: the norm before the logit scale has another reader", graph.value(norm).name));
    }
    let Some(weight) = graph.weight_of(weight_value) else {
        return Err(format!("{}: expected a weight", graph.value(weight_value).name));
    };
    Ok(Some(Scaled { logits, norm, weight, c }))
}
