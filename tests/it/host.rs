//! Engines in a process of their own: the numbers and words that they have in this one, and an end that is theirs alone.

use std::fs;
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};
#[cfg(unix)]
use std::time::{Duration, Instant};

use converters::export::npu::Npu;
use converters::export::onnx::Onnx;
use converters::{Artifact, Format, import};
use graph::{Feeds, Tensor};
use tempfile::TempDir;
use validate::report::Engine;
use validate::runtime::htp::Htp;
use validate::runtime::onnx::OnnxRuntime;
use validate::runtime::{Options, Runtime};

#[cfg(unix)]
use crate::cli::text;
#[cfg(unix)]
use crate::fixture::repository;
use crate::fixture::{expected, fixture, source};

fn hosted() -> Options {
    Options { host: Some(env!("CARGO_BIN_EXE_trefoil").into()), ..Options::DEFAULT }
}

struct Written {
    artifact: Artifact,
    sources: Feeds,
    target_ids: Tensor,
    home: TempDir,
}

fn written(name: &str, format: &dyn Format) -> Written {
    let (recorded, _) = expected(&fixture(name));
    let mut model = import(&fixture(name)).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    format.prepare(&mut model).unwrap_or_else(|e| panic!("{name}: {e}"));
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = format.write(&model, home.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let target_ids = recorded["decoder_input_ids"].clone();
    Written { artifact, sources: source(&recorded), target_ids, home }
}

/// What a session says of itself, and bits of logits: of a whole target, and again of its first token alone.
type Said = (Engine, Option<usize>, Option<usize>, Vec<Vec<u32>>, Vec<String>);

fn said(written: &Written, runtime: &dyn Runtime, options: &Options) -> Said {
    let mut session = runtime.open(&written.artifact, options).unwrap_or_else(|e| panic!("{e}"));
    let &[rows, tokens] = written.target_ids.shape() else { panic!("rank 2") };
    let ids = written.target_ids.as_i64().expect("ids");
    let first = Tensor::i64([rows, 1], ids.chunks(tokens).map(|row| row[0]).collect());
    let mut logits = |target: &Tensor| {
        session.encode(&written.sources).unwrap_or_else(|e| panic!("{e}"));
        let found = session.decode(target).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.shape()[..2], *target.shape());
        found.as_f32().expect("floats").iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    let logits = vec![logits(&written.target_ids), logits(&first)];
    // Some say how many seconds they took.
    let checks = session.checks().into_iter();
    let sentence = |sentence: &str| sentence.replace(|c: char| c.is_ascii_digit(), "0");
    let checks = checks.map(|c| format!("{:?} {} {}", c.outcome, c.what, sentence(&c.sentence)));
    (session.engine(), session.limit_tokens(), session.rows_at_once(), logits, checks.collect())
}

fn says_the_same(written: &Written, runtime: &dyn Runtime, options: &Options) {
    let here = said(written, runtime, options);
    let there = said(written, runtime, &Options { host: hosted().host, ..options.clone() });
    assert!(!here.3[0].is_empty());
    assert_eq!(here, there);
}

#[test]
fn onnxruntime_says_bit_for_bit_what_it_says_in_this_process() {
    let onnx = written("t5-v1.1", &Onnx::DEFAULT);
    for merged in [false, true] {
        says_the_same(&onnx, &OnnxRuntime, &Options { merged, threads: 2, ..Options::DEFAULT });
    }
    // Features are floats.
    says_the_same(&written("whisper", &Onnx::DEFAULT), &OnnxRuntime, &Options::DEFAULT);
    let npu = Npu { profile: "npu-portable".into(), source: vec![24], target: 24, ..Npu::DEFAULT };
    says_the_same(&written("t5-v1.1", &npu), &OnnxRuntime, &Options::DEFAULT);
}

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV"]
fn the_htp_simulator_says_bit_for_bit_what_it_says_in_this_process() {
    let npu = Npu { profile: "qnn-htp-fp16".into(), source: vec![24], target: 24, ..Npu::DEFAULT };
    says_the_same(&written("t5-v1.1", &npu), &Htp, &Options { soc_models: vec![57], ..Options::DEFAULT });
}

#[test]
fn what_an_engine_refuses_is_told_in_the_same_words() {
    let written = written("t5-v1.1", &Onnx::DEFAULT);
    let refused = |options: &Options| {
        let opened = OnnxRuntime.open(&written.artifact, options);
        opened.err().expect("refused").to_string()
    };
    let file = written.home.path().join("decoder_model.onnx");
    let bytes = fs::read(&file).expect("written");
    fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    let told = refused(&hosted());
    assert_eq!(told, refused(&Options::DEFAULT));
    assert!(told.contains(&file.display().to_string()), "{told}");
    fs::write(&file, &bytes).expect("written");

    // A refused call is not the end of a session.
    for options in [hosted(), Options::DEFAULT] {
        let mut session = OnnxRuntime.open(&written.artifact, &options).unwrap_or_else(|e| panic!("{e}"));
        let error = session.decode(&written.target_ids).expect_err("refused").to_string();
        assert_eq!(error, "onnxruntime: decode before encode");
        session.encode(&written.sources).expect("encoded");
        session.decode(&written.target_ids).expect("decoded");
    }
}

#[cfg(feature = "llama-cpp")]
#[test]
fn llama_cpp_says_bit_for_bit_what_it_says_in_this_process() {
    use converters::export::gguf::Gguf;
    use validate::runtime::llama::LlamaCpp;
    says_the_same(&written("t5-v1.0", &Gguf::DEFAULT), &LlamaCpp, &Options { threads: 2, ..Options::DEFAULT });
}

#[cfg(feature = "llama-cpp")]
#[test]
fn ggml_says_bit_for_bit_what_it_says_in_this_process() {
    use converters::export::gguf::Gguf;
    use validate::runtime::ggml::Ggml;
    for name in ["t5-v1.0", "bart"] {
        says_the_same(&written(name, &Gguf::DEFAULT), &Ggml, &Options { threads: 2, ..Options::DEFAULT });
    }
}

/// A GGUF with two more keys, which take 64 bytes, so that the tensors stay aligned.
#[cfg(feature = "llama-cpp")]
fn with_experts(bytes: &[u8]) -> Vec<u8> {
    let entry = |key: &str, value: u32| {
        let u32_type = 4u32;
        let len = key.len() as u64;
        [&len.to_le_bytes()[..], key.as_bytes(), &u32_type.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let count = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")) + 2;
    let more = [entry("t5.expert_count", 100_000), entry("trefoil.filler.ab", 0)].concat();
    assert_eq!(more.len(), 64);
    [&bytes[..16], &count.to_le_bytes(), &more, &bytes[24..]].concat()
}

#[cfg(feature = "llama-cpp")]
#[test]
fn an_assert_of_llama_cpp_is_an_error_and_not_an_abort_of_ours() {
    use converters::export::gguf::{FILE, Gguf};
    use validate::runtime::llama::LlamaCpp;
    let written = written("t5-v1.0", &Gguf::DEFAULT);
    let path = written.home.path().join(FILE);
    let bytes = fs::read(&path).expect("written");
    fs::write(&path, with_experts(&bytes)).expect("written");
    let told = LlamaCpp.open(&written.artifact, &hosted()).err().expect("refused").to_string();
    assert!(told.starts_with("llama.cpp: the process of the engine broke off: it ended with signal 6; "), "{told}");
    assert!(told.contains("GGML_ASSERT(hparams.n_expert <= LLAMA_MAX_EXPERTS) failed"), "{told}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    let output =
        command.args(["run", "--engine", "llama.cpp"]).arg(written.home.path()).arg("5 6 1").output().expect("starts");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("ended with signal 6"), "{}", text(&output.stderr));
}

/// Processes whose command line has all of these words.
#[cfg(target_os = "linux")]
fn processes(words: &[&str]) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("listed").flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if words.iter().all(|word| line.contains(word)) {
            found.push(number);
        }
    }
    found
}

/// Sends a signal to a program while its engine works; how long it took to end, and what is left a second later.
#[cfg(target_os = "linux")]
fn ended_by(signal: &str, recipe: &Path, engine: &str, work: Duration) -> (Option<i32>, Duration, Vec<u32>, String) {
    let home = tempfile::tempdir().expect("temporary folder");
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).expect("made");
    let out = home.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    command
        .arg("convert")
        .arg(recipe)
        .arg("--out")
        .arg(&out)
        .args(["--offline", "--no-bench", "--quiet"])
        .env("TMPDIR", &temporary);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let words = ["engine", engine, out.to_str().expect("UTF-8")];
    let begun = Instant::now();
    while processes(&words).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(600), "no engine starts");
        assert!(child.try_wait().expect("asked").is_none(), "ended before its engine started");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(work);
    assert!(!processes(&words).is_empty(), "it has ended by itself");
    let start = Instant::now();
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is everywhere");
    assert!(sent.success());
    let status = child.wait().expect("it ends");
    let took = start.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let left = processes(&words);
    if signal == "-INT" {
        let folders: Vec<_> = fs::read_dir(&temporary).expect("listed").flatten().map(|e| e.file_name()).collect();
        assert!(folders.is_empty(), "{folders:?}");
    }
    let output = child.wait_with_output().expect("read");
    (status.code(), took, left, text(&output.stdout) + &text(&output.stderr))
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV; a minute"]
fn an_interrupt_while_the_htp_simulator_works_ends_at_once_and_leaves_no_process() {
    let model = tempfile::tempdir().expect("temporary folder");
    let recipe = model.path().join("recipe.yaml");
    let content = format!(
        "model: {}\nout: out\nartifacts:\n  - name: fp16\n    npu: {{ profile: qnn-htp-fp16, source: [24], target: 24 }}\n\
         validate: {{ data: {}, samples: 200 }}\n",
        repository("models/g2p-t5").display(),
        repository("models/g2p-t5/data/test.jsonl").display()
    );
    fs::write(&recipe, content).expect("written");
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let (found, took, left, said) = ended_by(signal, &recipe, "htp-simulator", Duration::from_secs(5));
        assert_eq!((found, left), (code, Vec::new()), "{signal}: {said}");
        assert!(took < Duration::from_secs(1), "{signal}: {took:?}");
        if signal == "-INT" {
            assert_eq!(said, "\ninterrupted: nothing unfinished is left behind\n");
        }
    }
}
