//! `trefoil bench --paper`: the comparison of "Return of the Encoder" on this machine.

use std::fs;
use std::path::Path;

use converters::Artifact;
use converters::export::onnx::Onnx;
use graph::progress::Unit;
use graph::{Block, Granularity, Graph, Progress, Scratch};
use quant::{Activations, Policy, Scheme};
use serde_json::{Value as Json, json};
use validate::bench::draw::Draws;
use validate::bench::measure::{Ran, Times, interleaved};
use validate::bench::paper::{Layers, MU, MU_LAYERS, flops};
use validate::bench::picture::{self, Line, Panel};
use validate::bench::{Course, Spread, machine};
use validate::runtime::onnx::OnnxRuntime;
use validate::runtime::{Engine, Options, Runtime, Session};

use super::{Bench, BenchError, Precision, SEED};
use crate::progress::Display;
use crate::table::aligned;
use crate::terminal::{print, printable};
use crate::{Common, Verdict};

/// Up to Mu's block size.
const LENGTHS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
/// One scale per row.
const INT8: Scheme = Scheme::Affine { bits: 8, block: Block::Row, symmetric: true };
/// The start token of Mu.
const START: i64 = 1;

/// What the authors found on a Qualcomm NPU, encoder-decoder over decoder-only.
const PUBLISHED: [(&str, &str); 4] =
    [("first token", "0.53"), ("tokens/s", "4.7"), ("memory", "0.78"), ("FLOPs", "0.84 to 0.89")];

/// One length.
struct Row {
    source: usize,
    /// Of the encoder-decoder and of the decoder-only.
    first_ms: [Spread; 2],
    tokens_per_s: [Option<Spread>; 2],
    peak_mb: [Option<f64>; 2],
    gflops: [f64; 2],
    /// Of pairs of rounds.
    first_ratio: Spread,
    rate_ratio: Option<Spread>,
}

impl Row {
    fn new(source: usize, rounds: [Vec<Times>; 2], flops: [f64; 2]) -> Option<Row> {
        let spread = |of: &dyn Fn(&Times) -> Option<f64>| -> [Option<Spread>; 2] {
            [0, 1].map(|i| Spread::of(rounds[i].iter().filter_map(of)))
        };
        let [Some(ours), Some(theirs)] = spread(&|times| Some(times.first_token_ms())) else { return None };
        let ratios = |of: &dyn Fn(&Times) -> Option<f64>| {
            Spread::of(rounds[0].iter().zip(&rounds[1]).filter_map(|(a, b)| Some(of(a)? / of(b)?)))
        };
        let peak = |times: &Vec<Times>| Some(times.last()?.memory?.peak_bytes as f64 / 1e6);
        Some(Row {
            source,
            first_ms: [ours, theirs],
            tokens_per_s: spread(&|times| times.tokens_per_s(1)),
            peak_mb: [peak(&rounds[0]), peak(&rounds[1])],
            gflops: flops.map(|flops| flops / 1e9),
            first_ratio: ratios(&|times| Some(times.first_token_ms()))?,
            rate_ratio: ratios(&|times| times.tokens_per_s(1)),
        })
    }

    fn memory_ratio(&self) -> Option<f64> {
        Some(self.peak_mb[0]? / self.peak_mb[1]?)
    }

    fn flops_ratio(&self) -> f64 {
        self.gflops[0] / self.gflops[1]
    }
}

