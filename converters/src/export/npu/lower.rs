//! A static graph as ONNX nodes, one match arm an op. All lengths are numbers, so nothing asks for a shape.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use graph::ir::properties::Elements;
use graph::{
    Binary, DType, Def, Dim, Entry, FakeQuant, FloatType, Graph, Op, Port as GraphPort, PortRole, Unary, ValueId,
    WeightId,
};
use onnx::make::{conv2d, float, int, ints, node, prune, tensor, text, typed_value_info};
use onnx::proto::tensor_proto::DataType;
use onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use onnx::tensors::Layout;
use onnx::write::FileGraph;

use super::host::{Numbers, Place, Port};
use super::options::{Caches, Npu};
use super::profile::{Gelu, Norm, Writes};
use crate::evidence::{Evidence, Range};

/// One file's graph and its ports.
pub(super) struct Lowered {
    pub(super) file: FileGraph,
    pub(super) place: Place,
    /// What its float tensors held, by their names.
    pub(super) seen: BTreeMap<String, Range>,
}

/// One entry on its way into a file.
pub(super) struct Lowering<'g> {
    graph: &'g Graph,
    layouts: &'g HashMap<WeightId, Layout>,
    writes: Writes,
    options: &'g Npu,
    /// Rounded values that are the second factor of a product of two activations, or moved on the way there.
    second: HashSet<ValueId>,
    weights: BTreeSet<WeightId>,
    constants: BTreeMap<String, TensorProto>,
    nodes: Vec<NodeProto>,
    names: HashMap<ValueId, String>,
    /// Of rounded values: the tensor of their codes.
    codes: HashMap<ValueId, String>,
    /// Dequantized weights, by tensor.
    dequantized: HashSet<String>,
    place: String,
    counts: HashMap<String, usize>,
    /// What the values held while samples ran.
    evidence: Option<&'g Evidence>,
    /// Tensors inside of an op's formula, by name.
    inside: BTreeMap<String, Inside>,
}

/// An op's argument, and how a tensor of the formula grows with it.
type Inside = (ValueId, fn(f32) -> f32);

