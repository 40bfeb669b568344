//! First token, tokens a second and memory of a random T5 of 223 million parameters on ggml, by `trefoil-engine` and by
//! llama.cpp, in turns: `cargo bench --features llama-cpp --bench engines [ROUNDS]`.
//!
//! Times are processor times of the process: on a machine that others use too, wall time shows them. Every engine computes
//! with one thread, and llama.cpp has the f32 cache that it is validated with.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use converters::Artifact;
use graph::{Feeds, Tensor};
use validate::runtime::Options;
use validate::runtime::ggml::engine::{self, Repacking};
use validate::runtime::llama::LlamaCpp;
use validate::{Runtime, Session};

mod random_t5;

const SOURCES: [usize; 3] = [32, 128, 512];
/// Steps after the first; llama.cpp computes the keys and values of the source in each, so it gets fewer.
const STEPS: usize = 24;
const STEPS_OF_LLAMA_CPP: usize = 6;
/// Ticks a second of /proc (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// Seconds of the processor that were used.
#[derive(Clone, Copy)]
enum Clock {
    /// By this thread, to the nanosecond.
    Thread,
    /// By all threads of this process, to a hundredth of a second.
    Process,
}

impl Clock {
    fn seconds(self) -> f64 {
        match self {
            Clock::Thread => {
                let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
                stat.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
            }
            Clock::Process => {
                let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
                let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
                let ticks = |i: usize| fields.get(i).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
                (ticks(11) + ticks(12)) / TICKS
            }
        }
    }
}

fn resident_mb(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn source(len: usize) -> Feeds {
    let ids = (0..len as i64).map(|i| 3 + i * 37 % 31_000).collect();
    let tensors = [("input_ids", Tensor::i64([1, len], ids)), ("attention_mask", Tensor::i64([1, len], vec![1; len]))];
    tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into()
}

/// `[milliseconds to the first logits, tokens a second after them]`
fn timed(clock: Clock, encode: &mut dyn FnMut(), step: &mut dyn FnMut(i64), steps: usize) -> [f64; 2] {
    let start = clock.seconds();
    encode();
    step(0);
    let first = clock.seconds();
    (0..steps as i64).for_each(|i| step(3 + i));
    [(first - start) * 1e3, steps as f64 / (clock.seconds() - first).max(1e-9)]
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Bytes a second that one thread reads.
fn bandwidth() -> f64 {
    let words = vec![1u64; 1 << 26];
    let best = (0..3)
        .map(|_| {
            let start = Clock::Thread.seconds();
            let lanes = words.chunks_exact(8).fold([0u64; 8], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
                sums
            });
            black_box(lanes);
            Clock::Thread.seconds() - start
        })
        .fold(f64::INFINITY, f64::min);
    8.0 * words.len() as f64 / best
}

fn artifact(checkpoint: &Path, home: &Path, scheme: &str) -> Artifact {
    let out = home.join(scheme);
    if !out.join("gguf/model.gguf").exists() {
        let recipe = home.join(format!("{scheme}.yaml"));
        let text = format!(
            "model: {}\nout: {}\nartifacts:\n  - gguf: {{}}\n    quantize: {{ scheme: {scheme} }}\n",
            checkpoint.display(),
            out.display()
        );
        fs::write(&recipe, text).expect("written");
        random_t5::convert(&recipe, None).expect("converted");
    }
    Artifact::list("gguf", &out.join("gguf")).expect("listed")
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(3);
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/engines");
    let checkpoint = random_t5::BASE.write(&home.join("checkpoint")).expect("written");
    println!("one thread reads {:.1} GB/s", bandwidth() / 1e9);
    let settings = |repack, f16| engine::Options {
        encoder_threads: 1,
        repack,
        cache: if f16 { engine::Cache::F16 } else { engine::Cache::F32 },
        ..engine::Options::default()
    };
    let mut engines = Vec::new();
    for (scheme, repack, f16) in [
        ("q8_0", Repacking::None, false),
        ("q8_0", Repacking::None, true),
        ("q4_0", Repacking::None, false),
        ("q4_0", Repacking::All, true),
    ] {
        let file = artifact(&checkpoint, &home, scheme).dir.join("model.gguf");
        let (before, start) = (resident_mb("VmRSS:"), Instant::now());
        let engine = engine::Engine::open(&file, &settings(repack, f16)).unwrap_or_else(|e| panic!("{e}"));
        let (megabytes, seconds) = (resident_mb("VmRSS:") - before, start.elapsed().as_secs_f64());
        let mut session = engine.session();
        session.encode(&source(512)).expect("encoded");
        session.step(&[0], 1).expect("a step");
        let on_disk = fs::metadata(&file).expect("there").len() as f64 / (1 << 20) as f64;
        println!(
            "{scheme}, {repack:?}, f16 cache {f16}: file {on_disk:.0} MB, loaded {megabytes:.0} MB in {seconds:.1} s, with a \
             source of 512 {:.0} MB",
            resident_mb("VmRSS:") - before
        );
        engines.push((format!("{scheme} repack {repack:?}, cache {}", if f16 { "f16" } else { "f32" }), session));
    }
    let llama = artifact(&checkpoint, &home, "q8_0");
    let options = Options { offline: true, ..Options::DEFAULT };
    let mut llama: Box<dyn Session> = LlamaCpp.open(&llama, &options).unwrap_or_else(|e| panic!("{e}"));
    for len in SOURCES {
        let mut found: Vec<Vec<[f64; 2]>> = vec![Vec::new(); engines.len() + 1];
        for round in 0..rounds {
            // Another source each time, since sessions remember the last one.
            let feeds = source(len);
            let mut other = feeds.clone();
            other.insert("input_ids".into(), Tensor::i64([1, len], vec![4 + round as i64; len]));
            let llama = std::cell::RefCell::new(&mut llama);
            found[0].push(timed(
                Clock::Process,
                &mut || llama.borrow_mut().encode(&other).expect("encoded"),
                &mut |id| drop(llama.borrow_mut().decode(&Tensor::i64([1, 1], vec![id])).expect("decoded")),
                STEPS_OF_LLAMA_CPP,
            ));
            for ((_, session), found) in engines.iter_mut().zip(&mut found[1..]) {
                let session = std::cell::RefCell::new(session);
                found.push(timed(
                    Clock::Thread,
                    &mut || session.borrow_mut().encode(&other).expect("encoded"),
                    &mut |id| drop(session.borrow_mut().step(&[id], 1).expect("a step")),
                    STEPS,
                ));
            }
        }
        let names = ["llama.cpp q8_0, cache f32"].into_iter().chain(engines.iter().map(|(name, _)| name.as_str()));
        for (name, times) in names.zip(found) {
            let [first, rate] = [0, 1].map(|i| median(times.iter().map(|t| t[i]).collect()));
            println!("source {len:3}: {name:32} first {first:7.1} ms, {rate:6.1} tokens/s");
        }
        println!("one thread reads {:.1} GB/s", bandwidth() / 1e9);
    }
}
