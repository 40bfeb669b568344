//! Any ONNX file as plain data, ours or not.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use checkpoint::limits::{self, PROTOBUF_BYTES};
use graph::Blob;
use half::{bf16, f16};
use prost::Message;
use prost::bytes::Bytes;

use crate::error::OnnxError;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::weigh;

/// The domain of the standard operators, which files also spell as the empty string.
pub const STANDARD: &str = "ai.onnx";

/// A file's graph. Names are as in the file and may repeat; nothing but the bytes of constants has been checked.
#[derive(Clone, Debug, Default)]
pub struct OnnxFile {
    /// Where it is; its external data lies beside it.
    pub file: PathBuf,
    /// Version of the format.
    pub ir_version: i64,
    /// Version of each domain's operators.
    pub opsets: BTreeMap<String, i64>,
    /// Functions that the file defines.
    pub functions: Vec<String>,
    /// In the order of the file.
    pub nodes: Vec<Node>,
    /// Constant tensors.
    pub initializers: Vec<Constant>,
    /// Constant tensors in a form that only lists what is not zero.
    pub sparse_initializers: Vec<String>,
    /// What the graph takes.
    pub inputs: Vec<Declared>,
    /// What it returns.
    pub outputs: Vec<Declared>,
    /// Types that the file tells of values inside.
    pub values: Vec<Declared>,
}

/// A call of an operator.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// May be empty.
    pub name: String,
    /// `MatMul`.
    pub op: String,
    /// `ai.onnx`, `com.microsoft`.
    pub domain: String,
    /// Names of values; an empty one stands for an argument that is left out.
    pub inputs: Vec<String>,
    /// Names of values.
    pub outputs: Vec<String>,
    /// By name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// An argument that is not a value.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f32),
    /// Bytes, mostly ASCII.
    Text(String),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Numbers.
    Floats(Vec<f32>),
    /// A constant tensor.
    Tensor(Constant),
    /// A branch or a loop's body, or several.
    Graph,
    /// What no transformer has.
    Other,
}

/// A value and what the file says of its type.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// `None`: the file says nothing, or it is no tensor.
    pub element: Option<Element>,
    /// `None`: the file does not even tell the rank.
    pub shape: Option<Vec<Extent>>,
}

/// An extent of a declared shape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// A number.
    Known(usize),
    /// A symbol, or the empty string.
    Symbol(String),
}

impl Declared {
    /// The shape, if all of it is numbers.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        let known = |extent: &Extent| match extent {
            Extent::Known(n) => Some(*n),
            Extent::Symbol(_) => None,
        };
        self.shape.as_ref()?.iter().map(known).collect()
    }
}

/// The type of a tensor's elements. Shown as ONNX spells it: `float`, `uint8`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Element(DataType);

impl Element {
    /// 32 bits.
    pub const FLOAT: Element = Element(DataType::Float);
    /// 16 bits, IEEE.
    pub const FLOAT16: Element = Element(DataType::Float16);
    /// 16 bits with the exponents of 32.
    pub const BFLOAT16: Element = Element(DataType::Bfloat16);
    /// 64 bits.
    pub const DOUBLE: Element = Element(DataType::Double);
    /// 4 bits, two a byte.
    pub const INT4: Element = Element(DataType::Int4);
    /// 4 bits, two a byte.
    pub const UINT4: Element = Element(DataType::Uint4);
    /// 8 bits.
    pub const INT8: Element = Element(DataType::Int8);
    /// 8 bits.
    pub const UINT8: Element = Element(DataType::Uint8);
    /// 16 bits.
    pub const INT16: Element = Element(DataType::Int16);
    /// 16 bits.
    pub const UINT16: Element = Element(DataType::Uint16);
    /// 32 bits.
    pub const INT32: Element = Element(DataType::Int32);
    /// 64 bits.
    pub const INT64: Element = Element(DataType::Int64);
    /// A byte of 0 or 1.
    pub const BOOL: Element = Element(DataType::Bool);
    /// Text.
    pub const STRING: Element = Element(DataType::String);

    /// The type with this number in the format. `None`: the format has no such number.
    pub fn of(number: i64) -> Option<Element> {
        let known = i32::try_from(number).ok().and_then(|n| DataType::try_from(n).ok());
        known.filter(|ty| *ty != DataType::Undefined).map(Element)
    }

    /// Size of an element; 0 for text, whose size differs.
    pub fn bits(self) -> u64 {
        match self.0 {
            DataType::Undefined | DataType::String => 0,
            DataType::Uint2 | DataType::Int2 => 2,
            DataType::Int4 | DataType::Uint4 | DataType::Float4e2m1 => 4,
            DataType::Float6e2m3 | DataType::Float6e3m2 => 6,
            DataType::Int8
            | DataType::Uint8
            | DataType::Bool
            | DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz
            | DataType::Float8e8m0 => 8,
            DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 16,
            DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
            DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64 => 64,
            DataType::Complex128 => 128,
        }
    }

