//! What is kept between runs is found by all that it follows from, and by nothing else.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{code, text, trefoil};
use crate::fixture::{fixture, repository};

/// A recipe, its data and a cache in a folder of its own.
struct Home(TempDir);

impl Home {
    /// A copy of a checkpoint with its data as lines.
    fn new(checkpoint: &str, lines: &str) -> Home {
        let dir = tempfile::tempdir().expect("temporary folder");
        let home = Home(dir);
        home.copy(&fixture(checkpoint), "model");
        home.write("data.jsonl", lines);
        home
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    fn copy(&self, from: &Path, to: &str) {
        let to = self.0.path().join(to);
        fs::create_dir_all(&to).expect("a folder");
        for entry in fs::read_dir(from).expect("there") {
            let from = entry.expect("readable").path();
            fs::copy(&from, to.join(from.file_name().expect("a file"))).expect("copied");
        }
    }

    /// How many findings a kind has.
    fn kept(&self, kind: &str) -> usize {
        let output = self.run(&["cache", "--json"]);
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let kinds = found["kinds"].as_array().expect("a list").clone();
        let own = kinds.iter().find(|one| one["kind"] == kind).expect("listed");
        own["findings"].as_u64().expect("a number") as usize
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = trefoil();
        command.env("XDG_CACHE_HOME", self.0.path().join("cache"));
        command.args(arguments).output().expect("the binary starts")
    }

    /// Runs a recipe and says whether something was found anew.
    fn is_miss(&self, kind: &str, command: &[&str], recipe: &str, more: &[&str]) -> bool {
        self.write("recipe.yaml", recipe);
        let before = self.kept(kind);
        let file = self.path("recipe.yaml");
        let output = self.run(&[command, &[&file], more].concat());
        assert_eq!(code(&output), 0, "{recipe}\n{}", text(&output.stderr));
        let after = self.kept(kind);
        assert!(after == before || after == before + 1, "{before} and then {after}");
        after > before
    }
}

/// Token ids, as the fixtures have no tokenizer.
fn lines(count: usize) -> String {
    let line = |i: usize| format!("{{\"input\": \"{} {} 9 1\"}}\n", 3 + i, 5 + (i * 7) % 30);
    (0..count).map(line).collect()
}

#[test]
fn a_search_is_remembered_by_all_that_its_measurements_follow_from() {
    let home = Home::new("t5-rows-of-32", &lines(4));
    let recipe = |artifact: &str, more: &str| {
        format!(
            "model: model\nout: out\ncalibrate: {{ data: data.jsonl }}\nartifacts:\n  - {artifact}\n    quantize: {{ scheme: q4_0, \
             method: importance }}\n{more}"
        )
    };
    let (plain, asked) = (recipe("gguf: {}", ""), ["--samples", "2", "--candidates", "q4_0,q8_0"]);
    let miss = |recipe: &str, more: &[&str]| home.is_miss("tune", &["tune"], recipe, &[&asked[..], more].concat());
    assert!(miss(&plain, &[]), "the first time");
    // What does not matter.
    for (what, recipe, more) in [
        ("the same", plain.clone(), vec![]),
        ("a comment", format!("# A comment.\n{plain}"), vec![]),
        ("threads", plain.clone(), vec!["--threads", "1"]),
        ("a budget", plain.clone(), vec!["--max-size", "100MB"]),
        ("where artifacts go", plain.replace("out: out", "out: elsewhere"), vec![]),
        ("limits of the report", format!("{plain}validate: {{ limits: {{ max_kl: 0.5 }} }}\n"), vec![]),
    ] {
        assert!(!miss(&recipe, &more), "{what}");
    }
    home.copy(&home.0.path().join("model"), "another-place");
    assert!(!miss(&plain.replace("model: model", "model: another-place"), &[]), "the path of the checkpoint");
    fs::rename(home.path("data.jsonl"), home.path("renamed.jsonl")).expect("renamed");
    assert!(!miss(&plain.replace("data.jsonl", "renamed.jsonl"), &[]), "the path of the data");
    fs::rename(home.path("renamed.jsonl"), home.path("data.jsonl")).expect("renamed");

    // What does.
    let integers =
        |format: &str| plain.replace("gguf: {}", format).replace("q4_0", "int4-g32").replace("importance", "gptq");
    for (what, recipe) in [
        ("the metric", format!("{plain}validate: {{ metric: token_error_rate }}\n")),
        ("the fallback", recipe("gguf: { fallback: f16 }", "")),
        ("the format", integers("onnx: {}")),
        ("an option of the format", integers("onnx: { compute: f32 }")),
        ("the method", plain.replace("importance", "nearest")),
        ("the prompt", format!("{plain}decode: {{ decoder_start_token_id: 5 }}\n")),
        ("how many samples there are", plain.replace("data.jsonl }", "data.jsonl, samples: 3 }")),
    ] {
        let asked: &[&str] =
            if recipe.contains("int4") { &["--samples", "2", "--candidates", "int4-g32,int8"] } else { &asked };
        assert!(home.is_miss("tune", &["tune"], &recipe, asked), "{what}");
        assert!(!home.is_miss("tune", &["tune"], &recipe, asked), "{what}, again");
    }
    home.write("data.jsonl", &lines(5).replace("9 1", "8 1"));
    assert!(miss(&plain, &[]), "the samples");
    let weights = home.0.path().join("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("there");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(&weights, bytes).expect("written");
    assert!(miss(&plain, &[]), "a weight");

    let all = home.kept("tune");
    assert!(all > 9, "{all}");
    assert_eq!(code(&home.run(&["cache", "--clear"])), 0);
    assert_eq!((home.kept("tune"), home.kept("calibration")), (0, 0));
}

#[test]
fn what_a_speech_model_is_calibrated_on_is_remembered_with_language_prompt_and_processor() {
    let clip = repository("tests/fixtures/audio/chirp.wav").display().to_string();
    let home = Home::new("whisper", &format!("{{\"input\": \"{clip}\"}}\n"));
    let plain = "model: model\nout: out\ncalibrate: { data: data.jsonl }\nartifacts:\n  - onnx: {}\n    quantize: { scheme: int8, \
                 method: gptq }\n";
    let miss = |recipe: &str| home.is_miss("calibration", &["convert", "--no-validate"], recipe, &[]);
    assert!(miss(plain), "the first time");
    assert!(!miss(&format!("{plain}# A comment.\n")), "a comment");
    // The same statistics serve every format, scheme and method.
    assert!(!miss(&plain.replace("method: gptq", "activations: { static: { bits: 8 } }")), "the method");
    assert!(!miss(&plain.replace("onnx: {}", "safetensors: {}")), "the format");
    for (what, more) in [("the language", "decode: { language: de }\n"), ("the task", "decode: { task: transcribe }\n")]
    {
        assert!(miss(&format!("{plain}{more}")), "{what}");
        assert!(!miss(&format!("{plain}{more}")), "{what}, again");
    }
    let processor = home.0.path().join("model/preprocessor_config.json");
    let text = fs::read_to_string(&processor).expect("there");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    value["padding_value"] = Value::from(0.25);
    fs::write(&processor, value.to_string()).expect("written");
    assert!(miss(plain), "the processor");
}
