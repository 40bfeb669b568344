//! `cargo bench --bench executor`: the prepared kernels of the interpreter beside the plain ones, as ratios.
//!
//! A random T5 of 223 million parameters (f32, written once into `target/bench`) as it is, in int8 and in q4_k: one Linear of
//! 768 → 3072, the encoder on 32 and on 512 tokens, one decoding step of 1 and of 8 sequences. Plain and prepared take turns, so
//! that a busy neighbour slows both; the ratio is the median of those of each turn. Resident memory (VmRSS, as the kernel
//! counts it) is that after encoding and one step on prepared kernels, before any plain one has run.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use graph::eval::{Feeds, Interpreter};
use graph::progress::Quiet;
use graph::{Build, DEC, Dim, Graph, Scratch, Tensor, Type};
use quant::{Policy, Scheme};
use validate::runtime::Session;
use validate::runtime::reference::Reference;

#[path = "random_t5.rs"]
#[allow(dead_code, reason = "other benchmarks run the program")]
mod random_t5;

const TURNS: usize = 5;
/// Steps of which one turn is made.
const STEPS: usize = 8;
const CACHE_BYTES: usize = 2 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let mut float = converters::import(&random_t5::BASE.write(&home.join("t5-223m"))?)?.graph;
    graph::passes::run(&mut float)?;
    let scratch = Scratch::new()?;
    println!("{} threads, {}", rayon::current_num_threads(), graph::eval::kernel());
    println!("{:<8} {:<24} {:>12} {:>12} {:>7}", "weights", "work", "plain ms", "prepared ms", "ratio");
    for scheme in ["keep", "int8", "q4_k"] {
        let mut graph = float.clone();
        let plan = Policy::of(scheme.parse::<Scheme>()?).plan(&graph)?;
        quant::quantize(&mut graph, &plan, &scratch, &Quiet)?;
        let prepared = Interpreter::new(&graph).prepared().with_cache(CACHE_BYTES);
        let plain = Interpreter::new(&graph).with_cache(CACHE_BYTES);
        let begun = |interpreter, rows| -> Result<Reference<_>, Box<dyn Error>> {
            let mut session = Reference::new(interpreter);
            session.encode(&source(rows, 32, &mut 0))?;
            session.decode(&Tensor::i64([rows, 1], vec![0; rows]))?;
            Ok(session)
        };
        begun(&prepared, 1)?.decode(&Tensor::i64([1, 1], vec![7]))?;
        println!("{scheme:<8} resident {} MB", resident_bytes().unwrap_or(0) / 1_000_000);
        for rows in [1, 512] {
            let alone = linear(&graph)?;
            let [plain, prepared] = [Interpreter::new(&alone), Interpreter::new(&alone).prepared()];
            let feeds = Feeds::from([("x".into(), Tensor::f32([rows, 768], vec![0.5; rows * 768]))]);
            let run = |interpreter: &Interpreter| interpreter.call("linear", &feeds).map(drop);
            let caches = [plain.with_cache(CACHE_BYTES), prepared.with_cache(CACHE_BYTES)];
            turns(scheme, &format!("linear, {rows} rows"), || run(&caches[0]), || run(&caches[1]))?;
        }
        for tokens in [32, 512] {
            let [mut slow, mut fast] = [Reference::new(&plain), Reference::new(&prepared)];
            let (mut slow_seed, mut fast_seed) = (0, 0);
            turns(
                scheme,
                &format!("encoder, {tokens} tokens"),
                || slow.encode(&source(1, tokens, &mut slow_seed)),
                || fast.encode(&source(1, tokens, &mut fast_seed)),
            )?;
        }
        for rows in [1, 8] {
            let (mut fast, mut slow) = (begun(&prepared, rows)?, begun(&plain, rows)?);
            let step = |session: &mut Reference<_>| {
                (0..STEPS).try_for_each(|_| session.decode(&Tensor::i64([rows, 1], vec![7; rows])).map(drop))
            };
            turns(scheme, &format!("{STEPS} steps, {rows} rows"), || step(&mut slow), || step(&mut fast))?;
        }
    }
    Ok(())
}

/// Runs both in turn after one run of each, and prints medians.
fn turns<E>(
    scheme: &str,
    work: &str,
    mut plain: impl FnMut() -> Result<(), E>,
    mut prepared: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut timed = || -> Result<[f64; 2], E> {
        let start = Instant::now();
        plain()?;
        let middle = Instant::now();
        prepared()?;
        Ok([(middle - start).as_secs_f64(), middle.elapsed().as_secs_f64()])
    };
    timed()?;
    let found: Vec<[f64; 2]> = (0..TURNS).map(|_| timed()).collect::<Result<_, E>>()?;
    let median = |of: &dyn Fn(&[f64; 2]) -> f64| {
        let mut all: Vec<f64> = found.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "{scheme:<8} {work:<24} {:>12.2} {:>12.2} {:>7.1}",
        1e3 * median(&|t| t[0]),
        1e3 * median(&|t| t[1]),
        median(&|t| t[0] / t[1])
    );
    Ok(())
}

/// The first feed-forward product of the encoder, alone.
fn linear(graph: &Graph) -> Result<Graph, Box<dyn Error>> {
    let name = "encoder.block.0.layer.1.DenseReluDense.wi.weight";
    let weight = graph.weights.get(graph.weights.find(name).ok_or(name)?).clone();
    let b = Build::new();
    let x = b.input("x", Type::f32([Dim::from(DEC), 768.into()]));
    let w = b.weight(weight);
    b.entry("linear", &[("x", x)], &[("y", x.linear(w, None))], BTreeMap::new());
    Ok(b.finish()?)
}

/// Sources of other tokens each time, so that no session finds them known.
fn source(rows: usize, tokens: usize, seed: &mut i64) -> Feeds {
    *seed += 1;
    let ids = (0..rows * tokens).map(|i| 3 + (i as i64 * 37 + *seed) % 30_000).collect();
    let mask = Tensor::i64([rows, tokens], vec![1; rows * tokens]);
    Feeds::from([("input_ids".into(), Tensor::i64([rows, tokens], ids)), ("attention_mask".into(), mask)])
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
