//! The models of the comparison as GGUF files, which `trefoil-engine` opens beside those of the families.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use converters::checkpoint::Size;
use converters::export::gguf::{Gguf, Value};
use converters::{Architecture, Artifact, Checkpoint, Format, ImportError, Model, Semantics, limits};
use graph::{Build, Graph};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Layers, Shape};

/// Beside the file: which graph its weights are of. A family reads this from config.json.
const ABOUT: &str = "paper.json";
const MODEL_TYPE: &str = "paper";

#[derive(Serialize, Deserialize)]
struct About {
    shape: Shape,
    layers: Layers,
}

/// Modules of the graph and of GGUF.
const NAMES: &[(&str, &str)] = &[
    ("table", "token_embd"),
    ("encoder.{i}.norm", "enc.blk.{i}.attn_norm"),
    ("encoder.{i}.self.q", "enc.blk.{i}.attn_q"),
    ("encoder.{i}.self.k", "enc.blk.{i}.attn_k"),
    ("encoder.{i}.self.v", "enc.blk.{i}.attn_v"),
    ("encoder.{i}.self.out", "enc.blk.{i}.attn_o"),
    ("encoder.{i}.feed_forward_norm", "enc.blk.{i}.ffn_norm"),
    ("encoder.{i}.gate", "enc.blk.{i}.ffn_gate"),
    ("encoder.{i}.up", "enc.blk.{i}.ffn_up"),
    ("encoder.{i}.down", "enc.blk.{i}.ffn_down"),
    ("encoder.norm", "enc.output_norm"),
    ("decoder.{i}.norm", "dec.blk.{i}.attn_norm"),
    ("decoder.{i}.self.q", "dec.blk.{i}.attn_q"),
    ("decoder.{i}.self.k", "dec.blk.{i}.attn_k"),
    ("decoder.{i}.self.v", "dec.blk.{i}.attn_v"),
    ("decoder.{i}.self.out", "dec.blk.{i}.attn_o"),
    ("decoder.{i}.cross_norm", "dec.blk.{i}.cross_attn_norm"),
    ("decoder.{i}.cross.q", "dec.blk.{i}.cross_attn_q"),
    ("decoder.{i}.cross.k", "dec.blk.{i}.cross_attn_k"),
    ("decoder.{i}.cross.v", "dec.blk.{i}.cross_attn_v"),
    ("decoder.{i}.cross.out", "dec.blk.{i}.cross_attn_o"),
    ("decoder.{i}.feed_forward_norm", "dec.blk.{i}.ffn_norm"),
    ("decoder.{i}.gate", "dec.blk.{i}.ffn_gate"),
    ("decoder.{i}.up", "dec.blk.{i}.ffn_up"),
    ("decoder.{i}.down", "dec.blk.{i}.ffn_down"),
    ("decoder.norm", "dec.output_norm"),
];

/// What the exporter asks of a family. It is in no list of families: no checkpoint is of it.
struct Paper;

impl Architecture for Paper {
    fn model_types(&self) -> &'static [&'static str] {
        &[MODEL_TYPE]
    }

    fn build<'b>(&self, _: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        Err(checkpoint.does_not_fit().into())
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        NAMES
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        let width = checkpoint.config_json()["shape"]["width"].as_u64().unwrap_or_default();
        // A dimension, which is below 2^31.
        Ok(vec![(format!("{MODEL_TYPE}.embedding_length"), Value::U32(width as u32))])
    }
}

