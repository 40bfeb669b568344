//! Expressions that write graphs: `(q.matmul(k.t()) + bias).softmax().matmul(v)`.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Add, Div, Mul, Sub};

use crate::ir::graph::{Def, Entry, Graph, Port, Value, ValueId};
use crate::ir::op::{Binary, Op, Rope, Unary};
use crate::ir::ty::{Dim, Sym, Type};
use crate::weights::{Weight, WeightId};

/// Writes values into a graph, remembering the first error and its place, so that expressions need no `?`.
pub struct Build {
    state: RefCell<State>,
}

struct State {
    graph: Graph,
    typed: bool,
    scope: Vec<String>,
    names: HashMap<String, usize>,
    // Equal scalars and weights must be one value: else `cap` in `tanh(s / cap) · cap` is two, and a pattern with one
    // hole never matches.
    scalars: HashMap<u32, ValueId>,
    weights: HashMap<String, ValueId>,
    holes: HashMap<&'static str, ValueId>,
    error: Option<BuildError>,
}

/// The first thing that did not fit while a graph was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct BuildError {
    /// Scope and op, as `decoder.3.ffn.linear`.
    pub place: String,
    /// What was found.
    pub message: String,
}

/// A value being built. An error upstream makes it, and all that is built from it, void.
#[derive(Clone, Copy)]
pub struct Val<'b> {
    b: &'b Build,
    id: Option<ValueId>,
}

/// Names everything built while it lives.
pub struct Scope<'b>(&'b Build);

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.0.state.borrow_mut().scope.pop();
    }
}

impl Default for Build {
    fn default() -> Build {
        Build::new()
    }
}

impl Build {
    /// An empty graph.
    pub fn new() -> Build {
        Build::edit(Graph::default())
    }

    /// A graph with holes; shapes are not checked because a hole has none.
    pub fn pattern() -> Build {
        let build = Build::new();
        build.state.borrow_mut().typed = false;
        build
    }

    /// More values for an existing graph.
    pub fn edit(graph: Graph) -> Build {
        let mut state = State {
            typed: true,
            scope: Vec::new(),
            names: HashMap::new(),
            scalars: HashMap::new(),
            weights: HashMap::new(),
            holes: HashMap::new(),
            error: None,
            graph: Graph::default(),
        };
        for (index, value) in graph.values.iter().enumerate() {
            state.names.insert(value.name.clone(), 0);
            match value.def {
                Def::Const(c) => drop(state.scalars.insert(c.to_bits(), ValueId(index))),
                Def::Weight(_) => drop(state.weights.insert(value.name.clone(), ValueId(index))),
                Def::Input | Def::Op(..) => {}
            }
        }
        state.graph = graph;
        Build { state: RefCell::new(state) }
    }

    /// The graph written, or the first error.
    pub fn finish(self) -> Result<Graph, BuildError> {
        let state = self.state.into_inner();
        match state.error {
            Some(error) => Err(error),
            None => Ok(state.graph),
        }
    }

    /// Reads the graph as written so far.
    pub fn with_graph<R>(&self, read: impl FnOnce(&Graph) -> R) -> R {
        read(&self.state.borrow().graph)
    }

    /// Edits the graph as written so far.
    pub(crate) fn with_graph_mut<R>(&self, edit: impl FnOnce(&mut Graph) -> R) -> R {
        edit(&mut self.state.borrow_mut().graph)
    }

