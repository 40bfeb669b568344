//! What an ONNX file says about itself, for people.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::OnnxError;
use crate::model::{Declared, Element, Extent, declared, decode};
use crate::proto::{TensorProto, ValueInfoProto};

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
pub fn describe(file: &Path) -> Result<Description, OnnxError> {
    let (model, _) = decode(file)?;
    let graph = model.graph.ok_or_else(|| OnnxError::malformed(file, "a model without a graph"))?;

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
    let Declared { name, element, shape } = declared(info);
    let ty = match element {
        Some(element) => {
            let dims = shape.iter().flatten().map(|dim| match dim {
                Extent::Known(n) => n.to_string(),
                Extent::Symbol(name) if name.is_empty() => "?".to_owned(),
                Extent::Symbol(name) => name.clone(),
            });
            format!("{element}[{}]", dims.collect::<Vec<_>>().join(", "))
        }
        None if info.r#type.is_some() => "not a tensor".to_owned(),
        None => "?".to_owned(),
    };
    (name, ty)
}

fn initializer(proto: &TensorProto) -> Initializer {
    let number = proto.data_type.unwrap_or(0);
    let element = Element::of(number.into());
    // A lying dimension gives a wrong size here and nothing worse.
    let shape: Vec<usize> = proto.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
    let elements = shape.iter().fold(1_u64, |product, dim| product.saturating_mul(*dim as u64));
    Initializer {
        name: proto.name.clone().unwrap_or_default(),
        type_name: element.map_or_else(|| format!("type {number}"), |element| element.to_string()),
        bytes: elements.saturating_mul(element.map_or(8, Element::bits)).div_ceil(8),
        shape,
    }
}
