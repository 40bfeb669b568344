//! Op -> ONNX nodes, one match arm an op.
//!
//! Masks are finite, [`MASKED`], because a softmax over a row of -inf is NaN in onnxruntime. A partly masked row comes
//! out the same: `exp` of it is 0. A wholly masked row would become the mean of the values instead of the interpreter's
//! zeros, so the result of an attention whose bias holds a padding mask is multiplied by 0 there.

mod attention;
mod embed;
mod linear;
mod norm;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use graph::eval::relative_bucket;
use graph::{Binary, Def, Dim, Entry, Granularity, Graph, Layout as Pairing, Op, Rope, Sym, Unary, ValueId, WeightId};

use linear::Joins;
use onnx::make::{int, ints, node, prune, tensor};
use onnx::proto::tensor_proto::DataType;
use onnx::proto::{AttributeProto, NodeProto, TensorProto};
use onnx::tensors::Layout;

use super::{Attention, Compute, Products};

/// What a masked score is added to; two of them are still finite.
const MASKED: f32 = f32::MIN / 2.0;

/// What a profile decides about the nodes to use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices {
    /// `MultiHeadAttention` or `MatMul` and `Softmax`.
    pub(super) attention: Attention,
    /// What linear layers with f16 weights are computed in.
    pub(super) compute: Compute,
    /// Whether products of one input over blocks are one.
    pub(super) products: Products,
}

/// The graph outside of any branch: what all blocks of one file share.
pub(super) struct Lowering<'g> {
    graph: &'g Graph,
    layouts: &'g HashMap<WeightId, Layout>,
    choices: Choices,
    joins: Joins,
    /// Weights used, by value; their initializers come from their layouts.
    pub(super) weights: BTreeSet<WeightId>,
    /// Small constants, inline because shapes are inferred from them.
    pub(super) constants: BTreeMap<String, TensorProto>,
    // Nodes that only prepare weights (Transpose, Cast): outside of branches, where an engine folds them once.
    prepared: Vec<NodeProto>,
    prepared_names: HashSet<String>,
}

