//! A T5 of random weights in the form of a checkpoint, and the program run on a recipe: what benchmarks and tests share.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// Pieces of the tokenizer, three of them special.
pub const VOCABULARY: usize = 32128;

/// A T5 v1.0 with a tied vocabulary, as deep in its decoder as in its encoder.
pub struct Size {
    pub d_model: usize,
    pub d_ff: usize,
    pub heads: usize,
    pub layers: usize,
}

/// 60 million parameters, as t5-small.
#[allow(dead_code, reason = "one benchmark uses it")]
pub const SMALL: Size = Size { d_model: 512, d_ff: 2048, heads: 8, layers: 6 };
/// 223 million parameters, as t5-base.
pub const BASE: Size = Size { d_model: 768, d_ff: 3072, heads: 12, layers: 12 };

#[allow(dead_code, reason = "one benchmark times other programs too")]
/// Runs `trefoil convert`, and returns its wall time and its peak resident memory. `cache`: in place of the user's.
pub fn convert(recipe: &Path, cache: Option<&Path>) -> io::Result<(Duration, u64)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    if let Some(cache) = cache {
        command.env("XDG_CACHE_HOME", cache);
    }
    run(command.args(["--quiet", "convert", "--no-validate"]).arg(recipe))
}

/// Runs a program, and returns its wall time and its peak resident memory. What it prints is dropped.
pub fn run(command: &mut Command) -> io::Result<(Duration, u64)> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
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
        false => Err(io::Error::other(format!("{:?} ended with {status}", command.get_program()))),
    }
}

/// `VmHWM` of a process, where the system has it.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

impl Size {
    /// Names and shapes, in the order of the file.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![("shared.weight".to_owned(), vec![VOCABULARY, self.d_model])];
        let attention = |tensors: &mut Vec<(String, Vec<usize>)>, layer: &str, kind: &str| {
            for name in ["q", "k", "v", "o"] {
                tensors.push((format!("{layer}.{kind}.{name}.weight"), vec![self.d_model, self.d_model]));
            }
            tensors.push((format!("{layer}.layer_norm.weight"), vec![self.d_model]));
        };
        for (stack, kinds) in [("encoder", &["SelfAttention"][..]), ("decoder", &["SelfAttention", "EncDecAttention"])]
        {
            for block in 0..self.layers {
                for (layer, kind) in kinds.iter().enumerate() {
                    attention(&mut tensors, &format!("{stack}.block.{block}.layer.{layer}"), kind);
                }
                let layer = format!("{stack}.block.{block}.layer.{}", kinds.len());
                tensors.push((format!("{layer}.DenseReluDense.wi.weight"), vec![self.d_ff, self.d_model]));
                tensors.push((format!("{layer}.DenseReluDense.wo.weight"), vec![self.d_model, self.d_ff]));
                tensors.push((format!("{layer}.layer_norm.weight"), vec![self.d_model]));
            }
            let bias = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
            tensors.push((bias, vec![32, self.heads]));
            tensors.push((format!("{stack}.final_layer_norm.weight"), vec![self.d_model]));
        }
        tensors
    }

    /// What config.json says.
    pub fn config(&self) -> Value {
        json!({
            "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": true,
            "d_model": self.d_model, "d_kv": self.d_model / self.heads, "d_ff": self.d_ff, "num_heads": self.heads,
            "num_layers": self.layers, "num_decoder_layers": self.layers, "vocab_size": VOCABULARY,
            "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "tie_word_embeddings": true,
            "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "n_positions": 512,
            "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
        })
    }

    /// Writes the checkpoint into `dir`, unless its weights are there already, and returns `dir`.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), self.config().to_string())?;
        fs::write(dir.join("tokenizer.json"), tokenizer().to_string())?;

        let (mut header, mut end) = (Map::new(), 0);
        for (name, shape) in self.tensors() {
            let start = end;
            end += 4 * shape.iter().product::<usize>();
            header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] }));
        }
        let header = Value::Object(header).to_string();
        let file = dir.join("model.safetensors");
        if fs::metadata(&file).is_ok_and(|found| found.len() == (8 + header.len() + end) as u64) {
            return Ok(dir.to_owned());
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
            let sum: f32 =
                state.to_le_bytes().as_chunks::<2>().0.iter().map(|b| f32::from(u16::from_le_bytes(*b))).sum();
            let weight = (sum / 65535.0 - 2.0) * (0.05 * 3_f32.sqrt());
            out.write_all(&weight.to_le_bytes())?;
        }
        out.flush()?;
        Ok(dir.to_owned())
    }
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
