//! Why a step equals the whole pass.
//!
//! Target positions lie along the axes of length `dec`, keys along those of `past + dec`. Let every op be position-wise along
//! the first ([`Op::follows`]), let positions count from `past` on, and let attention see no key after its query: then, by
//! induction over the values, place p of each value of the whole pass is what a step gives that stands at p. What is not so
//! is named.

use crate::ir::graph::{Graph, ValueId};
use crate::ir::op::{Binary, Op, Visible};
use crate::ir::ty::{DEC, Dim, PAST, Type};

/// Whether a step equals the whole pass, for a graph that was given a past.
///
/// `values`: those that a step computes. `cut`: keys and values that it takes from the first step. Errors: the first value of
/// which that is not known, and why.
pub(super) fn prove(graph: &Graph, values: &[ValueId], cut: &[ValueId]) -> Result<(), String> {
    let name = |id: ValueId| &graph.value(id).name;
    if let Some(id) = cut.iter().find(|id| graph.value(**id).ty.shape.iter().any(holds_positions)) {
        let ty = &graph.value(*id).ty;
        return Err(format!("{}: expected keys of the source, which stay from step to step, found {ty}", name(*id)));
    }
    for id in values {
        let Some(op) = graph.op(*id) else { continue };
        let step = Step { graph, op, args: graph.args(*id), result: &graph.value(*id).ty };
        step.check().map_err(|why| format!("{}: {op} {why}, so a step would not equal the whole pass", name(*id)))?;
    }
    Ok(())
}

/// Whether a length grows with the target.
fn holds_positions(dim: &Dim) -> bool {
    dim.symbols().contains(&DEC)
}

/// Whether a length counts keys, those of earlier steps included.
fn counts_keys(dim: &Dim) -> bool {
    dim.symbols().contains(&PAST)
}

fn is_positions(dim: &Dim) -> bool {
    dim.symbol() == Some(DEC)
}

/// An op of a step.
struct Step<'g> {
    graph: &'g Graph,
    op: &'g Op,
    args: &'g [ValueId],
    result: &'g Type,
}

impl Step<'_> {
    /// Errors: what it does with positions, after its name.
    fn check(&self) -> Result<(), String> {
        let types: Vec<&Type> = self.args.iter().map(|arg| &self.graph.value(*arg).ty).collect();
        let mut accounted = vec![false; self.result.shape.len()];
        for (arg, ty) in types.iter().enumerate() {
            for (axis, dim) in ty.shape.iter().enumerate().filter(|(_, dim)| holds_positions(dim)) {
                let followed = self.op.follows(arg, axis, &types, self.result);
                match followed.filter(|to| self.result.shape[*to] == *dim) {
                    Some(to) => accounted[to] = true,
                    None if self.joins_keys(arg, axis) => accounted[axis] = true,
                    None if self.attends(arg, axis)? => {}
                    None => return Err(format!("mixes target positions (axis {axis} of {ty})")),
                }
            }
        }
        let new = (0..accounted.len()).filter(|axis| !accounted[*axis] && holds_positions(&self.result.shape[*axis]));
        for axis in new {
            if !self.starts_at_past(axis) {
                return Err(format!("has target positions that no argument tells (axis {axis} of {})", self.result));
            }
        }
        match self.result.shape.iter().filter(|dim| is_positions(dim)).count() {
            0 | 1 => Ok(()),
            _ => Err(format!("pairs target positions with each other ({})", self.result)),
        }
    }

    /// Whether new keys are joined with those of earlier steps or of the source, or parts of a bias for them.
    fn joins_keys(&self, arg: usize, axis: usize) -> bool {
        let is_past = |id: &ValueId| self.graph.value(*id).ty.shape[axis].symbol() == Some(PAST);
        match self.op {
            Op::Concat { axis: joined } if *joined == axis => {
                let own = &self.graph.value(self.args[arg]).ty.shape[axis];
                counts_keys(own) || is_positions(own) && self.args.first().is_some_and(is_past)
            }
            _ => false,
        }
    }

    /// Whether an attention sums over these keys. Errors: it may see later ones.
    fn attends(&self, arg: usize, axis: usize) -> Result<bool, String> {
        match (self.op, arg, axis) {
            (Op::Attention { .. }, 3, _) => Ok(axis + 1 == self.graph.value(self.args[arg]).ty.shape.len()),
            (Op::Attention { .. }, 1 | 2, 2) => {
                let is_hidden = self.args.get(3).is_some_and(|bias| hides_later(self.graph, *bias));
                let queries = &self.graph.value(self.args[0]).ty;
                match is_hidden && is_positions(&queries.shape[2]) {
                    true => Ok(true),
                    false => Err("may see keys after its query, which no causal mask hides".to_owned()),
                }
            }
            _ => Ok(false),
        }
    }

    /// Whether an axis that follows no argument is the same at every position, or numbered from `past` on.
    fn starts_at_past(&self, axis: usize) -> bool {
        let is_keys = |dim: &Dim| *dim == Dim::from(PAST) + DEC.into();
        match self.op {
            Op::Broadcast(_) => true,
            Op::Positions { start, len } => is_positions(len) && counts_keys(start),
            Op::Mask { start, q, k, .. } | Op::RelativeBias { start, q, k, .. } => {
                let is_queries = axis + 2 == self.result.shape.len();
                if is_queries { is_positions(q) && counts_keys(start) } else { is_keys(k) }
            }
            _ => false,
        }
    }
}

/// Whether a bias is -inf wherever a key comes after its query.
fn hides_later(graph: &Graph, bias: ValueId) -> bool {
    let holds_keys = |id: &ValueId| graph.value(*id).ty.shape.last().is_some_and(holds_positions);
    let args = graph.args(bias);
    match graph.op(bias) {
        Some(Op::Mask { visible: Visible { after: Some(0), .. }, hidden, q, .. }) => {
            *hidden == f32::NEG_INFINITY && is_positions(q)
        }
        Some(Op::Binary(Binary::Add)) => args.iter().any(|arg| hides_later(graph, *arg)),
        Some(Op::Broadcast(_)) => hides_later(graph, args[0]),
        Some(Op::Concat { axis }) if axis + 1 == graph.value(bias).ty.shape.len() => {
            holds_keys(&bias) && args.iter().filter(|arg| holds_keys(arg)).all(|arg| hides_later(graph, *arg))
        }
        _ => false,
    }
}
