//! Artifacts opened by programs that are not ours. Ignored by default: they need the environments of `tools/setup.sh`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use converters::Format;
use converters::export::gguf::{self, FILE, Fallback, Gguf, GgufFile};
use serde_json::Value;

use crate::fixture::{expected, repository};
use crate::gguf::{all_models, prepared, quantized, write};

/// Test words that each program decodes.
const WORDS: usize = 50;

/// Converts with a recipe into a folder that lasts as long as the guard.
fn convert(recipe: &str) -> tempfile::TempDir {
    let out = tempfile::tempdir().expect("temporary folder");
    let status = Command::new(env!("CARGO_BIN_EXE_trefoil"))
        .args(["convert", "--quiet", "--no-validate", "--out"])
        .arg(out.path())
        .arg(repository("recipes").join(recipe))
        .status()
        .expect("the binary starts");
    assert!(status.success(), "{recipe}: {status}");
    out
}

/// Runs a script of `tests/foreign` in an environment and returns the JSON that it prints.
fn open(environment: &str, script: &str, args: &[&Path]) -> Value {
    let words = WORDS.to_string();
    let mut command = Command::new(repository(environment).join("bin/python"));
    command.arg(repository("tests/foreign").join(script)).args(args);
    if args.len() > 1 {
        command.arg(words);
    }
    let output = command.output().unwrap_or_else(|e| panic!("{environment}: {e}; tools/setup.sh --all makes it"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{errors}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{script}: {e}\n{errors}"))
}

fn data() -> PathBuf {
    repository("models/g2p-t5/data/test.jsonl")
}

/// Rows of generated ids without start, end and padding.
fn trimmed(rows: &Value) -> Vec<Vec<i64>> {
    let row = |row: &Value| -> Vec<i64> {
        let ids = row.as_array().expect("a row").iter().map(|id| id.as_i64().expect("an id"));
        ids.skip_while(|id| *id == 0).take_while(|id| *id > 1).collect()
    };
    rows.as_array().expect("rows").iter().map(row).collect()
}

/// What transformers generated for the first words, recorded with the model.
fn recorded() -> Vec<Vec<i64>> {
    let (tensors, _) = expected(&repository("models/g2p-t5"));
    let greedy = &tensors["greedy"];
    let rows = greedy.as_i64().expect("ids").chunks(greedy.shape()[1]).take(WORDS);
    rows.map(|row| row.iter().copied().skip_while(|id| *id == 0).take_while(|id| *id > 1).collect()).collect()
}

#[test]
#[ignore = "needs .venv and .venv-optimum: tools/setup.sh --all"]
fn float_artifacts_give_the_recorded_tokens_in_optimum_and_transformers() {
    let out = convert("g2p-t5-f32.yaml");
    let onnx = out.path().join("onnx");
    let checked = open(".venv", "ort_open.py", &[&onnx]);
    assert_eq!(checked["files"].as_object().map(serde_json::Map::len), Some(4), "{checked}");

    let optimum = open(".venv-optimum", "optimum_open.py", &[&onnx, &data()]);
    for mode in ["merged", "pair"] {
        assert_eq!(trimmed(&optimum[mode]["tokens"]), recorded(), "{mode}: {optimum}");
    }
    let transformers = open(".venv", "hf_open.py", &[&out.path().join("safetensors"), &data()]);
    assert_eq!(trimmed(&transformers["tokens"]), recorded());
}

#[test]
#[ignore = "needs .venv and .venv-optimum: tools/setup.sh --all"]
fn int8_artifacts_open_in_optimum_and_in_transformers_with_compressed_tensors() {
    let out = convert("g2p-t5.yaml");
    let optimum = open(".venv-optimum", "optimum_open.py", &[&out.path().join("onnx"), &data()]);
    let transformers = open(".venv", "hf_open.py", &[&out.path().join("safetensors"), &data()]);
    for (who, rows) in [
        ("merged", &optimum["merged"]["tokens"]),
        ("pair", &optimum["pair"]["tokens"]),
        ("transformers", &transformers["tokens"]),
    ] {
        let same = trimmed(rows).iter().zip(recorded()).filter(|(a, b)| *a == b).count();
        // A wrong scale or a swapped layer leaves none; int8 itself changes at most a word or two of fifty.
        assert!(same >= WORDS - 3, "{who}: {same} of {WORDS} words as in float");
    }
}

#[test]
#[ignore = "needs .venv: tools/setup.sh"]
fn the_gguf_package_reads_what_we_write() {
    let out = convert("g2p-t5.yaml");
    let seen = open(".venv", "gguf_open.py", &[&out.path().join("gguf/model.gguf")]);
    let metadata = &seen["metadata"];
    let value = |key: &str| metadata[key][1].clone();
    assert_eq!(value("general.architecture"), "t5");
    assert_eq!((value("t5.block_count"), value("t5.decoder_block_count")), (4.into(), 2.into()));
    assert_eq!(value("tokenizer.ggml.tokens")["len"], 128);
    let tensors = seen["tensors"].as_array().expect("a table");
    // 9 an encoder layer, 14 a decoder layer, a bias table each, the embedding and the two final norms.
    assert_eq!(tensors.len(), 4 * 9 + 2 * 14 + 2 + 3);
    assert!(tensors.iter().any(|t| t[0] == "dec.blk.1.cross_attn_k.weight" && t[1] == "Q8_0"), "{tensors:?}");
}

#[test]
#[ignore = "needs .venv: tools/setup.sh"]
fn the_gguf_package_reads_the_same_numbers_from_the_files_of_every_family() {
    let mut compared = 0;
    for dir in all_models() {
        let prepared = prepared(&dir);
        for scheme in ["keep", "q8_0", "mxfp4"] {
            let Some(model) = quantized(&prepared, scheme.parse().expect("a scheme")) else { continue };
            let place = format!("{} as {scheme}", dir.display());
            let (_home, artifact) = write(&model, &Gguf { fallback: Fallback::F32, ..Gguf::DEFAULT });
            let path = artifact.dir.join(FILE);
            let ours = GgufFile::open(&path).unwrap_or_else(|e| panic!("{place}: {e}"));
            let seen = open(".venv", "gguf_open.py", &[&path, Path::new("--sums")]);
            let config = seen["metadata"]["trefoil.config"][1].as_str().expect("a string").to_owned();
            match fs::read_to_string(dir.join("config.json")) {
                Ok(text) => assert_eq!(config, text, "{place}"),
                Err(_) => assert!(config.starts_with('{'), "{place}: {config}"),
            }
            let listed = &seen["metadata"]["trefoil.tensors"];
            assert_eq!(listed[1]["len"], ours.tensors.len(), "{place}: {listed}");
            let theirs: BTreeMap<&str, &Value> = seen["tensors"]
                .as_array()
                .expect("a table")
                .iter()
                .map(|t| (t[0].as_str().expect("a name"), t))
                .collect();
            assert_eq!(theirs.len(), ours.tensors.len(), "{place}");
            let read = Gguf::DEFAULT.read_weights(&model, &artifact).unwrap_or_else(|e| panic!("{place}: {e}"));
            let Some(gguf::Value::Array(gguf::Array::String(names))) = ours.get("trefoil.tensors") else {
                panic!("{place}: no list of names")
            };
            for (name, tensor) in names.iter().zip(&ours.tensors) {
                let theirs = theirs[tensor.name.as_str()];
                let shape: Vec<usize> = tensor.shape.iter().rev().copied().collect();
                let expected =
                    serde_json::json!([tensor.name, tensor.kind.name(), shape, tensor.offset_bytes, tensor.data.len()]);
                assert_eq!(theirs.as_array().expect("a row")[..5], expected.as_array().expect("a row")[..], "{place}");
                let weight = read.get(read.find(name).unwrap_or_else(|| panic!("{place}: {name}")));
                let numbers = weight.read().expect("reads");
                let (sum, size) =
                    numbers.iter().fold((0.0, 0.0), |(sum, size), x| (sum + f64::from(*x), size + f64::from(x.abs())));
                let difference = (theirs[5].as_f64().expect("a sum") - sum).abs();
                // numpy sums pairwise.
                assert!(difference <= 1e-12 * size, "{place}: {name}: {difference:e} of {size}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 1000, "{compared}");
}
