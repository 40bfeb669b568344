//! The program as a person or a script meets it: exit codes, messages, and what lies on the disk afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{fixture, repository};

/// Empty when the tests begin.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let _ = fs::remove_dir_all(&dir);
    dir
});

/// Engines that live outside of the program are kept away, so that these tests measure the program alone.
pub fn trefoil() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    for variable in [
        "TREFOIL_PYTHON",
        "TREFOIL_CTRANSLATE2_PYTHON",
        "TREFOIL_TRANSCRIBE_PYTHON",
        "TREFOIL_CRISPASR_PYTHON",
        "TREFOIL_WHISPER_CPP_PYTHON",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "ORT_DYLIB_PATH",
        "TREFOIL_CACHE",
    ] {
        command.env_remove(variable);
    }
    // Neither a cached library, nor what an earlier build found, nor a `.venv` beside the sources.
    command.env("XDG_CACHE_HOME", &*CACHE).current_dir(std::env::temp_dir());
    command
}

/// The program where it may fetch an engine, which then lies where no other test looks.
pub fn fetching(arguments: &[&str]) -> Output {
    let fetched = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fetched");
    trefoil().args(arguments).env("XDG_CACHE_HOME", fetched).output().expect("the binary starts")
}

pub fn run(arguments: &[&str]) -> Output {
    trefoil().args(arguments).output().expect("the binary starts")
}

/// The program with the engines of `$VIRTUAL_ENV`.
pub fn with_engines(arguments: &[&str]) -> Output {
    let mut command = trefoil();
    command.args(arguments).envs(std::env::var_os("VIRTUAL_ENV").map(|root| ("VIRTUAL_ENV", root)));
    command.output().expect("the binary starts")
}

/// What `convert`, as `program` runs it, reports of a recipe that passes: written into a folder, with `out: out`.
pub fn converted(program: fn(&[&str]) -> Output, dir: &Path, recipe: &str) -> Value {
    let file = dir.join("recipe.yaml");
    fs::write(&file, recipe).expect("written");
    let output = program(&["convert", &file.display().to_string(), "--offline", "--no-bench"]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&fs::read(dir.join("out/report.json")).expect("there")).expect("JSON")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed by a signal")
}

/// A recipe in a folder of its own, with `out` beside it.
pub struct Home {
    pub dir: TempDir,
}

impl Home {
    pub fn with(recipe: &str) -> Home {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::write(dir.path().join("recipe.yaml"), recipe).expect("written");
        Home { dir }
    }

    pub fn recipe(&self) -> String {
        self.path("recipe.yaml")
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Names directly in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn convert(&self, more: &[&str]) -> Output {
        run(&[&["convert", &self.recipe(), "--offline", "--no-bench"], more].concat())
    }
}

/// A tiny checkpoint, two formats, limits that int8 keeps on it.
pub fn small(limits: &str) -> Home {
    let model = fixture("t5-rows-of-32");
    Home::with(&format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\n  - safetensors: {{}}\n\
         validate:\n  samples: 4\n  limits: {limits}\n",
        model.display()
    ))
}

pub const LOOSE: &str = "{ max_kl: 10.0, min_top1: 0.0 }";

/// Bytes of every file below a folder.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).expect("read"))),
        }
    }
    found
}

