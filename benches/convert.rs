//! `cargo bench --bench convert`: how long the CLI takes from a 223M-parameter checkpoint to each artifact, and how near
//! that is to copying the bytes.
//!
//! The checkpoint is a T5 v1.0 (d_model 768, 12 + 12 layers, d_ff 3072, tied vocabulary of 32128) of random f32 weights,
//! 892 MB, written once into `target/bench`. For each artifact: wall time of the whole program, from start to exit,
//! validation left out; checkpoint bytes a second; peak resident memory, as the kernel counts it (VmHWM); and the limit,
//! that is reading the checkpoint and copying the artifact to another file, measured in the same run. All files are in the
//! page cache, for both.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "random_t5.rs"]
mod random_t5;

use random_t5::{BASE, convert};

/// Name, and the recipe's artifact with its policy.
const ARTIFACTS: &[(&str, &str)] = &[
    ("gguf-q8_0", "gguf: {}, quantize: { scheme: q8_0 }"),
    ("gguf-q4_k", "gguf: {}, quantize: { scheme: q4_k }"),
    ("safetensors-int8", "safetensors: {}, quantize: { scheme: int8 }"),
];

fn main() -> io::Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let weights = BASE.write(&home.join("t5-223m"))?.join("model.safetensors");
    let input_bytes = fs::metadata(&weights)?.len();
    println!("checkpoint: {} parameters, {:.0} MB", (input_bytes - 8) / 4, mb(input_bytes));
    println!(
        "{:<18} {:>8} {:>10} {:>10} {:>10} {:>10} {:>7}",
        "artifact", "wall s", "input MB/s", "output MB", "peak MB", "limit s", "ratio"
    );
    for (name, artifact) in ARTIFACTS {
        let out = home.join("out");
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        let recipe = home.join("recipe.yaml");
        fs::write(&recipe, format!("model: t5-223m\nout: out\nartifacts:\n  - {{ name: {name}, {artifact} }}\n"))?;
        let (wall, peak_bytes) = convert(&recipe, None)?;
        let outputs = files(&out.join(name))?;
        let output_bytes = outputs.iter().map(|file| Ok(fs::metadata(file)?.len())).sum::<io::Result<u64>>()?;
        let limit = copy_time(&weights, &outputs, &home.join("copy"))?;
        println!(
            "{name:<18} {:>8.2} {:>10.0} {:>10.0} {:>10.0} {:>10.2} {:>7.1}",
            wall.as_secs_f64(),
            mb(input_bytes) / wall.as_secs_f64(),
            mb(output_bytes),
            mb(peak_bytes),
            limit.as_secs_f64(),
            wall.as_secs_f64() / limit.as_secs_f64()
        );
    }
    Ok(())
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Reading the checkpoint and writing the artifact's bytes, without a thought.
fn copy_time(input: &Path, outputs: &[PathBuf], to: &Path) -> io::Result<Duration> {
    let start = Instant::now();
    let mut chunk = vec![0; 1 << 20];
    let mut file = File::open(input)?;
    // `io::copy` to nowhere would not read at all.
    while file.read(&mut chunk)? > 0 {}
    let mut copy = File::create(to)?;
    for output in outputs {
        io::copy(&mut File::open(output)?, &mut copy)?;
    }
    let time = start.elapsed();
    fs::remove_file(to)?;
    Ok(time)
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}
