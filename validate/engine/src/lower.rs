//! A graph to a graph of ggml, for known lengths: one arm an op.
//!
//! ggml has four axes, the fastest first, so a shape is written backwards and filled up with 1; five axes are kept dense
//! with the leading ones joined. A [`Op::Transpose`] is a view, which is made dense where an op needs it so. Integers stay
//! on the host (`host.rs`), and so do masks, positions and T5's bias, which are written before the graph runs.

use std::collections::{BTreeMap, HashMap};

use graph::{Binary, DType, Def, Dim, Entry, Graph, Layout, Op, Sym, Unary, ValueId};

use crate::error::EngineError;
use crate::ggml::{Context, Kind, Map, Pair, Tensor};
use crate::host::{Bucket, Recipe, Upload, rope_factors};
use crate::options::Options;
use crate::store::{Role, Store};

/// Tensors of ggml that one value may need, at most: a gelu spelled out, a rotary embedding of five axes.
const TENSORS_A_VALUE: usize = 24;
/// Tensors beside those.
const TENSORS_MORE: usize = 256;
/// Columns below which ggml's matrix product of blocks is slower than one product a column (llamafile's kernels take any
/// number above one).
const FEW_COLUMNS: std::ops::RangeInclusive<usize> = 2..=7;
/// A logit that no finite score is below: beside it a row of which all is hidden sums to 1, and all its places are 0.
const SINK: f32 = -1e30;

/// A tensor and its shape in the graph, outermost first.
#[derive(Clone)]
pub(crate) struct Val {
    pub(crate) tensor: Tensor,
    pub(crate) shape: Vec<usize>,
}

/// What one layer keeps of earlier tokens.
#[derive(Clone)]
pub(crate) struct Slot {
    /// `[width, capacity, heads, batch]` for keys, `[capacity, width, heads, batch]` for values.
    pub(crate) tensor: Tensor,
    /// Values are read along the tokens, so these stand side by side.
    pub(crate) transposed: bool,
    /// Tokens that fit.
    pub(crate) capacity: usize,
}

/// What is known before an entry is lowered.
pub(crate) struct Frame<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) store: &'a Store,
    pub(crate) options: &'a Options,
    pub(crate) entry: &'a Entry,
    pub(crate) order: &'a [ValueId],
    /// By symbol; `past` counts the free places of the cache too.
    pub(crate) lengths: BTreeMap<Sym, usize>,
    /// Inputs that lie in ggml already.
    pub(crate) given: HashMap<ValueId, Val>,
    /// `Concat(past, new)` of the decoder.
    pub(crate) caches: HashMap<ValueId, Slot>,
}

/// A lowered entry.
pub(crate) struct Lowered {
    pub(crate) context: Context,
    pub(crate) inputs: Context,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) values: HashMap<ValueId, Val>,
    pub(crate) lengths: BTreeMap<Sym, usize>,
    pub(crate) nodes: usize,
}

struct Lowering<'a> {
    frame: Frame<'a>,
    context: Context,
    inputs: Context,
    uploads: Vec<Upload>,
    values: HashMap<ValueId, Val>,
    constants: HashMap<(u32, usize), Tensor>,
    /// A mask seen under more queries.
    stretched: HashMap<(ValueId, usize), Tensor>,
    /// The rows of caches and their cells, by what they depend on.
    places: HashMap<[usize; 4], Tensor>,
    rotations: HashMap<(ValueId, [u32; 4]), [Tensor; 2]>,
}

/// What an attention adds to its scores.
#[derive(Default)]
struct BiasParts {
    /// Numbers of each head, which are added first.
    of_heads: Vec<Val>,
    /// The same for all heads, one of which the softmax takes.
    masks: Vec<(ValueId, Val)>,
}

/// Lowers all values of an entry.
pub(crate) fn lower(frame: Frame<'_>) -> Result<Lowered, EngineError> {
    let capacity = frame.order.len() * TENSORS_A_VALUE + TENSORS_MORE;
    let lowering = Lowering {
        context: Context::new(capacity, 0)?,
        inputs: Context::new(capacity, 0)?,
        uploads: Vec::new(),
        values: frame.given.clone(),
        constants: HashMap::new(),
        stretched: HashMap::new(),
        places: HashMap::new(),
        rotations: HashMap::new(),
        frame,
    };
    lowering.run(capacity)
}

/// ggml's axes of any shape: those beyond four are joined into the slowest.
fn ne(shape: &[usize]) -> [usize; 4] {
    let mut ne = [1; 4];
    for (i, n) in shape.iter().rev().enumerate() {
        ne[i.min(3)] *= n;
    }
    ne
}

/// What shape two have together; the graph was verified, so they fit.
fn together(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let axis = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank).map(|i| if axis(a, i) == 1 { axis(b, i) } else { axis(a, i) }).collect()
}

