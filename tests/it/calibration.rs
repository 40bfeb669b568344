//! Calibration by decoding, and what is quantized with it, on every family and with input that is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use converters::checkpoint::Generation;
use converters::{Model, import};
use graph::passes::{QuantizeStatically, run_one};
use graph::progress::Quiet;
use graph::{Blob, FloatType, Graph, Interpreter, Op, Scratch, Tensor, ValueId, WeightData};
use quant::{Calibration, GptqSettings, Method, Policy, Samples, Statistics, TensorRecord, calibrate};
use serde_json::Value;
use tempfile::TempDir;
use validate::calibration::{Calibrated, CalibratedError, Prefixes};
use validate::task::Data;
use validate::{ChainError, Greedy};

use crate::cli::{code, text, trefoil};
use crate::fixture::{fixture, fixtures};

/// Short outputs keep these tests short.
const NEW_TOKENS: usize = 6;

/// A checkpoint after the passes.
pub fn split(dir: &Path) -> Model {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    graph::passes::run(&mut model.graph).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    model
}

/// Drawn inputs and the model's own words.
pub fn calibrated(model: &Model, count: usize) -> Calibrated {
    let decoding: &Generation = model.checkpoint.generation();
    let data = Data::drawn(count, &model.graph, decoding).expect("an encoder of a known kind");
    let greedy = Greedy::from(decoding).at_most(NEW_TOKENS);
    Calibrated::new(&model.graph, data, &greedy, Prefixes::Greedy, &Quiet).unwrap_or_else(|e| panic!("{e}"))
}

/// The graph under a policy, calibrated on samples.
pub fn quantized(
    graph: &Graph,
    samples: &Calibrated,
    statistics: &Statistics,
    policy: &Policy,
) -> (Graph, Vec<TensorRecord>) {
    let mut out = graph.clone();
    let plan = policy.plan(graph).unwrap_or_else(|e| panic!("{e}"));
    let feeds = |sample: usize| samples.feeds(sample);
    let samples = Samples { entry: "full", count: samples.data.samples.len(), feeds: &feeds };
    let dir = std::env::temp_dir();
    let calibration = Calibration { samples, statistics, gptq: policy.gptq, dir: &dir };
    let scratch = Scratch::new().expect("temporary folder");
    let records = quant::quantize_calibrated(&mut out, &plan, Some(&calibration), &scratch, &Quiet);
    (out, records.unwrap_or_else(|e| panic!("{e}")))
}

fn gptq(scheme: &str) -> Policy {
    Policy { method: Method::Gptq, ..Policy::of(scheme.parse().expect("a scheme")) }
}

#[test]
fn in_every_family_each_linear_is_calibrated_and_its_outputs_are_nearer_than_with_nearest_codes() {
    let mut families = BTreeMap::new();
    for dir in fixtures() {
        let model = split(&dir);
        let mut samples = calibrated(&model, 8);
        let statistics = samples.gather(&model.graph, &Quiet).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let (_, records) = quantized(&model.graph, &samples, &statistics, &gptq("int4"));
        let measured: Vec<&TensorRecord> = records.iter().filter(|r| r.method == Method::Gptq).collect();
        // All but those that T5Gemma 2 applies to two activations, its own and the encoder's.
        for (id, inputs) in calibrate::inputs(&model.graph) {
            let name = &model.graph.weights.get(id).name;
            let record = records.iter().find(|r| r.name == *name).expect("a record each");
            assert_eq!(record.method == Method::Gptq, inputs.len() == 1, "{name} of {}", dir.display());
        }
        let noise = |db: Option<f64>| db.map_or(0.0, |db| 10f64.powf(-db / 10.0));
        let sum = |pick: fn(&TensorRecord) -> Option<f64>| measured.iter().map(|r| noise(pick(r))).sum::<f64>();
        let (ours, nearest) =
            (sum(|r| r.outputs.expect("measured").sqnr_db), sum(|r| r.outputs.expect("measured").nearest_sqnr_db));
        assert!(ours < 0.8 * nearest, "{}: {ours} against {nearest}", dir.display());
        families.insert(model.architecture.model_types()[0], measured.len());
    }
    assert!(families.len() >= 9, "{families:?}");
}