/// Writes a graph of [`Shape::graph`], its weights quantized or not, as the GGUF artifact `dir`, a folder that exists.
///
/// Errors: what GGUF cannot hold, and what the system refuses, in words.
pub fn write(graph: &Graph, shape: Shape, layers: Layers, dir: &Path) -> Result<Artifact, String> {
    let about = json!({ "model_type": MODEL_TYPE, "shape": shape, "layers": layers });
    let file = dir.join(ABOUT);
    fs::write(&file, about.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    let checkpoint = Checkpoint::of_config(&file).map_err(|error| error.to_string())?;
    let model = Model {
        checkpoint: Arc::new(checkpoint),
        architecture: &Paper,
        semantics: Semantics::default(),
        graph: graph.clone(),
        folded_logit_scale: None,
        imported_eps: Default::default(),
        evidence: None,
    };
    Gguf::DEFAULT.write(&model, dir).map_err(|error| error.to_string())
}

/// Whether [`write()`] made the artifact in this folder.
pub fn is_written(dir: &Path) -> bool {
    dir.join(ABOUT).is_file()
}

/// The graph of an artifact of [`write()`], with the weights of its file as they are stored. Errors: in words.
pub fn read(dir: &Path) -> Result<Graph, String> {
    let file = dir.join(ABOUT);
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = limits::read_text(&file).map_err(|error| wrong(&error))?;
    let About { shape, layers } = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let checkpoint = Checkpoint::open(dir).map_err(|error| error.to_string())?;
    checkpoint.config().ignore(&["model_type", "shape", "layers"]);
    let stored = |name: String, shape: Vec<usize>| {
        let sizes: Vec<Size> = shape.into_iter().map(|len| Size { len, name: "as in paper.json" }).collect();
        checkpoint.weight(&name, &sizes)
    };
    let graph = shape.graph_of(layers, &stored);
    // What is missing is the cause of what does not fit.
    checkpoint.finish().map_err(|error| error.to_string())?;
    graph
}

#[cfg(test)]
mod tests {
    use graph::progress::Quiet;
    use graph::{GgmlType, Scratch};
    use quant::{Policy, Scheme};

    use super::super::tests::{BOTH, GATED, SMALL};
    use super::*;

    fn quantized(shape: Shape, layers: Layers, scheme: Scheme) -> Graph {
        let mut graph = shape.graph(layers).expect("built");
        let policy = Policy { scheme, ..Policy::default() };
        let plan = policy.plan(&graph).expect("planned");
        quant::quantize(&mut graph, &plan, &Scratch::new().expect("a scratch file"), &Quiet).expect("quantized");
        graph
    }

    #[test]
    fn a_file_has_the_graph_with_the_same_weights_of_the_same_types() {
        let wide = Shape { width: 32, queries: 32, keys: 16, head: 16, hidden: 64, ..GATED };
        for (shape, scheme) in [(SMALL, Scheme::Keep), (GATED, Scheme::Keep), (wide, Scheme::Ggml(GgmlType::Q8_0))] {
            for layers in BOTH {
                let graph = quantized(shape, layers, scheme);
                let home = tempfile::tempdir().expect("a folder");
                write(&graph, shape, layers, home.path()).expect("written");
                assert!(is_written(home.path()));
                let again = read(home.path()).expect("read");
                assert_eq!(again.values, graph.values, "{layers:?} with {scheme:?}");
                for ((_, found), (_, expected)) in again.weights.iter().zip(graph.weights.iter()) {
                    assert_eq!(found.data.type_name(), expected.data.type_name(), "{}", expected.name);
                    let [rows, _] = expected.matrix();
                    let numbers = [found, expected].map(|weight| {
                        let mut numbers = Vec::new();
                        weight.rows(0..rows, &mut numbers).expect("its rows");
                        numbers
                    });
                    assert_eq!(numbers[0], numbers[1], "{}", expected.name);
                }
            }
        }
    }

    #[test]
    fn weights_of_another_shape_are_told() {
        let home = tempfile::tempdir().expect("a folder");
        let layers = Layers::DecoderOnly(2);
        let graph = SMALL.graph(layers).expect("built");
        write(&graph, Shape { hidden: 25, ..SMALL }, layers, home.path()).expect("written");
        let error = read(home.path()).expect_err("another shape");
        assert!(error.contains("decoder.0.up.weight") && error.contains("[25, 16]"), "{error}");
    }
}
