//! Recipes for NPUs on models with random weights: what `trefoil convert` makes of them runs in Qualcomm's HTP simulator.

use std::fs;
use std::path::Path;
use std::process::Command;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::Value;

use crate::cli::{code, text};
use crate::fixture::{fixture, lcg, repository};

#[path = "../../benches/random_t5.rs"]
#[allow(dead_code, reason = "benchmarks use the rest")]
mod random_t5;

use random_t5::Size;

/// A checkpoint of a size that benchmarks have, with weights as T5 draws them before training, `modeling_t5.py`.
fn write_untrained(size: &Size, dir: &Path) {
    // A spread of 1 is that of numbers between -√3 and √3; norms are 1.
    let spread = |name: &str| {
        let over = |n: usize| Some(3f32.sqrt() * (n as f32).powf(-0.5));
        match name.trim_end_matches(".weight").rsplit('.').next().expect("a word") {
            "shared" => over(1),
            "q" => over(size.d_model * (size.d_model / size.heads)),
            "wo" => over(size.d_ff),
            word if word.ends_with("norm") => None,
            _ => over(size.d_model),
        }
    };
    let tensors = size.tensors();
    let bytes = |(i, (name, shape)): (usize, &(String, Vec<usize>))| -> Vec<u8> {
        let count = shape.iter().product();
        let values = match spread(name) {
            Some(spread) => lcg(i as i64, count).into_iter().map(|x| x * spread).collect(),
            None => vec![1.0; count],
        };
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    };
    let data: Vec<Vec<u8>> = tensors.iter().enumerate().map(bytes).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), data).expect("as many numbers as the shape says"))
    });
    serialize_to_file(views, None, &dir.join("model.safetensors")).expect("written");
    fs::write(dir.join("config.json"), size.config().to_string()).expect("written");
}

/// Lines of ids that every fixture knows, each with an end.
fn ids(count: usize, vocabulary: usize) -> String {
    let id = |i: usize, j: usize| 3 + (i * 31 + j * 17 + i * j * 7) % (vocabulary - 3);
    let line = |i: usize| -> String { (0..3 + i % 6).map(|j| format!("{} ", id(i, j))).collect::<String>() + "1\n" };
    (0..count).map(line).collect()
}

/// What a recipe says of its only artifact, and of its data.
struct Wanted<'a> {
    npu: &'a str,
    scheme: &'a str,
    limits: &'a str,
    vocabulary: usize,
    calibration: usize,
    samples: usize,
}

impl Wanted<'_> {
    /// Converts `model` for the HTP in codes of 16 bits, and gives the report with what was said.
    fn converted(&self, model: &Path) -> (Value, String) {
        let Wanted { npu, scheme, limits, samples, .. } = self;
        let home = tempfile::tempdir().expect("temporary folder");
        fs::write(home.path().join("calibration.txt"), ids(self.calibration, self.vocabulary)).expect("written");
        let recipe = format!(
            "model: {}\nout: out\ncalibrate: {{ data: calibration.txt, decode: greedy }}\nartifacts:\n  - npu: {npu}\n    \
             quantize: {{ scheme: {scheme}, activations: {{ static: {{ bits: 16 }} }} }}\nvalidate:\n  samples: {samples}\n  \
             limits: {limits}\n",
            model.display()
        );
        fs::write(home.path().join("recipe.yaml"), recipe).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
        command.env("XDG_CACHE_HOME", home.path().join("cache")).current_dir(home.path());
        let output =
            command.args(["convert", "recipe.yaml", "--offline", "--no-bench"]).output().expect("the binary starts");
        let stderr = text(&output.stderr);
        assert!(code(&output) <= 1, "{stderr}");
        let report = fs::read(home.path().join("out/report.json")).expect("there");
        (serde_json::from_slice(&report).expect("JSON"), stderr)
    }
}