    /// Whether it is a float of any width.
    pub fn is_float(self) -> bool {
        matches!(self.0, DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.as_str_name().to_lowercase())
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tensor of a file, its bytes still there. They are as many as type and dimensions imply.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Outermost first.
    pub dims: Vec<usize>,
    /// The file beside the graph that holds it, if not the graph's own.
    pub beside: Option<PathBuf>,
    blob: Blob,
    file: PathBuf,
}

impl Constant {
    /// A tensor in memory: `bytes` little-endian, row-major.
    pub fn new(name: &str, element: Element, dims: &[usize], bytes: &[u8]) -> Constant {
        let blob = Blob::memory(bytes);
        Constant { name: name.to_owned(), element, dims: dims.to_vec(), beside: None, blob, file: PathBuf::new() }
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The bytes, wherever they are.
    pub(crate) fn blob(&self) -> &Blob {
        &self.blob
    }

    fn bytes(&self) -> Result<Vec<u8>, OnnxError> {
        self.blob.read().map_err(OnnxError::io(self.beside.as_ref().unwrap_or(&self.file)))
    }

    /// Its numbers, if they are floats.
    pub fn floats(&self) -> Result<Option<Vec<f32>>, OnnxError> {
        let bytes = self.bytes()?;
        let halves = || bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
        Ok(match self.element {
            Element::FLOAT => Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Element::DOUBLE => Some(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
            Element::FLOAT16 => Some(halves().map(|bits| f16::from_bits(bits).to_f32()).collect()),
            Element::BFLOAT16 => Some(halves().map(|bits| bf16::from_bits(bits).to_f32()).collect()),
            _ => None,
        })
    }

    /// Its numbers, if they are whole and fit into 63 bits and a sign.
    pub fn ints(&self) -> Result<Option<Vec<i64>>, OnnxError> {
        let bytes = self.bytes()?;
        let nibbles = |sign: bool| {
            let extend = |n: u8| if sign && n > 7 { i64::from(n) - 16 } else { i64::from(n) };
            bytes.iter().flat_map(|b| [b & 15, b >> 4]).take(self.count()).map(extend).collect()
        };
        Ok(match self.element.0 {
            DataType::Bool | DataType::Uint8 => Some(bytes.iter().map(|b| i64::from(*b)).collect()),
            DataType::Int8 => Some(bytes.iter().map(|b| i64::from(b.cast_signed())).collect()),
            DataType::Uint16 => Some(bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect()),
            DataType::Int16 => Some(bytes.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b).into()).collect()),
            DataType::Uint32 => Some(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect()),
            DataType::Int32 => Some(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()),
            DataType::Int64 => Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            DataType::Uint4 => Some(nibbles(false)),
            DataType::Int4 => Some(nibbles(true)),
            _ => None,
        })
    }
}

/// A file's message, and its bytes, of which the message's raw data are slices.
pub(crate) fn decode(file: &Path) -> Result<(ModelProto, Bytes), OnnxError> {
    let bytes = Bytes::from(limits::read(file, PROTOBUF_BYTES).map_err(OnnxError::io(file))?);
    weigh::check(&bytes).map_err(|message| OnnxError::malformed(file, message))?;
    let model =
        ModelProto::decode(bytes.clone()).map_err(|e| OnnxError::malformed(file, format!("not an ONNX model: {e}")))?;
    Ok((model, bytes))
}

impl OnnxFile {
    /// Reads a graph. Bytes of constants stay where they are, inside the file or in another one of its folder.
    ///
    /// Errors: a file cannot be read, is no protobuf message, has no graph, or a constant is not what its type and
    /// dimensions imply.
    pub fn open(file: &Path) -> Result<OnnxFile, OnnxError> {
        OnnxFile::open_among(file, &mut HashMap::new())
    }

