//! ONNX files as tests write them: protobuf by hand, which shares nothing with the reader.

use std::fs;
use std::path::{Path, PathBuf};

pub const FLOAT: u64 = 1;
pub const UINT8: u64 = 2;
pub const INT8: u64 = 3;
pub const UINT16: u64 = 4;
pub const INT16: u64 = 5;
pub const INT32: u64 = 6;
pub const INT64: u64 = 7;
pub const BOOL: u64 = 9;
pub const FLOAT16: u64 = 10;
pub const DOUBLE: u64 = 11;
pub const UINT4: u64 = 21;
pub const INT4: u64 = 22;

#[derive(Clone, Default)]
pub struct File {
    pub opset: u64,
    pub nodes: Vec<Node>,
    pub tensors: Vec<Tensor>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub values: Vec<Port>,
    pub functions: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Node {
    pub op: String,
    pub domain: String,
    pub name: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: Vec<(String, Attribute)>,
}

#[derive(Clone)]
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Graph,
}

#[derive(Clone, Default)]
pub struct Tensor {
    pub name: String,
    pub element: u64,
    pub dims: Vec<i64>,
    pub bytes: Vec<u8>,
    /// Keys and values of external data, in place of the bytes.
    pub external: Vec<(String, String)>,
}

#[derive(Clone, Default)]
pub struct Port {
    pub name: String,
    pub element: u64,
    /// Negative: a symbol.
    pub dims: Vec<i64>,
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(field: u64, n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(n, &mut out);
    out
}

fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 2, &mut out);
    varint(content.as_ref().len() as u64, &mut out);
    out.extend(content.as_ref());
    out
}

fn all<T>(items: &[T], encode: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
    items.iter().flat_map(encode).collect()
}

impl File {
    pub fn bytes(&self) -> Vec<u8> {
        let opset = |domain: &str, version: u64| bytes(8, [bytes(1, domain), number(2, version)].concat());
        let graph = [
            all(&self.nodes, |node| bytes(1, node.message())),
            bytes(2, "graph"),
            all(&self.tensors, |tensor| bytes(5, tensor.message())),
            all(&self.inputs, |port| bytes(11, port.message())),
            all(&self.outputs, |port| bytes(12, port.message())),
            all(&self.values, |port| bytes(13, port.message())),
        ];
        let functions = all(&self.functions, |name| bytes(25, bytes(1, name)));
        [number(1, 10), opset("", self.opset), opset("com.microsoft", 1), bytes(7, graph.concat()), functions].concat()
    }

    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let file = dir.join(name);
        fs::write(&file, self.bytes()).expect("written");
        file
    }

    pub fn node(&mut self, name: &str) -> &mut Node {
        let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        let at = known.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name} is none of {known:?}"));
        &mut self.nodes[at]
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let known: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let at = known.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name} is none of {known:?}"));
        &mut self.tensors[at]
    }
}

impl Node {
    fn message(&self) -> Vec<u8> {
        [
            all(&self.inputs, |name| bytes(1, name)),
            all(&self.outputs, |name| bytes(2, name)),
            bytes(3, &self.name),
            bytes(4, &self.op),
            all(&self.attributes, |(name, value)| bytes(5, [bytes(1, name), value.fields()].concat())),
            bytes(7, &self.domain),
        ]
        .concat()
    }
}

impl Attribute {
    fn fields(&self) -> Vec<u8> {
        match self {
            Attribute::Int(n) => [number(3, n.cast_unsigned()), number(20, 2)].concat(),
            Attribute::Ints(list) => [all(list, |n| number(8, n.cast_unsigned())), number(20, 7)].concat(),
            Attribute::Graph => [bytes(6, bytes(2, "branch")), number(20, 5)].concat(),
        }
    }
}

impl Tensor {
    fn message(&self) -> Vec<u8> {
        let dims = all(&self.dims, |n| number(1, n.cast_unsigned()));
        let own = match self.external.as_slice() {
            [] => bytes(9, &self.bytes),
            entries => {
                let entry = |(key, value): &(String, String)| bytes(13, [bytes(1, key), bytes(2, value)].concat());
                [all(entries, entry), number(14, 1)].concat()
            }
        };
        [dims, number(2, self.element), bytes(8, &self.name), own].concat()
    }
}

impl Port {
    fn message(&self) -> Vec<u8> {
        let dim = |n: &i64| match *n {
            ..0 => bytes(1, bytes(2, "length")),
            0.. => bytes(1, number(1, n.cast_unsigned())),
        };
        let tensor = [number(1, self.element), bytes(2, all(&self.dims, dim))].concat();
        [bytes(1, &self.name), bytes(2, bytes(1, tensor))].concat()
    }
}
