//! What an ONNX file says about itself, for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message;

use super::onnx::tensor_proto::DataType;
use super::onnx::tensor_shape_proto::dimension;
use super::onnx::{ModelProto, TensorProto, ValueInfoProto, type_proto};
use crate::ExportError;

// protobuf's own limit; a larger file is not ONNX.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// A file's own words. Nothing is checked against the data.
#[derive(Clone, PartialEq, Debug)]
pub struct Description {
    /// Producer, opsets, and how often each operator is used.
    pub facts: Vec<(String, String)>,
    /// How often each operator is used, outside of branches.
    pub operators: BTreeMap<String, usize>,
    /// Name and type, as `i64[batch_size, 1]`.
    pub inputs: Vec<(String, String)>,
    /// Name and type.
    pub outputs: Vec<(String, String)>,
    /// Initializers, in the order of the file.
    pub tensors: Vec<Initializer>,
}

/// A constant tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Initializer {
    /// Its name.
    pub name: String,
    /// `float`, `int8`.
    pub type_name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// As type and shape imply.
    pub bytes: u64,
}

/// Reads the header of a graph; weights in other files are not opened.
///
/// Errors: the file cannot be read, is not a protobuf message, or has no graph.
pub fn describe(file: &Path) -> Result<Description, ExportError> {
    let io = |source| ExportError::Io { file: file.to_owned(), source };
    let malformed = |message: String| ExportError::Malformed { file: file.to_owned(), message };
    let length = fs::metadata(file).map_err(io)?.len();
    if length > MAX_FILE_BYTES {
        return Err(malformed(format!("{length} bytes, but protobuf ends at {MAX_FILE_BYTES}")));
    }
    let bytes = fs::read(file).map_err(io)?;
    let model = ModelProto::decode(&bytes[..]).map_err(|error| malformed(format!("not an ONNX model: {error}")))?;
    let graph = model.graph.ok_or_else(|| malformed("a model without a graph".to_owned()))?;

    let mut operators: BTreeMap<String, usize> = BTreeMap::new();
    for node in &graph.node {
        *operators.entry(node.op_type.clone().unwrap_or("?".to_owned())).or_default() += 1;
    }
    let opsets = model.opset_import.iter().map(|opset| {
        let domain = opset.domain.as_deref().filter(|d| !d.is_empty()).unwrap_or("ai.onnx");
        format!("{domain} {}", opset.version.unwrap_or(0))
    });
    let producer = [model.producer_name.unwrap_or_default(), model.producer_version.unwrap_or_default()].join(" ");
    let facts = [
        ("producer", producer.trim().to_owned()),
        ("opsets", opsets.collect::<Vec<_>>().join(", ")),
        ("operators", operators.iter().map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")),
    ];
    let ports = |ports: &[ValueInfoProto]| ports.iter().map(port).collect();
    Ok(Description {
        facts: facts.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        operators,
        inputs: ports(&graph.input),
        outputs: ports(&graph.output),
        tensors: graph.initializer.iter().map(initializer).collect(),
    })
}

fn port(info: &ValueInfoProto) -> (String, String) {
    let value = info.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let ty = match value {
        Some(type_proto::Value::TensorType(tensor)) => {
            let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| match &dim.value {
                Some(dimension::Value::DimValue(n)) => n.to_string(),
                Some(dimension::Value::DimParam(name)) => name.clone(),
                None => "?".to_owned(),
            });
            format!("{}[{}]", type_name(tensor.elem_type.unwrap_or(0)), dims.collect::<Vec<_>>().join(", "))
        }
        Some(_) => "not a tensor".to_owned(),
        None => "?".to_owned(),
    };
    (info.name.clone().unwrap_or_default(), ty)
}

fn type_name(number: i32) -> String {
    DataType::try_from(number).map_or_else(|_| format!("type {number}"), |ty| ty.as_str_name().to_lowercase())
}

fn initializer(proto: &TensorProto) -> Initializer {
    let number = proto.data_type.unwrap_or(0);
    let bits = match DataType::try_from(number) {
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64) => 64,
        Ok(DataType::Complex128) => 128,
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 32,
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => 16,
        Ok(DataType::Int4 | DataType::Uint4 | DataType::Float4e2m1) => 4,
        _ => 8,
    };
    // A lying dimension gives a wrong size here and nothing worse.
    let shape: Vec<usize> = proto.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
    let elements = shape.iter().fold(1_u64, |product, dim| product.saturating_mul(*dim as u64));
    Initializer {
        name: proto.name.clone().unwrap_or_default(),
        type_name: type_name(number),
        bytes: elements.saturating_mul(bits).div_ceil(8),
        shape,
    }
}
