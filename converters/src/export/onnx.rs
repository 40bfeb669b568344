//! ONNX as Optimum reads it: one file an entry, one weight file for all; or as transformers.js does.
//!
//! Standard operators of opset 18, of opset 21 in a file with activations of 16 bits; of `com.microsoft`, `MultiHeadAttention`
//! unless `attention: standard`, and `MatMulNBits` and `GatherBlockQuantized` for codes of 4 and 8 bits.

mod between;
mod configs;
mod folder;
mod lower;
mod options;
mod recut;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::Checkpoint;
use graph::{
    Cache, DEC, Def, ENC, Entry, FloatType, Granularity, Graph, Op, PAST, Port, PortRole, Side, Type, ValueId,
    WeightId, Weights,
};
use onnx::make::{flag_info, int, node, subgraph, value_info};
use onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use onnx::read;
use onnx::tensors::{Layout, Reader};
use onnx::write::{self, FileGraph};
use serde_json::Value;

pub use self::folder::{DATA_FILE, Folder, TRANSFORMERS_JS};
pub use self::options::{Attention, Compute, Consumer, Onnx, Placement, Products, Profile};
pub use onnx::{
    Attribute, Constant, Declared, Description, Element, Extent, Initializer, Node, OnnxFile, STANDARD, Types, Unknown,
    describe,
};

pub use self::between::show_values;
use self::configs::{CONFIG, TOKEN_LIST, TOKENIZER_CONFIG, its_config, readable_tokenizer_config};
use self::folder::{ITS_DECODERS, LOOKUP, MERGED, Names, SIGHT};
use self::lower::{Choices, Lowering};
use self::recut::EMBEDS;
use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::export::companions::copy_companions;
use crate::format::Format;
use crate::model::Model;

const FORMAT: &str = "onnx";

// protobuf ends at 2^31 bytes; the nodes need some of them.
const MAX_EMBEDDED_BYTES: u64 = 2_000_000_000;

// The table of distances is written out; a config may claim any number.
const MAX_DISTANCE: usize = 1 << 16;

impl Onnx {
    fn choices(&self) -> Choices {
        Choices { consumer: self.consumer, attention: self.attention, compute: self.compute, products: self.products }
    }

    /// Whether `MatMulInteger` reads codes as uint8.
    fn unsigned(&self) -> bool {
        match self.profile {
            Profile::Portable => true,
            Profile::Int8Dot => false,
        }
    }
}

impl Format for Onnx {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn prepare(&self, model: &mut Model) -> Result<Vec<String>, ExportError> {
        Ok(readable_tokenizer_config(model.checkpoint.files())?
            .map(|_| {
                format!("{TOKENIZER_CONFIG}: {TOKEN_LIST} is left out, because transformers 4.x, which Optimum runs on, cannot read a list there")
            })
            .into_iter()
            .collect())
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        self.opens(&model.checkpoint)?;
        let graph = &*self.cut(&model.graph)?;
        let layouts = self.layouts(graph)?;
        for (entry, file) in Names::of(self.consumer, graph).graphs() {
            self.file(graph, entry, &file, &layouts)?;
        }
        Ok(())
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        self.write_graphs(&model.graph, dir)?;
        copy_companions(model, dir)?;
        if let Some(text) = readable_tokenizer_config(model.checkpoint.files())? {
            written(dir.join(TOKENIZER_CONFIG), &text)?;
        }
        if self.consumer == Consumer::TransformersJs
            && let Some(text) = its_config(model.checkpoint.files(), &model.graph, self.weights)?
        {
            written(dir.join(CONFIG), &text)?;
        }
        Artifact::list(FORMAT, dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        Ok(read::weights(&model.graph.weights, &artifact.dir, Folder::find(&artifact.dir).graphs())?)
    }
}

fn written(file: PathBuf, text: &str) -> Result<(), ExportError> {
    fs::write(&file, text).map_err(|source| ExportError::Io { file, source })
}

impl Onnx {
    /// Writes the graphs and their weights, without the files copied from the checkpoint.
    pub fn write_graphs(&self, graph: &Graph, dir: &Path) -> Result<(), ExportError> {
        let graph = &*self.cut(graph)?;
        let (layouts, names) = (self.layouts(graph)?, Names::of(self.consumer, graph));
        let dir = dir.join(names.folder());
        fs::create_dir_all(&dir).map_err(|source| ExportError::Io { file: dir.clone(), source })?;
        // Graphs that share their weights are written one after another into files that stay open.
        let mut open: Option<(String, write::Files)> = None;
        for (entry, file) in names.graphs() {
            let file_graph = self.file(graph, entry, &file, &layouts)?;
            let version = write::Version::of(&file_graph.graph);
            let data = names.data(&file);
            if let Some((_, done)) = open.take_if(|(shared, _)| *shared != data) {
                done.finish()?;
            }
            let (_, out) = match &mut open {
                Some(open) => open,
                none => {
                    let beside = (self.weights == Placement::External).then_some(data.as_str());
                    let files = write::Files::create(&dir, beside)?;
                    none.insert((data, files))
                }
            };
            out.write(graph, &layouts, &file, file_graph, version)?;
        }
        open.map_or(Ok(()), |(_, last)| Ok(last.finish()?))
    }

