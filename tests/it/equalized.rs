//! Recipes whose edits come before quantization: what they say, and what the program says of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{code, text};
use crate::fixture::{copy, fixture, repository};

/// Ids that every fixture knows.
const DATA: &str =
    "{\"input\": \"5 9 12 7 1\", \"target\": \"8 11 6 1\"}\n{\"input\": \"30 4 1\", \"target\": \"22 9 1\"}\n";

/// Converts `model` by what is to stand after `calibrate` in a recipe.
fn convert(home: &TempDir, model: &Path, data: &str, recipe: &str) -> (i32, String) {
    fs::write(home.path().join("calibration.jsonl"), data).expect("written");
    let calibrate = "calibrate: { data: calibration.jsonl, decode: greedy }\n";
    let calibrate = if data.is_empty() { "" } else { calibrate };
    let head = format!("model: {}\nout: out\n{calibrate}validate: {{ samples: 4 }}\n", model.display());
    let file = home.path().join("recipe.yaml");
    fs::write(&file, head + recipe).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    for variable in ["TREFOIL_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "ORT_DYLIB_PATH"] {
        command.env_remove(variable);
    }
    // What calibration saw is kept there.
    command.env("XDG_CACHE_HOME", home.path().join("cache")).current_dir(home.path());
    let output =
        command.arg("convert").arg(file).args(["--offline", "--no-bench"]).output().expect("the binary starts");
    (code(&output), text(&output.stderr))
}

/// What the report says of an artifact's edits, as `about: text`.
fn notes(home: &TempDir, artifact: usize) -> Vec<String> {
    let report = fs::read(home.path().join("out/report.json")).expect("there");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let notes = report["artifacts"][artifact]["substitutions"].as_array().expect("a list").clone();
    let said = |key: &str, note: &Value| note[key].as_str().expect("a text").to_owned();
    notes.iter().map(|note| format!("{}: {}", said("about", note), said("text", note))).collect()
}

/// Checks that failed, but for those of how good codes are, which four drawn inputs say little of.
fn failures(report: &Value) -> Vec<String> {
    let checks = report["artifacts"].as_array().expect("a list").iter();
    let checks = checks.flat_map(|artifact| artifact["checks"].as_array().expect("a list"));
    let is_broken = |check: &&Value| check["outcome"] == "failed" && check["link"] != "quantization";
    checks.filter(is_broken).map(ToString::to_string).collect()
}

#[test]
fn every_format_is_written_from_the_edited_model_and_says_what_was_edited() {
    let home = tempfile::tempdir().expect("temporary folder");
    let words = fs::read_to_string(repository("models/g2p-t5/data/calibration.jsonl")).expect("there");
    let words: String = words.lines().take(12).flat_map(|line| [line, "\n"]).collect();
    let recipe = "
artifacts:
  - onnx: {}
    quantize:
      scheme: int8
      activations: { static: { bits: 8, range: minmax } }
      equalize: { smoothquant: { alpha: 0.75, exact: true } }
  - safetensors: {}
    quantize: { scheme: int8-g32, equalize: awq }
  - gguf: {}
    quantize: { scheme: q6_k, method: importance, equalize: weights }
";
    let (code, stderr) = convert(&home, &repository("models/g2p-t5"), &words, recipe);
    let report: Value =
        serde_json::from_slice(&fs::read(home.path().join("out/report.json")).expect("there")).expect("JSON");
    assert!(code <= 1, "{stderr}");
    assert_eq!(failures(&report), [""; 0], "{stderr}");
    let others = "equalize: no factor can move at ";
    let cases = [
        ("smoothquant with alpha 0.75: powers of two move at ", true),
        ("awq: factors move at ", false),
        ("weights: factors move at ", false),
    ];
    for (artifact, (how, is_exact)) in cases.into_iter().enumerate() {
        let notes: Vec<String> = notes(&home, artifact).into_iter().filter(|n| n.starts_with("e")).collect();
        let [moved, refused, proof] = &notes[..] else { panic!("{notes:?}") };
        assert!(moved.starts_with(&format!("equalize: {how}")) && !moved.contains(&format!("{how}0 of")), "{moved}");
        assert!(refused.starts_with(others), "{refused}");
        let difference = proof.strip_prefix("edits: the edited float model's logits differ by ").expect(proof);
        let difference: f64 = difference.split(' ').next().and_then(|d| d.parse().ok()).expect("a number");
        assert!(if is_exact { difference == 0.0 } else { difference > 0.0 && difference <= 1e-5 }, "{proof}");
    }
}