    /// The same for files that share their external data: each is opened once.
    pub(crate) fn open_among(file: &Path, opened: &mut HashMap<PathBuf, Blob>) -> Result<OnnxFile, OnnxError> {
        let (model, bytes) = decode(file)?;
        let graph = model.graph.ok_or_else(|| OnnxError::malformed(file, "a model without a graph"))?;
        let whole = Blob::open(file).map_err(OnnxError::io(file))?;
        let mut reader = Reader { file, start: bytes.as_ptr() as usize, whole, opened };
        let domain = |domain: Option<String>| domain.filter(|d| !d.is_empty()).unwrap_or(STANDARD.to_owned());
        let initializers =
            graph.initializer.into_iter().map(|proto| reader.constant(proto)).collect::<Result<_, _>>()?;
        let nodes = graph.node.into_iter().map(|proto| {
            let NodeProto { name, op_type, input, output, attribute, domain: from, .. } = proto;
            let attributes = attribute.into_iter().map(|a| reader.attribute(a)).collect::<Result<_, _>>()?;
            let (name, op) = (name.unwrap_or_default(), op_type.unwrap_or_default());
            Ok(Node { name, op, domain: domain(from), inputs: input, outputs: output, attributes })
        });
        let nodes = nodes.collect::<Result<_, OnnxError>>()?;
        let sparse = graph.sparse_initializer.into_iter().filter_map(|sparse| sparse.values?.name);
        let declared = |infos: Vec<ValueInfoProto>| infos.iter().map(declared).collect();
        Ok(OnnxFile {
            file: file.to_owned(),
            ir_version: model.ir_version.unwrap_or(0),
            opsets: model.opset_import.into_iter().map(|o| (domain(o.domain), o.version.unwrap_or(0))).collect(),
            functions: model.functions.into_iter().map(|function| function.name.unwrap_or_default()).collect(),
            nodes,
            initializers,
            sparse_initializers: sparse.collect(),
            inputs: declared(graph.input),
            outputs: declared(graph.output),
            values: declared(graph.value_info),
        })
    }
}

pub(crate) fn declared(info: &ValueInfoProto) -> Declared {
    let name = info.name.clone().unwrap_or_default();
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|ty| ty.value.as_ref()) else {
        return Declared { name, ..Declared::default() };
    };
    let shape = tensor.shape.as_ref().map(|shape| {
        let extent = |dim: &crate::proto::tensor_shape_proto::Dimension| match &dim.value {
            Some(dimension::Value::DimValue(n)) => {
                usize::try_from(*n).map_or(Extent::Symbol(n.to_string()), Extent::Known)
            }
            Some(dimension::Value::DimParam(name)) => Extent::Symbol(name.clone()),
            None => Extent::Symbol(String::new()),
        };
        shape.dim.iter().map(extent).collect()
    });
    Declared { name, element: Element::of(tensor.elem_type.unwrap_or(0).into()), shape }
}

struct Reader<'a> {
    file: &'a Path,
    /// Where the bytes of the file are in memory.
    start: usize,
    whole: Blob,
    opened: &'a mut HashMap<PathBuf, Blob>,
}

impl Reader<'_> {
    fn attribute(&mut self, proto: AttributeProto) -> Result<(String, Attribute), OnnxError> {
        let name = proto.name.unwrap_or_default();
        let value = match AttributeType::try_from(proto.r#type.unwrap_or(0)) {
            Ok(AttributeType::Int) => Attribute::Int(proto.i.unwrap_or(0)),
            Ok(AttributeType::Float) => Attribute::Float(proto.f.unwrap_or(0.0)),
            Ok(AttributeType::String) => {
                Attribute::Text(String::from_utf8_lossy(&proto.s.unwrap_or_default()).into_owned())
            }
            Ok(AttributeType::Ints) => Attribute::Ints(proto.ints),
            Ok(AttributeType::Floats) => Attribute::Floats(proto.floats),
            Ok(AttributeType::Tensor) => Attribute::Tensor(self.constant(proto.t.unwrap_or_default())?),
            Ok(AttributeType::Graph | AttributeType::Graphs) => Attribute::Graph,
            _ => Attribute::Other,
        };
        Ok((name, value))
    }

    fn constant(&mut self, proto: TensorProto) -> Result<Constant, OnnxError> {
        let name = proto.name.clone().unwrap_or_default();
        let at = |message: String| OnnxError::malformed(self.file, format!("{name}: {message}"));
        let number = proto.data_type.unwrap_or(0);
        let element =
            Element::of(number.into()).ok_or_else(|| at(format!("{number} is not an element type that ONNX has")))?;
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
        let count = |dims: &Vec<usize>| dims.iter().try_fold(1_u64, |total, d| total.checked_mul(*d as u64));
        let bits = dims.as_ref().and_then(count).and_then(|count| count.checked_mul(element.bits()));
        let (Some(dims), Some(bits)) = (dims, bits) else {
            return Err(at(format!("dimensions {:?} are no shape", proto.dims)));
        };
        let external = proto.data_location == Some(DataLocation::External as i32);
        let (blob, beside) = match &proto.raw_data {
            _ if external => self.external(&name, &proto).map(|(blob, file)| (blob, Some(file)))?,
            Some(raw) if !raw.is_empty() => {
                // prost slices the buffer it decodes from, so the address tells the place in the file.
                let offset = (raw.as_ptr() as usize).wrapping_sub(self.start) as u64;
                let inside = offset.checked_add(raw.len() as u64).and_then(|end| self.whole.slice(offset..end));
                (inside.ok_or_else(|| at("bytes outside the file".into()))?, None)
            }
            _ => (Blob::memory(typed(element, &proto)), None),
        };
        let expected = bits.div_ceil(8);
        if element != Element::STRING && blob.len() != expected {
            return Err(at(format!("expected {expected} bytes for {dims:?}, found {}", blob.len())));
        }
        Ok(Constant { name, element, dims, beside, blob, file: self.file.to_owned() })
    }

    /// Bytes beside the graph, and the file that holds them.
    fn external(&mut self, name: &str, proto: &TensorProto) -> Result<(Blob, PathBuf), OnnxError> {
        let value = |key: &str| {
            let entry = proto.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            entry.and_then(|entry| entry.value.clone())
        };
        let at = |message: String| OnnxError::malformed(self.file, format!("{name}: {message}"));
        let location = value("location").ok_or_else(|| at("external data without a location".to_owned()))?;
        // A file elsewhere is none of this artifact's.
        let mut parts = Path::new(&location).components().peekable();
        if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(at(format!("external data at {location:?}, outside the folder")));
        }
        let data_file = self.file.parent().unwrap_or(Path::new("")).join(&location);
        if !self.opened.contains_key(&data_file) {
            let whole = Blob::open(&data_file).map_err(OnnxError::io(&data_file))?;
            self.opened.insert(data_file.clone(), whole);
        }
        let whole = &self.opened[&data_file];
        let number = |key: &str, default: u64| match value(key) {
            None => Ok(default),
            Some(text) => text.parse::<u64>().map_err(|_| at(format!("{key} {text:?} is no number"))),
        };
        let offset = number("offset", 0)?;
        let length = number("length", whole.len().saturating_sub(offset))?;
        let end = offset.checked_add(length);
        let blob = end
            .and_then(|end| whole.slice(offset..end))
            .ok_or_else(|| at(format!("{length} bytes at {offset} lie outside {location} of {} bytes", whole.len())))?;
        Ok((blob, data_file))
    }
}