impl Lowering<'_> {
    fn run(mut self, capacity: usize) -> Result<Lowered, EngineError> {
        let graph = self.frame.graph;
        let order = self.frame.order;
        for &id in order {
            let value = graph.value(id);
            if self.values.contains_key(&id) {
                continue;
            }
            if self.frame.entry.inputs.iter().any(|port| port.value == id) {
                if value.ty.dtype == DType::F32 {
                    let shape = self.shape(id, &value.ty.shape)?;
                    let tensor = self.upload(Kind::F32, ne(&shape), &value.name, Recipe::Fed(id), false);
                    self.values.insert(id, Val { tensor, shape });
                }
                continue;
            }
            let Def::Op(op, args) = &value.def else { continue };
            // Sums that only attentions read are taken apart there.
            if value.ty.dtype == DType::I64 {
                self.check_integers(id, op)?;
                continue;
            }
            if self.is_bias_only(id) {
                continue;
            }
            self.lower_now(id, op, args)?;
        }
        let nodes = 2 * (self.context.used(capacity) + self.inputs.used(capacity)) + TENSORS_MORE;
        let Lowering { context, inputs, uploads, values, frame, .. } = self;
        Ok(Lowered { context, inputs, uploads, values, lengths: frame.lengths, nodes })
    }

    fn lower_now(&mut self, id: ValueId, op: &Op, args: &[ValueId]) -> Result<(), EngineError> {
        let val = self.op(id, op, args)?;
        // A convolution makes a length that no input tells.
        for (dim, length) in self.frame.graph.value(id).ty.shape.iter().zip(&val.shape) {
            if let Some(sym) = dim.symbol() {
                self.frame.lengths.entry(sym).or_insert(*length);
            }
        }
        self.values.insert(id, val);
        Ok(())
    }

    fn refused(&self, id: ValueId, message: &str) -> EngineError {
        EngineError::Refused { problems: vec![format!("{}: {message}", self.frame.graph.value(id).name)] }
    }

    fn dim(&self, id: ValueId, dim: &Dim) -> Result<usize, EngineError> {
        match dim.resolve(&self.frame.lengths) {
            Some(0) => Err(self.refused(id, &format!("expected a length above 0 for {dim}, found 0"))),
            Some(n) => Ok(n),
            None => Err(self.refused(id, &format!("expected a known length, found {dim}"))),
        }
    }

    fn shape(&self, id: ValueId, dims: &[Dim]) -> Result<Vec<usize>, EngineError> {
        let shape: Vec<usize> = dims.iter().map(|dim| self.dim(id, dim)).collect::<Result<_, _>>()?;
        match shape.iter().try_fold(4usize, |n, len| n.checked_mul(*len)).is_some_and(|n| n < isize::MAX as usize / 2) {
            true => Ok(shape),
            false => Err(self.refused(id, &format!("expected a tensor that memory can hold, found {shape:?}"))),
        }
    }

    /// Whether a value is a sum of masks whose only readers are attentions that take it as a bias.
    fn is_bias_only(&self, id: ValueId) -> bool {
        let graph = self.frame.graph;
        matches!(graph.op(id), Some(Op::Binary(Binary::Add)))
            && !self.frame.entry.outputs.iter().any(|port| port.value == id)
            && self.has_head_bias(id)
            && self.frame.order.iter().filter(|user| graph.args(**user).contains(&id)).all(|user| {
                let args = graph.args(*user);
                let as_bias = matches!(graph.op(*user), Some(Op::Attention { .. })) && !args[..3].contains(&id);
                as_bias || self.is_bias_only(*user)
            })
    }

    /// Whether a sum has a part with scores of its own for each head: added to the scores it costs less memory than a mask
    /// of all heads, batches and queries.
    fn has_head_bias(&self, id: ValueId) -> bool {
        match (self.frame.graph.op(id), self.frame.graph.args(id)) {
            (Some(Op::Binary(Binary::Add)), [a, b]) => self.has_head_bias(*a) || self.has_head_bias(*b),
            (Some(Op::RelativeBias { .. }), _) => true,
            _ => false,
        }
    }

    fn check_integers(&self, id: ValueId, op: &Op) -> Result<(), EngineError> {
        match op {
            Op::Positions { .. }
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Slice { .. }
            | Op::Transpose(_)
            | Op::Concat { .. } => {
                // Lengths that a slice reaches are checked with the call.
                Ok(())
            }
            other => Err(self.refused(id, &format!("expected an op that moves integers, found {other}"))),
        }
    }

    fn upload(&mut self, kind: Kind, ne: [usize; 4], name: &str, recipe: Recipe, each_step: bool) -> Tensor {
        let tensor = self.inputs.tensor(kind, ne, name);
        self.uploads.push(Upload { tensor: tensor.clone(), recipe, each_step });
        tensor
    }

    fn constant(&mut self, c: f32, len: usize) -> Tensor {
        if let Some(known) = self.constants.get(&(c.to_bits(), len)) {
            return known.clone();
        }
        let tensor = self.upload(Kind::F32, [len, 1, 1, 1], "constant", Recipe::Fixed(vec![c; len]), false);
        self.constants.insert((c.to_bits(), len), tensor.clone());
        tensor
    }

    /// A value as floats of ggml.
    fn val(&mut self, id: ValueId) -> Result<Val, EngineError> {
        if let Some(val) = self.values.get(&id) {
            return Ok(val.clone());
        }
        match &self.frame.graph.value(id).def {
            Def::Const(c) => Ok(Val { tensor: self.constant(*c, 1), shape: Vec::new() }),
            Def::Weight(weight) => {
                let tensor = self.frame.store.get(*weight, Role::Floats).clone();
                Ok(Val { tensor, shape: self.frame.graph.weights.get(*weight).shape.clone() })
            }
            Def::Op(op, args) => {
                // A sum that was left to attentions is read by something else after all.
                self.lower_now(id, op, args)?;
                Ok(self.values[&id].clone())
            }
            Def::Input => Err(self.refused(id, "expected an input of the entry, found one that it does not have")),
        }
    }

    fn dense(&self, val: &Val) -> Tensor {
        self.context.dense(&val.tensor)
    }

    /// A tensor whose rows are dense.
    fn rows(&self, val: &Val) -> Tensor {
        if val.tensor.has_dense_rows() { val.tensor.clone() } else { self.dense(val) }
    }

    fn stretched_to(&self, val: &Val, shape: &[usize]) -> Tensor {
        let dense = self.dense(val);
        if dense.ne() == ne(shape) { dense } else { self.context.repeat(&dense, ne(shape)) }
    }

    /// The scalar that a value is.
    fn scalar(&self, id: ValueId) -> Option<f32> {
        if let Def::Const(c) = self.frame.graph.value(id).def { Some(c) } else { None }
    }

    fn op(&mut self, id: ValueId, op: &Op, args: &[ValueId]) -> Result<Val, EngineError> {
        Ok(match op {
            Op::MatMul => {
                let (a, b) = (self.val(args[0])?, self.val(args[1])?);
                self.matmul(id, &a, &b)?
            }
            Op::Linear => self.linear(args)?,
            Op::Embed => self.embed(args)?,
            Op::Binary(op) => self.binary(id, *op, args)?,
            Op::Unary(op) => {
                let x = self.val(args[0])?;
                let tensor = self.unary(*op, &self.dense(&x));
                Val { tensor, shape: x.shape }
            }
            Op::Softmax => {
                let x = self.val(args[0])?;
                let dense = self.dense(&x);
                let sinks = self.constant(SINK, dense.ne()[2]);
                Val { tensor: self.context.soft_max(&dense, None, 1.0, &sinks), shape: x.shape }
            }
            Op::Mean { axis } => {
                let x = self.val(args[0])?;
                let [outer, inner] = [&x.shape[..*axis], &x.shape[axis + 1..]].map(|part| part.iter().product());
                let columns = self.context.reshape(&self.dense(&x), [inner, x.shape[*axis], outer, 1]);
                let rows = self.context.dense(&self.context.permute(&columns, [1, 0, 2, 3]));
                let mut shape = x.shape;
                shape[*axis] = 1;
                Val { tensor: self.context.reshape(&self.context.mean(&rows), ne(&shape)), shape }
            }
            Op::RmsNorm { eps } => {
                let (x, w) = (self.val(args[0])?, self.val(args[1])?);
                let normed = self.context.rms_norm(&self.dense(&x), *eps);
                Val { tensor: self.context.pair(Pair::Mul, &normed, &self.dense(&w)), shape: x.shape }
            }
            Op::LayerNorm { eps } => {
                let (x, w) = (self.val(args[0])?, self.val(args[1])?);
                let normed = self.context.norm(&self.dense(&x), *eps);
                let mut tensor = self.context.pair(Pair::Mul, &normed, &self.dense(&w));
                if let Some(bias) = args.get(2) {
                    let bias = self.val(*bias)?;
                    tensor = self.context.pair(Pair::Add, &tensor, &self.dense(&bias));
                }
                Val { tensor, shape: x.shape }
            }
            Op::GroupNorm { groups, eps } => {
                let [x, w, bias] = [self.val(args[0])?, self.val(args[1])?, self.val(args[2])?];
                let (batch, channels) = (x.shape[0], x.shape[1]);
                let places: usize = x.shape[2..].iter().product();
                let dense = self.context.reshape(&self.dense(&x), [places, 1, channels, batch]);
                let normed = self.context.group_norm(&dense, *groups, *eps);
                let per_channel = |c: &Context, v: &Val| c.reshape(&c.dense(&v.tensor), [1, 1, channels, 1]);
                let scaled = self.context.pair(Pair::Mul, &normed, &per_channel(&self.context, &w));
                let moved = self.context.pair(Pair::Add, &scaled, &per_channel(&self.context, &bias));
                Val { tensor: self.context.reshape(&moved, ne(&x.shape)), shape: x.shape }
            }
            Op::Conv { stride, pad, length: _ } => self.conv(id, args, *stride, *pad)?,
            Op::Conv2d { stride, pad, groups } => self.conv2d(args, *stride, *pad, *groups)?,
            Op::Reshape(to) => {
                let (x, shape) = (self.val(args[0])?, self.shape(id, to)?);
                if shape.iter().product::<usize>() != x.tensor.len() {
                    return Err(self.refused(id, &format!("expected {} elements, found {shape:?}", x.tensor.len())));
                }
                Val { tensor: self.context.reshape(&self.dense(&x), ne(&shape)), shape }
            }
            Op::Broadcast(to) => {
                let (x, shape) = (self.val(args[0])?, self.shape(id, to)?);
                Val { tensor: self.stretched_to(&x, &shape), shape }
            }
            Op::Slice { axis, start, step, len } => {
                let x = self.val(args[0])?;
                let len = self.dim(id, len)?;
                self.slice(id, &x, *axis, *start, *step, len)?
            }
            Op::Transpose(perm) => {
                let x = self.val(args[0])?;
                self.transpose(&x, perm)
            }
            Op::Concat { axis } => match self.frame.caches.get(&id).cloned() {
                Some(slot) => {
                    let new = self.val(args[1])?;
                    self.remember(id, &slot, &new)?
                }
                None => self.concat(id, args, *axis)?,
            },
            Op::Select => {
                let shape = self.shape(id, &self.frame.graph.value(id).ty.shape)?;
                let (a, b) = (self.val(args[1])?, self.val(args[2])?);
                let of = self.shape(args[0], &self.frame.graph.value(args[0]).ty.shape)?;
                let choice = self.upload(Kind::F32, ne(&of), "choice", Recipe::Choice(args[0]), true);
                // 1 - c, with which no number is lost: one of the two factors is 0 and the other 1.
                let other = self.context.scale(&choice, -1.0, 1.0);
                let [a, b] = [a, b].map(|x| self.stretched_to(&x, &shape));
                let (a, b) = (self.context.pair(Pair::Mul, &a, &choice), self.context.pair(Pair::Mul, &b, &other));
                Val { tensor: self.context.pair(Pair::Add, &a, &b), shape }
            }
            Op::Positions { .. } => unreachable!("positions are integers, which stay on the host"),
            Op::Rope(rope) => {
                let x = self.val(args[0])?;
                let [batch, heads, q, d] = x.shape[..] else { unreachable!("inference made x of rank 4") };
                let key = (args[1], [rope.theta.to_bits(), rope.factor.to_bits(), rope.dims as u32, q as u32]);
                let known = self.rotations.get(&key).cloned();
                let [positions, factors] = known.unwrap_or_else(|| {
                    let positions = self.upload(Kind::I32, [q, 1, 1, 1], "positions", Recipe::Positions(args[1]), true);
                    let fixed = Recipe::Fixed(rope_factors(rope));
                    [positions, self.upload(Kind::F32, [rope.dims / 2, 1, 1, 1], "rope", fixed, false)]
                });
                self.rotations.insert(key, [positions.clone(), factors.clone()]);
                // ggml turns x[d, h, n, b], which is how the projection left it before its heads were split off.
                let mut x = self.context.permute(&x.tensor, [0, 2, 1, 3]);
                if !x.has_dense_rows() {
                    x = self.context.dense(&x);
                }
                let halves = rope.layout == Layout::Half;
                let turned = if rope.dims == d {
                    self.context.rope(&x, &positions, &factors, halves)
                } else {
                    let (nb, lengths) = (x.nb(), x.ne());
                    let part = |c: &Context, from: usize, to: usize| {
                        let ne = [to - from, lengths[1], lengths[2], lengths[3]];
                        c.view(&x, ne, [nb[1], nb[2], nb[3]], from * nb[0])
                    };
                    let (turning, rest) = (part(&self.context, 0, rope.dims), part(&self.context, rope.dims, d));
                    let turned = self.context.rope(&turning, &positions, &factors, halves);
                    self.context.concat(&turned, &rest, 0)
                };
                let tensor = self.context.permute(&turned, [0, 2, 1, 3]);
                Val { tensor, shape: vec![batch, heads, q, d] }
            }
            Op::Mask { visible, start, q, k, hidden } => {
                let (q, k) = (self.dim(id, q)?, self.dim(id, k)?);
                let recipe = Recipe::Mask { visible: *visible, start: start.clone(), q, k, hidden: *hidden };
                Val { tensor: self.upload(Kind::F32, [k, q, 1, 1], "mask", recipe, true), shape: vec![q, k] }
            }
            Op::PaddingMask { hidden } => {
                let of = self.shape(args[0], &self.frame.graph.value(args[0]).ty.shape)?;
                let [batch, k] = of[..] else { unreachable!("inference made it [b, k]") };
                let recipe = Recipe::Padding { of: args[0], hidden: *hidden };
                let tensor = self.upload(Kind::F32, [k, 1, 1, batch], "padding", recipe, false);
                Val { tensor, shape: vec![batch, 1, 1, k] }
            }
            Op::RelativeBias { buckets, max_distance, bidirectional, start, q, k } => {
                let weight = self.frame.graph.weight_of(args[0]).ok_or_else(|| {
                    self.refused(id, "expected a table of the checkpoint, found one that is computed")
                })?;
                let heads = self.frame.graph.weights.get(weight).shape[1];
                let (q, k) = (self.dim(id, q)?, self.dim(id, k)?);
                let recipe = Recipe::Bias {
                    table: self.frame.store.host(weight),
                    heads,
                    bucket: Bucket { buckets: *buckets, max_distance: *max_distance, bidirectional: *bidirectional },
                    start: start.clone(),
                    q,
                    k,
                };
                let tensor = self.upload(Kind::F32, [k, q, heads, 1], "relative bias", recipe, true);
                Val { tensor, shape: vec![1, heads, q, k] }
            }
            Op::DynamicQuant(_) | Op::FakeQuant(_) => {
                return Err(self.refused(
                    id,
                    &format!("expected a graph without {op}, which ggml does not compute; run its ONNX artifact"),
                ));
            }
            Op::Attention { scale, softcap } => self.attention(args, *scale, *softcap)?,
        })
    }

    fn unary(&self, op: Unary, x: &Tensor) -> Tensor {
        let c = &self.context;
        let exact = self.options_exact();
        match op {
            Unary::Relu => c.map(Map::Relu, x),
            Unary::Tanh => c.map(Map::Tanh, x),
            Unary::Gelu => c.map(Map::GeluErf, x),
            Unary::GeluTanh if exact => {
                // x / 2 · (1 + tanh(√(2/π) · x · (1 + 0.044715 x²)))
                const SQRT_2_OVER_PI: f32 = 0.797_884_6;
                let square = c.pair(Pair::Mul, x, x);
                let inner = c.pair(Pair::Mul, x, &c.scale(&square, 0.044715, 1.0));
                let gate = c.map(Map::Tanh, &c.scale(&inner, SQRT_2_OVER_PI, 0.0));
                c.pair(Pair::Mul, x, &c.scale(&gate, 0.5, 0.5))
            }
            Unary::GeluTanh => c.map(Map::GeluTable, x),
            Unary::Silu => c.map(Map::Silu, x),
            Unary::Sigmoid => c.map(Map::Sigmoid, x),
            Unary::QuickGelu if exact => c.pair(Pair::Mul, x, &c.map(Map::Sigmoid, &c.scale(x, 1.702, 0.0))),
            Unary::QuickGelu => c.map(Map::QuickGeluTable, x),
        }
    }

    fn options_exact(&self) -> bool {
        self.frame.options.exact_activations
    }

    fn matmul(&mut self, id: ValueId, a: &Val, b: &Val) -> Result<Val, EngineError> {
        let ([a_lead @ .., m, n], [b_lead @ .., _, p]) = (&a.shape[..], &b.shape[..]) else {
            unreachable!("inference made both of rank 2 or more")
        };
        let lead = together(a_lead, b_lead);
        if lead.len() > 2 {
            return Err(self.refused(id, &format!("expected at most 4 axes, found {} and 2", lead.len())));
        }
        let shape = [&lead[..], &[*m, *p]].concat();
        // ggml repeats its first argument along that of the second, so that one is given all leading axes.
        let a = self.stretched_to(a, &[&lead[..], &[*m, *n]].concat());
        let b = self.context.dense(&self.context.permute(&b.tensor, [1, 0, 2, 3]));
        Ok(Val { tensor: self.context.mul_mat(&b, &a), shape })
    }

    fn linear(&mut self, args: &[ValueId]) -> Result<Val, EngineError> {
        let x = self.val(args[0])?;
        let mut shape = x.shape.clone();
        let (w, is_repacked) = match self.frame.graph.weight_of(args[1]) {
            Some(weight) => (self.frame.store.get(weight, Role::Matrix).clone(), self.frame.store.is_repacked(weight)),
            None => (self.val(args[1]).map(|w| self.dense(&w))?, false),
        };
        let [e, n, ..] = w.ne();
        let columns = x.tensor.len() / e;
        let one_by_one = FEW_COLUMNS.contains(&columns) && matches!(w.kind(), Kind::Blocks(_)) && !is_repacked;
        let flat = if one_by_one { [e, 1, columns, 1] } else { [e, columns, 1, 1] };
        let x = self.context.reshape(&self.dense(&x), flat);
        let mut tensor = self.context.mul_mat(&w, &x);
        if let Some(bias) = args.get(2) {
            let bias = self.val(*bias)?;
            tensor = self.context.pair(Pair::Add, &tensor, &self.dense(&bias));
        }
        *shape.last_mut().expect("inference made x of rank 1 or more") = n;
        Ok(Val { tensor: self.context.reshape(&tensor, ne(&shape)), shape })
    }

    fn embed(&mut self, args: &[ValueId]) -> Result<Val, EngineError> {
        let mut shape = self.shape(args[0], &self.frame.graph.value(args[0]).ty.shape)?;
        let table = match self.frame.graph.weight_of(args[1]) {
            Some(weight) => self.frame.store.get(weight, Role::Rows).clone(),
            None => self.val(args[1]).map(|table| self.dense(&table))?,
        };
        let [width, rows, ..] = table.ne();
        let count = shape.iter().product();
        let ids = self.upload(Kind::I32, [count, 1, 1, 1], "ids", Recipe::Ids { of: args[0], rows }, true);
        shape.push(width);
        let found = self.context.get_rows(&table, &ids);
        Ok(Val { tensor: self.context.reshape(&found, ne(&shape)), shape })
    }

    fn binary(&mut self, id: ValueId, op: Binary, args: &[ValueId]) -> Result<Val, EngineError> {
        let [left, right] = args[..] else { unreachable!("inference made two arguments") };
        // A scalar is part of the op where that rounds as two operations would.
        let (scaled, scalar) = match (self.scalar(left), self.scalar(right)) {
            (_, Some(c)) => (left, Some(c)),
            (Some(c), None) if matches!(op, Binary::Add | Binary::Mul) => (right, Some(c)),
            _ => (left, None),
        };
        let by = match (op, scalar) {
            (Binary::Add, Some(c)) => Some((1.0, c)),
            (Binary::Sub, Some(c)) => Some((1.0, -c)),
            (Binary::Mul, Some(c)) => Some((c, 0.0)),
            (Binary::Div, _) | (_, None) => None,
        };
        if let Some((factor, offset)) = by {
            let x = self.val(scaled)?;
            return Ok(Val { tensor: self.context.scale(&self.dense(&x), factor, offset), shape: x.shape });
        }
        let (mut a, mut b) = (self.val(left)?, self.val(right)?);
        let shape = together(&a.shape, &b.shape);
        if shape.len() > 4 && a.shape != b.shape {
            return Err(self.refused(id, &format!("expected at most 4 axes, found {shape:?}")));
        }
        let pair = match op {
            Binary::Add => Pair::Add,
            Binary::Sub => Pair::Sub,
            Binary::Mul => Pair::Mul,
            Binary::Div => Pair::Div,
        };
        if matches!(op, Binary::Add | Binary::Mul) && ne(&a.shape) != ne(&shape) && ne(&b.shape) == ne(&shape) {
            std::mem::swap(&mut a, &mut b);
        }
        let a = if ne(&a.shape) == ne(&shape) { self.rows(&a) } else { self.stretched_to(&a, &shape) };
        Ok(Val { tensor: self.context.pair(pair, &a, &self.dense(&b)), shape })
    }

    fn conv(&mut self, id: ValueId, args: &[ValueId], stride: usize, pad: usize) -> Result<Val, EngineError> {
        let x = self.val(args[0])?;
        let w = match self.frame.graph.weight_of(args[1]) {
            Some(weight) => self.frame.store.get(weight, Role::Matrix).clone(),
            None => self.val(args[1]).map(|w| self.dense(&w))?,
        };
        let ([k, c, outputs, _], [batch, _, n]) = (w.ne(), &x.shape[..]) else {
            unreachable!("inference made x of rank 3")
        };
        let (batch, n) = (*batch, *n);
        let windows = (n + 2 * pad).checked_sub(k).map(|last| last / stride + 1);
        let windows = windows.ok_or_else(|| {
            self.refused(id, &format!("expected at least {} places, found {n}", k.saturating_sub(2 * pad)))
        })?;
        let side_by_side = self.context.windows(&w, &self.dense(&x), stride, pad);
        let side_by_side = self.context.reshape(&side_by_side, [k * c, windows * batch, 1, 1]);
        let mut out = self.context.mul_mat(&self.context.reshape(&w, [k * c, outputs, 1, 1]), &side_by_side);
        if let Some(bias) = args.get(2) {
            let bias = self.val(*bias)?;
            out = self.context.pair(Pair::Add, &out, &self.dense(&bias));
        }
        let out = self.context.reshape(&out, [outputs, windows, batch, 1]);
        Ok(Val { tensor: self.context.permute(&out, [1, 0, 2, 3]), shape: vec![batch, outputs, windows] })
    }

    /// Each group of channels is an image of its own, and of a batch of products.
    fn conv2d(
        &mut self,
        args: &[ValueId],
        stride: [usize; 2],
        pad: [usize; 2],
        groups: usize,
    ) -> Result<Val, EngineError> {
        let x = self.val(args[0])?;
        let w = match self.frame.graph.weight_of(args[1]) {
            Some(weight) => self.frame.store.get(weight, Role::Matrix).clone(),
            None => self.val(args[1]).map(|w| self.dense(&w))?,
        };
        let (batch, [l, k, c, outputs]) = (x.shape[0], w.ne());
        let of_groups = self.context.reshape(&self.dense(&x), [x.shape[3], x.shape[2], c, groups * batch]);
        let side_by_side = self.context.windows_2d(&w, &of_groups, stride, pad);
        let [depth, columns, rows, _] = side_by_side.ne();
        let side_by_side = self.context.reshape(&side_by_side, [depth, columns * rows, groups, batch]);
        let kernels = self.context.reshape(&w, [l * k * c, outputs / groups, groups, 1]);
        let out = self.context.mul_mat(&kernels, &side_by_side);
        let out = self.context.dense(&self.context.permute(&out, [1, 0, 2, 3]));
        let tensor = self.context.reshape(&out, [columns, rows, outputs, batch]);
        Ok(Val { tensor, shape: vec![batch, outputs, rows, columns] })
    }

    fn slice(
        &mut self,
        id: ValueId,
        x: &Val,
        axis: usize,
        start: usize,
        step: usize,
        len: usize,
    ) -> Result<Val, EngineError> {
        let rank = x.shape.len();
        if rank > 4 || start + (len - 1) * step >= x.shape[axis] {
            let found = format!("{start} + {} · {step} in {:?}", len - 1, x.shape);
            return Err(self.refused(id, &format!("expected places of an axis of at most 4, found {found}")));
        }
        let mut shape = x.shape.clone();
        shape[axis] = len;
        let at = rank - 1 - axis;
        // Rows of a view are dense: where places of a row are left out, the row becomes a column.
        let turn = at == 0 && step != 1;
        let (source, at) = match turn {
            true => (self.context.dense(&self.context.permute(&x.tensor, [1, 0, 2, 3])), 1),
            false => (self.rows(x), at),
        };
        let (mut lengths, strides) = (source.ne(), source.nb());
        lengths[at] = len;
        let mut between = [strides[1], strides[2], strides[3]];
        if at > 0 {
            between[at - 1] *= step;
        }
        let view = self.context.view(&source, lengths, between, start * strides[at]);
        let tensor = if turn { self.context.permute(&view, [1, 0, 2, 3]) } else { view };
        Ok(Val { tensor, shape })
    }

    fn transpose(&mut self, x: &Val, perm: &[usize]) -> Val {
        let shape: Vec<usize> = perm.iter().map(|axis| x.shape[*axis]).collect();
        let rank = perm.len();
        if rank <= 4 {
            let mut to = [0, 1, 2, 3];
            for (new, old) in perm.iter().enumerate() {
                to[rank - 1 - old] = rank - 1 - new;
            }
            return Val { tensor: self.context.permute(&x.tensor, to), shape };
        }
        // Axis by axis to its place: [before, between, axis, after] -> [before, axis, between, after].
        let (mut tensor, mut axes): (Tensor, Vec<usize>) = (self.dense(x), (0..rank).collect());
        for (place, axis) in perm.iter().enumerate() {
            let from = axes.iter().position(|a| a == axis).expect("a permutation");
            if from == place {
                continue;
            }
            let product = |axes: &[usize]| axes.iter().map(|a| x.shape[*a]).product::<usize>();
            let parts = [&axes[..place], &axes[place..from], &axes[from..=from], &axes[from + 1..]].map(product);
            let four = self.context.reshape(&tensor, [parts[3], parts[2], parts[1], parts[0]]);
            tensor = self.context.dense(&self.context.permute(&four, [0, 2, 1, 3]));
            let moved = axes.remove(from);
            axes.insert(place, moved);
        }
        Val { tensor: self.context.reshape(&tensor, ne(&shape)), shape }
    }

    fn concat(&mut self, id: ValueId, args: &[ValueId], axis: usize) -> Result<Val, EngineError> {
        let parts: Vec<Val> = args.iter().map(|arg| self.val(*arg)).collect::<Result<_, _>>()?;
        let rank = parts[0].shape.len();
        if rank > 4 {
            return Err(self.refused(id, &format!("expected at most 4 axes, found {:?}", parts[0].shape)));
        }
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let floats = |c: &Context, part: &Val| {
            if part.tensor.kind() == Kind::F32 { part.tensor.clone() } else { c.floats(&part.tensor) }
        };
        let mut tensor = floats(&self.context, &parts[0]);
        for part in &parts[1..] {
            let part = floats(&self.context, part);
            tensor = self.context.concat(&tensor, &part, rank - 1 - axis);
        }
        Ok(Val { tensor, shape })
    }

    /// Writes new keys or values into their cache; what comes back is all of the cache that counts.
    fn remember(&mut self, id: ValueId, slot: &Slot, new: &Val) -> Result<Val, EngineError> {
        let shape = self.shape(id, &self.frame.graph.value(id).ty.shape)?;
        let (&[batch, heads, tokens, width], &[_, _, keys, _]) = (&new.shape[..], &shape[..]) else {
            return Err(self.refused(id, "expected keys and values [b, h, n, d]"));
        };
        let nb = |t: &Tensor| [t.nb()[1], t.nb()[2], t.nb()[3]];
        let (capacity, rest) = (slot.capacity, heads * batch);
        let tensor = if slot.transposed {
            let key = [tokens, width, rest, capacity];
            let cells = self.places.get(&key).cloned().unwrap_or_else(|| {
                let recipe = Recipe::CacheCells { capacity, new: tokens, width, rest };
                self.upload(Kind::I64, [width * tokens * rest, 1, 1, 1], "cells", recipe, true)
            });
            self.places.insert(key, cells.clone());
            let flat = self.context.reshape(&slot.tensor, [1, slot.tensor.len(), 1, 1]);
            let new = self.context.reshape(&self.dense(new), [1, width * tokens * rest, 1, 1]);
            let written = self.context.set_rows(&flat, &new, &cells);
            let whole = self.context.reshape(&written, slot.tensor.ne());
            let seen = self.context.view(&whole, [keys, width, heads, batch], nb(&whole), 0);
            self.context.permute(&seen, [1, 0, 2, 3])
        } else {
            let key = [tokens, 0, 0, 0];
            let rows = self.places.get(&key).cloned().unwrap_or_else(|| {
                self.upload(Kind::I64, [tokens, 1, 1, 1], "rows", Recipe::CacheRows { new: tokens }, true)
            });
            self.places.insert(key, rows.clone());
            let written = self.context.set_rows(&slot.tensor, &self.rows(new), &rows);
            self.context.view(&written, [width, keys, heads, batch], nb(&written), 0)
        };
        Ok(Val { tensor, shape })
    }

    /// Takes a sum apart, where that spares a mask of all heads.
    fn bias_parts(&mut self, bias: ValueId) -> Result<BiasParts, EngineError> {
        let is_sum = matches!(self.frame.graph.op(bias), Some(Op::Binary(Binary::Add)));
        if is_sum && self.has_head_bias(bias) {
            let mut parts = BiasParts::default();
            for part in self.frame.graph.args(bias) {
                let BiasParts { of_heads, masks } = self.bias_parts(*part)?;
                parts.of_heads.extend(of_heads);
                parts.masks.extend(masks);
            }
            return Ok(parts);
        }
        let val = self.val(bias)?;
        Ok(match ne(&val.shape)[2] {
            1 => BiasParts { of_heads: Vec::new(), masks: vec![(bias, val)] },
            _ => BiasParts { of_heads: vec![val], masks: Vec::new() },
        })
    }

    fn attention(&mut self, args: &[ValueId], scale: f32, softcap: Option<f32>) -> Result<Val, EngineError> {
        let [q, k, v] = [self.val(args[0])?, self.val(args[1])?, self.val(args[2])?];
        let [batch, heads, queries, _] = q.shape[..] else { unreachable!("inference made q of rank 4") };
        let (keys, width) = (k.shape[2], v.shape[3]);
        let BiasParts { mut of_heads, mut masks } = match args.get(3) {
            Some(bias) => self.bias_parts(*bias)?,
            None => BiasParts::default(),
        };
        // Only a mask that all keys have can be left to the softmax.
        let mask = match masks.pop() {
            Some((id, val)) if ne(&val.shape)[0] == keys => Some((id, val)),
            Some((_, val)) => {
                of_heads.push(val);
                None
            }
            None => None,
        };
        of_heads.extend(masks.into_iter().map(|(_, val)| val));
        let q = if queries > 1 { self.dense(&q) } else { self.rows(&q) };
        let mut scores = self.context.mul_mat(&self.rows(&k), &q);
        let mut left = scale;
        if let Some(cap) = softcap {
            scores = self.context.map(Map::Tanh, &self.context.scale(&scores, scale / cap, 0.0));
            left = cap;
        }
        if !of_heads.is_empty() && left != 1.0 {
            scores = self.context.scale(&scores, left, 0.0);
            left = 1.0;
        }
        for bias in of_heads {
            scores = self.context.pair(Pair::Add, &scores, &self.dense(&bias));
        }
        let mask = mask.map(|(id, val)| self.stretched_mask(id, &val, queries, keys));
        let sinks = self.constant(SINK, heads);
        let weights = self.context.soft_max(&scores, mask.as_ref(), left, &sinks);
        let v_t = self.context.permute(&v.tensor, [1, 0, 2, 3]);
        let v_t = if v_t.has_dense_rows() { v_t } else { self.context.dense(&v_t) };
        let tensor = self.context.mul_mat(&v_t, &weights);
        Ok(Val { tensor, shape: vec![batch, heads, queries, width] })
    }

    /// A mask with a row for each query, as the softmax reads it.
    fn stretched_mask(&mut self, id: ValueId, mask: &Val, queries: usize, keys: usize) -> Tensor {
        if let Some(known) = self.stretched.get(&(id, queries)) {
            return known.clone();
        }
        let dense = self.dense(mask);
        let [_, q, heads, batch] = dense.ne();
        let tensor = if q == queries { dense } else { self.context.repeat(&dense, [keys, queries, heads, batch]) };
        self.stretched.insert((id, queries), tensor.clone());
        tensor
    }
}