/// Checks of the simulator about each of these, all words of which they have, are there and passed.
fn holds(name: &str, about: &[&[&str]], (report, stderr): (Value, String)) {
    let checks = report["artifacts"][0]["checks"].as_array().expect("a list");
    let what = |check: &Value| check["what"].as_str().expect("a text").to_owned();
    let simulated: Vec<&Value> = checks.iter().filter(|check| what(check).starts_with("htp-simulator")).collect();
    for words in about {
        let is_about = |check: &&&Value| words.iter().all(|word| what(check).contains(word));
        let found: Vec<&&Value> = simulated.iter().filter(is_about).collect();
        found.iter().for_each(|check| println!("{name}: {}: {}", check["what"], check["value"]));
        let passed = found.iter().all(|check| check["outcome"] == "passed");
        assert!(passed && !found.is_empty(), "{name}: {words:?}: {simulated:#?}\n{stderr}");
    }
}

const PLACED: &[&str] = &["every node on the NPU"];
const RELOADED: &[&str] = &["context binar"];
const NEAR_THE_GRAPH: &[&str] = &["logits of"];
const NEAR_THE_MODEL: &[&str] = &["logits of", "against the float model"];

const SMALL: Wanted = Wanted {
    npu: "{ profile: qnn-htp-a16w8, source: [24], target: 16 }",
    scheme: "int8",
    limits: "{ max_kl: 1, min_top1: 0.5, npu_sqnr_db: 25 }",
    vocabulary: 50,
    calibration: 32,
    samples: 6,
};

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV"]
fn models_of_other_shapes_run_in_codes_of_16_bits_with_every_node_on_the_npu() {
    // Norms after sums, positions by sines; rotary positions and shared heads; norms on both sides.
    for (name, update) in [("bart", "host"), ("marian", "where"), ("mu", "host"), ("t5gemma", "where")] {
        let npu = format!("{{ profile: qnn-htp-a16w8, source: [24], target: 16, update: {update} }}");
        let found = Wanted { npu: &npu, ..SMALL }.converted(&fixture(name));
        holds(name, &[PLACED, RELOADED, NEAR_THE_GRAPH, NEAR_THE_MODEL], found);
    }
}

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV"]
fn weights_of_4_bits_are_what_they_are_in_the_graph() {
    // Random weights lose too much in 4 bits for the float model to be near.
    let wanted = Wanted { scheme: "int4", limits: "{ max_kl: 10, min_top1: 0, npu_sqnr_db: 10 }", ..SMALL };
    holds("marian, int4", &[PLACED, RELOADED, NEAR_THE_GRAPH], wanted.converted(&fixture("marian")));
}

#[test]
#[ignore = "needs onnxruntime, onnxruntime-qnn and tokenizers in $VIRTUAL_ENV"]
fn the_host_of_the_examples_decodes_with_the_files_alone() {
    let home = tempfile::tempdir().expect("temporary folder");
    let out = home.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    command.args([
        "convert",
        "recipes/g2p-t5-npu.yaml",
        "--no-validate",
        "--only",
        "a8w8",
        "--only",
        "portable",
        "--out",
    ]);
    let output = command.arg(&out).current_dir(repository("")).output().expect("the binary starts");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let python = std::env::var("VIRTUAL_ENV").expect("an environment is active") + "/bin/python";
    for (artifact, chip) in [("portable", None), ("a8w8", None), ("a8w8", Some("60"))] {
        let mut command = Command::new(&python);
        command.arg(repository("examples/npu_host.py")).arg(out.join(artifact)).arg("beezley").args(chip);
        let output = command.output().expect("Python starts");
        let said = text(&output.stdout);
        // Qualcomm's library prints a line of its own, at any time.
        let is_said = said.lines().any(|line| line == "B IY1 Z L IY0");
        assert!(is_said, "{artifact}, {chip:?}: {said}{}", text(&output.stderr));
    }
}

#[test]
#[ignore = "needs onnxruntime-qnn in $VIRTUAL_ENV; minutes"]
fn layers_of_the_size_of_t5_small_are_compiled_and_run() {
    let model = tempfile::tempdir().expect("temporary folder");
    write_untrained(&random_t5::SMALL, model.path());
    let npu = "{ profile: qnn-htp-a16w8, source: [128], target: 64 }";
    let wanted = Wanted { npu, vocabulary: random_t5::VOCABULARY, calibration: 8, samples: 1, ..SMALL };
    holds("t5-small", &[PLACED, RELOADED, NEAR_THE_GRAPH, NEAR_THE_MODEL], wanted.converted(model.path()));
}