/// The bytes of a tensor that is written as numbers instead.
fn typed(element: Element, proto: &TensorProto) -> Vec<u8> {
    match element.0 {
        DataType::Float | DataType::Complex64 => proto.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DataType::Double | DataType::Complex128 => proto.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DataType::Int64 => proto.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DataType::Uint64 => proto.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DataType::Uint32 => proto.uint64_data.iter().flat_map(|x| (*x as u32).to_le_bytes()).collect(),
        DataType::Undefined | DataType::String => Vec::new(),
        _ => {
            // Narrow types stand in the low bytes of an int32; two nibbles, packed as in raw data, are one number.
            let width = (element.bits().max(8) / 8) as usize;
            proto.int32_data.iter().flat_map(|x| x.to_le_bytes().into_iter().take(width)).collect()
        }
    }
}

impl Node {
    /// An input's name; `None` where it is left out.
    pub fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The inputs that are not left out.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Whether it is a standard operator of this name.
    pub fn is(&self, op: &str) -> bool {
        self.domain == STANDARD && self.op == op
    }

    /// An attribute that is a whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(n)) => Some(*n),
            _ => None,
        }
    }

    /// An attribute that is a list of whole numbers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(list)) => Some(list),
            _ => None,
        }
    }

    /// The constant that a node of op `Constant` is.
    pub fn constant(&self) -> Option<Constant> {
        let output = self.outputs.first().filter(|_| self.is("Constant"))?;
        let floats = |xs: &[f32], dims: &[usize]| {
            let bytes: Vec<u8> = xs.iter().flat_map(|x| x.to_le_bytes()).collect();
            Constant::new(output, Element::FLOAT, dims, &bytes)
        };
        let ints = |xs: &[i64], dims: &[usize]| {
            let bytes: Vec<u8> = xs.iter().flat_map(|x| x.to_le_bytes()).collect();
            Constant::new(output, Element::INT64, dims, &bytes)
        };
        self.attributes.iter().find_map(|(name, value)| match (name.as_str(), value) {
            ("value", Attribute::Tensor(tensor)) => Some(Constant { name: output.clone(), ..tensor.clone() }),
            ("value_float", Attribute::Float(x)) => Some(floats(&[*x], &[])),
            ("value_floats", Attribute::Floats(xs)) => Some(floats(xs, &[xs.len()])),
            ("value_int", Attribute::Int(x)) => Some(ints(&[*x], &[])),
            ("value_ints", Attribute::Ints(xs)) => Some(ints(xs, &[xs.len()])),
            _ => None,
        })
    }
}
