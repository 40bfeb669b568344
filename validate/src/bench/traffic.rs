//! What a decoder reads from memory for a token: its weights as they are stored, and the caches.
//!
//! This is a lower bound on what an engine moves: one that unpacks a matrix at every step writes and reads it once more.

use std::collections::HashMap;

use converters::Artifact;
use converters::export::onnx::{Extent, Folder, OnnxFile};
use graph::{DEC, ENC, Graph, Op, PortRole};

/// Of caches, which are f32 in the graph and in the engines that run it.
const CACHE_WIDTH: u64 = 4;
/// Operators that read rows of a table, not all of it.
const LOOKUPS: &[&str] = &["Gather", "GatherBlockQuantized"];

/// Bytes that one step reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Weights, whatever the batch.
    pub weights: u64,
    /// For each sequence and each target token before this one.
    pub past_token: u64,
    /// For each sequence and each place of the encoder's output.
    pub place: u64,
}

impl Traffic {
    /// Of an artifact; `None` where its files do not tell: packed safetensors have no graph of their own.
    pub fn of(artifact: &Artifact) -> Option<Traffic> {
        match artifact.format {
            "onnx" => {
                let folder = Folder::find(&artifact.dir);
                // A merged decoder has what only the first step reads.
                let step = (!folder.is_merged_alone()).then(|| folder.step())?;
                Some(of_onnx(&OnnxFile::open(&step).ok()?))
            }
            "gguf" => {
                let mut graph = converters::import(&artifact.dir).ok()?.graph;
                graph::passes::run(&mut graph).ok()?;
                of_graph(&graph)
            }
            _ => None,
        }
    }

    /// Bytes a token of one sequence, on average over `tokens` steps of `rows` sequences side by side.
    pub fn bytes_per_token(&self, rows: usize, places: usize, tokens: usize) -> f64 {
        let past = (tokens as f64 + 1.0) / 2.0;
        let caches = self.past_token as f64 * past + (self.place * places as u64) as f64;
        self.weights as f64 / rows.max(1) as f64 + caches
    }
}

fn of_onnx(step: &OnnxFile) -> Traffic {
    let mut is_read_whole: HashMap<&str, bool> = HashMap::new();
    for node in &step.nodes {
        for input in &node.inputs {
            *is_read_whole.entry(input).or_default() |= !LOOKUPS.contains(&node.op.as_str());
        }
    }
    let whole = step.initializers.iter().filter(|c| is_read_whole.get(c.name.as_str()) == Some(&true));
    let weights = whole.map(|c| (c.count() as u64 * c.element.bits()).div_ceil(8)).sum();
    let caches = |kind: &str| {
        let of_kind = |name: &str| name.starts_with("past_key_values.") && name.contains(kind);
        let inputs = step.inputs.iter().filter(|input| of_kind(&input.name));
        let row = |shape: &Vec<Extent>| match shape[..] {
            [_, Extent::Known(heads), _, Extent::Known(width)] => Some((heads * width) as u64 * CACHE_WIDTH),
            _ => None,
        };
        inputs.filter_map(|input| input.shape.as_ref().and_then(row)).sum()
    };
    Traffic { weights, past_token: caches(".decoder."), place: caches(".encoder.") }
}

fn of_graph(graph: &Graph) -> Option<Traffic> {
    let entry = graph.entry("decoder_with_past")?;
    let mut traffic = Traffic::default();
    let mut read = Vec::new();
    for id in graph.order(entry) {
        let lookup = matches!(graph.op(id), Some(Op::Embed));
        read.extend(graph.args(id).iter().skip(usize::from(lookup) * 2).filter_map(|arg| graph.weight_of(*arg)));
    }
    read.sort();
    read.dedup();
    traffic.weights = read.into_iter().map(|id| quant::report::stored_bytes(graph.weights.get(id))).sum();
    for port in &entry.inputs {
        let shape = &graph.value(port.value).ty.shape;
        let elements = shape.iter().filter_map(|dim| dim.literal()).product::<usize>() as u64;
        let has = |sym| shape.iter().any(|dim| dim.symbols().contains(&sym));
        match port.role() {
            PortRole::Past(_) => traffic.past_token += elements * CACHE_WIDTH,
            PortRole::Cross(_) if has(ENC) || !has(DEC) => traffic.place += elements * CACHE_WIDTH,
            _ => {}
        }
    }
    Some(traffic)
}