impl<'g> Lowering<'g> {
    pub(super) fn new(
        graph: &'g Graph,
        layouts: &'g HashMap<WeightId, Layout>,
        writes: Writes,
        options: &'g Npu,
        evidence: Option<&'g Evidence>,
    ) -> Lowering<'g> {
        Lowering {
            graph,
            layouts,
            writes,
            options,
            second: second_factors(graph),
            weights: BTreeSet::new(),
            constants: BTreeMap::new(),
            nodes: Vec::new(),
            names: HashMap::new(),
            codes: HashMap::new(),
            dequantized: HashSet::new(),
            place: String::new(),
            counts: HashMap::new(),
            evidence,
            inside: BTreeMap::new(),
        }
    }

    /// The file of an entry. Errors: an op that toolchains have no words for; names the value.
    pub(super) fn lower(mut self, entry: &Entry, file: String) -> Result<Lowered, String> {
        let users = self.graph.users();
        let mut inputs = Vec::new();
        for port in &entry.inputs {
            let name = self.options.names.of(&entry.name, &port.name, true);
            // A cache in codes: who reads it rounds it, and finds the codes there already.
            let steps = match users[port.value.0].as_slice() {
                [one] if self.in_codes(port) => self.steps_of(*one).map(|steps| (*one, steps)),
                _ => None,
            };
            if let Some((rounded, _)) = steps {
                self.codes.insert(rounded, name.clone());
            }
            self.names.insert(port.value, name.clone());
            inputs.push(self.port(port, name, steps)?);
        }
        for id in self.graph.order(entry) {
            self.value(id)?;
        }
        let mut outputs = Vec::new();
        for port in &entry.outputs {
            let name = self.options.names.of(&entry.name, &port.name, false);
            let steps = self.steps_of(port.value).filter(|_| self.in_codes(port)).map(|steps| (port.value, steps));
            let have = match steps {
                Some(_) => self.codes[&port.value].clone(),
                None => self.name(port.value)?,
            };
            self.renamed(&have, &name);
            outputs.push(self.port(port, name, steps)?);
        }
        let kept = prune(&mut self.nodes, outputs.iter().map(|port| port.name.as_str()));
        self.constants.retain(|name, _| kept.contains(name));
        let (graph, layouts) = (self.graph, self.layouts);
        self.weights
            .retain(|id| layouts[id].parts(graph.weights.get(*id)).iter().any(|part| kept.contains(&part.name)));
        let seen = self.seen();
        let graph = GraphProto {
            name: Some(file.trim_end_matches(".onnx").to_owned()),
            node: self.nodes,
            initializer: self.constants.into_values().collect(),
            input: inputs.iter().map(info).collect(),
            output: outputs.iter().map(info).collect(),
            ..Default::default()
        };
        Ok(Lowered { file: FileGraph { graph, weights: self.weights }, place: Place { file, inputs, outputs }, seen })
    }

    /// What the float tensors held, by their names.
    fn seen(&self) -> BTreeMap<String, Range> {
        let made: HashSet<&String> = self.nodes.iter().flat_map(|node| node.input.iter().chain(&node.output)).collect();
        let codes: HashSet<&String> = self.codes.values().collect();
        let values = self.names.iter().filter(|(_, name)| made.contains(name) && !codes.contains(name));
        let of_values = values.filter_map(|(id, name)| Some((name.clone(), self.range(*id)?)));
        let inside = self.inside.iter().filter_map(|(name, (id, grow))| {
            let Range { min, max } = self.range(*id)?;
            Some((name.clone(), Range { min: grow(min), max: grow(max) }))
        });
        of_values.chain(inside).collect()
    }

    /// What a value held. A cache held what was written into it.
    fn range(&self, id: ValueId) -> Option<Range> {
        let is_fed = |port: &&GraphPort| port.value == id && matches!(port.role(), PortRole::Past(_));
        match self.graph.entries.iter().flat_map(|entry| &entry.inputs).find(is_fed).map(GraphPort::role) {
            Some(PortRole::Past(cache)) => {
                self.made(self.graph.entry("decoder")?.output(&PortRole::Present(cache).to_string())?)
            }
            _ => self.made(id),
        }
    }

    /// The same but for the past.
    fn made(&self, id: ValueId) -> Option<Range> {
        let evidence = self.evidence?;
        let value = self.graph.value(id);
        // make_static puts the entry before a name that both entries have; it and fold_heads put after it which part of the value it is.
        let bare = ["encoder.", "decoder."].iter().find_map(|cut| value.name.strip_prefix(cut));
        let whole = |name: &'g str| [".row", ".of_batch", ".of_heads"].iter().find_map(|part| name.strip_suffix(part));
        let names = [Some(value.name.as_str()), bare].into_iter().flatten().flat_map(|name| [Some(name), whole(name)]);
        if let Some(known) = names.flatten().find_map(|name| evidence.values.get(name)) {
            return Some(*known);
        }
        match &value.def {
            Def::Input => {
                let mut inputs = self.graph.entries.iter().flat_map(|entry| &entry.inputs);
                let port = inputs.find(|port| port.value == id && matches!(port.role(), PortRole::Cross(_)))?;
                self.made(self.graph.entry("encoder")?.output(&port.name)?)
            }
            Def::Op(op, args) if moves(op) => args
                .iter()
                .filter_map(|arg| self.made(*arg))
                .reduce(|a, b| Range { min: a.min.min(b.min), max: a.max.max(b.max) }),
            _ => None,
        }
    }

    fn in_codes(&self, port: &GraphPort) -> bool {
        self.options.caches == Caches::Codes && port.role().cache().is_some()
    }

    fn steps_of(&self, id: ValueId) -> Option<FakeQuant> {
        match self.graph.op(id) {
            Some(Op::FakeQuant(steps)) => Some(*steps),
            _ => None,
        }
    }

    fn port(&self, port: &GraphPort, name: String, steps: Option<(ValueId, FakeQuant)>) -> Result<Port, String> {
        let ty = &self.graph.value(port.value).ty;
        let numbers = match (steps, ty.dtype) {
            (Some((id, steps)), _) => self.numbers(id, steps),
            (None, DType::F32) => Numbers::Float32,
            (None, DType::I64) => Numbers::Int32,
        };
        let token_axis = matches!(port.role(), PortRole::Past(_) | PortRole::Present(_)).then_some(2);
        Ok(Port { port: port.name.clone(), name, shape: lengths(&ty.shape)?, numbers, token_axis })
    }

    /// What the codes of a rounded value are. The second factor of a product has int16 where others have uint16: -32768 to
    /// 32767 for 0 to 65535.
    fn numbers(&self, id: ValueId, steps: FakeQuant) -> Numbers {
        let FakeQuant { scale, zero, bits } = steps;
        match bits {
            8 => Numbers::Uint8 { scale, zero },
            _ if zero == 1 << 15 && self.second.contains(&id) => Numbers::Int16 { scale },
            _ => Numbers::Uint16 { scale, zero },
        }
    }

    fn fresh(&mut self, hint: &str) -> String {
        let base = format!("{}/{hint}", self.place);
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

    fn constant(&mut self, name: String, data_type: DataType, dims: &[usize], bytes: Vec<u8>) -> String {
        self.constants
            .entry(name.clone())
            .or_insert_with(|| TensorProto { raw_data: Some(bytes.into()), ..tensor(&name, data_type, dims) });
        name
    }

    /// Shapes and axes, which ONNX wants in int64.
    fn ints(&mut self, values: &[usize]) -> String {
        let words: Vec<String> = values.iter().map(usize::to_string).collect();
        let bytes = values.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect();
        self.constant(format!("const/ints/{}", words.join(",")), DataType::Int64, &[values.len()], bytes)
    }

    fn scalar(&mut self, value: f32) -> String {
        self.constant(format!("const/float/{value:?}"), DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    fn scaled(&mut self, op: &str, x: &str, by: f32) -> String {
        let by = self.scalar(by);
        self.emit(op, &[x, &by])
    }

    /// Gives a tensor that some node makes the name of an output; one that is not made here is copied.
    fn renamed(&mut self, have: &str, name: &str) {
        let made = self.nodes.iter().any(|node| node.output.iter().any(|output| output == have));
        let is_taken = self.nodes.iter().any(|node| node.output.iter().any(|output| output == name));
        if !made || is_taken {
            self.nodes.push(node("Identity", &[have], &[name], Vec::new()));
            return;
        }
        for node in &mut self.nodes {
            for tensor in node.input.iter_mut().chain(&mut node.output).filter(|tensor| *tensor == have) {
                name.clone_into(tensor);
            }
        }
        self.names.values_mut().chain(self.codes.values_mut()).filter(|known| *known == have).for_each(|known| {
            name.clone_into(known);
        });
    }

    fn name(&mut self, id: ValueId) -> Result<String, String> {
        if let Some(name) = self.names.get(&id) {
            return Ok(name.clone());
        }
        let value = self.graph.value(id);
        match value.def {
            Def::Const(c) => Ok(self.scalar(c)),
            Def::Weight(weight) => self.weight(weight),
            Def::Input => Err(format!("{} is not fed", value.name)),
            Def::Op(..) => Err(format!("{} is read before it is made", value.name)),
        }
    }

    /// A weight as floats.
    fn weight(&mut self, id: WeightId) -> Result<String, String> {
        let (name, layout) = (self.graph.weights.get(id).name.clone(), self.layouts[&id]);
        self.weights.insert(id);
        let made = format!("{name}/float");
        let [codes, scale, zero] = ["quantized", "scale", "zero_point"].map(|part| format!("{name}_{part}"));
        let by_row = vec![int("axis", 0)];
        let (op, inputs, attributes): (_, Vec<&str>, _) = match layout {
            Layout::Float(FloatType::F16) => ("Cast", vec![&name], vec![int("to", DataType::Float as i64)]),
            Layout::Float(_) => return Ok(name),
            Layout::Steps { .. } => ("DequantizeLinear", vec![&codes, &scale, &zero], Vec::new()),
            // Without zeros, QNN 2.7.0 takes int4 for uint4.
            Layout::Nibbles => ("DequantizeLinear", vec![&codes, &scale, &zero], by_row),
            Layout::Multiples | Layout::Rows { .. } => ("DequantizeLinear", vec![&codes, &scale], by_row),
            Layout::Blocks { .. } => return Err(format!("{name}: blocks of codes have no place here")),
        };
        if self.dequantized.insert(made.clone()) {
            self.nodes.push(node(op, &inputs, &[&made], attributes));
        }
        Ok(made)
    }

    fn value(&mut self, id: ValueId) -> Result<(), String> {
        let value = self.graph.value(id);
        let Def::Op(op, args) = &value.def else {
            return Ok(()); // named when read
        };
        if self.names.contains_key(&id) {
            return Ok(());
        }
        self.place.clone_from(&value.name);
        let name = self.op(id, op, args).map_err(|message| match message.contains(&value.name) {
            true => message,
            false => format!("{}: {message}", value.name),
        })?;
        self.names.insert(id, name);
        Ok(())
    }

    fn shape(&self, id: ValueId) -> Result<Vec<usize>, String> {
        lengths(&self.graph.value(id).ty.shape)
    }

    fn op(&mut self, id: ValueId, op: &Op, args: &[ValueId]) -> Result<String, String> {
        if let Op::FakeQuant(steps) = op {
            return self.rounded(id, *steps, args[0]);
        }
        let names = args.iter().map(|arg| self.name(*arg)).collect::<Result<Vec<String>, String>>()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let x = names.first().copied().unwrap_or("");
        Ok(match op {
            Op::MatMul => self.emit("MatMul", &names),
            Op::Linear if self.shape(args[0])?.len() == 2 => self.emit_with("Gemm", &names, vec![int("transB", 1)]),
            Op::Linear => return Err(format!("expected rows of a matrix, found {:?}", self.shape(args[0])?)),
            Op::Embed => self.emit("Gather", &[names[1], x]),
            Op::Binary(Binary::Add) => self.emit("Add", &names),
            Op::Binary(Binary::Sub) => self.emit("Sub", &names),
            Op::Binary(Binary::Mul) => self.emit("Mul", &names),
            Op::Binary(Binary::Div) => self.emit("Div", &names),
            Op::Unary(unary) => self.unary(*unary, x, args[0]),
            Op::Softmax => self.emit_with("Softmax", &[x], vec![int("axis", -1)]),
            Op::Mean { axis } => self.mean(x, *axis as i64),
            Op::RmsNorm { eps } => self.rms_norm(x, names[1], *eps, &self.shape(id)?),
            Op::LayerNorm { eps } => {
                self.emit_with("LayerNormalization", &names, vec![int("axis", -1), float("epsilon", *eps)])
            }
            Op::Conv { stride, pad, .. } => {
                self.emit_with("Conv", &names, vec![ints("strides", [*stride]), ints("pads", [*pad, *pad])])
            }
            Op::Conv2d { stride, pad, groups } => self.emit_with("Conv", &names, conv2d(*stride, *pad, *groups)),
            Op::Reshape(_) => {
                let shape = self.shape(id)?;
                let shape = self.ints(&shape);
                self.emit("Reshape", &[x, &shape])
            }
            Op::Broadcast(_) => {
                let shape = self.shape(id)?;
                let shape = self.ints(&shape);
                self.emit("Expand", &[x, &shape])
            }
            Op::Slice { axis, start, step, len } => {
                let len = len.literal().ok_or("a length that is no number")?;
                let end = start + len.saturating_sub(1) * step + len.min(1);
                let bounds = [*start, end, *axis, *step].map(|i| self.ints(&[i]));
                let [start, end, axis, step] = bounds.each_ref().map(String::as_str);
                self.emit("Slice", &[x, start, end, axis, step])
            }
            Op::Transpose(perm) => self.emit_with("Transpose", &[x], vec![ints("perm", perm.iter().copied())]),
            Op::Concat { axis } => self.emit_with("Concat", &names, vec![int("axis", *axis as i64)]),
            Op::Select => {
                let choice = self.emit_with("Cast", &[x], vec![int("to", DataType::Bool as i64)]);
                self.emit("Where", &[&choice, names[1], names[2]])
            }
            Op::PaddingMask { hidden } if hidden.is_finite() => {
                // (mask - 1) · -hidden, in floats: some compilers take no mask arithmetic in codes.
                let mask = self.emit_with("Cast", &[x], vec![int("to", DataType::Float as i64)]);
                let absent = self.scaled("Sub", &mask, 1.0);
                let bias = self.scaled("Mul", &absent, -hidden);
                let shape = self.shape(id)?;
                let shape = self.ints(&shape);
                self.emit("Reshape", &[&bias, &shape])
            }
            Op::PaddingMask { .. }
            | Op::GroupNorm { .. }
            | Op::Positions { .. }
            | Op::Rope(_)
            | Op::Mask { .. }
            | Op::RelativeBias { .. }
            | Op::DynamicQuant(_)
            | Op::Attention { .. } => return Err(format!("{op} has no form that these toolchains take")),
            Op::FakeQuant(_) => unreachable!("rounded above"),
        })
    }

    /// `QuantizeLinear` and `DequantizeLinear`; of codes that are there already, the latter alone.
    fn rounded(&mut self, id: ValueId, steps: FakeQuant, x: ValueId) -> Result<String, String> {
        steps.check()?;
        let numbers = self.numbers(id, steps);
        let scale = self.scalar(steps.scale);
        let zero = match numbers {
            Numbers::Uint8 { zero, .. } => {
                let name = format!("const/uint8/{zero}");
                self.constant(name, DataType::Uint8, &[], zero.to_le_bytes()[..1].to_vec())
            }
            Numbers::Int16 { .. } => self.constant("const/int16/0".to_owned(), DataType::Int16, &[], vec![0; 2]),
            Numbers::Uint16 { zero, .. } => {
                let name = format!("const/uint16/{zero}");
                self.constant(name, DataType::Uint16, &[], zero.to_le_bytes()[..2].to_vec())
            }
            Numbers::Int32 | Numbers::Float32 => unreachable!("codes have 8 or 16 bits"),
        };
        let codes = match self.codes.get(&id) {
            Some(codes) => codes.clone(),
            None => {
                let x = self.name(x)?;
                let codes = self.emit("QuantizeLinear", &[&x, &scale, &zero]);
                self.codes.insert(id, codes.clone());
                codes
            }
        };
        Ok(self.emit("DequantizeLinear", &[&codes, &scale, &zero]))
    }

    /// Over an axis, which stays with length 1.
    fn mean(&mut self, x: &str, axis: i64) -> String {
        // Axes became an input in opset 18.
        if self.writes.opset < 18 {
            let axis = AttributeProto { ints: vec![axis], ..ints("axes", []) };
            return self.emit_with("ReduceMean", &[x], vec![axis, int("keepdims", 1)]);
        }
        let name = if axis < 0 { "const/last_axis".to_owned() } else { format!("const/axis/{axis}") };
        let axis = self.constant(name, DataType::Int64, &[1], axis.to_le_bytes().to_vec());
        self.emit_with("ReduceMean", &[x, &axis], vec![int("keepdims", 1)])
    }

    fn rms_norm(&mut self, x: &str, gain: &str, eps: f32, shape: &[usize]) -> String {
        if self.writes.norm == Norm::LpNormalization {
            return self.lp_norm(x, gain, eps, shape);
        }
        let square = self.scaled("Pow", x, 2.0);
        let mean = self.mean(&square, -1);
        let mean = self.scaled("Add", &mean, eps);
        let root = self.emit("Sqrt", &[&mean]);
        let normed = match self.writes.norm {
            Norm::Division => self.emit("Div", &[x, &root]),
            _ => {
                let inverse = self.emit("Reciprocal", &[&root]);
                self.emit("Mul", &[x, &inverse])
            }
        };
        self.emit("Mul", &[&normed, gain])
    }

    /// `x / √(Σ x² + n·eps) · √n · gain`: as if `√(n·eps)` were one number more.
    fn lp_norm(&mut self, x: &str, gain: &str, eps: f32, shape: &[usize]) -> String {
        let (last, width) = (shape.len() - 1, shape[shape.len() - 1]);
        let column = [&shape[..last], &[1]].concat();
        let number = (width as f32 * eps).sqrt();
        let bytes: Vec<u8> = (0..column.iter().product()).flat_map(|_: usize| number.to_le_bytes()).collect();
        let words: Vec<String> = column.iter().map(usize::to_string).collect();
        let one_more = self.constant(format!("const/{number:?}/{}", words.join("x")), DataType::Float, &column, bytes);
        let wider = self.emit_with("Concat", &[x, &one_more], vec![int("axis", last as i64)]);
        let normed = self.emit_with("LpNormalization", &[&wider], vec![int("axis", -1), int("p", 2)]);
        let bounds = [0, width, last].map(|i| self.ints(&[i]));
        let [start, end, axis] = bounds.each_ref().map(String::as_str);
        let normed = self.emit("Slice", &[&normed, start, end, axis]);
        let normed = self.scaled("Mul", &normed, (width as f32).sqrt());
        self.emit("Mul", &[&normed, gain])
    }

    fn unary(&mut self, unary: Unary, x: &str, id: ValueId) -> String {
        match (unary, self.writes.gelu) {
            (Unary::Relu, _) => self.emit("Relu", &[x]),
            (Unary::Tanh, _) => self.emit("Tanh", &[x]),
            (Unary::Sigmoid, _) => self.emit("Sigmoid", &[x]),
            (Unary::Gelu, Gelu::Operator) => self.emit("Gelu", &[x]),
            (Unary::GeluTanh, Gelu::Operator) => self.emit_with("Gelu", &[x], vec![text("approximate", "tanh")]),
            (Unary::Gelu, Gelu::Formula) => {
                let erf = self.scaled("Div", x, std::f32::consts::SQRT_2);
                let erf = self.emit("Erf", &[&erf]);
                let gate = self.scaled("Add", &erf, 1.0);
                let gated = self.emit("Mul", &[x, &gate]);
                self.scaled("Mul", &gated, 0.5)
            }
            (Unary::GeluTanh, Gelu::Formula) => {
                let cube = self.scaled("Pow", x, 3.0);
                self.inside.insert(cube.clone(), (id, |x| x.powi(3)));
                let cube = self.scaled("Mul", &cube, 0.044_715);
                let inner = self.emit("Add", &[x, &cube]);
                self.inside.insert(inner.clone(), (id, |x| x + 0.044_715 * x.powi(3)));
                let inner = self.scaled("Mul", &inner, (2.0 / std::f64::consts::PI).sqrt() as f32);
                let tanh = self.emit("Tanh", &[&inner]);
                let gate = self.scaled("Add", &tanh, 1.0);
                let half = self.scaled("Mul", x, 0.5);
                self.emit("Mul", &[&half, &gate])
            }
            (Unary::Silu, _) => {
                let gate = self.emit("Sigmoid", &[x]);
                self.emit("Mul", &[x, &gate])
            }
            (Unary::QuickGelu, _) => {
                let gate = self.scaled("Mul", x, 1.702);
                let gate = self.emit("Sigmoid", &[&gate]);
                self.emit("Mul", &[x, &gate])
            }
        }
    }
}

/// Rounded values that reach the second place of a product of two activations through layout ops alone.
fn second_factors(graph: &Graph) -> HashSet<ValueId> {
    let products = (0..graph.values.len()).map(ValueId).filter(|id| graph.op(*id) == Some(&Op::MatMul));
    let mut pending: Vec<ValueId> = products.map(|id| graph.args(id)[1]).collect();
    // Both graphs have the caches; what is one's output is the other's input.
    let caches = graph.entries.iter().flat_map(|entry| &entry.outputs).filter(|port| port.role() != PortRole::Logits);
    pending.extend(caches.map(|port| port.value));
    let mut found = HashSet::new();
    while let Some(id) = pending.pop() {
        if graph.op(id).is_some_and(moves) && found.insert(id) {
            // Before a second rounding stand the steps of the op that made the value.
            let is_op = |arg: &ValueId| !matches!(graph.op(*arg), Some(Op::FakeQuant(_)));
            let twice = matches!(graph.op(id), Some(Op::FakeQuant(_))) && !graph.args(id).iter().all(is_op);
            pending.extend(graph.args(id).iter().filter(|_| !twice));
        }
    }
    found
}

/// Whether an op's numbers are those of its arguments, rounded or not.
fn moves(op: &Op) -> bool {
    match op.elements() {
        Elements::Moved { .. } => true,
        Elements::Computed => matches!(op, Op::FakeQuant(_)),
        Elements::LookedUp { .. } | Elements::Told => false,
    }
}

fn lengths(shape: &[Dim]) -> Result<Vec<usize>, String> {
    shape.iter().map(|dim| dim.literal().ok_or_else(|| format!("a length {dim} that is no number"))).collect()
}

fn info(port: &Port) -> ValueInfoProto {
    let element = match port.numbers {
        Numbers::Int32 => DataType::Int32,
        Numbers::Float32 => DataType::Float,
        Numbers::Uint8 { .. } => DataType::Uint8,
        Numbers::Uint16 { .. } => DataType::Uint16,
        Numbers::Int16 { .. } => DataType::Int16,
    };
    typed_value_info(&port.name, element, &port.shape.iter().map(|n| Dim::from(*n)).collect::<Vec<Dim>>())
}
