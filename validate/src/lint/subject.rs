//! A graph with what rules ask of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use converters::ExportError;
use converters::export::npu::{Evidence, Profile, Quantized};
use converters::export::onnx::{Constant, Element, Node, OnnxFile, STANDARD, Types};

/// A file to be judged.
pub struct Subject<'a> {
    pub model: &'a OnnxFile,
    pub profile: &'static Profile,
    pub types: Types,
    pub evidence: Option<Evidence>,
    /// Initializers and nodes of op Constant.
    pub constants: BTreeMap<&'a str, Constant>,
    producers: HashMap<&'a str, usize>,
    users: HashMap<&'a str, Vec<(usize, usize)>>,
    outputs: HashSet<&'a str>,
    /// Of each QuantizeLinear and DequantizeLinear.
    steps: HashMap<usize, Steps>,
}

/// Parameters of a QuantizeLinear or DequantizeLinear.
#[derive(Clone, PartialEq, Debug)]
pub struct Steps {
    /// Of the codes.
    pub element: Option<Element>,
    /// Empty: they are not constant.
    pub scales: Vec<f32>,
    /// As many as scales.
    pub zeros: Vec<i64>,
    /// Type of the given zeros.
    pub zeros_element: Option<Element>,
    /// One scale for all.
    pub per_tensor: bool,
    /// The axis along which scales differ.
    pub axis: i64,
    /// How many codes along the axis share a scale; 0: one scale an index.
    pub block: i64,
}

impl Steps {
    /// The least and the greatest code.
    pub fn codes(&self) -> Option<(f64, f64)> {
        let bits = self.element?.bits() as i32;
        let signed = matches!(self.element?, Element::INT4 | Element::INT8 | Element::INT16 | Element::INT32);
        Some(match signed {
            true => (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0),
            false => (0.0, 2f64.powi(bits) - 1.0),
        })
    }

    /// The least and the greatest number, of one scale for all.
    pub fn range(&self) -> Option<(f64, f64)> {
        let ((low, high), scale, zero) = (self.codes()?, *self.scales.first()? as f64, *self.zeros.first()? as f64);
        (self.per_tensor && scale > 0.0).then_some(((low - zero) * scale, (high - zero) * scale))
    }

    /// Whether equal codes mean equal numbers.
    pub fn same_as(&self, other: &Steps) -> bool {
        (self.element, &self.scales, &self.zeros) == (other.element, &other.scales, &other.zeros)
    }

    /// `uint8 · 0.02 - 128`, for people.
    pub fn shown(&self) -> String {
        let element = self.element.map_or("?".to_owned(), |element| element.to_string());
        match (self.scales.as_slice(), self.zeros.as_slice()) {
            ([scale], [zero]) => format!("{element}, scale {scale:e}, zero {zero}"),
            ([], _) => format!("{element}, scale not constant"),
            (scales, _) => format!("{element}, {} scales", scales.len()),
        }
    }

    /// Bits of a code.
    pub fn bits(&self) -> u64 {
        self.element.map_or(0, Element::bits)
    }
}

/// How a linear layer's parts stand in its node.
pub const PRODUCTS: &[&str] = &["MatMul", "Gemm", "Conv"];

/// Operators whose result holds numbers of their first argument and no others.
pub const MOVERS: &[&str] = &[
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Flatten",
    "GatherElements",
    "GatherND",
];