    /// Prefixes the names of what is built until the guard is dropped.
    #[must_use]
    pub fn scope(&self, name: impl fmt::Display) -> Scope<'_> {
        self.state.borrow_mut().scope.push(name.to_string());
        Scope(self)
    }

    /// Records an error here, unless there is one already.
    pub fn fail(&self, message: impl fmt::Display) {
        let mut state = self.state.borrow_mut();
        let place = state.scope.join(".");
        state.error.get_or_insert(BuildError { place, message: message.to_string() });
    }

    /// A value of the graph being edited.
    pub fn val(&self, id: ValueId) -> Val<'_> {
        Val { b: self, id: Some(id) }
    }

    /// A value fed by the caller.
    pub fn input(&self, name: &str, ty: Type) -> Val<'_> {
        self.push(name, ty, Def::Input)
    }

    /// A number; the same number is the same value.
    pub fn scalar(&self, c: f32) -> Val<'_> {
        let known = self.state.borrow().scalars.get(&c.to_bits()).copied();
        if let Some(id) = known {
            return self.val(id);
        }
        let val = self.push(&format!("{c:?}"), Type::f32([0usize; 0]), Def::Const(c));
        self.state.borrow_mut().scalars.insert(c.to_bits(), val.id.expect("just pushed"));
        val
    }

    /// A tensor of the checkpoint; the same name is the same value.
    pub fn weight(&self, weight: Weight) -> Val<'_> {
        let known = self.state.borrow().weights.get(&weight.name).copied();
        if let Some(id) = known {
            return self.val(id);
        }
        let (name, ty) = (weight.name.clone(), Type::f32(weight.shape.iter().copied()));
        let id = self.state.borrow_mut().graph.weights.push(weight);
        self.weight_value(name, ty, id)
    }

    fn weight_value(&self, name: String, ty: Type, weight: WeightId) -> Val<'_> {
        let mut state = self.state.borrow_mut();
        let id = ValueId(state.graph.values.len());
        state.names.insert(name.clone(), 0);
        state.weights.insert(name.clone(), id);
        state.graph.values.push(Value { name, ty, def: Def::Weight(weight) });
        drop(state);
        self.val(id)
    }

    /// A hole of a pattern, which stands for any one value; the same name is the same hole.
    pub fn hole(&self, name: &'static str) -> Val<'_> {
        let known = self.state.borrow().holes.get(name).copied();
        if let Some(id) = known {
            return self.val(id);
        }
        let val = self.push(name, Type::f32([0usize; 0]), Def::Input);
        self.state.borrow_mut().holes.insert(name, val.id.expect("just pushed"));
        val
    }

    /// Several holes.
    pub fn holes<const N: usize>(&self, names: [&'static str; N]) -> [Val<'_>; N] {
        names.map(|name| self.hole(name))
    }

    /// A way to call the graph.
    pub fn entry(
        &self,
        name: &str,
        inputs: &[(&str, Val<'_>)],
        outputs: &[(&str, Val<'_>)],
        fixed: BTreeMap<Sym, usize>,
    ) {
        let ports = |ports: &[(&str, Val<'_>)]| -> Option<Vec<Port>> {
            ports.iter().map(|(name, val)| Some(Port { name: (*name).to_owned(), value: val.id? })).collect()
        };
        // A void port means that an error is already recorded.
        if let (Some(inputs), Some(outputs)) = (ports(inputs), ports(outputs)) {
            self.state.borrow_mut().graph.entries.push(Entry { name: name.to_owned(), inputs, outputs, fixed });
        }
    }

    /// The result of an op; on a shape error, a void value and a recorded error.
    pub fn op<'b>(&'b self, op: Op, args: &[Val<'b>]) -> Val<'b> {
        let Some(ids) = args.iter().map(|a| a.id).collect::<Option<Vec<ValueId>>>() else {
            return Val { b: self, id: None };
        };
        let name = op_name(&op);
        let (typed, inferred) = {
            let state = self.state.borrow();
            let types: Vec<&Type> = ids.iter().map(|id| &state.graph.value(*id).ty).collect();
            let inferred = match state.typed {
                true => op.infer(&types).map_err(|message| {
                    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
                    format!("{op} on {}: {message}", types.join(", "))
                }),
                false => Ok(Type::f32([0usize; 0])),
            };
            (state.typed, inferred)
        };
        match inferred {
            Ok(ty) => self.push(&name, ty, Def::Op(op, ids)),
            Err(message) => {
                debug_assert!(typed);
                let _here = self.scope(name);
                self.fail(message);
                Val { b: self, id: None }
            }
        }
    }

    /// Additive mask: 0 where a key is visible, -inf elsewhere; f32[q, k].
    pub fn mask(
        &self,
        visible: crate::ir::op::Visible,
        start: impl Into<Dim>,
        q: impl Into<Dim>,
        k: impl Into<Dim>,
    ) -> Val<'_> {
        let hidden = f32::NEG_INFINITY;
        self.op(Op::Mask { visible, start: start.into(), q: q.into(), k: k.into(), hidden }, &[])
    }

    /// Additive mask of i64[b, k]: 0 where it is not 0, -inf elsewhere; f32[b, 1, 1, k].
    pub fn padding_mask<'b>(&'b self, mask: Val<'b>) -> Val<'b> {
        self.op(Op::PaddingMask { hidden: f32::NEG_INFINITY }, &[mask])
    }

    /// `start, start + 1, ...`: i64[len].
    pub fn positions(&self, start: impl Into<Dim>, len: impl Into<Dim>) -> Val<'_> {
        self.op(Op::Positions { start: start.into(), len: len.into() }, &[])
    }

    /// Joined along an axis.
    pub fn concat<'b>(&'b self, parts: &[Val<'b>], axis: usize) -> Val<'b> {
        self.op(Op::Concat { axis }, parts)
    }

    fn push(&self, name: &str, ty: Type, def: Def) -> Val<'_> {
        let mut state = self.state.borrow_mut();
        let base = match (&def, state.scope.is_empty()) {
            (Def::Op(..), false) => format!("{}.{name}", state.scope.join(".")),
            _ => name.to_owned(),
        };
        // A second `linear` in one scope is `linear_1`.
        let mut unique = base.clone();
        while let Some(count) = state.names.get_mut(&unique) {
            *count += 1;
            unique = format!("{base}_{count}");
        }
        state.names.insert(unique.clone(), 0);
        let id = ValueId(state.graph.values.len());
        state.graph.values.push(Value { name: unique, ty, def });
        drop(state);
        self.val(id)
    }
}

fn op_name(op: &Op) -> String {
    let text = op.to_string();
    let word = text.split(['(', '[']).next().unwrap_or(&text);
    let mut name = String::new();
    for (i, c) in word.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

impl<'b> Val<'b> {
    /// The id, or `None` after an error upstream.
    pub fn id(self) -> Option<ValueId> {
        self.id
    }

    /// The type, or `None` after an error upstream.
    pub fn ty(self) -> Option<Type> {
        Some(self.b.state.borrow().graph.value(self.id?).ty.clone())
    }

    fn unary(self, op: Unary) -> Val<'b> {
        self.b.op(Op::Unary(op), &[self])
    }

    /// Matrix product over the last two axes.
    pub fn matmul(self, other: Val<'b>) -> Val<'b> {
        self.b.op(Op::MatMul, &[self, other])
    }

    /// `self · wᵀ + bias`, w is `[n, e]`.
    pub fn linear(self, w: Val<'b>, bias: Option<Val<'b>>) -> Val<'b> {
        let args: Vec<Val<'b>> = [self, w].into_iter().chain(bias).collect();
        self.b.op(Op::Linear, &args)
    }

    /// Rows of `table[n, e]` by these ids.
    pub fn embed(self, table: Val<'b>) -> Val<'b> {
        self.b.op(Op::Embed, &[self, table])
    }

    /// Over the last axis.
    pub fn softmax(self) -> Val<'b> {
        self.b.op(Op::Softmax, &[self])
    }

    /// Over an axis, which stays with length 1.
    pub fn mean(self, axis: usize) -> Val<'b> {
        self.b.op(Op::Mean { axis }, &[self])
    }

    /// `x / sqrt(mean(x²) + eps) · w`.
    pub fn rms_norm(self, w: Val<'b>, eps: f32) -> Val<'b> {
        self.b.op(Op::RmsNorm { eps }, &[self, w])
    }

    /// `(x - mean) / sqrt(var + eps) · w + bias` over the last axis.
    pub fn layer_norm(self, w: Val<'b>, bias: Option<Val<'b>>, eps: f32) -> Val<'b> {
        let args: Vec<Val<'b>> = [self, w].into_iter().chain(bias).collect();
        self.b.op(Op::LayerNorm { eps }, &args)
    }

    /// Of `[b, c, ..]`, over the channels of each of `groups` groups and the axes after them.
    pub fn group_norm(self, w: Val<'b>, bias: Val<'b>, groups: usize, eps: f32) -> Val<'b> {
        self.b.op(Op::GroupNorm { groups, eps }, &[self, w, bias])
    }

    /// `[b, c, n]` with `w[o, c, k]` -> `[b, o, (n + 2 pad - k) / stride + 1]`; where n is a symbol, that length is `length`.
    pub fn conv(self, w: Val<'b>, bias: Option<Val<'b>>, stride: usize, pad: usize, length: Option<Sym>) -> Val<'b> {
        let args: Vec<Val<'b>> = [self, w].into_iter().chain(bias).collect();
        self.b.op(Op::Conv { stride, pad, length }, &args)
    }

    /// `[b, c, n, m]` with `w[o, c / groups, k, l]` -> `[b, o, (n + 2 pad - k) / stride + 1, (m + 2 pad - l) / stride + 1]`.
    pub fn conv2d(self, w: Val<'b>, stride: [usize; 2], pad: [usize; 2], groups: usize) -> Val<'b> {
        self.b.op(Op::Conv2d { stride, pad, groups }, &[self, w])
    }

    /// `[b, h, q, d]` turned by `positions[q]`.
    pub fn rope(self, positions: Val<'b>, rope: Rope) -> Val<'b> {
        self.b.op(Op::Rope(rope), &[self, positions])
    }

    /// Repeated along axes of length 1 until the shape is `dims`.
    pub fn broadcast(self, dims: impl IntoIterator<Item = Dim>) -> Val<'b> {
        self.b.op(Op::Broadcast(dims.into_iter().collect()), &[self])
    }

    /// Places `start, start + step, ...` of an axis, `len` of them.
    pub fn slice(self, axis: usize, start: usize, step: usize, len: impl Into<Dim>) -> Val<'b> {
        self.b.op(Op::Slice { axis, start, step, len: len.into() }, &[self])
    }

    /// `max(x, 0)`.
    pub fn relu(self) -> Val<'b> {
        self.unary(Unary::Relu)
    }

    /// `tanh(x)`.
    pub fn tanh(self) -> Val<'b> {
        self.unary(Unary::Tanh)
    }

    /// One of the activation functions.
    pub fn activation(self, op: Unary) -> Val<'b> {
        self.unary(op)
    }

    /// The last two axes swapped. In a pattern, where ranks are unknown, of rank 4.
    pub fn t(self) -> Val<'b> {
        let typed = self.b.state.borrow().typed;
        let rank = if typed { self.ty().map_or(0, |ty| ty.shape.len()) } else { 4 };
        let mut perm: Vec<usize> = (0..rank).collect();
        if rank >= 2 {
            perm.swap(rank - 2, rank - 1);
        }
        self.transpose(perm)
    }

    /// `result.shape[i] = self.shape[perm[i]]`.
    pub fn transpose(self, perm: Vec<usize>) -> Val<'b> {
        self.b.op(Op::Transpose(perm), &[self])
    }

    /// The same elements under another shape.
    pub fn reshape(self, shape: impl IntoIterator<Item = Dim>) -> Val<'b> {
        self.b.op(Op::Reshape(shape.into_iter().collect()), &[self])
    }

    /// `[b, n, h·d] -> [b, h, n, d]`.
    pub fn heads(self, heads: usize) -> Val<'b> {
        let Some(ty) = self.ty() else { return self };
        match ty.shape.as_slice() {
            [b, n, e] if heads > 0 && e.literal().is_some_and(|e| e % heads == 0) => {
                let width = e.literal().expect("just checked") / heads;
                self.reshape([b.clone(), n.clone(), heads.into(), width.into()]).transpose(vec![0, 2, 1, 3])
            }
            _ => {
                self.b.fail(format!("{ty} does not split into {heads} heads"));
                Val { b: self.b, id: None }
            }
        }
    }

    /// `[b, h, n, d] -> [b, n, h·d]`.
    pub fn merge_heads(self) -> Val<'b> {
        let Some(ty) = self.ty() else { return self };
        match ty.shape.as_slice() {
            [b, h, n, d] if h.literal().is_some() && d.literal().is_some() => {
                let width = h.literal().unwrap_or(0) * d.literal().unwrap_or(0);
                self.transpose(vec![0, 2, 1, 3]).reshape([b.clone(), n.clone(), width.into()])
            }
            _ => {
                self.b.fail(format!("{ty} is not [b, h, n, d] with literal h and d"));
                Val { b: self.b, id: None }
            }
        }
    }

    /// `softmax(cap(self·kᵀ·scale) + bias)·v`.
    pub fn attention(self, k: Val<'b>, v: Val<'b>, bias: Option<Val<'b>>, scale: f32, softcap: Option<f32>) -> Val<'b> {
        let args: Vec<Val<'b>> = [self, k, v].into_iter().chain(bias).collect();
        self.b.op(Op::Attention { scale, softcap }, &args)
    }
}

