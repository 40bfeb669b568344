//! `cargo bench --bench convert`: how long the CLI takes from a 223M-parameter checkpoint to each artifact, and how near
//! that is to copying the bytes.
//!
//! The checkpoint is a T5 v1.0 (d_model 768, 12 + 12 layers, d_ff 3072, tied vocabulary of 32128) of random f32 weights,
//! 892 MB, written once into `target/bench`. For each artifact: wall time of the whole program, from start to exit,
//! validation left out; checkpoint bytes a second; peak resident memory, as the kernel counts it (VmHWM); and the limit,
//! that is reading the checkpoint and copying the artifact to another file, measured in the same run. All files are in the
//! page cache, for both.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

const D_MODEL: usize = 768;
const D_FF: usize = 3072;
const HEADS: usize = 12;
const LAYERS: usize = 12;
const VOCABULARY: usize = 32128;

/// Name, and the recipe's artifact with its policy.
const ARTIFACTS: &[(&str, &str)] = &[
    ("gguf-q8_0", "gguf: {}, quantize: { scheme: q8_0 }"),
    ("gguf-q4_k", "gguf: {}, quantize: { scheme: q4_k }"),
    ("safetensors-int8", "safetensors: {}, quantize: { scheme: int8 }"),
];

fn main() -> io::Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let checkpoint = home.join("t5-223m");
    fs::create_dir_all(&checkpoint)?;
    let weights = checkpoint.join("model.safetensors");
    write_checkpoint(&checkpoint)?;
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
        let (wall, peak_bytes) = convert(&recipe)?;
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

/// Runs `trefoil convert`, and returns its wall time and its peak resident memory.
fn convert(recipe: &Path) -> io::Result<(Duration, u64)> {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_trefoil"))
        .args(["--quiet", "convert", "--no-validate"])
        .arg(recipe)
        .stdout(Stdio::null())
        .spawn()?;
    // The high-water mark only grows, so that the last one seen misses at most what the last milliseconds added.
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = peak_bytes.max(high_water(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = start.elapsed();
    match status.success() {
        true => Ok((wall, peak_bytes)),
        false => Err(io::Error::other(format!("trefoil convert ended with {status}"))),
    }
}

/// `VmHWM` of a process, where the system has it.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
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

/// Names and shapes, in the order of the file.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![("shared.weight".to_owned(), vec![VOCABULARY, D_MODEL])];
    let attention = |tensors: &mut Vec<(String, Vec<usize>)>, layer: &str, kind: &str| {
        for name in ["q", "k", "v", "o"] {
            tensors.push((format!("{layer}.{kind}.{name}.weight"), vec![D_MODEL, D_MODEL]));
        }
        tensors.push((format!("{layer}.layer_norm.weight"), vec![D_MODEL]));
    };
    for (stack, kinds) in [("encoder", &["SelfAttention"][..]), ("decoder", &["SelfAttention", "EncDecAttention"])] {
        for block in 0..LAYERS {
            for (layer, kind) in kinds.iter().enumerate() {
                attention(&mut tensors, &format!("{stack}.block.{block}.layer.{layer}"), kind);
            }
            let layer = format!("{stack}.block.{block}.layer.{}", kinds.len());
            tensors.push((format!("{layer}.DenseReluDense.wi.weight"), vec![D_FF, D_MODEL]));
            tensors.push((format!("{layer}.DenseReluDense.wo.weight"), vec![D_MODEL, D_FF]));
            tensors.push((format!("{layer}.layer_norm.weight"), vec![D_MODEL]));
        }
        let bias = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        tensors.push((bias, vec![32, HEADS]));
        tensors.push((format!("{stack}.final_layer_norm.weight"), vec![D_MODEL]));
    }
    tensors
}

/// Writes the checkpoint, unless its weights are there already.
fn write_checkpoint(dir: &Path) -> io::Result<()> {
    let config = json!({
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": true,
        "d_model": D_MODEL, "d_kv": D_MODEL / HEADS, "d_ff": D_FF, "num_heads": HEADS,
        "num_layers": LAYERS, "num_decoder_layers": LAYERS, "vocab_size": VOCABULARY,
        "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "tie_word_embeddings": true,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "n_positions": 512,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    });
    fs::write(dir.join("config.json"), config.to_string())?;
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string())?;

    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in tensors() {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = Value::Object(header).to_string();
    let file = dir.join("model.safetensors");
    if fs::metadata(&file).is_ok_and(|found| found.len() == (8 + header.len() + end) as u64) {
        return Ok(());
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&file)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..end / 4 {
        // The sum of four uniform numbers from xorshift: near enough to normal, deviation 0.05.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let sum: f32 = state.to_le_bytes().as_chunks::<2>().0.iter().map(|b| f32::from(u16::from_le_bytes(*b))).sum();
        let weight = (sum / 65535.0 - 2.0) * (0.05 * 3_f32.sqrt());
        out.write_all(&weight.to_le_bytes())?;
    }
    out.flush()
}

/// A Unigram tokenizer with as many pieces as the vocabulary.
fn tokenizer() -> Value {
    let special = ["<pad>", "</s>", "<unk>"];
    let piece = |id: usize| special.get(id).map_or(format!("▁piece{id}"), |name| (*name).to_owned());
    let vocabulary: Vec<(String, f32)> =
        (0..VOCABULARY).map(|id| (piece(id), if id < special.len() { 0.0 } else { -(id as f32) / 1000.0 })).collect();
    let added = |id: usize| {
        json!({
            "id": id, "content": special[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(0), added(1), added(2)],
        "normalizer": null,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        "post_processor": null,
        "decoder": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        "model": { "type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": false },
    })
}