#[test]
fn sums_by_channel_are_those_of_the_activations_of_each_sample_alone() {
    let model = split(&fixture("t5-v1.1"));
    let mut samples = calibrated(&model, 11);
    let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
    assert_eq!(statistics.samples, 11);
    let mut expected: BTreeMap<String, (u64, Vec<f64>, Vec<f32>)> = BTreeMap::new();
    let interpreter = Interpreter::new(&model.graph).prepared();
    for sample in 0..11 {
        let mut tap = |id: ValueId, tensor: &Tensor| {
            let name = &model.graph.value(id).name;
            if !statistics.inputs.contains_key(name) {
                return;
            }
            let width = *tensor.shape().last().expect("rank 1 or more");
            let sums = expected.entry(name.clone()).or_insert((0, vec![0.0; width], vec![0.0; width]));
            for row in tensor.as_f32().expect("floats").chunks(width) {
                sums.0 += 1;
                for (j, x) in row.iter().enumerate() {
                    sums.1[j] += f64::from(*x) * f64::from(*x);
                    sums.2[j] = sums.2[j].max(x.abs());
                }
            }
        };
        interpreter.call_with("full", &samples.feeds(sample), &mut tap).expect("runs");
    }
    assert_eq!(expected.len(), statistics.inputs.len());
    for (name, (rows, squares, max_abs)) in expected {
        let found = &statistics.inputs[&name];
        assert_eq!((found.rows, &found.max_abs), (rows, &max_abs), "{name}");
        for (a, b) in found.squares.iter().zip(squares) {
            assert!((a - b).abs() <= 1e-12 * b, "{name}: {a} {b}");
        }
        assert_eq!(statistics.histograms[&name].count(), rows * max_abs.len() as u64, "{name}");
    }
}

/// The proof that each weight saw what the quantized layers before it say: its measured outputs are those of the finished
/// graph.
#[test]
fn each_weight_is_calibrated_on_what_the_quantized_layers_before_it_say() {
    for name in ["t5-v1.1", "whisper", "mbart"] {
        let model = split(&fixture(name));
        let mut samples = calibrated(&model, 10);
        let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
        let (graph, records) = quantized(&model.graph, &samples, &statistics, &gptq("int4"));
        let mut checked = 0;
        for (id, inputs) in calibrate::inputs(&graph) {
            let record = records.iter().find(|r| r.name == graph.weights.get(id).name).expect("a record each");
            let Some(outputs) = record.outputs else { continue };
            let [exact, became] = [&model.graph, &graph].map(|g| {
                let same = g.weights.iter().find(|(_, w)| w.name == record.name).expect("in both").1;
                (same.read().expect("readable"), same.matrix()[1])
            });
            let (mut signal, mut noise) = (0.0, 0.0);
            for sample in 0..10 {
                let mut tap = |id: ValueId, tensor: &Tensor| {
                    if id != inputs[0] {
                        return;
                    }
                    for x in tensor.as_f32().expect("floats").chunks(exact.1) {
                        for (w, v) in exact.0.chunks(exact.1).zip(became.0.chunks(exact.1)) {
                            let dot =
                                |w: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
                            let (y, z) = (dot(w), dot(v));
                            signal += y * y;
                            noise += (y - z) * (y - z);
                        }
                    }
                };
                Interpreter::new(&graph).call_with("full", &samples.feeds(sample), &mut tap).expect("runs");
            }
            let expected = 10.0 * (signal / noise).log10();
            let found = outputs.sqnr_db.expect("int4 is not exact");
            assert!((found - expected).abs() < 0.01, "{name}: {}: {found} dB, expected {expected}", record.name);
            checked += 1;
        }
        assert!(checked >= 10, "{name}: {checked}");
    }
}

#[test]
fn the_same_samples_give_the_same_bytes_at_any_number_of_threads() {
    let model = split(&fixture("t5-v1.1"));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut samples = calibrated(&model, 19);
            let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
            let (graph, records) = quantized(&model.graph, &samples, &statistics, &gptq("int4"));
            let weights: Vec<Vec<f32>> = graph.weights.iter().map(|(_, w)| w.read().expect("readable")).collect();
            (statistics, records, weights)
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5), "the number of threads shows");
}