macro_rules! binary {
    ($trait:ident, $method:ident, $op:expr) => {
        impl<'b> $trait<Val<'b>> for Val<'b> {
            type Output = Val<'b>;
            fn $method(self, other: Val<'b>) -> Val<'b> {
                self.b.op(Op::Binary($op), &[self, other])
            }
        }
        impl<'b> $trait<f32> for Val<'b> {
            type Output = Val<'b>;
            fn $method(self, other: f32) -> Val<'b> {
                let other = self.b.scalar(other);
                self.b.op(Op::Binary($op), &[self, other])
            }
        }
    };
}
binary!(Add, add, Binary::Add);
binary!(Sub, sub, Binary::Sub);
binary!(Mul, mul, Binary::Mul);
binary!(Div, div, Binary::Div);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ty::{BATCH, DEC};

    #[test]
    fn the_first_error_keeps_its_place_and_what_follows_is_void() {
        let b = Build::new();
        let x = b.input("x", Type::f32([Dim::from(BATCH), 8.into()]));
        let w = b.input("w", Type::f32([16usize, 9]));
        {
            let _decoder = b.scope("decoder.3");
            let _ffn = b.scope("ffn");
            let y = x.linear(w, None).relu() + x;
            assert!(y.id().is_none());
        }
        let error = b.finish().expect_err("8 is not 9");
        assert_eq!(
            error.to_string(),
            "decoder.3.ffn.linear: Linear on f32[batch, 8], f32[16, 9]: input width differs from weight"
        );
    }

    #[test]
    fn equal_scalars_are_one_value_and_names_are_unique() {
        let b = Build::new();
        let x = b.input("x", Type::f32([Dim::from(BATCH), DEC.into(), 6.into()]));
        let y = (x * 0.5).heads(2).merge_heads() * 0.5;
        b.entry("full", &[("x", x)], &[("y", y)], BTreeMap::new());
        let g = b.finish().expect("fits");
        assert_eq!(g.values.iter().filter(|v| matches!(v.def, Def::Const(_))).count(), 1);
        let mut names: Vec<&str> = g.values.iter().map(|v| v.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), g.values.len());
    }
}