/// A copy of a fixture in f32 whose residual streams are 2^16 times as large, with the same logits.
fn large(name: &str) -> TempDir {
    const FACTOR: f32 = 65536.0;
    let folder = copy(name);
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).expect("there");
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors");
    let is_added = |name: &str| ["shared.weight", ".o.weight", ".wo.weight"].iter().any(|end| name.ends_with(end));
    let scaled: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32, "{name}");
            let factor = if is_added(&name) { FACTOR } else { 1.0 };
            let floats = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) * factor);
            (name, view.shape().to_vec(), floats.flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = scaled.iter().map(|(name, shape, data)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).expect("as many bytes"))
    });
    serialize_to_file(views, None, &file).expect("written");
    let config = folder.path().join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).expect("there")).expect("JSON");
    let eps = json["layer_norm_epsilon"].as_f64().expect("a number") as f32 * FACTOR * FACTOR;
    json["layer_norm_epsilon"] = f64::from(eps).into();
    fs::write(&config, json.to_string()).expect("written");
    folder
}

#[test]
fn auto_scales_a_residual_stream_that_f16_could_not_hold_and_leaves_the_logits() {
    let (home, model) = (tempfile::tempdir().expect("temporary folder"), large("t5-v1.1"));
    let recipe = "artifacts: [{ onnx: {}, rescale_residual: auto }]\n";
    let (code, stderr) = convert(&home, model.path(), DATA, recipe);
    assert!(code <= 1, "{stderr}");
    // What transformers recorded is of the same logits, so the link import holds too.
    let report: Value =
        serde_json::from_slice(&fs::read(home.path().join("out/report.json")).expect("there")).expect("JSON");
    assert_eq!(failures(&report), [""; 0], "{stderr}");
    let notes = notes(&home, 0);
    let [encoder, decoder, of_encoder, of_decoder, proof] = &notes[..] else { panic!("{notes:?}") };
    for (stack, seen, done) in [("encoder", encoder, of_encoder), ("decoder", decoder, of_decoder)] {
        let largest = seen.strip_prefix(&format!("rescale_residual: {stack}: calibration saw up to "));
        let largest = largest.and_then(|rest| rest.strip_suffix(" in the residual stream")).expect(seen);
        let largest: f32 = largest.parse().expect("a number");
        assert!(largest > 65504.0, "{seen}");
        let alpha = done.strip_prefix(&format!("rescale_residual: {stack}: the residual stream is ")).expect(done);
        let alpha: f32 = alpha.split(' ').next().and_then(|alpha| alpha.parse().ok()).expect("a number");
        let half = 65504.0 / 2.0;
        assert!(alpha * largest <= half && 2.0 * alpha * largest > half, "{seen}; {done}");
    }
    assert_eq!(proof, "edits: the edited float model's logits differ by 0.0e0 of the largest one, on 2 samples");
}