    /// The graph with the entries that the consumer calls.
    fn cut<'g>(&self, graph: &'g Graph) -> Result<Cow<'g, Graph>, ExportError> {
        match self.consumer {
            Consumer::Optimum => Ok(Cow::Borrowed(graph)),
            Consumer::TransformersJs => {
                recut::recut(graph).map_err(|message| ExportError::Unsupported { format: FORMAT, message })
            }
        }
    }

    /// Errors: the folder is for a consumer that does not know the family.
    fn opens(&self, checkpoint: &Checkpoint) -> Result<(), ExportError> {
        if self.consumer == Consumer::Optimum {
            return Ok(());
        }
        let family = checkpoint.config().model_type().unwrap_or("a model without a model_type");
        let decoder = checkpoint.config_json().pointer("/decoder/model_type").and_then(Value::as_str);
        let item = match (TRANSFORMERS_JS.contains(&family), decoder) {
            (true, None) => return Ok(()),
            (true, Some(decoder)) if ITS_DECODERS.contains(&decoder) => return Ok(()),
            (true, Some(other)) => {
                format!("{family} around {other}: transformers.js is known to run {} there", ITS_DECODERS.join(" and "))
            }
            (false, _) => format!("{family}: transformers.js is known to run {}", TRANSFORMERS_JS.join(", ")),
        };
        Err(ExportError::CannotHold {
            format: FORMAT,
            items: vec![item],
            hint: "leave `for: transformers.js` out: Optimum's layout is for every family".to_owned(),
        })
    }

    /// How each weight is stored. Errors: all that ONNX cannot hold.
    fn layouts(&self, graph: &Graph) -> Result<HashMap<WeightId, Layout>, ExportError> {
        let mut items: BTreeSet<String> = BTreeSet::new();
        let (mut readers, mut elsewhere, mut multiplied) = (HashMap::new(), HashSet::new(), HashSet::new());
        for value in &graph.values {
            let Def::Op(op, args) = &value.def else { continue };
            match op {
                Op::DynamicQuant(Granularity::Token) => {
                    items.insert(format!("{}: activations quantized per token", value.name));
                }
                Op::RelativeBias { max_distance, .. } if *max_distance > MAX_DISTANCE => {
                    items.insert(format!("{}: a distance of {max_distance}, above {MAX_DISTANCE}", value.name));
                }
                Op::DynamicQuant(Granularity::Tensor | Granularity::Block(_))
                | Op::FakeQuant(_)
                | Op::RelativeBias { .. }
                | Op::MatMul
                | Op::Linear
                | Op::Embed
                | Op::Binary(_)
                | Op::Unary(_)
                | Op::Softmax
                | Op::Mean { .. }
                | Op::RmsNorm { .. }
                | Op::LayerNorm { .. }
                | Op::GroupNorm { .. }
                | Op::Conv { .. }
                | Op::Conv2d { .. }
                | Op::Reshape(_)
                | Op::Transpose(_)
                | Op::Broadcast(_)
                | Op::Slice { .. }
                | Op::Concat { .. }
                | Op::Select
                | Op::Positions { .. }
                | Op::Rope(_)
                | Op::Mask { .. }
                | Op::PaddingMask { .. }
                | Op::Attention { .. } => {}
            }
            for (i, arg) in args.iter().enumerate() {
                let Some(weight) = graph.weight_of(*arg) else { continue };
                match (op, i) {
                    (Op::Linear, 1) => {
                        multiplied.insert(weight);
                        let reader = match graph.op(args[0]) {
                            Some(Op::DynamicQuant(Granularity::Tensor)) => {
                                Reader::IntegerProduct { unsigned: self.unsigned() }
                            }
                            Some(Op::DynamicQuant(Granularity::Block(_))) => Reader::Blocks,
                            _ => Reader::Floats,
                        };
                        readers.insert(weight, reader);
                    }
                    (Op::Embed, 1) => {}
                    _ => drop(elsewhere.insert(weight)),
                }
            }
        }
        let mut layouts = HashMap::new();
        // For tables that no product reads.
        let otherwise = if self.compute == Compute::Int8 { Reader::Blocks } else { Reader::Floats };
        for (id, weight) in graph.weights.iter() {
            match Layout::of(weight, readers.get(&id).copied().unwrap_or(otherwise)) {
                Err(why) => drop(items.insert(format!("{}: {why}", weight.name))),
                Ok(layout) => {
                    let float = match layout {
                        Layout::Float(dtype) => Some(dtype),
                        _ => None,
                    };
                    if float.is_none() && elsewhere.contains(&id) {
                        let kind = weight.data.type_name();
                        items.insert(format!("{}: {kind} outside of a linear layer or an embedding", weight.name));
                    }
                    let other_float = float.is_some_and(|dtype| dtype != FloatType::F16);
                    if self.compute == Compute::F16 && other_float && multiplied.contains(&id) {
                        let kind = weight.data.type_name();
                        items.insert(format!("{}: {kind} in a graph computed in f16", weight.name));
                    }
                    layouts.insert(id, layout);
                }
            }
        }
        if items.is_empty() {
            return Ok(layouts);
        }
        let hint =
            "choose other schemes for these weights with `rules`; `activations: dynamic` is per tensor here, and \
                    `compute: f16` needs `scheme: f16`"
                .to_owned();
        Err(ExportError::CannotHold { format: FORMAT, items: items.into_iter().collect(), hint })
    }

    /// One file's graph, without its weights.
    fn file<'g>(
        &self,
        graph: &'g Graph,
        entry: &str,
        file: &str,
        layouts: &'g HashMap<WeightId, Layout>,
    ) -> Result<FileGraph, ExportError> {
        let lowering = Lowering::new(graph, layouts, self.choices());
        let unsupported =
            |message: String| ExportError::Unsupported { format: FORMAT, message: format!("{file}: {message}") };
        let made = match entry {
            MERGED => merged(graph, lowering).map_err(unsupported),
            entry => plain(graph, lowering, entry).map_err(unsupported),
        }?;
        let parts = made.weights.iter().flat_map(|id| layouts[id].parts(graph.weights.get(*id)));
        let bytes: u64 = parts.map(|part| part.bytes()).sum();
        if self.weights == Placement::Embedded && bytes > MAX_EMBEDDED_BYTES {
            return Err(ExportError::CannotHold {
                format: FORMAT,
                items: vec![format!(
                    "{file}: {bytes} bytes of weights, above {MAX_EMBEDDED_BYTES}, near protobuf's end"
                )],
                hint: "use `weights: external`".to_owned(),
            });
        }
        Ok(made)
    }
}