#[test]
fn a_conversion_that_passes_leaves_artifacts_manifests_and_a_report() {
    let home = small(LOOSE);
    let output = home.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("passed: "), "{}", text(&output.stdout));
    assert_eq!(home.names(), ["out", "recipe.yaml"]);
    let out = home.dir.path().join("out");
    let mut names: Vec<String> = fs::read_dir(&out)
        .expect("listed")
        .map(|e| e.expect("readable").file_name().to_string_lossy().into())
        .collect();
    names.sort();
    assert_eq!(names, ["onnx", "report.html", "report.json", "report.md", "report.xml", "safetensors"]);

    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).expect("there")).expect("JSON");
    assert_eq!(report["artifacts"].as_array().map(Vec::len), Some(2));
    for format in ["onnx", "safetensors"] {
        let manifest = fs::read(out.join(format).join("trefoil.json")).expect("there");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["format"], format);
        assert_eq!(manifest["recipe"]["text"], fs::read_to_string(home.recipe()).expect("there"));
        let inputs = manifest["model"]["inputs"].as_array().expect("a list");
        assert!(
            inputs.iter().any(|i| i["path"] == "model.safetensors" && i["sha256"].as_str().map(str::len) == Some(64))
        );
        let tensors = manifest["tensors"].as_array().expect("a list");
        let quantized = tensors.iter().filter(|t| t["scheme"] == "int8").collect::<Vec<_>>();
        assert!(!quantized.is_empty() && quantized.iter().all(|t| t["sqnr_db"].as_f64() > Some(20.0)), "{tensors:?}");
        assert!(quantized.iter().all(|t| t["scales"]["min"].as_f64() > Some(0.0)));
    }
}

