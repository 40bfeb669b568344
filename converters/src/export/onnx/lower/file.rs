//! What all blocks of one file share: weights, small constants, and the nodes that prepare weights.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use graph::{Graph, WeightId};
use onnx::make::{int, ints, node, prune, tensor};
use onnx::proto::tensor_proto::DataType;
use onnx::proto::{AttributeProto, NodeProto, TensorProto};
use onnx::tensors::Layout;

use super::joins::Joins;
use crate::export::onnx::options::{Attention, Compute, Consumer, Products};

/// What a profile decides about the nodes to use.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// Whose engines run the file.
    pub consumer: Consumer,
    /// `MultiHeadAttention` or `MatMul` and `Softmax`.
    pub attention: Attention,
    /// What linear layers with f16 weights are computed in.
    pub compute: Compute,
    /// Whether products of one input over blocks are one.
    pub products: Products,
}

/// The graph outside of any branch: what all blocks of one file share.
pub struct Lowering<'g> {
    pub(super) graph: &'g Graph,
    pub(super) layouts: &'g HashMap<WeightId, Layout>,
    pub(super) choices: Choices,
    pub(super) joins: Joins,
    /// Weights used, by value; their initializers come from their layouts.
    pub weights: BTreeSet<WeightId>,
    /// Small constants, inline because shapes are inferred from them.
    pub constants: BTreeMap<String, TensorProto>,
    // Nodes that only prepare weights (Transpose, Cast): outside of branches, where an engine folds them once.
    prepared: Vec<NodeProto>,
    prepared_names: HashSet<String>,
}

impl<'g> Lowering<'g> {
    /// Without nodes.
    pub fn new(graph: &'g Graph, layouts: &'g HashMap<WeightId, Layout>, choices: Choices) -> Lowering<'g> {
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

    /// The initializers of a weight: of one in blocks codes, scales and, where there are some, zeros.
    pub(super) fn part_names(&self, weight: WeightId, layout: Layout) -> Vec<String> {
        layout.parts(self.graph.weights.get(weight)).into_iter().map(|part| part.name).collect()
    }

    /// All nodes of the file in order, and only the weights and constants that they read.
    pub fn finish(mut self, body: Vec<NodeProto>, outputs: &[String]) -> (Vec<NodeProto>, Lowering<'g>) {
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

    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(format!("const/ints/{}", words.join(",")), DataType::Int64, &[values.len()], bytes)
    }

    /// `i64[1]`.
    pub fn index(&mut self, value: i64) -> String {
        self.ints(&[value])
    }

    pub(super) fn int_scalar(&mut self, value: i64) -> String {
        self.constant(format!("const/int/{value}"), DataType::Int64, &[], value.to_le_bytes().to_vec())
    }

    pub(super) fn float_scalar(&mut self, value: f32) -> String {
        self.constant(format!("const/float/{value:?}"), DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    pub(super) fn floats(&mut self, name: &str, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(format!("const/floats/{name}"), DataType::Float, &[values.len()], bytes)
    }

    pub(super) fn byte_scalar(&mut self, value: u8) -> String {
        self.constant(format!("const/byte/{value}"), DataType::Uint8, &[], vec![value])
    }

    pub(super) fn word_scalar(&mut self, value: u16) -> String {
        self.constant(format!("const/word/{value}"), DataType::Uint16, &[], value.to_le_bytes().to_vec())
    }

    /// A node that prepares a weight, made once a file; named after the first input.
    pub(super) fn prepare(
        &mut self,
        op: &str,
        inputs: &[&str],
        suffix: &str,
        attributes: Vec<AttributeProto>,
    ) -> String {
        let name = format!("{}/{suffix}", inputs[0]);
        if self.prepared_names.insert(name.clone()) {
            self.prepared.push(node(op, inputs, &[&name], attributes));
        }
        name
    }

    /// `f32[n,e]`: a matrix of 8-bit codes as the numbers that they mean.
    pub(super) fn unpacked(&mut self, weight: &str, zeros: bool) -> String {
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

    pub(super) fn transposed(&mut self, weight: &str) -> String {
        self.prepare("Transpose", &[weight], "transposed", vec![ints("perm", [1, 0])])
    }
}