/// An input or output of a file.
#[derive(Clone, PartialEq)]
struct Named<'g> {
    /// In ONNX.
    name: String,
    role: PortRole<'g>,
    value: ValueId,
}

impl Named<'_> {
    fn is_cross(&self) -> bool {
        matches!(self.role, PortRole::Cross(_))
    }

    /// The type that a file declares for it. Keys and values of the encoder's output have a length that is open even where the
    /// encoder's is not, because consumers feed empty ones in the first step.
    fn declared(&self, graph: &Graph) -> Type {
        let mut ty = graph.value(self.value).ty.clone();
        if self.is_cross() && ty.shape[2].literal().is_some() {
            ty.shape[2] = ENC.into();
        }
        ty
    }
}

type Ports<'g> = Vec<Named<'g>>;

/// The words of Optimum for our ports. Errors: a port that it has no word for.
fn onnx_name(entry: &str, port: &str, is_input: bool) -> Result<String, String> {
    let role = PortRole::of(port);
    let word = match (entry, role) {
        (SIGHT | LOOKUP, PortRole::Input(_)) | (_, PortRole::Input(EMBEDS)) => port,
        (
            "encoder",
            PortRole::Input(
                "input_ids" | "input_features" | "input_values" | "pixel_values" | "attention_mask" | "image_features",
            ),
        ) => port,
        (_, PortRole::Logits) => port,
        ("encoder", PortRole::EncoderHidden) => "last_hidden_state",
        (_, PortRole::DecoderIds) => "input_ids",
        (_, PortRole::Input("attention_mask")) => "encoder_attention_mask",
        (_, PortRole::EncoderHidden) => "encoder_hidden_states",
        (_, role) => {
            let Some(Cache { layer, side }) = role.cache() else {
                return Err(format!("no name is agreed for {port} of {entry}"));
            };
            let word = match side {
                Side::Key => "key",
                Side::Value => "value",
            };
            return Ok(cache_name(layer, matches!(role, PortRole::Cross(_)), word, is_input));
        }
    };
    Ok(word.to_owned())
}