impl<'g> Lowering<'g> {
    pub(super) fn new(graph: &'g Graph, layouts: &'g HashMap<WeightId, Layout>, choices: Choices) -> Lowering<'g> {
        Lowering {
            graph,
            layouts,
            choices,
            joins: match choices.products {
                Products::Joined => Joins::of(graph, layouts),
                Products::Apart => Joins::default(),
            },
            weights: BTreeSet::new(),
            constants: BTreeMap::new(),
            prepared: Vec::new(),
            prepared_names: HashSet::new(),
        }
    }

    /// The nodes that compute `outputs` from `inputs`, both as (value, ONNX name); names made on the way start with
    /// `prefix`. `fixed` as in [`Entry::fixed`].
    pub(super) fn block(
        &mut self,
        inputs: &[(ValueId, String)],
        outputs: &[(ValueId, String)],
        fixed: &BTreeMap<Sym, usize>,
        prefix: &str,
    ) -> Result<Vec<NodeProto>, String> {
        let port = |(value, name): &(ValueId, String)| graph::Port { name: name.clone(), value: *value };
        let cut = Entry {
            name: String::new(),
            inputs: inputs.iter().map(port).collect(),
            outputs: outputs.iter().map(port).collect(),
            fixed: fixed.clone(),
        };
        let order = self.graph.order(&cut);
        let mut block = Block {
            fixed: &cut.fixed,
            wanted: order.iter().copied().collect(),
            split: HashMap::new(),
            prefix,
            inputs,
            names: inputs.iter().cloned().collect(),
            nodes: Vec::new(),
            made: HashMap::new(),
            lengths: HashMap::new(),
            quantized: HashMap::new(),
            rounded_inside: HashMap::new(),
            merged: HashMap::new(),
            place: String::new(),
            counts: HashMap::new(),
            outer: self,
        };
        for id in order {
            block.value(id)?;
        }
        let mut named = HashSet::new();
        for (id, name) in outputs {
            block.name_output(*id, name, &named)?;
            named.insert(name.as_str());
        }
        let mut nodes = block.nodes;
        prune(&mut nodes, outputs.iter().map(|(_, name)| name.as_str()));
        Ok(nodes)
    }

    /// All nodes of the file in order, and only the weights and constants that they read.
    pub(super) fn finish(mut self, body: Vec<NodeProto>, outputs: &[String]) -> (Vec<NodeProto>, Lowering<'g>) {
        let mut nodes = std::mem::take(&mut self.prepared);
        nodes.extend(body);
        let wanted = prune(&mut nodes, outputs.iter().map(String::as_str));
        self.constants.retain(|name, _| wanted.contains(name));
        let (graph, layouts) = (self.graph, self.layouts);
        self.weights.retain(|id| {
            let weight = graph.weights.get(*id);
            layouts.get(id).is_some_and(|l| l.parts(weight).iter().any(|part| wanted.contains(&part.name)))
        });
        (nodes, self)
    }

    fn constant(&mut self, name: String, data_type: DataType, dims: &[usize], bytes: Vec<u8>) -> String {
        self.constants
            .entry(name.clone())
            .or_insert_with(|| TensorProto { raw_data: Some(bytes.into()), ..tensor(&name, data_type, dims) });
        name
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(format!("const/ints/{}", words.join(",")), DataType::Int64, &[values.len()], bytes)
    }

    /// `i64[1]`.
    pub(super) fn index(&mut self, value: i64) -> String {
        self.ints(&[value])
    }

    fn int_scalar(&mut self, value: i64) -> String {
        self.constant(format!("const/int/{value}"), DataType::Int64, &[], value.to_le_bytes().to_vec())
    }

    fn float_scalar(&mut self, value: f32) -> String {
        self.constant(format!("const/float/{value:?}"), DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    fn floats(&mut self, name: &str, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(format!("const/floats/{name}"), DataType::Float, &[values.len()], bytes)
    }

    fn byte_scalar(&mut self, value: u8) -> String {
        self.constant(format!("const/byte/{value}"), DataType::Uint8, &[], vec![value])
    }

    fn word_scalar(&mut self, value: u16) -> String {
        self.constant(format!("const/word/{value}"), DataType::Uint16, &[], value.to_le_bytes().to_vec())
    }

    /// A node that prepares a weight, made once a file; named after the first input.
    fn prepare(&mut self, op: &str, inputs: &[&str], suffix: &str, attributes: Vec<AttributeProto>) -> String {
        let name = format!("{}/{suffix}", inputs[0]);
        if self.prepared_names.insert(name.clone()) {
            self.prepared.push(node(op, inputs, &[&name], attributes));
        }
        name
    }

    /// `f32[n,e]`: a matrix of 8-bit codes as the numbers that they mean.
    fn unpacked(&mut self, weight: &str, zeros: bool) -> String {
        let codes = format!("{weight}_quantized");
        let to_float = || vec![int("to", DataType::Float as i64)];
        let column = self.index(1);
        let mut floats = self.prepare("Cast", &[&codes], "f32", to_float());
        if zeros {
            let zero = self.prepare("Cast", &[&format!("{weight}_zero_point")], "f32", to_float());
            let zero = self.prepare("Unsqueeze", &[&zero, &column], "column", Vec::new());
            floats = self.prepare("Sub", &[&floats, &zero], "shifted", Vec::new());
        }
        let scale = self.prepare("Unsqueeze", &[&format!("{weight}_scale"), &column], "column", Vec::new());
        self.prepare("Mul", &[&floats, &scale], "scaled", Vec::new())
    }

    fn transposed(&mut self, weight: &str) -> String {
        self.prepare("Transpose", &[weight], "transposed", vec![ints("perm", [1, 0])])
    }
}

/// Nodes of one graph or branch.
struct Block<'a, 'g> {
    outer: &'a mut Lowering<'g>,
    fixed: &'a BTreeMap<Sym, usize>,
    prefix: &'a str,
    inputs: &'a [(ValueId, String)],
    names: HashMap<ValueId, String>,
    nodes: Vec<NodeProto>,
    // Lengths, positions and the like, by what they are.
    made: HashMap<String, String>,
    // Symbols that a convolution made: its result, and the axis.
    lengths: HashMap<Sym, (String, i64)>,
    // Dynamically quantized values: codes, scale, zero point.
    quantized: HashMap<ValueId, [String; 3]>,
    // Values that products round: the value before, and the block.
    rounded_inside: HashMap<ValueId, (String, usize)>,
    // What is made here.
    wanted: HashSet<ValueId>,
    // Results of joined products that come later in the order.
    split: HashMap<ValueId, String>,
    // Results of fused attentions as [b, q, h·d].
    merged: HashMap<ValueId, String>,
    place: String,
    counts: HashMap<String, usize>,
}

impl Block<'_, '_> {
    fn graph(&self) -> &Graph {
        self.outer.graph
    }

    fn shape(&self, id: ValueId) -> Vec<Dim> {
        self.graph().value(id).ty.shape.iter().map(|d| d.fix(self.fixed)).collect()
    }

    /// A name for a result of this value's nodes.
    fn fresh(&mut self, hint: &str) -> String {
        let base = format!("{}{}/{hint}", self.prefix, self.place);
        let count = self.counts.entry(base.clone()).or_default();
        *count += 1;
        if *count == 1 { base } else { format!("{base}_{count}") }
    }

    fn emit_with(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(op);
        self.nodes.push(node(op, inputs, &[&name], attributes));
        name
    }

    fn emit(&mut self, op: &str, inputs: &[&str]) -> String {
        self.emit_with(op, inputs, Vec::new())
    }

    fn cast(&mut self, x: &str, to: DataType) -> String {
        self.emit_with("Cast", &[x], vec![int("to", to as i64)])
    }

    fn scaled(&mut self, op: &str, x: &str, by: f32) -> String {
        let by = self.outer.float_scalar(by);
        self.emit(op, &[x, &by])
    }

    fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> String {
        let axes = self.outer.ints(axes);
        self.emit("Unsqueeze", &[x, &axes])
    }

    /// Makes something once a block, under a place of its own.
    fn once(&mut self, what: String, make: impl FnOnce(&mut Self) -> Result<String, String>) -> Result<String, String> {
        if let Some(name) = self.made.get(&what) {
            return Ok(name.clone());
        }
        let place = std::mem::replace(&mut self.place, what.clone());
        let name = make(self);
        self.place = place;
        self.made.insert(what, name.clone()?);
        name
    }

    /// Gives a value the name of an output: its node has it from then on, unless it is an input or another output as well.
    ///
    /// An `Identity` instead would copy a cache at every step.
    fn name_output(&mut self, id: ValueId, name: &str, named: &HashSet<&str>) -> Result<(), String> {
        let have = self.name(id)?;
        if have == name {
            return Ok(());
        }
        let is_made = self.nodes.iter().any(|node| node.output.contains(&have));
        if !is_made || named.contains(have.as_str()) {
            self.nodes.push(node("Identity", &[&have], &[name], Vec::new()));
            return Ok(());
        }
        let uses = self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        uses.chain(self.names.values_mut()).filter(|used| **used == have).for_each(|used| name.clone_into(used));
        Ok(())
    }

    fn name(&mut self, id: ValueId) -> Result<String, String> {
        if let Some(name) = self.names.get(&id) {
            return match self.rounded_inside.contains_key(&id) {
                false => Ok(name.clone()),
                true => {
                    Err(format!("{}: rounded for a product, and read by something else", self.graph().value(id).name))
                }
            };
        }
        let value = self.graph().value(id);
        match value.def {
            Def::Const(c) => Ok(self.outer.float_scalar(c)),
            Def::Weight(weight) => self.weight(weight),
            Def::Input => Err(format!("{} is neither fed nor empty", value.name)),
            Def::Op(..) => Err(format!("{} is read before it is made", value.name)),
        }
    }

    /// A float weight as f32.
    fn weight(&mut self, id: WeightId) -> Result<String, String> {
        let name = self.graph().weights.get(id).name.clone();
        self.outer.weights.insert(id);
        match self.outer.layouts.get(&id) {
            Some(Layout::Float(graph::FloatType::F16)) => {
                Ok(self.outer.prepare("Cast", &[&name], "f32", vec![int("to", DataType::Float as i64)]))
            }
            Some(Layout::Float(_)) => Ok(name),
            other => Err(format!("{name}: {other:?} is read by neither a Linear nor an Embed")),
        }
    }

    /// `i64[1]`: a length known when the model runs, or a constant.
    fn length(&mut self, dim: &Dim) -> Result<String, String> {
        let dim = dim.fix(self.fixed);
        if let Some(n) = dim.literal() {
            return Ok(self.outer.ints(&[n as i64]));
        }
        self.once(format!("length({dim})"), |b| {
            let mut total: Option<String> = (dim.known() > 0).then(|| b.outer.ints(&[dim.known() as i64]));
            for sym in dim.symbols() {
                let one = b.symbol(*sym)?;
                total = Some(match total {
                    Some(sum) => b.emit("Add", &[&sum, &one]),
                    None => one,
                });
            }
            Ok(total.expect("a dimension that is no literal has a symbol"))
        })
    }

    /// `i64[1]`: the length of a symbol, read off the first input that has it, or off the convolution that made it.
    fn symbol(&mut self, sym: Sym) -> Result<String, String> {
        self.once(sym.0.to_owned(), |b| {
            let graph = b.outer.graph;
            let found = b.inputs.iter().find_map(|(id, name)| {
                let axis = graph.value(*id).ty.shape.iter().position(|dim| dim.symbol() == Some(sym))?;
                Some((name.clone(), axis as i64))
            });
            let found = found.or_else(|| b.lengths.get(&sym).cloned());
            let (name, axis) = found.ok_or_else(|| format!("nothing tells the length `{}`", sym.0))?;
            Ok(b.emit_with("Shape", &[&name], vec![int("start", axis), int("end", axis + 1)]))
        })
    }

    /// `i64[n]`: start, start + 1, ...
    fn positions(&mut self, start: Option<&Dim>, count: &Dim) -> Result<String, String> {
        let start = start.map(|s| s.fix(self.fixed)).filter(|s| s.literal() != Some(0));
        let text = start.as_ref().map_or("0".to_owned(), Dim::to_string);
        self.once(format!("positions({text}, {})", count.fix(self.fixed)), |b| {
            let count = b.length(count)?;
            let (zero, one) = (b.outer.int_scalar(0), b.outer.int_scalar(1));
            let count = b.emit("Squeeze", &[&count]);
            let range = b.emit("Range", &[&zero, &count, &one]);
            match &start {
                None => Ok(range),
                Some(start) => {
                    let start = b.length(start)?;
                    Ok(b.emit("Add", &[&range, &start]))
                }
            }
        })
    }

    /// `i64[q,k]`: position of the key minus position of the query.
    fn distances(&mut self, start: &Dim, q: &Dim, k: &Dim) -> Result<String, String> {
        self.once(format!("distances({start}, {q}, {k})"), |b| {
            let queries = b.positions(Some(start), q)?;
            let keys = b.positions(None, k)?;
            let queries = b.unsqueeze(&queries, &[1]);
            Ok(b.emit("Sub", &[&keys, &queries]))
        })
    }

    fn value(&mut self, id: ValueId) -> Result<(), String> {
        if self.names.contains_key(&id) {
            return Ok(());
        }
        let graph = self.outer.graph;
        let value = graph.value(id);
        let Def::Op(op, args) = &value.def else {
            return Ok(()); // named when read
        };
        self.place = value.name.clone();
        let name = self.op(id, op, args).map_err(|message| match message.contains(&value.name) {
            true => message,
            false => format!("{}: {message}", value.name),
        })?;
        self.names.insert(id, name);
        Ok(())
    }

    fn op(&mut self, id: ValueId, op: &Op, args: &[ValueId]) -> Result<String, String> {
        match op {
            Op::MatMul => {
                let [a, b] = [self.name(args[0])?, self.name(args[1])?];
                Ok(self.emit("MatMul", &[&a, &b]))
            }
            Op::Linear => self.linear(id, args),
            Op::Embed => self.embed(args[0], args[1]),
            Op::Binary(binary) => {
                let [a, b] = [self.name(args[0])?, self.name(args[1])?];
                let word = match binary {
                    Binary::Add => "Add",
                    Binary::Sub => "Sub",
                    Binary::Mul => "Mul",
                    Binary::Div => "Div",
                };
                Ok(self.emit(word, &[&a, &b]))
            }
            Op::Unary(unary) => {
                let x = self.name(args[0])?;
                Ok(self.unary(*unary, &x))
            }
            Op::Softmax => {
                let x = self.name(args[0])?;
                Ok(self.emit_with("Softmax", &[&x], vec![int("axis", -1)]))
            }
            Op::RmsNorm { eps } => self.rms_norm(args[0], args[1], *eps),
            Op::LayerNorm { eps } => self.layer_norm(args, *eps),
            Op::GroupNorm { groups, eps } => self.group_norm(id, args, *groups, *eps),
            Op::Conv { stride, pad, length } => {
                let names = args.iter().map(|arg| self.name(*arg)).collect::<Result<Vec<String>, String>>()?;
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let attributes = vec![ints("strides", [*stride]), ints("pads", [*pad, *pad])];
                let out = self.emit_with("Conv", &names, attributes);
                if let Some(length) = length {
                    self.lengths.insert(*length, (out.clone(), 2));
                }
                Ok(out)
            }
            Op::Broadcast(to) => {
                let x = self.name(args[0])?;
                let lengths = to.iter().map(|dim| self.length(dim)).collect::<Result<Vec<String>, String>>()?;
                let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
                let shape = self.emit_with("Concat", &lengths, vec![int("axis", 0)]);
                Ok(self.emit("Expand", &[&x, &shape]))
            }
            Op::Slice { axis, start, step, len } => {
                let x = self.name(args[0])?;
                self.slice(&x, *axis as i64, *start, *step, len)
            }
            Op::Select => {
                let [choice, a, b] = [self.name(args[0])?, self.name(args[1])?, self.name(args[2])?];
                let choice = self.cast(&choice, DataType::Bool);
                Ok(self.emit("Where", &[&choice, &a, &b]))
            }
            Op::Positions { start, len } => self.positions(Some(start), len),
            Op::Rope(rope) => {
                let [x, positions] = [self.name(args[0])?, self.name(args[1])?];
                let width = self.shape(id)[3].literal().ok_or("the head width is not a number")?;
                self.rope(&x, &positions, rope, width)
            }
            Op::Reshape(_) => self.reshape(id, args[0]),
            Op::Transpose(perm) => {
                let x = self.name(args[0])?;
                Ok(self.emit_with("Transpose", &[&x], vec![ints("perm", perm.iter().copied())]))
            }
            Op::Concat { axis } => self.concat(args, *axis),
            Op::Mask { visible, start, q, k, .. } => self.once(format!("mask({visible}, {start}, {q}, {k})"), |b| {
                let distances = b.distances(start, q, k)?;
                let bounds = [("LessOrEqual", visible.after, 1), ("GreaterOrEqual", visible.before, -1)];
                let mut sees: Option<String> = None;
                for (op, bound, sign) in bounds {
                    let Some(bound) = bound else { continue };
                    let bound = b.outer.int_scalar(sign * bound as i64);
                    let one = b.emit(op, &[&distances, &bound]);
                    sees = Some(match sees {
                        None => one,
                        Some(other) => b.emit("And", &[&other, &one]),
                    });
                }
                let (seen, masked) = (b.outer.float_scalar(0.0), b.outer.float_scalar(MASKED));
                match sees {
                    Some(sees) => Ok(b.emit("Where", &[&sees, &seen, &masked])),
                    // Nothing is hidden, and the mask has its shape all the same.
                    None => {
                        let zeros = b.cast(&distances, DataType::Float);
                        Ok(b.emit("Mul", &[&zeros, &seen]))
                    }
                }
            }),
            Op::PaddingMask { .. } => {
                let mask = self.name(args[0])?;
                let real = self.cast(&mask, DataType::Bool);
                let (seen, masked) = (self.outer.float_scalar(0.0), self.outer.float_scalar(MASKED));
                let bias = self.emit("Where", &[&real, &seen, &masked]);
                Ok(self.unsqueeze(&bias, &[1, 2]))
            }
            Op::RelativeBias { buckets, max_distance, bidirectional, start, q, k } => {
                let table = self.name(args[0])?;
                // The bucket of every distance, from -max_distance to max_distance: beyond, it does not change. A table
                // rather than a formula, whose f32 logarithm would put an edge elsewhere in another engine.
                let far = *max_distance as i64;
                let bucket = |d| relative_bucket(d, *buckets, *max_distance, *bidirectional) as i64;
                let rows = self.outer.ints(&(-far..=far).map(bucket).collect::<Vec<i64>>());
                let by_distance = self.emit_with("Gather", &[&table, &rows], vec![int("axis", 0)]);
                let by_distance = self.emit_with("Transpose", &[&by_distance], vec![ints("perm", [1, 0])]);
                let index = self.once(format!("clipped({start}, {q}, {k}, {far})"), |b| {
                    let distances = b.distances(start, q, k)?;
                    let (low, high) = (b.outer.int_scalar(-far), b.outer.int_scalar(far));
                    let clipped = b.emit("Clip", &[&distances, &low, &high]);
                    Ok(b.emit("Add", &[&clipped, &high]))
                })?;
                let bias = self.emit_with("Gather", &[&by_distance, &index], vec![int("axis", 1)]);
                Ok(self.unsqueeze(&bias, &[0]))
            }
            Op::DynamicQuant(Granularity::Tensor) => {
                let x = self.name(args[0])?;
                let outputs = ["codes", "scale", "zero_point"].map(|word| self.fresh(word));
                let words = [0, 1, 2].map(|i| outputs[i].as_str());
                self.nodes.push(node("DynamicQuantizeLinear", &[&x], &words, Vec::new()));
                let [codes, scale, zero] = words;
                let rounded = self.emit("DequantizeLinear", &[codes, scale, zero]);
                self.quantized.insert(id, outputs);
                Ok(rounded)
            }
            // Inside of the product that reads it.
            Op::DynamicQuant(Granularity::Block(block)) => {
                let x = self.name(args[0])?;
                self.rounded_inside.insert(id, (x, *block));
                Ok(String::new())
            }
            Op::DynamicQuant(Granularity::Token) => Err("ONNX has no activations quantized per token".to_owned()),
            Op::FakeQuant(steps) => {
                let x = self.name(args[0])?;
                let scale = self.outer.float_scalar(steps.scale);
                steps.check()?;
                let zero = u16::try_from(steps.zero).expect("`check` passed");
                let zero = match u8::try_from(zero) {
                    Ok(zero) if steps.bits == 8 => self.outer.byte_scalar(zero),
                    _ => self.outer.word_scalar(zero),
                };
                let codes = self.emit("QuantizeLinear", &[&x, &scale, &zero]);
                Ok(self.emit("DequantizeLinear", &[&codes, &scale, &zero]))
            }
            Op::Attention { scale, softcap } => self.attention(id, args, *scale, *softcap),
        }
    }

    fn unary(&mut self, unary: Unary, x: &str) -> String {
        match unary {
            Unary::Relu => self.emit("Relu", &[x]),
            Unary::Tanh => self.emit("Tanh", &[x]),
            Unary::Gelu => {
                let erf = self.scaled("Div", x, std::f32::consts::SQRT_2);
                let erf = self.emit("Erf", &[&erf]);
                let gate = self.scaled("Add", &erf, 1.0);
                let half = self.scaled("Mul", x, 0.5);
                self.emit("Mul", &[&half, &gate])
            }
            Unary::GeluTanh => {
                let cube = self.scaled("Pow", x, 3.0);
                let cube = self.scaled("Mul", &cube, 0.044_715);
                let inner = self.emit("Add", &[x, &cube]);
                let inner = self.scaled("Mul", &inner, (2.0 / std::f64::consts::PI).sqrt() as f32);
                let tanh = self.emit("Tanh", &[&inner]);
                let gate = self.scaled("Add", &tanh, 1.0);
                let half = self.scaled("Mul", x, 0.5);
                self.emit("Mul", &[&half, &gate])
            }
            Unary::Silu => {
                let gate = self.emit("Sigmoid", &[x]);
                self.emit("Mul", &[x, &gate])
            }
            Unary::Sigmoid => self.emit("Sigmoid", &[x]),
            Unary::QuickGelu => {
                let gate = self.scaled("Mul", x, 1.702);
                let gate = self.emit("Sigmoid", &[&gate]);
                self.emit("Mul", &[x, &gate])
            }
        }
    }

    fn slice(&mut self, x: &str, axis: i64, start: usize, step: usize, len: &Dim) -> Result<String, String> {
        let [first, axis, stride] = [start as i64, axis, step as i64].map(|i| self.outer.ints(&[i]));
        // One past the last place: start + (len - 1) · step + 1.
        let end = match len.fix(self.fixed).literal() {
            Some(n) => self.outer.ints(&[(start + n.saturating_sub(1) * step + n.min(1)) as i64]),
            None => {
                let len = self.length(len)?;
                let [one, step, rest] = [1, step as i64, start as i64 + 1].map(|i| self.outer.ints(&[i]));
                let last = self.emit("Sub", &[&len, &one]);
                let last = self.emit("Mul", &[&last, &step]);
                self.emit("Add", &[&last, &rest])
            }
        };
        Ok(self.emit("Slice", &[x, &first, &end, &axis, &stride]))
    }

    fn rope(&mut self, x: &str, positions: &str, rope: &Rope, width: usize) -> Result<String, String> {
        let half = rope.dims / 2;
        let Rope { theta, factor, dims, layout } = *rope;
        let mut sine_of = |op: &str| {
            self.once(format!("{op}({positions}, {theta}, {factor}, {dims})"), |b| {
                let turns = b.once(format!("turns({positions}, {theta}, {factor}, {dims})"), |b| {
                    let frequencies = b.outer.floats(&format!("rope/{theta}/{factor}/{dims}"), &rope.frequencies());
                    let column = b.unsqueeze(positions, &[1]);
                    let column = b.cast(&column, DataType::Float);
                    Ok(b.emit("Mul", &[&column, &frequencies]))
                })?;
                Ok(b.emit(op, &[&turns]))
            })
        };
        let [cos, sin] = [sine_of("Cos")?, sine_of("Sin")?]; // [q, half]
        let (second, step) = match layout {
            Pairing::Half => (half, 1),
            Pairing::Pairs => (1, 2),
        };
        let a = self.slice(x, 3, 0, step, &half.into())?;
        let b = self.slice(x, 3, second, step, &half.into())?;
        let product = |block: &mut Self, x: &str, y: &str| block.emit("Mul", &[x, y]);
        let (a_cos, a_sin, b_cos, b_sin) =
            (product(self, &a, &cos), product(self, &a, &sin), product(self, &b, &cos), product(self, &b, &sin));
        let turned_a = self.emit("Sub", &[&a_cos, &b_sin]);
        let turned_b = self.emit("Add", &[&b_cos, &a_sin]);
        let mut parts = match layout {
            Pairing::Half => vec![turned_a, turned_b],
            Pairing::Pairs => {
                let [a, b] = [turned_a, turned_b].map(|part| self.unsqueeze(&part, &[-1]));
                let pairs = self.emit_with("Concat", &[&a, &b], vec![int("axis", -1)]);
                let flat = self.outer.ints(&[0, 0, 0, dims as i64]);
                vec![self.emit("Reshape", &[&pairs, &flat])]
            }
        };
        if dims < width {
            parts.push(self.slice(x, 3, dims, 1, &(width - dims).into())?);
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            many => {
                let many: Vec<&str> = many.iter().map(String::as_str).collect();
                Ok(self.emit_with("Concat", &many, vec![int("axis", 3)]))
            }
        }
    }

    fn reshape(&mut self, id: ValueId, arg: ValueId) -> Result<String, String> {
        let (from, to) = (self.shape(arg), self.shape(id));
        // The heads of a fused attention, merged again: that is how it leaves them.
        if let (Some(Op::Transpose(perm)), [source]) = (self.graph().op(arg), self.graph().args(arg))
            && perm == &[0, 2, 1, 3]
            && to.len() == 3
            && to[..2] == from[..2]
            && let Some(merged) = self.merged.get(source)
        {
            return Ok(merged.clone());
        }
        let x = self.name(arg)?;
        let kept = |i: usize| from.get(i) == to.get(i);
        // 0 keeps the length at that place, one -1 takes what is left; neither needs a length at run time.
        let mut unknown = 0;
        let sizes: Vec<Option<i64>> = (0..to.len())
            .map(|i| match to[i].literal() {
                // Also where it is a number: the merged decoder runs this on no rows when it does not need them.
                _ if kept(i) => Some(0),
                Some(n) if n > 0 => Some(n as i64),
                _ => {
                    unknown += 1;
                    (unknown == 1).then_some(-1)
                }
            })
            .collect();
        let shape = match sizes.iter().copied().collect::<Option<Vec<i64>>>() {
            Some(sizes) => self.outer.ints(&sizes),
            None => {
                let lengths = to.iter().map(|dim| self.length(dim)).collect::<Result<Vec<String>, String>>()?;
                let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
                self.emit_with("Concat", &lengths, vec![int("axis", 0)])
            }
        };
        Ok(self.emit("Reshape", &[&x, &shape]))
    }

    /// Leaves out operands that are empty in this entry, as the past of the first decoding step.
    fn concat(&mut self, args: &[ValueId], axis: usize) -> Result<String, String> {
        let mut names = Vec::new();
        for arg in args {
            if self.shape(*arg)[axis].literal() != Some(0) {
                names.push(self.name(*arg)?);
            }
        }
        match names.as_slice() {
            [] => Err("every part is empty".to_owned()),
            [one] => Ok(one.clone()),
            many => {
                let many: Vec<&str> = many.iter().map(String::as_str).collect();
                Ok(self.emit_with("Concat", &many, vec![int("axis", axis as i64)]))
            }
        }
    }
}