#[test]
fn importance_shows_in_blocks_of_ggml_and_in_clipped_ranges() {
    let model = split(&fixture("t5-rows-of-32"));
    let mut samples = calibrated(&model, 8);
    let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
    for (scheme, clip) in [("q4_0", quant::Clip::None), ("int4-g32", quant::Clip::Mse)] {
        let policy = |method| Policy { method, clip, ..Policy::of(scheme.parse().expect("a scheme")) };
        let read = |method| {
            let (graph, records) = quantized(&model.graph, &samples, &statistics, &policy(method));
            let name = "encoder.block.0.layer.0.SelfAttention.q.weight";
            assert_eq!(records.iter().find(|r| r.name == name).expect("there").method, method, "{scheme}");
            graph.weights.get(graph.weights.find(name).expect("there")).read().expect("readable")
        };
        assert_ne!(read(Method::Nearest), read(Method::Importance), "{scheme}");
    }
}

#[test]
fn one_sample_is_too_few_for_a_gram_matrix_and_the_record_says_what_was_done() {
    let model = split(&fixture("t5-v1.1"));
    let mut samples = calibrated(&model, 1);
    let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
    let policy = Policy { gptq: GptqSettings { damping: 0.0, act_order: true }, ..gptq("int4") };
    let (graph, records) = quantized(&model.graph, &samples, &statistics, &policy);
    let noted: Vec<&TensorRecord> = records.iter().filter(|r| !r.notes.is_empty()).collect();
    assert!(noted.len() > 10, "{}", noted.len());
    assert!(noted[0].notes[0].contains(" rows is singular; damping 0."), "{:?}", noted[0].notes);
    for (_, weight) in graph.weights.iter() {
        assert!(weight.read().expect("readable").iter().all(|x| x.is_finite()), "{}", weight.name);
    }
}

#[test]
fn a_dead_channel_keeps_nearest_codes_and_is_named() {
    let mut model = split(&fixture("t5-v1.1"));
    // A norm that multiplies channel 3 with 0: what reads it never sees that channel.
    let id = model.graph.weights.find("encoder.block.0.layer.0.layer_norm.weight").expect("there");
    let mut gain = model.graph.weights.get(id).read().expect("readable");
    gain[3] = 0.0;
    let mut bytes = vec![0; 4 * gain.len()];
    FloatType::F32.encode(&gain, &mut bytes);
    model.graph.weights.get_mut(id).data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
    let mut samples = calibrated(&model, 8);
    let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
    let (_, records) = quantized(&model.graph, &samples, &statistics, &gptq("int8"));
    let q = records.iter().find(|r| r.name.ends_with("encoder.block.0.layer.0.SelfAttention.q.weight")).expect("there");
    let width = gain.len();
    assert_eq!(q.notes, [format!("1 of {width} input channels were always 0; theirs are the nearest codes")]);
}

#[test]
fn activations_that_are_not_numbers_are_named_with_their_sample() {
    let mut model = split(&fixture("t5-v1.1"));
    let id = model.graph.weights.find("encoder.block.1.layer.0.layer_norm.weight").expect("there");
    let len = model.graph.weights.get(id).len();
    let mut bytes = vec![0; 4 * len];
    FloatType::F32.encode(&vec![3e38; len], &mut bytes);
    model.graph.weights.get_mut(id).data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
    let drawn = Data::drawn(3, &model.graph, model.checkpoint.generation()).expect("tokens");
    let mut data = drawn.clone();
    data.samples.iter_mut().for_each(|s| s.target_ids = vec![5, 1]);
    let greedy = Greedy::from(model.checkpoint.generation());
    let mut samples = Calibrated::new(&model.graph, data, &greedy, Prefixes::Targets, &Quiet).expect("nothing is run");
    let error = samples.gather(&model.graph, &Quiet).expect_err("infinite").to_string();
    assert!(
        error.starts_with("calibration: encoder.1.") && error.contains("in sample 1; the float model itself"),
        "{error}"
    );
}