/// What Optimum calls keys or values (`word`) of a layer.
pub(in crate::export) fn cache_name(layer: usize, is_cross: bool, word: &str, is_input: bool) -> String {
    let cache = if is_input { "past_key_values" } else { "present" };
    let stack = if is_cross { "encoder" } else { "decoder" };
    format!("{cache}.{layer}.{stack}.{word}")
}

/// Where a name stands among the inputs or outputs of its file, as Optimum orders them.
fn rank(name: &str) -> (usize, usize, usize) {
    let first = [
        "logits",
        "last_hidden_state",
        "encoder_attention_mask",
        "input_ids",
        "input_features",
        "input_values",
        "pixel_values",
        "attention_mask",
        "image_features",
        EMBEDS,
        "encoder_hidden_states",
    ];
    if let Some(at) = first.iter().position(|n| *n == name) {
        return (0, at, 0);
    }
    let mut parts = name.split('.').skip(1);
    let layer = parts.next().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let kinds = [("decoder", "key"), ("decoder", "value"), ("encoder", "key"), ("encoder", "value")];
    let kind = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    (1, layer, kinds.iter().position(|k| *k == kind).unwrap_or(kinds.len()))
}

fn ports<'g>(entry: &Entry, ports: &'g [Port], is_input: bool) -> Result<Ports<'g>, String> {
    let named = |port: &'g Port| {
        let name = onnx_name(&entry.name, &port.name, is_input)?;
        Ok(Named { name, role: port.role(), value: port.value })
    };
    let mut named = ports.iter().map(named).collect::<Result<Ports, String>>()?;
    named.sort_by_key(|port| rank(&port.name));
    Ok(named)
}

fn entry_of<'g>(graph: &'g Graph, name: &str) -> Result<&'g Entry, String> {
    graph.entry(name).ok_or_else(|| {
        let known: Vec<&str> = graph.entries.iter().map(|e| e.name.as_str()).collect();
        format!("the graph has no entry named {name}, only {}", known.join(", "))
    })
}

fn swapped(ports: &Ports) -> Vec<(ValueId, String)> {
    ports.iter().map(|port| (port.value, port.name.clone())).collect()
}

fn infos(graph: &Graph, ports: &Ports) -> Vec<ValueInfoProto> {
    ports.iter().map(|port| value_info(&port.name, &port.declared(graph))).collect()
}

