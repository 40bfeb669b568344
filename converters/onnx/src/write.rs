//! The files: graphs with their weights beside or inside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use graph::{Graph, WeightId};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::error::OnnxError;
use crate::make::{MICROSOFT, tensor};
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use crate::tensors::{Layout, Part, WriteError};

/// Versions of the standard operators and of the file's structure that go together.
#[derive(Clone, Copy)]
pub struct Version {
    opset: i64,
    ir: i64,
}

// The oldest with BitwiseAnd and axes as inputs.
const PLAIN: Version = Version { opset: 18, ir: 8 };
// The oldest whose QuantizeLinear makes uint16.
const WORDS: Version = Version { opset: 21, ir: 10 };

impl Version {
    /// A version of the standard operators, with the oldest structure that has it (docs/Versioning.md of ONNX).
    pub fn opset(opset: i64) -> Version {
        let ir = match opset {
            ..=18 => 8,
            19 | 20 => 9,
            _ => 10,
        };
        Version { opset, ir }
    }

    /// The oldest that a file can do with.
    pub fn of(graph: &GraphProto) -> Version {
        let words = |tensor: &TensorProto| tensor.data_type == Some(DataType::Uint16 as i32);
        if graph.initializer.iter().any(words) { WORDS } else { PLAIN }
    }
}

// A page, so that an engine can map a tensor; small ones lie closer together.
const PAGE: u64 = 4096;
const SMALL_ALIGNMENT: u64 = 64;
const SMALL_BYTES: u64 = 1 << 16;

// Tensors below this size stay in the graph's file, where shape inference sees them.
const INLINE_BYTES: u64 = 1024;

/// A file's graph and the weights that it reads.
#[derive(Debug)]
pub struct FileGraph {
    /// Without initializers of weights.
    pub graph: GraphProto,
    /// They follow when it is written.
    pub weights: BTreeSet<WeightId>,
}

/// The files of one artifact being written.
pub struct Files {
    dir: PathBuf,
    data: Option<Data>,
}

/// The weight file: each tensor once, at its first use.
struct Data {
    name: String,
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
    placed: BTreeMap<String, (u64, u64)>,
}

fn write_error(file: &Path) -> impl Fn(WriteError) -> OnnxError {
    let failed = OnnxError::io(file);
    move |error| match error {
        WriteError::Weight(error) => error.into(),
        WriteError::Io(source) => failed(source),
    }
}

impl Files {
    /// Files of graphs in a folder, and the one beside them that takes the weights, by its name. `None`: each graph's file has
    /// its own.
    pub fn create(dir: &Path, beside: Option<&str>) -> Result<Files, OnnxError> {
        let data = beside.map(|name| Data::create(dir, name)).transpose()?;
        Ok(Files { dir: dir.to_owned(), data })
    }