/// Writes both models, measures them in turn and prints.
pub fn paper(arguments: &Bench, common: &Common, display: &Display) -> Result<Verdict, BenchError> {
    let decoder_only = MU.same_parameters(MU_LAYERS);
    let both = [Layers::EncoderDecoder(MU_LAYERS), Layers::DecoderOnly(decoder_only)];
    let home = tempfile::tempdir().map_err(BenchError::io(&std::env::temp_dir()))?;
    let options = Options { as_used: true, ..arguments.engines.options() };
    let mut graphs: Vec<Graph> = Vec::new();
    let mut sessions: Vec<Box<dyn Session>> = Vec::new();
    for (name, layers) in ["encoder-decoder", "decoder-only"].into_iter().zip(both) {
        let dir = home.path().join(name);
        let graph = written(name, layers, arguments.precision, &dir, display)?;
        let artifact = Artifact::list("onnx", &dir).map_err(BenchError::io(&dir))?;
        display.stage(&format!("{name}: load"), 0, Unit::Samples);
        sessions.push(OnnxRuntime.open(&artifact, &options).map_err(|error| wrong(name, error))?);
        graphs.push(graph);
    }
    let engine = sessions[0].engine();
    let lengths = if arguments.source.is_empty() { LENGTHS.to_vec() } else { arguments.source.clone() };
    let (tokens, runs) = (arguments.tokens.get(), arguments.runs.get());
    let before = machine::load();
    let mut rows = Vec::new();
    for source in lengths {
        display.stage(&format!("source {source}"), 2 * (runs as u64 + 1), Unit::Samples);
        let course = |round: usize, place: usize| course(source, place, tokens, SEED + round as u64);
        let mut rounds = Vec::new();
        for ran in interleaved(&mut sessions, runs, course, || display.advance(1)) {
            match ran {
                Ran::Done(times) => rounds.push(times),
                Ran::Failed(error) => return Err(wrong("a run", error)),
            }
        }
        let counted = [0, 1].map(|i| flops(&graphs[i], both[i], source, tokens));
        let [ours, theirs] = <[_; 2]>::try_from(rounds).expect("a list for each session");
        rows.extend(Row::new(source, [ours, theirs], counted));
    }
    let load = [before, machine::load()];
    display.finish();
    let about = About { parameters: [0, 1].map(|i| parameters(&graphs[i])), decoder_only, engine, tokens, runs, load };
    if let Some(file) = &arguments.svg {
        fs::write(file, picture::svg(&panels(&rows))).map_err(BenchError::io(file))?;
    }
    let text = if common.json { json_of(&rows, &about) } else { printable(&text_of(&rows, &about)).into_owned() };
    print(&text).map_err(BenchError::io(Path::new("stdout")))?;
    Ok(Verdict::Passed)
}

fn wrong(what: &str, error: impl std::fmt::Display) -> BenchError {
    BenchError::Artifact { dir: what.into(), message: error.to_string() }
}

/// Writes a model's ONNX files, and returns its graph.
fn written(
    name: &str,
    layers: Layers,
    precision: Precision,
    dir: &Path,
    display: &Display,
) -> Result<Graph, BenchError> {
    display.stage(&format!("{name}: write"), 0, Unit::Bytes);
    let mut graph = MU.graph(layers).map_err(|message| wrong(name, message))?;
    let scratch = Scratch::new().map_err(BenchError::io(dir))?;
    if precision == Precision::Int8 {
        let policy = Policy { scheme: INT8, activations: Activations::Dynamic, ..Policy::default() };
        let plan = policy.plan(&graph).map_err(|error| wrong(name, error))?;
        quant::quantize(&mut graph, &plan, &scratch, display).map_err(|error| wrong(name, error))?;
        graph::passes::quantize_activations(&mut graph, Granularity::Tensor).map_err(|error| wrong(name, error))?;
    }
    fs::create_dir(dir).map_err(BenchError::io(dir))?;
    Onnx::DEFAULT.write_graphs(&graph, dir).map_err(|error| wrong(name, error))?;
    Ok(graph)
}

