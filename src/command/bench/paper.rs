//! `trefoil bench --paper`: the comparison of "Return of the Encoder" on this machine.

mod compared;
mod table;

use std::fs;
use std::path::Path;

use converters::Artifact;
use converters::export::onnx::Onnx;
use frontend::Draws;
use graph::passes::{QuantizeActivations, run_one};
use graph::progress::Unit;
use graph::{Block, GgmlType, Granularity, Graph, Progress, Scratch};
use quant::{Activations, Policy, Scheme};
use validate::bench::measure::{Ran, interleaved};
use validate::bench::picture;
use validate::bench::{Course, machine};
use validate::paper::{Layers, Shape, flops};
use validate::runtime::ggml::Ggml;
use validate::runtime::onnx::OnnxRuntime;
use validate::runtime::{Options, Program, Runtime, Session};

use self::compared::{About, Compared, Row};
use super::arguments::{Bench, Precision, SEED};
use super::error::BenchError;
use crate::command::arguments::{Common, Verdict};
use crate::show::progress::Display;
use crate::show::terminal::{print, printable};

/// Up to Mu's block size.
const LENGTHS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
/// One scale per row.
const INT8: Scheme = Scheme::Affine { bits: 8, block: Block::Row, symmetric: true };
/// The start token of Mu.
const START: i64 = 1;

/// Writes both models, measures them in turn and prints.
pub fn paper(arguments: &Bench, common: &Common, display: &Display) -> Result<Verdict, BenchError> {
    let runtime = runtime(&arguments.engine)?;
    let compared = Compared::new(arguments.config.as_deref())?;
    let (both, precision) = (compared.layers(), arguments.precision.unwrap_or(Precision::Int8));
    let home = tempfile::tempdir().map_err(BenchError::io(&std::env::temp_dir()))?;
    let options = Options { as_used: true, ..arguments.engines.options() };
    let mut graphs: Vec<Graph> = Vec::new();
    let mut sessions: Vec<Box<dyn Session>> = Vec::new();
    for (name, layers) in ["encoder-decoder", "decoder-only"].into_iter().zip(both) {
        let dir = home.path().join(name);
        display.stage(&format!("{name}: write"), 0, Unit::Bytes);
        let (graph, artifact) =
            written(compared.shape, layers, runtime, precision, &dir, display).map_err(|error| wrong(name, error))?;
        display.stage(&format!("{name}: load"), 0, Unit::Samples);
        sessions.push(runtime.open(&artifact, &options).map_err(|error| wrong(name, error))?);
        graphs.push(graph);
    }
    let engine = sessions[0].engine();
    let lengths = if arguments.source.is_empty() { LENGTHS.to_vec() } else { arguments.source.clone() };
    let (tokens, runs) = (arguments.tokens.get(), arguments.runs.get());
    let before = machine::load();
    let mut rows = Vec::new();
    for source in lengths {
        display.stage(&format!("source {source}"), 2 * (runs as u64 + 1), Unit::Samples);
        let vocabulary = compared.shape.vocabulary;
        let courses = |round, place| vec![course([source, vocabulary], place, tokens, SEED + round as u64)];
        let mut rounds = Vec::new();
        for ran in interleaved(&mut sessions, runs, courses, || display.advance(1)) {
            match ran {
                Ran::Done(times) => rounds.push(times.concat()),
                Ran::Failed(error) => return Err(wrong("a run", error)),
            }
        }
        let counted = [0, 1].map(|i| flops(&graphs[i], both[i], source, tokens));
        let [ours, theirs] = <[_; 2]>::try_from(rounds).expect("a list for each session");
        rows.extend(Row::new(source, [ours, theirs], counted));
    }
    let load = [before, machine::load()];
    display.finish();
    let about = About {
        parameters: [0, 1].map(|i| parameters(&graphs[i])),
        compared,
        engine,
        computes: computes(runtime, precision),
        threads: options.threads,
        tokens,
        runs,
        load,
    };
    if let Some(file) = &arguments.svg {
        fs::write(file, picture::svg(&table::panels(&rows))).map_err(BenchError::io(file))?;
    }
    let text =
        if common.json { table::json(&rows, &about) } else { printable(&table::text(&rows, &about)).into_owned() };
    print(&text).map_err(BenchError::io(Path::new("stdout")))?;
    Ok(Verdict::Passed)
}

fn wrong(what: &str, error: impl std::fmt::Display) -> BenchError {
    BenchError::Artifact { dir: what.into(), message: error.to_string() }
}

/// The engine of these names. Errors: it is none that has both models, or several.
fn runtime(names: &[String]) -> Result<&'static dyn Runtime, BenchError> {
    match names {
        [] => Ok(&OnnxRuntime),
        [name] if name == OnnxRuntime.name() => Ok(&OnnxRuntime),
        [name] if name == Ggml.name() => Ok(&Ggml),
        _ => Err(BenchError::PaperEngine { found: names.join(", ") }),
    }
}

/// What products are computed in.
fn computes(runtime: &dyn Runtime, precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Int8 if runtime.runs("gguf") => {
            "q8_0: weights of 8 bits with a scale for each 32, by which the engine rounds the inputs of their products too"
        }
        Precision::Int8 => "int8: weights with a scale a row, and inputs of their products with one scale",
    }
}

/// Writes a model for an engine, and returns its graph. Errors: in words.
fn written(
    shape: Shape,
    layers: Layers,
    runtime: &dyn Runtime,
    precision: Precision,
    dir: &Path,
    display: &Display,
) -> Result<(Graph, Artifact), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let in_gguf = runtime.runs("gguf");
    let mut graph = shape.graph(layers)?;
    let scratch = Scratch::new().map_err(|error| told(&error))?;
    if precision == Precision::Int8 {
        let (scheme, activations) = match in_gguf {
            true => (Scheme::Ggml(GgmlType::Q8_0), Activations::None),
            false => (INT8, Activations::Dynamic),
        };
        let plan = Policy { scheme, activations, ..Policy::default() }.plan(&graph).map_err(|error| told(&error))?;
        quant::quantize(&mut graph, &plan, &scratch, display).map_err(|error| told(&error))?;
        if activations == Activations::Dynamic {
            run_one(&mut graph, &QuantizeActivations::all(Granularity::Tensor)).map_err(|error| told(&error))?;
        }
    }
    fs::create_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if in_gguf {
        let artifact = validate::paper::write(&graph, shape, layers, dir)?;
        return Ok((graph, artifact));
    }
    Onnx::DEFAULT.write_graphs(&graph, dir).map_err(|error| told(&error))?;
    let artifact = Artifact::list("onnx", dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok((graph, artifact))
}

/// What one of the two is fed: the encoder-decoder its source, the decoder-only the same as the beginning of its target.
fn course([source, vocabulary]: [usize; 2], place: usize, tokens: usize, seed: u64) -> Course {
    let draws = Draws::ids(vocabulary, vec![0, START]);
    let drawn = |length| draws.batch(length, 1, seed).expect("at least one token");
    let ids = drawn(source.max(1));
    match place {
        0 => Course { source: ids, prompt: vec![START], tokens },
        _ => {
            let text = ids.get("input_ids").and_then(|ids| ids.as_i64()).unwrap_or_default();
            Course { source: drawn(1), prompt: [text, &[START]].concat(), tokens }
        }
    }
}

fn parameters(graph: &Graph) -> u64 {
    graph.weights.iter().map(|(_, weight)| weight.len() as u64).sum()
}