#[test]
fn the_report_is_the_output_of_json_and_progress_stays_away_from_it() {
    let home = small(LOOSE);
    let output = home.convert(&["--json", "--only", "onnx"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON and nothing else");
    assert_eq!(report["artifacts"][0]["name"], "onnx");
    assert_eq!(report["artifacts"].as_array().map(Vec::len), Some(1));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_limit_that_does_not_hold_is_exit_code_1_and_a_sentence_that_names_the_stage() {
    let home = small("{ max_kl: 0.0, min_top1: 0.0 }");
    let output = home.convert(&["--quiet", "--only", "onnx"]);
    assert_eq!(code(&output), 1);
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("failed: quantization of onnx: logits of 4 samples: KL "), "{stderr}");
    assert!(stderr.contains(", at most 0: ") && stderr.contains("try more bits"), "{stderr}");
    assert!(text(&output.stdout).contains("failed at quantization of onnx"), "{}", text(&output.stdout));
    // The artifact is there to be looked at; its report says that it failed.
    assert!(home.dir.path().join("out/onnx.failed/encoder_model.onnx").exists());
    assert!(!home.dir.path().join("out/onnx").exists());
}

#[test]
fn the_same_recipe_gives_the_same_bytes_at_any_number_of_threads() {
    let home = Home::with(&format!(
        "model: {}\nout: unused\nartifacts:\n  - onnx: {{}}\n    quantize: {{ scheme: int4-g32, clip: mse }}\n  \
         - gguf: {{}}\n    quantize: {{ scheme: q4_k }}\n  - safetensors: {{}}\n    quantize: {{ scheme: int8 }}\n",
        repository("models/g2p-t5").display()
    ));
    for threads in ["1", "2"] {
        let out = home.path(threads);
        let output = home.convert(&["--no-validate", "--threads", threads, "--out", &out]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    }
    let of = |name: &str| -> BTreeMap<PathBuf, Vec<u8>> {
        let dir = home.dir.path().join(name);
        files(&dir).into_iter().map(|(p, b)| (p.strip_prefix(&dir).expect("below").to_owned(), b)).collect()
    };
    let (one, two) = (of("1"), of("2"));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    assert!(one.len() > 12, "{:?}", one.keys());
    for (path, bytes) in &one {
        assert!(*bytes == two[path], "{} differs", path.display());
    }
}

#[test]
fn what_is_wrong_with_a_recipe_is_shown_at_its_line_with_the_nearest_word() {
    let recipe = |quantize: &str, artifact: &str| {
        format!("model: m\nout: o\nquantize:\n  {quantize}\nartifacts:\n  - {artifact}\n")
    };
    let home = Home::with("");
    for (yaml, expected) in [
        (
            recipe("shceme: int8", "onnx: {}"),
            "error: quantize: unknown key `shceme`; did you mean `scheme`?\n --> RECIPE:4:3\n  |\n\
             2 | out: o\n3 | quantize:\n4 |   shceme: int8\n  |   ^ unknown key `shceme`; did you mean `scheme`?\n\
             5 | artifacts:\n6 |   - onnx: {}\n",
        ),
        (
            recipe("scheme: int8", "onnx: { atention: fused }"),
            "error: artifacts[0].onnx: unknown key `atention`; did you mean `attention`?\n --> RECIPE:6:13\n",
        ),
        (
            recipe("scheme: int8", "onnx: { attention: fussed }"),
            "error: artifacts[0].onnx.attention: unknown word `fussed`; did you mean `fused`?\n --> RECIPE:6:24\n",
        ),
        (
            recipe("scheme: int8-g46", "onnx: {}"),
            "error: quantize.scheme: unknown word `int8-g46`; did you mean `int8-g64`?\n --> RECIPE:4:3\n",
        ),
        (
            recipe("scheme: int8", "tflite: {}"),
            "error: artifacts[0]: unknown key `tflite`; valid here: name, quantize, limits, rescale_residual, onnx, npu, gguf, safetensors, ctranslate2, whisper.cpp\n --> RECIPE:6:5\n",
        ),
        (
            recipe("scheme: int8\n  rules:\n    - { rol: head, scheme: f16 }", "onnx: {}"),
            "error: quantize.rules[0]: unknown key `rol`; did you mean `role`?\n --> RECIPE:6:9\n",
        ),
        (
            recipe("scheme: int8", "name: x"),
            "error: RECIPE: artifacts[0]: expected exactly one of onnx, npu, gguf, safetensors, found none\n",
        ),
        (
            recipe("scheme: int8", "onnx: {}\n    name: ../x\n  - onnx: {}\n  - onnx: {}"),
            "error: RECIPE: artifacts[0].name: expected the name of a folder below `out`, found `../x`\n  \
             artifacts[2]: a second artifact named `onnx`; give it a `name`\n",
        ),
        (
            recipe("activations: dynamic", "gguf: {}"),
            "error: RECIPE: artifacts[0].quantize.activations: gguf engines round activations in their own way; \
             expected none\n",
        ),
        (
            recipe(
                "scheme: int8",
                "npu: { profile: qnn-htp-a16w, source: [0], target: 1 }\n  - npu: { key_bits: 4 }\n    name: b",
            ),
            "error: RECIPE: artifacts[0].npu.profile: expected one of npu-portable, qnn-htp-fp16, qnn-htp-a16w8, qnn-htp-a8w8, \
             openvino-npu, ryzenai-bf16, rknn-fp16, rknn-w8a8, found qnn-htp-a16w; did you mean qnn-htp-a16w8?\n  \
             artifacts[1].npu.key_bits: expected 8 or 16, found 4\n",
        ),
        (
            recipe("scheme: int8", "npu: { profile: qnn-htp-a16w8, source: [0], target: 1 }"),
            "error: RECIPE: artifacts[0].npu.source: expected lengths of at least 1, found 0\n  \
             artifacts[0].npu.target: expected at least 2, found 1\n  \
             artifacts[0].quantize.activations: qnn-htp-a16w8 takes static of 16 bits, found none\n",
        ),
        ("out: o\nartifacts: []\n".to_owned(), "error: recipe: the key `model` is missing\n --> RECIPE:2:1\n"),
        ("a: [\n".to_owned(), "error: "),
    ] {
        fs::write(home.recipe(), &yaml).expect("written");
        let output = run(&["recipe", "check", &home.recipe()]);
        let stderr = text(&output.stderr);
        assert_eq!(code(&output), 2, "{yaml}\n{stderr}");
        let expected = expected.replace("RECIPE", &home.recipe());
        assert!(stderr.starts_with(&expected), "for\n{yaml}\nexpected\n{expected}\nfound\n{stderr}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_model_that_a_format_cannot_hold_leaves_nothing_and_lists_all_reasons() {
    let home = Home::with(&format!(
        "model: {}\nout: a/b\nartifacts:\n  - onnx: {{}}\n  - gguf: {{ fallback: none }}\n    quantize: {{ scheme: q8_0 }}\n",
        fixture("t5-v1.0").display()
    ));
    let output = home.convert(&["--no-validate"]);
    let stderr = text(&output.stderr);
    assert_eq!(code(&output), 2, "{stderr}");
    let reasons = stderr.matches("cannot become q8_0: rows of ").count();
    assert!(reasons > 10 && stderr.contains("hint: "), "{stderr}");
    assert_eq!(home.names(), ["recipe.yaml"]);
}

#[test]
fn a_folder_that_cannot_be_made_and_a_recipe_that_is_not_there_are_named() {
    let home = small(LOOSE);
    fs::write(home.path("file"), "in the way").expect("written");
    let output = home.convert(&["--out", &home.path("file/out")]);
    assert_eq!(code(&output), 2);
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&format!("error: {}: Not a directory", home.path("file/out"))), "{stderr}");

    let output = run(&["convert", &home.path("none.yaml")]);
    assert_eq!((code(&output), text(&output.stdout)), (2, String::new()));
    let expected = format!("error: {}: No such file or directory", home.path("none.yaml"));
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
}

#[test]
fn an_artifact_is_replaced_whole_and_other_files_of_the_folder_stay() {
    let home = small(LOOSE);
    // An artifact with a file more, which its manifest names.
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    fs::write(home.path("out/onnx/old.onnx"), "old").expect("written");
    let manifest = home.path("out/onnx/trefoil.json");
    let named = r#""files": [ { "path": "old.onnx", "bytes": 3, "sha256": "" },"#;
    let text_of = fs::read_to_string(&manifest).expect("there").replacen("\"files\": [", named, 1);
    fs::write(&manifest, text_of).expect("written");
    fs::write(home.path("out/mine.txt"), "mine").expect("written");
    let output = home.convert(&["--no-validate"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(!Path::new(&home.path("out/onnx/old.onnx")).exists());
    assert!(Path::new(&home.path("out/onnx/trefoil.json")).exists());
    assert_eq!(fs::read_to_string(home.path("out/mine.txt")).expect("kept"), "mine");
}

#[cfg(unix)]
#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let home = Home::with(&format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\n  - safetensors: {{}}\n\
         validate: {{ data: {}, samples: 2000 }}\n",
        repository("models/g2p-t5").display(),
        repository("models/g2p-t5/data/test.jsonl").display()
    ));
    let mut child = trefoil()
        .args(["convert", &home.recipe(), "--offline", "--no-bench", "--quiet"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // The first staged artifact is being validated.
    let begun = Instant::now();
    let staged = || {
        let runs = fs::read_dir(home.path("out/.trefoil")).into_iter().flatten().filter_map(Result::ok);
        runs.filter(|run| run.path().join("new/safetensors/trefoil.json").exists()).count() > 0
    };
    while !staged() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is staged");
        assert!(child.try_wait().expect("asked").is_none(), "ended before it was interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is everywhere");
    assert!(killed.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("interrupted: nothing unfinished is left behind"));
    assert_eq!(home.names(), ["recipe.yaml"]);
}

#[test]
fn an_artifact_is_validated_again_and_a_changed_byte_is_found_at_export() {
    let home = small(LOOSE);
    assert_eq!(code(&home.convert(&["--no-validate", "--only", "safetensors"])), 0);
    let artifact = home.path("out/safetensors");
    let model = fixture("t5-rows-of-32").display().to_string();
    let validate = |reference: &str| {
        run(&["validate", &artifact, "--reference", reference, "--offline", "--quiet", "--samples", "4"])
    };
    let output = validate(&model);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));

    let file = home.path("out/safetensors/model.safetensors");
    let mut bytes = fs::read(&file).expect("there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("written");
    let output = validate(&model);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("failed: export of safetensors: "), "{}", text(&output.stderr));

    let output = validate(&fixture("t5-v1.0").display().to_string());
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("made from another checkpoint than "), "{}", text(&output.stderr));
}

#[test]
fn a_checkpoint_is_inspected_as_text_json_and_graph() {
    let model = fixture("t5-v1.1").display().to_string();
    let output = run(&["inspect", &model]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for line in ["t5-v1.1: checkpoint", "model_type", "decoder_with_past", "past.1.v", "lm_head.weight"] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    let output = run(&["inspect", &model, "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let entries: Vec<&str> =
        found["entries"].as_array().expect("a list").iter().filter_map(|e| e["name"].as_str()).collect();
    assert_eq!(entries, ["full", "encoder", "decoder", "decoder_with_past"]);
    assert_eq!(found["bits_per_weight"], 32.0);

    let output = run(&["inspect", &model, "--graph", "encoder"]);
    assert!(text(&output.stdout).starts_with("entry encoder"), "{}", text(&output.stdout));
    let output = run(&["inspect", &model, "--graph", "decodr"]);
    assert_eq!(code(&output), 2);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("expected one of full, encoder, decoder, decoder_with_past"), "{stderr}");
}

#[test]
fn artifacts_are_inspected_by_their_own_files() {
    let home = Home::with(&format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\n  - gguf: {{}}\n    \
         quantize: {{ scheme: q8_0 }}\n  - safetensors: {{}}\n",
        repository("models/g2p-t5").display()
    ));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    for (path, expected) in [
        ("out/onnx", &["past_key_values.1.decoder.key", "float[batch_size, 8, ", "MultiHeadAttention"][..]),
        ("out/onnx/encoder_model.onnx", &["input_ids", "int64[batch_size, ", "last_hidden_state"]),
        ("out/gguf", &["t5.decoder_block_count", "enc.blk.3.ffn_up.weight", "Q8_0", "bits per weight"]),
        ("out/gguf/model.gguf", &["general.architecture", "t5"]),
        ("out/safetensors", &["pack-quantized", "decoder.block.1.layer.2.DenseReluDense.wo.weight_packed", "I32"]),
    ] {
        let output = run(&["inspect", &home.path(path)]);
        let shown = text(&output.stdout);
        assert_eq!(code(&output), 0, "{path}: {}", text(&output.stderr));
        for line in expected {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
        let output = run(&["inspect", "--json", &home.path(path)]);
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(found["bytes"].as_u64() > Some(0), "{path}");
    }
    let output = run(&["inspect", &home.path("recipe.yaml")]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("expected a checkpoint"), "{}", text(&output.stderr));
}

#[test]
fn a_text_runs_through_the_checkpoint() {
    let model = repository("models/g2p-t5").display().to_string();
    let output = run(&["run", &model, "hello", "--quiet"]);
    // As transformers 5.23's generate.
    assert_eq!((code(&output), text(&output.stdout)), (0, "HH EH1 L OW0\n".to_owned()), "{}", text(&output.stderr));
    let output = run(&["run", &model, "hello", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["output"], &found["ended"]), (&Value::from("HH EH1 L OW0"), &Value::from(true)));

    let output = run(&["run", &model, "hello", "--engine", "onnxruntime"]);
    assert_eq!(code(&output), 2);
    let expected = "error: no engine named onnxruntime runs checkpoints; expected one of interpreter\n";
    assert_eq!(text(&output.stderr), expected);
}

/// A tiny checkpoint and how a recipe would have it decode.
fn decoding(decode: &str) -> Home {
    let model = fixture("t5-v1.1");
    Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - safetensors: {{}}\ndecode: {decode}\nvalidate: {{ samples: 3 }}\n",
        model.display()
    ))
}

#[test]
fn a_recipe_says_how_a_model_decodes_and_run_may_say_otherwise() {
    let home = decoding("{ max_new_tokens: 5, suppress_tokens: [7, 8], no_repeat_ngram_size: 2 }");
    let output = home.convert(&[]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(home.path("out/report.json")).expect("there")).expect("JSON");
    let line = "starts with 0; ends at 1; at most 5 tokens; 2 tokens suppressed; no 2-gram twice";
    assert_eq!(report["model"]["decoding"], line);
    let manifest: Value =
        serde_json::from_slice(&fs::read(home.path("out/safetensors/trefoil.json")).expect("there")).expect("JSON");
    let expected = serde_json::json!({
        "decoder_start_token_id": 0, "eos_token_ids": [1], "pad_token_id": 0, "max_new_tokens": 5,
        "no_repeat_ngram_size": 2, "suppress_tokens": [7, 8]
    });
    assert_eq!(manifest["decoding"], expected);

    let model = fixture("t5-v1.1").display().to_string();
    let answer = |from: &str, more: &[&str]| -> usize {
        let output = run(&[&["run", from, "5 6 9 1", "--json"], more].concat());
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(found["prompt"], serde_json::json!([0]));
        found["tokens"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(answer(&model, &["--max-new-tokens", "2"]), 2);
    assert!(answer(&model, &[]) > 5);
    // A float artifact of the format safetensors is a checkpoint too, and decodes as the recipe says all the same.
    assert_eq!(answer(&home.path("out/safetensors"), &[]), 5);
}

#[test]
fn a_recipe_still_makes_the_bytes_that_lie_there_or_verify_says_which_are_others() {
    let home = decoding("{ max_new_tokens: 5 }");
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let recipe = home.recipe();
    let verify = || run(&["verify", &recipe]);
    let same = verify();
    assert_eq!(
        (code(&same), text(&same.stdout)),
        (0, "safetensors: the same bytes\n".to_owned()),
        "{}",
        text(&same.stderr)
    );

    let manifest = home.path("out/safetensors/trefoil.json");
    let edited = fs::read_to_string(&manifest).expect("there");
    let digest = edited.find("\"sha256\"").expect("digests");
    let files = edited.rfind("\"files\"").expect("files");
    assert!(digest < files);
    let at = files + edited[files..].find("\"sha256\": \"").expect("a digest") + "\"sha256\": \"".len();
    let other = if edited[at..].starts_with('0') { "1" } else { "0" };
    fs::write(&manifest, format!("{}{other}{}", &edited[..at], &edited[at + 1..])).expect("written");
    let found = verify();
    assert_eq!(code(&found), 1, "{}", text(&found.stderr));
    let told = text(&found.stdout);
    assert!(told.starts_with("safetensors: other bytes in ") && told.ends_with(": its files were changed\n"), "{told}");

    fs::remove_file(&manifest).expect("there");
    let found = verify();
    assert_eq!(code(&found), 2);
    assert!(text(&found.stderr).contains("expected an artifact of trefoil or nothing"), "{}", text(&found.stderr));
}

#[test]
fn settings_of_decoding_that_a_model_does_not_have_are_told() {
    let refusal = |decode: &str| {
        let output = decoding(decode).convert(&[]);
        assert_eq!(code(&output), 2);
        text(&output.stderr)
    };
    let unknown = refusal("{ max_new_token: 5 }");
    assert!(
        unknown.starts_with("error: decode: unknown key `max_new_token`; did you mean `max_new_tokens`?"),
        "{unknown}"
    );
    let model = fixture("t5-v1.1").display().to_string();
    let expected = "language: this model is fed no language and no task; found fr\n";
    let refused = refusal("{ language: fr }");
    assert!(refused.ends_with(&format!("error: {model}: {expected}")), "{refused}");
    let output = run(&["run", &model, "5 1", "--language", "fr"]);
    assert_eq!((code(&output), text(&output.stderr)), (2, format!("error: {expected}")));
}

#[test]
fn the_list_comes_from_the_registries_and_is_the_table_of_the_readme() {
    let output = run(&["--list"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    for word in [
        "families:\n  bart\n",
        "  t5\n",
        "formats:\n  onnx\n  npu\n  gguf\n  safetensors\n  ctranslate2\n  whisper.cpp\n",
        "  int4-g128-asym\n",
        "onnxruntime (onnx, npu)",
        "profiles:\n  npu-portable\n",
    ] {
        assert!(text(&output.stdout).contains(word), "{word} is not in\n{}", text(&output.stdout));
    }
    let found: Value = serde_json::from_slice(&run(&["--list", "formats", "--json"]).stdout).expect("JSON");
    assert_eq!(
        found,
        serde_json::json!({ "formats": ["onnx", "npu", "gguf", "safetensors", "ctranslate2", "whisper.cpp"] })
    );

    let table = text(&run(&["--list", "--markdown"]).stdout);
    let readme = repository("README.md");
    let known = fs::read_to_string(&readme).expect("there");
    let (start, end) = ("<!-- generated by `trefoil --list --markdown` -->\n", "<!-- end -->");
    let (before, rest) = known.split_once(start).expect("the README has the marker");
    let (_, after) = rest.split_once(end).expect("the README has the end of the marker");
    let fresh = format!("{before}{start}{table}{end}{after}");
    bless_or_compare(&readme, &fresh);
}

#[test]
fn run_takes_languages_and_refuses_those_that_the_tokenizer_does_not_have() {
    // 384 rows of the embedding are enough for this tokenizer's ids.
    let model = fixture("byt5").display().to_string();
    let tokenizer = repository("tests/fixtures/tokenizer/m2m100").display().to_string();
    let with = |more: &[&str]| run(&[&["run", &model, "hello", "--json", "--tokenizer", &tokenizer], more].concat());
    for (more, first) in [(&[][..], 197), (&["--source-lang", "zu", "--target-lang", "fr"], 278)] {
        let output = with(more);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(said["input_ids"], serde_json::json!([first, 52, 110, 2]), "{more:?}");
        // The language of the answer is its first token.
        assert_eq!(said["tokens"][0] == 203, !more.is_empty(), "{said}");
    }
    let output = with(&["--target-lang", "frr"]);
    assert_eq!(code(&output), 2);
    let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    let error = error["error"]["message"].as_str().expect("a text");
    assert!(error.contains("expected one of 100 languages, found \"frr\"; the nearest are fr, "), "{error}");
    let output = run(&["run", &fixture("t5-v1.1").display().to_string(), "3 4 1", "--source-lang", "en"]);
    assert_eq!(code(&output), 2, "a language without a tokenizer");
}

#[test]
fn the_schemas_in_docs_are_those_of_the_program() {
    bless_or_compare(&repository("docs/recipe.schema.json"), &text(&run(&["recipe", "schema"]).stdout));
}

/// A generated file is as it would be generated now; `BLESS=1` rewrites it.
pub fn bless_or_compare(file: &Path, fresh: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, fresh).expect("written");
    }
    let known = fs::read_to_string(file).unwrap_or_default();
    assert!(known == fresh, "{} is out of date; BLESS=1 rewrites it", file.display());
}

#[test]
fn wrong_arguments_are_exit_code_2_and_output_in_a_pipe_has_no_colour() {
    for arguments in [&["converts"][..], &["convert"], &[], &["--list", "nothing"], &["--list", "inspect", "x"]] {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(!output.stderr.contains(&0x1b) && output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stderr));
    }
    let home = small(LOOSE);
    let output = home.convert(&["--only", "onx", "--offline"]);
    assert_eq!(code(&output), 2);
}