fn file_graph(
    lowering: Lowering<'_>,
    name: &str,
    body: Vec<NodeProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> FileGraph {
    let outputs: Vec<String> = output.iter().filter_map(|o| o.name.clone()).collect();
    let (node, lowering) = lowering.finish(body, &outputs);
    let initializer = lowering.constants.into_values().collect();
    let graph = GraphProto { name: Some(name.to_owned()), node, initializer, input, output, ..Default::default() };
    FileGraph { graph, weights: lowering.weights }
}

/// One entry as it is.
fn plain(graph: &Graph, mut lowering: Lowering<'_>, entry: &str) -> Result<FileGraph, String> {
    let entry = entry_of(graph, entry)?;
    let (inputs, outputs) = (ports(entry, &entry.inputs, true)?, ports(entry, &entry.outputs, false)?);
    let body = lowering.block(&swapped(&inputs), &swapped(&outputs), &entry.fixed, "")?;
    Ok(file_graph(lowering, &entry.name, body, infos(graph, &inputs), infos(graph, &outputs)))
}

/// First and later steps in one graph. Its one `If` chooses the caches to start from: those given, or empty ones and the
/// keys and values of the encoder's output, which are computed from no rows when they are not needed. No weight is read
/// inside a branch: each exists once, and an engine packs it once. (onnxruntime 1.32 also fails to open a graph in which
/// a branch multiplies with int8 weights.)
fn merged(graph: &Graph, mut lowering: Lowering<'_>) -> Result<FileGraph, String> {
    let (first, later) = (entry_of(graph, "decoder")?, entry_of(graph, "decoder_with_past")?);
    let first_inputs = ports(first, &first.inputs, true)?;
    let later_inputs = ports(later, &later.inputs, true)?;
    let (caches, others): (Ports, Ports) = later_inputs.iter().cloned().partition(|port| port.role.cache().is_some());

    let mut inputs = others.clone();
    inputs.extend(first_inputs.iter().filter(|port| !others.contains(port)).cloned());
    inputs.extend(caches.iter().cloned());
    inputs.sort_by_key(|port| rank(&port.name));

    // The encoder's output, or none of its rows when the caches hold what follows from it.
    let [zero, rows_axis, past_axis] = [0, 1, 2].map(|i| lowering.index(i));
    let mut body = vec![
        node("Shape", &[MEMORY], &["memory/rows"], vec![int("start", 1), int("end", 2)]),
        node("Where", &[USE_CACHE_BRANCH, &zero, "memory/rows"], &["memory/wanted"], Vec::new()),
        node("Slice", &[MEMORY, &zero, "memory/wanted", &rows_axis], &["memory"], Vec::new()),
    ];
    let renamed = |name: &String| if name == MEMORY { "memory".to_owned() } else { name.clone() };
    let first_bound: Vec<(ValueId, String)> =
        first_inputs.iter().map(|port| (port.value, renamed(&port.name))).collect();
    let crosses = caches.iter().filter(|port| port.is_cross());
    let made_crosses: Vec<(ValueId, String)> =
        crosses.map(|port| (port.value, format!("memory/{}", port.name))).collect();
    body.extend(lowering.block(&first_bound, &made_crosses, &first.fixed, "memory/")?);

    // What `If` results in, by the name of the cache: crosses are outputs of the file, pasts are not.
    let chosen = |port: &Named| match port.is_cross() {
        true => port.name.replace("past_key_values", "present"),
        false => format!("chosen/{}", port.name),
    };
    let (mut given, mut made, mut given_out, mut made_out) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for port in &caches {
        let (name, ty) = (&port.name, port.declared(graph));
        let (given_name, made_name) = (format!("given/{name}"), format!("made/{name}"));
        given.push(node("Identity", &[name], &[&given_name], Vec::new()));
        given_out.push((given_name, ty.clone()));
        if port.is_cross() {
            made.push(node("Identity", &[&format!("memory/{name}")], &[&made_name], Vec::new()));
            made_out.push((made_name, ty));
        } else {
            made.push(node("Slice", &[name, &zero, &zero, &past_axis], &[&made_name], Vec::new()));
            made_out.push((made_name, empty_past(ty)));
        }
    }
    let results: Vec<String> = caches.iter().map(chosen).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    let branches = vec![subgraph("then_branch", given, &given_out), subgraph("else_branch", made, &made_out)];
    body.push(node("If", &[USE_CACHE_BRANCH], &results, branches));

    let outputs = ports(later, &later.outputs, false)?;
    let bound = |port: &Named| if port.role.cache().is_some() { chosen(port) } else { port.name.clone() };
    let later_bound: Vec<(ValueId, String)> = later_inputs.iter().map(|port| (port.value, bound(port))).collect();
    body.extend(lowering.block(&later_bound, &swapped(&outputs), &later.fixed, "")?);

    let mut all_outputs = outputs;
    let crosses = caches.iter().filter(|port| port.is_cross());
    all_outputs.extend(crosses.map(|port| Named { name: chosen(port), ..port.clone() }));
    all_outputs.sort_by_key(|port| rank(&port.name));
    let mut input = infos(graph, &inputs);
    input.push(flag_info(USE_CACHE_BRANCH));
    Ok(file_graph(lowering, MERGED, body, input, infos(graph, &all_outputs)))
}

const MEMORY: &str = "encoder_hidden_states";
const USE_CACHE_BRANCH: &str = "use_cache_branch";

/// A cache of no tokens.
fn empty_past(mut ty: Type) -> Type {
    let empty = BTreeMap::from([(PAST, 0), (DEC, 0)]);
    ty.shape.iter_mut().for_each(|dim| *dim = dim.fix(&empty));
    ty
}

#[cfg(test)]
mod tests;