impl<'a> Subject<'a> {
    pub fn new(
        model: &'a OnnxFile,
        profile: &'static Profile,
        evidence: Option<Evidence>,
    ) -> Result<Subject<'a>, ExportError> {
        let mut constants: BTreeMap<&str, Constant> =
            model.initializers.iter().map(|constant| (constant.name.as_str(), constant.clone())).collect();
        let (mut producers, mut users) = (HashMap::new(), HashMap::<&str, Vec<(usize, usize)>>::new());
        for (at, node) in model.nodes.iter().enumerate() {
            if let (Some(constant), Some(name)) = (node.constant(), node.outputs.first()) {
                constants.insert(name, constant);
            }
            for (slot, name) in node.inputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                users.entry(name).or_default().push((at, slot));
            }
            producers.extend(node.outputs.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), at)));
        }
        let outputs = model.outputs.iter().map(|output| output.name.as_str()).collect();
        let types = Types::of(model);
        let mut subject =
            Subject { model, profile, types, evidence, constants, producers, users, outputs, steps: HashMap::new() };
        for (at, node) in model.nodes.iter().enumerate() {
            if is_quantize(node) || is_dequantize(node) {
                let steps = subject.read_steps(node)?;
                subject.steps.insert(at, steps);
            }
        }
        Ok(subject)
    }

    fn read_steps(&self, node: &Node) -> Result<Steps, ExportError> {
        let constant = |slot: usize| node.input(slot).and_then(|name| self.constants.get(name));
        let codes = if is_quantize(node) { node.outputs.first().map(String::as_str) } else { node.input(0) };
        let scale = constant(1);
        let scales = scale.map(Constant::floats).transpose()?.flatten().unwrap_or_default();
        let zeros = match (node.input(2), constant(2)) {
            (None, _) => vec![0; scales.len()],
            (Some(_), Some(zeros)) => zeros.ints()?.unwrap_or_default(),
            (Some(_), None) => Vec::new(),
        };
        Ok(Steps {
            element: codes.and_then(|codes| self.types.element(codes)),
            zeros_element: constant(2).map(|zeros| zeros.element),
            per_tensor: scales.len() == 1,
            scales,
            zeros,
            axis: node.int("axis").unwrap_or(1),
            block: node.int("block_size").unwrap_or(0),
        })
    }

    /// How quantized graphs are taken, where the toolchain takes any.
    pub fn quantized(&self) -> Option<&'static Quantized> {
        self.profile.takes.quantized.as_ref()
    }

    /// The node that makes a value.
    pub fn producer(&self, value: &str) -> Option<&'a Node> {
        self.producers.get(value).map(|at| &self.model.nodes[*at])
    }

    /// The nodes that read a value, and in which place.
    pub fn users(&self, value: &str) -> impl Iterator<Item = (&'a Node, usize)> + '_ {
        self.users.get(value).into_iter().flatten().map(|(at, slot)| (&self.model.nodes[*at], *slot))
    }

    /// Whether the graph returns it.
    pub fn is_output(&self, value: &str) -> bool {
        self.outputs.contains(value)
    }

    /// Whether it is the same at every run.
    pub fn is_constant(&self, value: &str) -> bool {
        self.is_constant_within(value, 8)
    }

    fn is_constant_within(&self, value: &str, depth: usize) -> bool {
        self.constants.contains_key(value)
            || depth > 0
                && self.producer(value).is_some_and(|node| {
                    node.given().next().is_some() && node.given().all(|name| self.is_constant_within(name, depth - 1))
                })
    }

    /// The parameters of a QuantizeLinear or DequantizeLinear.
    pub fn steps(&self, node: &Node) -> Option<&Steps> {
        self.steps.get(self.producers.get(node.outputs.first()?.as_str())?)
    }

    /// The DequantizeLinear that an argument comes from.
    pub fn dequantized(&self, node: &Node, slot: usize) -> Option<(&'a Node, &Steps)> {
        let source = self.producer(node.input(slot)?).filter(|source| is_dequantize(source))?;
        Some((source, self.steps(source)?))
    }

    /// Where all readers of a value are QuantizeLinears, the first of them.
    pub fn requantized(&self, value: &str) -> Option<(&'a Node, &Steps)> {
        let mut users = self.users(value);
        let (first, _) = users.next().filter(|(user, _)| is_quantize(user))?;
        (!self.is_output(value) && users.all(|(user, _)| is_quantize(user))).then_some((first, self.steps(first)?))
    }

    /// The same of a node's first result, also behind the Relu or Clip that a product is computed together with.
    pub fn result(&self, node: &Node) -> Option<(&'a Node, &Steps)> {
        let output = node.outputs.first()?;
        self.requantized(output).or_else(|| {
            let (user, _) = self.users(output).next().filter(|(user, _)| user.is("Relu") || user.is("Clip"))?;
            let alone = self.users(output).count() == 1 && !self.is_output(output);
            let fused = PRODUCTS.iter().any(|op| node.is(op)) && alone;
            fused.then(|| self.requantized(user.outputs.first()?)).flatten()
        })
    }

    /// Parameters of an input or output of the graph: its own if it holds codes, else those it is rounded to inside.
    pub fn port(&self, value: &str, is_input: bool) -> Option<&Steps> {
        let of = |node: &'a Node| self.steps(node);
        match is_input {
            true => {
                let (user, slot) = self.users(value).next()?;
                (slot == 0 && (is_quantize(user) || is_dequantize(user))).then(|| of(user)).flatten()
            }
            false => self.producer(value).filter(|node| is_quantize(node) || is_dequantize(node)).and_then(of),
        }
    }

    /// Nodes in order, without the quantizers.
    pub fn operators(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.model.nodes.iter().filter(|node| !is_quantize(node) && !is_dequantize(node))
    }

    /// A product of two activations.
    pub fn is_dynamic_product(&self, node: &Node) -> bool {
        node.is("MatMul") && node.inputs.iter().all(|input| !self.is_constant(input))
    }

    /// The only number of a constant float.
    pub fn scalar(&self, value: &str) -> Option<f32> {
        let constant = self.constants.get(value).filter(|constant| constant.count() == 1)?;
        constant.floats().ok().flatten()?.first().copied()
    }
}

pub fn is_quantize(node: &Node) -> bool {
    node.op == "QuantizeLinear" && (node.domain == STANDARD || node.domain == "com.microsoft")
}

pub fn is_dequantize(node: &Node) -> bool {
    node.op == "DequantizeLinear" && (node.domain == STANDARD || node.domain == "com.microsoft")
}
