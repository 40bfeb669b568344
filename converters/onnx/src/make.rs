//! Short words for the generated protobuf types.

use std::collections::HashSet;

use graph::{DType, Dim, Sym, Type};

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// The domain of ONNX Runtime's own operators.
pub const MICROSOFT: &str = "com.microsoft";

/// An attribute that is a whole number.
pub fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = Some(AttributeType::Int as i32);
    AttributeProto { name: Some(name.to_owned()), r#type, i: Some(value), ..Default::default() }
}

/// An attribute that is a number.
pub fn float(name: &str, value: f32) -> AttributeProto {
    let r#type = Some(AttributeType::Float as i32);
    AttributeProto { name: Some(name.to_owned()), r#type, f: Some(value), ..Default::default() }
}

/// An attribute that is a list of whole numbers.
pub fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    let ints = values.into_iter().map(|v| v as i64).collect();
    AttributeProto { name: Some(name.to_owned()), r#type: Some(AttributeType::Ints as i32), ints, ..Default::default() }
}

/// The attributes of a `Conv` along two axes.
pub fn conv2d(stride: [usize; 2], pad: [usize; 2], groups: usize) -> Vec<AttributeProto> {
    let pads = [pad, pad].concat();
    vec![ints("strides", stride), ints("pads", pads), int("group", groups as i64)]
}

/// An attribute that is text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    let r#type = Some(AttributeType::String as i32);
    AttributeProto { name: Some(name.to_owned()), r#type, s: Some(value.as_bytes().to_vec()), ..Default::default() }
}

/// An attribute that is a branch, with the names and types of its outputs.
pub fn subgraph(name: &str, nodes: Vec<NodeProto>, outputs: &[(String, Type)]) -> AttributeProto {
    let outputs = outputs.iter().map(|(name, ty)| value_info(name, ty)).collect();
    let graph = GraphProto { name: Some(name.to_owned()), node: nodes, output: outputs, ..Default::default() };
    let r#type = Some(AttributeType::Graph as i32);
    AttributeProto { name: Some(name.to_owned()), r#type, g: Some(graph), ..Default::default() }
}

/// A node named after its first output.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<String>>();
    let is_contributed = matches!(op, "GatherBlockQuantized" | "MatMulNBits" | "MultiHeadAttention");
    let domain = is_contributed.then(|| MICROSOFT.to_owned());
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: outputs.first().map(|&n| n.to_owned()),
        op_type: Some(op.to_owned()),
        domain,
        attribute,
        ..Default::default()
    }
}

/// A tensor without its bytes.
pub fn tensor(name: &str, data_type: DataType, dims: &[usize]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type as i32),
        dims: dims.iter().map(|&d| d as i64).collect(),
        ..Default::default()
    }
}

/// The words that Optimum and transformers.js know; a dimension is a literal, one symbol, or a sum of symbols.
fn symbol(sym: Sym) -> String {
    match sym {
        graph::BATCH => "batch_size".to_owned(),
        graph::ENC => "encoder_sequence_length".to_owned(),
        graph::DEC => "decoder_sequence_length".to_owned(),
        graph::PAST => "past_decoder_sequence_length".to_owned(),
        Sym(other) => other.to_owned(),
    }
}

fn dimension(dim: &Dim) -> Dimension {
    let value = match dim.literal() {
        Some(n) => dimension::Value::DimValue(n as i64),
        None => {
            // `past + dec`: sorted, the symbols come the other way round.
            let mut parts: Vec<String> = dim.symbols().iter().rev().map(|s| symbol(*s)).collect();
            if dim.known() > 0 {
                parts.push(dim.known().to_string());
            }
            dimension::Value::DimParam(parts.join(" + "))
        }
    };
    Dimension { value: Some(value), ..Default::default() }
}

/// An input or output of a graph.
pub fn value_info(name: &str, ty: &Type) -> ValueInfoProto {
    let element = match ty.dtype {
        DType::F32 => DataType::Float,
        DType::I64 => DataType::Int64,
    };
    typed_value_info(name, element, &ty.shape)
}

/// `use_cache_branch`: bool[1].
pub fn flag_info(name: &str) -> ValueInfoProto {
    typed_value_info(name, DataType::Bool, &[Dim::from(1)])
}

/// An input or output of any element type.
pub fn typed_value_info(name: &str, element: DataType, shape: &[Dim]) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element as i32), shape: Some(shape) };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type, ..Default::default() }
}

/// Drops nodes whose results nobody reads, and returns the names that the remaining ones take from outside.
pub fn prune<'a>(nodes: &mut Vec<NodeProto>, outputs: impl IntoIterator<Item = &'a str>) -> HashSet<String> {
    let mut wanted: HashSet<String> = outputs.into_iter().map(str::to_owned).collect();
    let mut kept = Vec::with_capacity(nodes.len());
    for node in std::mem::take(nodes).into_iter().rev() {
        let used = node.output.iter().fold(false, |used, name| wanted.remove(name) | used);
        if used {
            wanted.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
            wanted.extend(node.attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(captured));
            kept.push(node);
        }
    }
    kept.reverse();
    *nodes = kept;
    wanted
}

/// What a subgraph reads from the graph around it.
fn captured(graph: &GraphProto) -> Vec<String> {
    let made: HashSet<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
    graph.node.iter().flat_map(|n| &n.input).filter(|name| !name.is_empty() && !made.contains(name)).cloned().collect()
}
