//! `cargo bench --bench gptq`: how long it takes to choose 4-bit codes by decoding, and in how much memory.
//!
//! Random T5s of 60 and 223 million parameters (f32, written once into `target/bench`); 128 samples of 64 source tokens and
//! the 32 tokens that the model itself says; int4 in groups of 128 as ONNX. Wall time of the whole program from start to exit, validation left
//! out, and its peak resident memory as the kernel counts it (VmHWM). The ratio is to the same conversion with nearest
//! codes, in the same run. The statistics are not taken from a cache.

use std::fs;
use std::io;
use std::path::Path;

#[path = "random_t5.rs"]
mod random_t5;

use random_t5::{BASE, SMALL, VOCABULARY, convert};

const SAMPLES: usize = 128;
const SOURCE_TOKENS: usize = 64;
const TARGET_TOKENS: usize = 32;
const METHODS: &[&str] = &["nearest", "importance", "gptq"];

fn main() -> io::Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    println!("{:<10} {:<12} {:>8} {:>10} {:>7}", "model", "method", "wall s", "peak MB", "ratio");
    for (name, size) in [("t5-60m", &SMALL), ("t5-223m", &BASE)] {
        let mut nearest = None;
        size.write(&home.join(name))?;
        fs::write(home.join("calibration.txt"), lines())?;
        for method in METHODS {
            let (wall, peak_bytes) = run(&home, name, method)?;
            let wall = wall.as_secs_f64();
            let ratio = wall / *nearest.get_or_insert(wall);
            println!("{name:<10} {method:<12} {wall:>8.1} {:>10.0} {ratio:>7.1}", peak_bytes as f64 / 1e6);
        }
    }
    Ok(())
}

fn run(home: &Path, model: &str, method: &str) -> io::Result<(std::time::Duration, u64)> {
    // A cache of its own, emptied: statistics belong to what is measured.
    let (out, cache) = (home.join("out"), home.join("cache"));
    for dir in [&out, &cache] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    let recipe = home.join("recipe.yaml");
    let text = format!(
        "model: {model}\nout: out\ndecode: {{ max_new_tokens: {TARGET_TOKENS} }}\ncalibrate: {{ data: calibration.txt }}\nartifacts:\n  - onnx: {{}}\n    \
         quantize: {{ scheme: int4-g128, clip: mse, method: {method} }}\n"
    );
    fs::write(&recipe, text)?;
    convert(&recipe, Some(&cache))
}

/// Pieces of the tokenizer, drawn by a fixed rule.
fn lines() -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut words = |count: usize| -> String {
        let mut word = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("piece{}", 3 + state % (VOCABULARY as u64 - 3))
        };
        (0..count).map(|_| word()).collect::<Vec<String>>().join(" ")
    };
    (0..SAMPLES).map(|_| words(SOURCE_TOKENS) + "\n").collect()
}
