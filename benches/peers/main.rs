//! What `benches/peers/run.sh` runs once its environment is there: the peers' own programs and ours, in turn, on the same checkpoint.
//!
//! Converting: wall time of whole programs and their peak resident memory (VmHWM). Decoding: ONNX folders and GGUF files of both
//! sides in the same engine under `trefoil bench`, CTranslate2 through its Python interface, blocks of runs in turn; medians of the
//! blocks. 2 threads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

#[path = "../random_t5.rs"]
mod random_t5;

use random_t5::{BASE, run};

const THREADS: &str = "2";
const TOKENS: &str = "64";
/// In each block.
const RUNS: &str = "3";
const SOURCES: [&str; 3] = ["32", "128", "512"];

/// Ours: name, and the recipe's artifact.
const OURS: &[(&str, &str)] = &[
    ("onnx-int8", "onnx: {}, quantize: { scheme: int8 }"),
    ("onnx-int8-dynamic", "onnx: {}, quantize: { scheme: int8, activations: dynamic }"),
    ("onnx-int4", "onnx: {}, quantize: { scheme: int4-g32 }"),
    ("gguf-q8_0", "gguf: {}, quantize: { scheme: q8_0 }"),
];

fn main() -> io::Result<()> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let venv =
        PathBuf::from(arguments.next().ok_or_else(|| io::Error::other("expected the folder of an environment"))?);
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3).max(1);
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/peers");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let checkpoint = BASE.write(&home.join("t5-223m"))?;
    run(Command::new(venv.join("bin/python")).arg(here.join("tokenizer_files.py")).arg(&checkpoint))?;

    let made = Made::new(&home, &checkpoint, &venv)?;
    println!("| converting | wall s | peak MB | file MB |\n| --- | ---: | ---: | ---: |");
    for (name, converted) in &made.converted {
        println!(
            "| {name} | {:.2} | {:.0} | {:.0} |",
            converted.wall.as_secs_f64(),
            converted.peak_bytes as f64 / 1e6,
            bytes_in(&converted.out)? as f64 / 1e6
        );
    }

    let mut rows: BTreeMap<(usize, u64, String), Vec<[f64; 3]>> = BTreeMap::new();
    for _ in 0..rounds {
        for row in made.bench()? {
            let name = row["artifact"].as_str().unwrap_or_default().to_owned();
            let place = made.artifacts.iter().position(|dir| dir.display().to_string() == name).unwrap_or(usize::MAX);
            let dir = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let called = format!("{dir} in {}", row["engine"].as_str().unwrap_or_default());
            rows.entry((place, source_of(&row), called)).or_default().push(figures(&row));
        }
        let mut command = Command::new(venv.join("bin/python"));
        command.arg(here.join("decode_ctranslate2.py")).arg(home.join("ctranslate2-int8"));
        let text = output(command.args([THREADS, TOKENS, RUNS]).args(SOURCES))?;
        for row in serde_json::from_slice::<Vec<Value>>(&text).map_err(io::Error::other)? {
            let called = "ctranslate2-int8 in CTranslate2".to_owned();
            rows.entry((usize::MAX, source_of(&row), called)).or_default().push(figures(&row));
        }
    }
    println!(
        "\n| decoding, batch 1 | source | first token ms | tokens/s | peak MB |\n| --- | ---: | ---: | ---: | ---: |"
    );
    for ((_, source, called), blocks) in rows {
        let median = |which: usize| {
            let mut values: Vec<f64> = blocks.iter().map(|block| block[which]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!("| {called} | {source} | {:.1} | {:.1} | {:.0} |", median(0), median(1), median(2));
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\n{rounds} blocks of {RUNS} runs; load of the machine at the end: {}", load.trim());
    Ok(())
}

fn source_of(row: &Value) -> u64 {
    row["source"].as_u64().unwrap_or(0)
}

fn figures(row: &Value) -> [f64; 3] {
    ["first_token_ms", "tokens_per_s", "peak_rss_mb"].map(|key| row[key].as_f64().unwrap_or(f64::NAN))
}

/// What one program did.
struct Converted {
    wall: Duration,
    peak_bytes: u64,
    out: PathBuf,
}

/// Everything that was converted.
struct Made {
    converted: Vec<(String, Converted)>,
    /// For `trefoil bench`.
    artifacts: Vec<PathBuf>,
}

impl Made {
    fn new(home: &Path, checkpoint: &Path, venv: &Path) -> io::Result<Made> {
        let mut made = Made { converted: Vec::new(), artifacts: Vec::new() };
        let bin = |name: &str| Command::new(venv.join("bin").join(name));
        for (name, artifact) in OURS {
            let out = fresh(home, "out")?;
            let recipe = home.join("recipe.yaml");
            let text = format!("model: t5-223m\nout: out\nartifacts:\n  - {{ name: {name}, {artifact} }}\n");
            fs::write(&recipe, text)?;
            let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
            command.args(["--quiet", "--threads", THREADS, "convert", "--no-validate"]).arg(&recipe);
            let (wall, peak_bytes) = run(&mut command)?;
            // The next one writes into the same folder.
            let kept = fresh(home, name)?;
            fs::rename(out.join(name), &kept)?;
            made.artifacts.push(kept.clone());
            made.converted.push((format!("trefoil: {name}"), Converted { wall, peak_bytes, out: kept }));
        }

        let (exported, out) = (fresh(home, "optimum-f32")?, fresh(home, "optimum-int8")?);
        let mut command = bin("optimum-cli");
        command.args(["export", "onnx", "--no-post-process", "--task", "text2text-generation-with-past", "--model"]);
        let export = run(command.arg(checkpoint).arg(&exported))?;
        let mut command = bin("optimum-cli");
        command.args(["onnxruntime", "quantize", "--avx512_vnni", "--onnx_model"]).arg(&exported).arg("-o").arg(&out);
        let quantize = run(&mut command)?;
        // As the engine's users name them, for whom `_quantized` is an argument.
        for file in ["encoder_model", "decoder_model", "decoder_with_past_model"] {
            fs::rename(out.join(format!("{file}_quantized.onnx")), out.join(format!("{file}.onnx")))?;
        }
        fs::copy(checkpoint.join("config.json"), out.join("config.json"))?;
        let both = Converted { wall: export.0 + quantize.0, peak_bytes: export.1.max(quantize.1), out: out.clone() };
        made.converted.push(("Optimum: export and quantize, int8".to_owned(), both));
        made.artifacts.push(out);

        let out = fresh(home, "llama.cpp-q8_0")?;
        fs::create_dir(&out)?;
        let mut command = bin("convert-hf-to-gguf");
        command.arg(checkpoint).args(["--outtype", "q8_0", "--outfile"]).arg(out.join("model.gguf"));
        let (wall, peak_bytes) = run(&mut command)?;
        made.converted.push(("llama.cpp: convert, q8_0".to_owned(), Converted { wall, peak_bytes, out: out.clone() }));
        made.artifacts.push(out);

        let out = fresh(home, "ctranslate2-int8")?;
        let mut command = bin("ct2-transformers-converter");
        command.arg("--model").arg(checkpoint).args(["--quantization", "int8", "--output_dir"]).arg(&out);
        let (wall, peak_bytes) = run(&mut command)?;
        made.converted.push(("CTranslate2: int8".to_owned(), Converted { wall, peak_bytes, out }));
        Ok(made)
    }

    /// Rows of one block.
    fn bench(&self) -> io::Result<Vec<Value>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
        command.args(["bench", "--json", "--threads", THREADS, "--batch", "1", "--tokens", TOKENS, "--runs", RUNS]);
        command.args(["--engine", "onnxruntime", "--engine", "llama.cpp", "--source", &SOURCES.join(",")]);
        let text = output(command.args(&self.artifacts))?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }
}

/// A name in a folder with nothing behind it.
fn fresh(home: &Path, name: &str) -> io::Result<PathBuf> {
    let dir = home.join(name);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(dir),
    }
}

fn bytes_in(dir: &Path) -> io::Result<u64> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(io::Error::other(format!("{:?} ended with {}", command.get_program(), output.status))),
    }
}