#[test]
fn a_model_without_a_large_stream_is_left_alone_by_auto_and_refuses_factors_if_it_has_none_at_all() {
    let home = tempfile::tempdir().expect("temporary folder");
    let auto = "artifacts: [{ onnx: {}, rescale_residual: auto }]\n";
    let (code, stderr) = convert(&home, &fixture("t5-v1.1"), DATA, auto);
    assert!(code <= 1, "{stderr}");
    let said = notes(&home, 0);
    for (stack, note) in ["encoder", "decoder"].iter().zip(&said) {
        assert!(note.starts_with(&format!("rescale_residual: {stack}: not needed; calibration saw up to ")), "{note}");
    }
    let (code, stderr) = convert(&home, &fixture("bart"), DATA, auto);
    assert!(code <= 1, "{stderr}");
    let why = "; a model that normalizes after each sum keeps its sums small and has no stream to scale";
    for (stack, note) in ["encoder", "decoder"].iter().zip(&notes(&home, 0)) {
        assert!(
            note.starts_with(&format!("rescale_residual: {stack}: not possible; ")) && note.ends_with(why),
            "{note}"
        );
    }
    let factors = "artifacts: [{ onnx: {}, rescale_residual: { encoder: 0.125 } }]\n";
    let (code, stderr) = convert(&home, &fixture("bart"), "", factors);
    assert_eq!(code, 2);
    assert!(stderr.contains("rescale_residual: ") && stderr.trim_end().ends_with(why), "{stderr}");
    let (code, stderr) = convert(&home, &fixture("mu"), "", factors);
    assert!(code <= 1, "{stderr}");
    let said = notes(&home, 0);
    assert!(said[0].starts_with("rescale_residual: encoder: the residual stream is 0.125 times"), "{said:?}");
    assert!(said[1].starts_with("edits: ") && said[1].ends_with("on 4 samples"), "drawn ones: {said:?}");
}

#[test]
fn what_an_edit_lacks_or_cannot_be_is_told_with_its_place() {
    let cases = [
        (
            "{ gguf: {}, rescale_residual: { encoder: 0.3 } }",
            "artifacts[0].rescale_residual.encoder: expected a power of two up to 1, found 0.3\n  \
             artifacts[0].rescale_residual: readers of gguf take eps from the config; only onnx and npu can hold it",
        ),
        (
            "{ onnx: {}, rescale_residual: auto }",
            "artifacts[0].rescale_residual: auto watches the model decode; expected `calibrate: { data: FILE }` in the \
             recipe, found none",
        ),
        (
            "{ onnx: {}, quantize: { scheme: int4, equalize: awq } }",
            "artifacts[0]: it watches the model decode; expected `calibrate: { data: FILE }` in the recipe, \
             found none",
        ),
        (
            "{ onnx: {}, quantize: { scheme: int4, equalize: { smoothquant: { alpha: 1.5 } } } }",
            "artifacts[0].quantize.equalize.smoothquant.alpha: expected 0 to 1, found 1.5",
        ),
        (
            "{ onnx: {}, quantize: { scheme: int4, equalize: smothquant } }",
            "unknown word `smothquant`; did you mean `smoothquant`?",
        ),
        (
            "{ onnx: {}, quantize: { scheme: int4, equalize: { smoothquant: { alpa: 1 } } } }",
            "unknown key `alpa`; did you mean `alpha`?",
        ),
        (
            "{ onnx: {}, rescale_residual: { encoder: 0.5, decodr: 0.5 } }",
            "unknown key `decodr`; did you mean `decoder`?",
        ),
        ("{ onnx: {}, rescale_residual: aut }", "unknown word `aut`; did you mean `auto`?"),
        (
            "{ onnx: {}, quantize: { scheme: f16, equalize: weights } }",
            "`equalize: weights` has no effect: no Linear with codes reads an activation whose channels have factors to take",
        ),
    ];
    for (artifact, expected) in cases {
        let home = tempfile::tempdir().expect("temporary folder");
        let (code, stderr) = convert(&home, &fixture("t5-v1.1"), "", &format!("artifacts:\n  - {artifact}\n"));
        assert_eq!(code, 2, "{artifact}: {stderr}");
        assert!(stderr.contains(expected), "{artifact}: {stderr}");
    }
}