/// What one of the two is fed: the encoder-decoder its source, the decoder-only the same as the beginning of its target.
fn course(source: usize, place: usize, tokens: usize, seed: u64) -> Course {
    let draws = Draws::Ids { vocabulary: MU.vocabulary, special: vec![0, START] };
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

/// What the table stands on.
struct About {
    parameters: [u64; 2],
    decoder_only: usize,
    engine: Engine,
    tokens: usize,
    runs: usize,
    load: [Option<f64>; 2],
}

fn text_of(rows: &[Row], about: &About) -> String {
    let heads = [
        "source",
        "first token ms",
        "decoder-only",
        "ratio",
        "tokens/s",
        "decoder-only",
        "ratio",
        "peak MB",
        "decoder-only",
        "ratio",
        "GFLOP",
        "decoder-only",
        "ratio",
    ];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let shown = |spread: Option<Spread>, digits: usize| {
        let wide = if spread.is_some_and(|spread| spread.is_wide()) { "~" } else { "" };
        spread.map_or(String::new(), |spread| format!("{wide}{:.digits$}", spread.median))
    };
    let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
    for row in rows {
        lines.push(vec![
            row.source.to_string(),
            shown(Some(row.first_ms[0]), 1),
            shown(Some(row.first_ms[1]), 1),
            shown(Some(row.first_ratio), 2),
            shown(row.tokens_per_s[0], 1),
            shown(row.tokens_per_s[1], 1),
            shown(row.rate_ratio, 2),
            number(row.peak_mb[0], 0),
            number(row.peak_mb[1], 0),
            number(row.memory_ratio(), 2),
            number(Some(row.gflops[0]), 1),
            number(Some(row.gflops[1]), 1),
            number(Some(row.flops_ratio()), 2),
        ]);
    }
    let published: Vec<String> = PUBLISHED.iter().map(|(what, ratio)| format!("{what} {ratio}")).collect();
    let load = about.load.map(|load| load.map_or("?".to_owned(), |load| format!("{load:.2}")));
    let million = about.parameters.map(|n| n as f64 / 1e6);
    format!(
        "{}\nencoder-decoder of {}+{} layers and {:.0} million parameters (Mu's shape) over decoder-only of {} layers and {:.0} \
         million; random weights, so that the tokens mean nothing and the work is the same\n{} {}: {}\n{} new tokens, medians of {} \
         runs in turn; `~`: the quartiles are more than a fifth of the median apart, so it is not to be quoted; load of the machine \
         {} before and {} after\npublished (arXiv 2501.16273, on a Qualcomm NPU): {}\n",
        aligned(0, &lines),
        MU_LAYERS[0],
        MU_LAYERS[1],
        million[0],
        about.decoder_only,
        million[1],
        about.engine.name,
        about.engine.version,
        about.engine.settings,
        about.tokens,
        about.runs,
        load[0],
        load[1],
        published.join(", ")
    )
}

fn json_of(rows: &[Row], about: &About) -> String {
    let rows: Vec<Json> = rows
        .iter()
        .map(|row| {
            json!({
                "source": row.source,
                "tokens": about.tokens,
                "runs": about.runs,
                "engine": about.engine,
                "parameters": about.parameters,
                "decoder_only_layers": about.decoder_only,
                "machine_load": about.load,
                "first_token_ms": row.first_ms,
                "tokens_per_s": row.tokens_per_s,
                "peak_rss_mb": row.peak_mb,
                "gflop": row.gflops,
                "first_token_ratio": row.first_ratio,
                "tokens_per_s_ratio": row.rate_ratio,
                "peak_rss_ratio": row.memory_ratio(),
                "gflop_ratio": row.flops_ratio(),
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("only JSON types") + "\n"
}

fn panels(rows: &[Row]) -> Vec<Panel> {
    let line = |name: &str, of: &dyn Fn(&Row) -> Option<Spread>| Line {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some((row.source as f64, of(row)?))).collect(),
    };
    let exact = |value: f64| Some(Spread { median: value, low: value, high: value });
    let panel =
        |title: &str, lines: Vec<Line>| Panel { title: title.to_owned(), across: "source, tokens".to_owned(), lines };
    vec![
        panel(
            "first token, ms",
            vec![
                line("encoder-decoder", &|row| Some(row.first_ms[0])),
                line("decoder-only", &|row| Some(row.first_ms[1])),
            ],
        ),
        panel(
            "tokens per second",
            vec![line("encoder-decoder", &|row| row.tokens_per_s[0]), line("decoder-only", &|row| row.tokens_per_s[1])],
        ),
        panel(
            "encoder-decoder over decoder-only",
            vec![
                line("first token (published: 0.53)", &|row| Some(row.first_ratio)),
                line("tokens per second (published: 4.7)", &|row| row.rate_ratio),
                line("memory (published: 0.78)", &|row| row.memory_ratio().and_then(exact)),
                line("FLOPs (published: 0.84 to 0.89)", &|row| exact(row.flops_ratio())),
            ],
        ),
    ]
}