    /// Writes one graph and those of its weights that are not written yet.
    pub fn write(
        &mut self,
        graph: &Graph,
        layouts: &HashMap<WeightId, Layout>,
        name: &str,
        mut file: FileGraph,
        version: Version,
    ) -> Result<(), OnnxError> {
        let path = self.dir.join(name);
        let mut embedded: Vec<(WeightId, Part, TensorProto)> = Vec::new();
        for id in file.weights {
            let weight = graph.weights.get(id);
            for part in layouts[&id].parts(weight) {
                let mut proto = tensor(&part.name, part.data_type, &part.dims);
                match &mut self.data {
                    _ if part.bytes() < INLINE_BYTES => {
                        let mut bytes = Vec::new();
                        part.write(weight, &mut bytes).map_err(write_error(&path))?;
                        proto.raw_data = Some(bytes.into());
                        file.graph.initializer.push(proto);
                    }
                    Some(data) => {
                        let (offset, length) = data.place(graph, id, &part)?;
                        proto.data_location = Some(DataLocation::External as i32);
                        proto.external_data = external(&data.name, offset, length);
                        file.graph.initializer.push(proto);
                    }
                    None => embedded.push((id, part, proto)),
                }
            }
        }
        let opsets = [("", version.opset), (MICROSOFT, 1)];
        let mut model = ModelProto {
            ir_version: Some(version.ir),
            producer_name: Some("trefoil".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            opset_import: opsets
                .map(|(domain, version)| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) })
                .to_vec(),
            graph: Some(file.graph),
            ..Default::default()
        };
        if embedded.is_empty() {
            return std::fs::write(&path, model.encode_to_vec()).map_err(OnnxError::io(&path));
        }
        let graph_bytes = model.graph.take().expect("just put there").encode_to_vec();
        let sizes: Vec<u64> = embedded.iter().map(|(_, part, proto)| embedded_len(proto, part.bytes())).collect();
        let total = graph_bytes.len() as u64 + sizes.iter().map(|len| field_len(INITIALIZER, *len)).sum::<u64>();
        let out = File::create(&path).map_err(OnnxError::io(&path))?;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(OnnxError::io(&path));
        put(&model.encode_to_vec())?;
        put(&field_head(GRAPH, total))?;
        put(&graph_bytes)?;
        for ((id, part, proto), len) in embedded.iter().zip(sizes) {
            out.write_all(&field_head(INITIALIZER, len)).map_err(OnnxError::io(&path))?;
            out.write_all(&proto.encode_to_vec()).map_err(OnnxError::io(&path))?;
            out.write_all(&field_head(RAW_DATA, part.bytes())).map_err(OnnxError::io(&path))?;
            part.write(graph.weights.get(*id), &mut out).map_err(write_error(&path))?;
        }
        out.flush().map_err(OnnxError::io(&path))
    }

    /// Ends the file of the weights.
    pub fn finish(self) -> Result<(), OnnxError> {
        match self.data {
            Some(mut data) => data.file.flush().map_err(OnnxError::io(&data.path)),
            None => Ok(()),
        }
    }
}

impl Data {
    fn create(dir: &Path, name: &str) -> Result<Data, OnnxError> {
        let path = dir.join(name);
        let file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(OnnxError::io(&path))?);
        Ok(Data { name: name.to_owned(), path, file, end: 0, placed: BTreeMap::new() })
    }

    fn place(&mut self, graph: &Graph, id: WeightId, part: &Part) -> Result<(u64, u64), OnnxError> {
        if let Some(place) = self.placed.get(&part.name) {
            return Ok(*place);
        }
        let failed = OnnxError::io(&self.path);
        let alignment = if part.bytes() < SMALL_BYTES { SMALL_ALIGNMENT } else { PAGE };
        let offset = self.end.next_multiple_of(alignment);
        io::copy(&mut io::Read::take(io::repeat(0), offset - self.end), &mut self.file).map_err(failed)?;
        part.write(graph.weights.get(id), &mut self.file).map_err(write_error(&self.path))?;
        self.end = offset + part.bytes();
        self.placed.insert(part.name.clone(), (offset, part.bytes()));
        Ok((offset, part.bytes()))
    }
}

fn external(name: &str, offset: u64, length: u64) -> Vec<StringStringEntryProto> {
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    vec![entry("location", name.to_owned()), entry("offset", offset.to_string()), entry("length", length.to_string())]
}

// Field numbers of ModelProto.graph, GraphProto.initializer and TensorProto.raw_data. protobuf joins the parts of a
// message in any order, so embedded weights are streamed after the fields that prost wrote.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

fn field_head(tag: u32, len: u64) -> Vec<u8> {
    let mut head = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut head);
    encode_varint(len, &mut head);
    head
}

fn field_len(tag: u32, len: u64) -> u64 {
    key_len(tag) as u64 + encoded_len_varint(len) as u64 + len
}

fn embedded_len(proto: &TensorProto, bytes: u64) -> u64 {
    proto.encoded_len() as u64 + field_len(RAW_DATA, bytes)
}