#[test]
fn samples_longer_than_the_model_has_positions_for_are_refused_before_anything_runs() {
    let model = split(&fixture("bart"));
    let mut data = Data::drawn(3, &model.graph, model.checkpoint.generation()).expect("tokens");
    data.samples[1].target_ids = vec![5; 70];
    let greedy = Greedy::from(model.checkpoint.generation());
    match Calibrated::new(&model.graph, data, &greedy, Prefixes::Targets, &Quiet).map(|_| ()) {
        Err(ChainError::TooLong { about: "the calibration data", what: "target", count: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn targets_of_another_task_are_a_foreign_file() {
    let model = split(&fixture("t5-rows-of-32"));
    let mut data = Data::drawn(20, &model.graph, model.checkpoint.generation()).expect("tokens");
    let logits_at_first = |sample: usize, data: &Data| {
        let mut feeds = frontend::Input::batch(&[&data.samples[sample].source], 0).expect("one kind");
        feeds.insert("decoder_input_ids".into(), Tensor::i64([1, 1], vec![0]));
        Interpreter::new(&model.graph).call("full", &feeds).expect("runs")["logits"].as_f32().expect("floats").to_vec()
    };
    // What the model finds least likely of all.
    for sample in 0..20 {
        let logits = logits_at_first(sample, &data);
        let least = (0..logits.len()).min_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("a vocabulary");
        data.samples[sample].target_ids = vec![least as i64];
        data.samples[sample].target = Some("x".to_owned());
    }
    data.source = "foreign.jsonl".to_owned();
    let greedy = Greedy::from(model.checkpoint.generation());
    let mut samples = Calibrated::new(&model.graph, data, &greedy, Prefixes::Targets, &Quiet).expect("runs");
    match samples.gather(&model.graph, &Quiet) {
        Err(error @ CalibratedError::Foreign { .. }) => {
            let message = error.to_string();
            assert!(message.starts_with("foreign.jsonl: expected targets that the model finds likelier"), "{message}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}

/// A recipe, its data and a cache in a folder of its own.
struct Home(TempDir);

impl Home {
    fn new(artifacts: &str, calibrate: &str, lines: &str) -> Home {
        let dir = tempfile::tempdir().expect("temporary folder");
        let recipe = format!(
            "model: {}\nout: out\n{calibrate}\nartifacts:\n{artifacts}\nvalidate:\n  samples: 4\n  limits: {{ max_kl: 10.0, \
             min_top1: 0.0, max_points_lost: 100.0 }}\n",
            fixture("t5-rows-of-32").display()
        );
        fs::write(dir.path().join("recipe.yaml"), recipe).expect("written");
        fs::write(dir.path().join("words.txt"), lines).expect("written");
        Home(dir)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = trefoil();
        command.env("XDG_CACHE_HOME", self.0.path().join("cache")).current_dir(self.0.path());
        command.args(arguments).output().expect("the binary starts")
    }

    fn file(&self, path: &str) -> Vec<u8> {
        fs::read(self.0.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.file(path)).expect("JSON")
    }
}

/// Token ids, as the fixture has no tokenizer.
fn lines() -> String {
    (0..24).map(|i| format!("{} {} {} 1\n", 3 + i, 5 + (i * 7) % 50, 4 + (i * 11) % 40)).collect()
}

const GPTQ: &str = "  - onnx: {}\n    quantize: { scheme: int4-g32, clip: mse, method: gptq }";
const CALIBRATE: &str = "calibrate: { data: words.txt }";

#[test]
fn a_calibrated_conversion_is_in_the_report_and_the_same_with_and_without_its_cache() {
    let home = Home::new(GPTQ, CALIBRATE, &lines());
    let first = home.run(&["convert", "recipe.yaml", "--offline", "--no-bench"]);
    assert_eq!(code(&first), 0, "{}", text(&first.stderr));
    let report = home.json("out/report.json");
    assert_eq!(report["calibration"]["samples"], 24);
    assert_eq!(report["calibration"]["near_overflow_count"], 0);
    assert_eq!(report["calibration"]["source"], "words.txt");
    let tensors = report["artifacts"][0]["tensors"].as_array().expect("a list");
    let measured = tensors.iter().filter(|t| t["output_sqnr_db"].is_f64() && t["nearest_output_sqnr_db"].is_f64());
    assert!(measured.clone().count() > 0 && measured.clone().all(|t| t["method"] == "gptq"), "{tensors:#?}");
    let dir = home.0.path().join("out/onnx");
    let read = || -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(&dir).expect("made").map(|entry| entry.expect("readable").path());
        files.map(|file| (file.display().to_string(), fs::read(&file).expect("there"))).collect()
    };
    let before = read();
    assert!(before.len() > 4 && before.values().all(|bytes| !bytes.is_empty()), "{:?}", before.keys());
    let cached: Vec<_> = fs::read_dir(home.0.path().join("cache/trefoil/calibration")).expect("kept").collect();
    assert_eq!(cached.len(), 1);
    let second = home.run(&["convert", "recipe.yaml", "--offline", "--no-bench"]);
    assert_eq!(code(&second), 0, "{}", text(&second.stderr));
    assert!(!text(&second.stderr).contains("calibrate\n"), "{}", text(&second.stderr));
    assert!(before == read(), "the cache changes the artifact");
    // A damaged cache is made anew.
    fs::write(cached[0].as_ref().expect("readable").path(), b"{").expect("written");
    let third = home.run(&["convert", "recipe.yaml", "--offline", "--no-bench"]);
    assert_eq!(code(&third), 0, "{}", text(&third.stderr));
    assert!(before == read(), "the cache changes the artifact");
}

#[test]
fn an_artifact_that_was_calibrated_is_validated_without_its_samples() {
    let home = Home::new(GPTQ, CALIBRATE, &lines());
    assert_eq!(code(&home.run(&["convert", "recipe.yaml", "--offline", "--no-validate"])), 0);
    fs::remove_file(home.0.path().join("words.txt")).expect("there");
    let model = fixture("t5-rows-of-32").display().to_string();
    let found = home.run(&["validate", "out/onnx", "--reference", &model, "--offline"]);
    assert_eq!(code(&found), 0, "{}{}", text(&found.stdout), text(&found.stderr));
}

#[test]
fn recipes_and_files_that_cannot_calibrate_are_told_before_anything_is_written() {
    let cases = [
        (GPTQ, "", lines(), "artifacts[0]: it watches the model decode; expected `calibrate: { data: FILE }`"),
        (GPTQ, "calibrate: { data: absent.txt }", lines(), "absent.txt: No such file"),
        (GPTQ, CALIBRATE, String::new(), "words.txt: expected at least one sample, found none"),
        (GPTQ, CALIBRATE, "3 4 word\n".to_owned(), "words.txt:1: \"3 4 word\": word is not a token id"),
        (GPTQ, CALIBRATE, "3 4 9999\n".to_owned(), "id 9999 is outside the table of 64 rows"),
        (
            "  - gguf: {}\n    quantize: { scheme: q8_0, activations: { static: { bits: 8 } } }",
            CALIBRATE,
            lines(),
            "gguf has no place for static ranges",
        ),
        (
            "  - onnx: {}\n    quantize: { scheme: int8, activations: { static: { bits: 7 } } }",
            CALIBRATE,
            lines(),
            "expected 8 or 16 bits, found 7",
        ),
        (
            "  - onnx: {}\n    quantize: { scheme: f16, method: gptq }",
            CALIBRATE,
            lines(),
            "`method: gptq` has no effect: no weight of a Linear gets codes",
        ),
    ];
    for (artifacts, calibrate, lines, expected) in cases {
        let home = Home::new(artifacts, calibrate, &lines);
        let output = home.run(&["convert", "recipe.yaml", "--offline", "--no-validate"]);
        assert_eq!(code(&output), 2, "{expected}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains(expected), "{expected}: {}", text(&output.stderr));
        assert!(!home.0.path().join("out").exists(), "{expected}");
    }
}

#[test]
fn tune_finds_a_plan_remembers_its_measurements_and_writes_a_recipe_that_converts() {
    let home = Home::new(GPTQ, CALIBRATE, &lines());
    let first = home.run(&["tune", "recipe.yaml", "--samples", "8", "--max-size", "40kB"]);
    assert_eq!(code(&first), 0, "{}{}", text(&first.stdout), text(&first.stderr));
    let found = home.json("out/tune.json");
    let chosen = &found["measured"][found["chosen"].as_u64().expect("a plan") as usize];
    assert!(chosen["bytes"].as_u64().expect("bytes") <= 40_000, "{chosen}");
    let rows = found["sensitivity"].as_array().expect("rows");
    assert!(rows.len() > 20 && rows.iter().all(|row| row["kl"]["int4"].as_f64().is_some_and(|kl| kl >= 0.0)));
    assert!(text(&home.file("out/tune.svg")).starts_with("<svg "));
    assert!(text(&home.file("out/tune.md")).contains("## Each weight alone, all others exact"));

    // The same search again takes everything from what it remembers.
    let memory = || {
        let dir = home.0.path().join("cache/trefoil/tune");
        let file = fs::read_dir(dir).expect("kept").next().expect("one").expect("readable").path();
        (fs::read_to_string(&file).expect("text"), file)
    };
    let (lines, file) = memory();
    let recipe = home.file("recipe-tuned.yaml");
    let second = home.run(&["tune", "recipe.yaml", "--samples", "8", "--max-size", "40kB"]);
    assert_eq!((code(&second), memory().0 == lines), (0, true), "{}", text(&second.stderr));
    // Cut off in the middle of a line, it measures what is missing, and finds the same.
    fs::write(&file, &lines[..lines.len() / 2]).expect("written");
    let third = home.run(&["tune", "recipe.yaml", "--samples", "8", "--max-size", "40kB"]);
    assert_eq!(code(&third), 0, "{}", text(&third.stderr));
    assert!(recipe == home.file("recipe-tuned.yaml") && found == home.json("out/tune.json"));

    let converted = home.run(&["convert", "recipe-tuned.yaml", "--offline", "--no-bench"]);
    assert_eq!(code(&converted), 0, "{}", text(&converted.stderr));
    let report = home.json("out/report.json");
    let weights: u64 = report["artifacts"][0]["tensors"]
        .as_array()
        .expect("tensors")
        .iter()
        .filter(|t| rows.iter().any(|row| row["name"] == t["name"]))
        .map(|t| t["bytes"].as_u64().expect("bytes"))
        .sum();
    assert_eq!(Some(weights), chosen["bytes"].as_u64());
    // What layers cost in a scheme is in the report of the same model.
    let of_layers = report["costs"].as_array().expect("costs").iter().filter(|cost| cost["scheme"] == "int4");
    let of_layers: f64 = of_layers.filter_map(|cost| cost["kl"].as_f64()).sum();
    let of_weights: f64 = rows.iter().filter_map(|row| row["kl"]["int4"].as_f64()).sum();
    assert!(of_weights > 0.0 && (of_layers / of_weights - 1.0).abs() < 1e-12, "{of_layers} {of_weights}");

    let untold = home.run(&["tune", "recipe.yaml", "--samples", "8", "--max-drop", "1"]);
    assert_eq!(code(&untold), 2);
    assert!(text(&untold.stderr).contains("--max-drop scores the task; expected"), "{}", text(&untold.stderr));
    let impossible = home.run(&["tune", "recipe.yaml", "--samples", "8", "--max-size", "1kB"]);
    assert_eq!(code(&impossible), 1);
    let expected = "failed: tune: no plan of these candidates has at most 1000 bytes of weights";
    assert!(text(&impossible.stderr).contains(expected), "{}", text(&impossible.stderr));
}

/// Bits of the KL that a report gives for the quantized graph of its only artifact.
fn reported_kl(report: &Value) -> u64 {
    let checks = report["artifacts"][0]["checks"].as_array().expect("checks");
    let is_kl = |check: &&Value| check["link"] == "quantization" && check["metric"] == "kl";
    checks.iter().find(is_kl).and_then(|check| check["value"].as_f64()).expect("a KL").to_bits()
}

/// Everything that an artifact has beside its weights' schemes is in what the search measured.
#[test]
fn tune_promises_the_kl_that_convert_reports_on_the_same_samples() {
    let artifacts = "  - onnx: {}\n    quantize: { scheme: int8, equalize: smoothquant, bias_correction: true, activations: { static: { bits: 8 } } }";
    let home = Home::new(artifacts, CALIBRATE, &lines());
    let found =
        home.run(&["tune", "recipe.yaml", "--samples", "24", "--max-kl", "1", "--candidates", "int4-g32,int8,f16"]);
    assert_eq!(code(&found), 0, "{}{}", text(&found.stdout), text(&found.stderr));
    let found = home.json("out/tune.json");
    let promised = &found["measured"][found["chosen"].as_u64().expect("a plan") as usize];

    let recipe = text(&home.file("recipe-tuned.yaml"));
    assert!(recipe.contains("equalize:") && recipe.contains("activations:"), "{recipe}");
    let same_samples = recipe.replace("  samples: 4\n", "  samples: 24\n  data: words.txt\n");
    assert_ne!(recipe, same_samples);
    fs::write(home.0.path().join("both.yaml"), same_samples).expect("written");
    let converted = home.run(&["convert", "both.yaml", "--offline", "--no-bench"]);
    assert!(code(&converted) < 2, "{}", text(&converted.stderr));
    let reported = reported_kl(&home.json("out/report.json"));
    assert_eq!(promised["kl"].as_f64().map(f64::to_bits), Some(reported), "{promised}");
}

#[test]
fn every_value_that_a_linear_reads_has_static_steps_and_onnx_computes_them() {
    let model = split(&fixture("mbart"));
    let mut samples = calibrated(&model, 6);
    let statistics = samples.gather(&model.graph, &Quiet).expect("runs");
    for bits in [8, 16] {
        let wanted = quant::StaticActivations { bits, range: quant::ranges::RangeMethod::Minmax };
        let steps = statistics.steps(wanted).expect("finite");
        let (mut graph, _) =
            quantized(&model.graph, &samples, &statistics, &Policy::of("int8".parse().expect("a scheme")));
        run_one(&mut graph, &QuantizeStatically { steps: &steps }).expect("steps for all");
        let rounded = graph.values.iter().filter(|v| matches!(v.def, graph::Def::Op(Op::FakeQuant(_), _))).count();
        assert!(rounded > 10, "{rounded}");
        // 16 bits are much nearer to the float activations than 8.
        let call = |graph: &Graph| {
            let out = Interpreter::new(graph).call("full", &samples.feeds(0)).expect("runs");
            out["logits"].as_f32().expect("floats").to_vec()
        };
        let (exact, found) = (call(&model.graph), call(&graph));
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let relative = (distance(&exact, &found) / distance(&exact, &vec![0.0; exact.len()])).sqrt();
        assert!(relative < 0.1, "{bits} bits: {relative}");
    }
}

#[test]
fn a_gguf_may_have_its_importance_matrix_beside_it_under_the_names_of_its_tensors() {
    let artifacts = "  - gguf: { imatrix: true }\n    quantize: { scheme: q8_0 }";
    let home = Home::new(artifacts, CALIBRATE, &lines());
    let output = home.run(&["convert", "recipe.yaml", "--offline", "--no-validate"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let found = converters::export::imatrix::read(&home.0.path().join("out/gguf/imatrix.gguf")).expect("an imatrix");
    let names: Vec<&str> = found.iter().map(|channels| channels.name.as_str()).collect();
    for name in
        ["enc.blk.0.attn_q.weight", "dec.blk.0.cross_attn_k.weight", "dec.blk.0.ffn_down.weight", "output.weight"]
    {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let k = &found.iter().find(|channels| channels.name == "dec.blk.0.cross_attn_k.weight").expect("there");
    assert!(k.rows >= 24 * 4 && k.mean_square.iter().all(|x| *x > 0.0), "{k:?}");
}
