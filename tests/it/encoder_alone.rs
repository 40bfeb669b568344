//! `gguf: { inputs: encoder }`: an encoder without its decoder, as llama.cpp and image programs open it.

use std::fs;
use std::path::Path;

use converters::export::gguf::{ENCODER, FILE, Gguf, GgufFile, Inputs, Value};
use converters::{Artifact, Format, Model};
use graph::ir::port::ENCODER_HIDDEN;
use graph::progress::Quiet;
use graph::{Interpreter, Scratch, Tensor};
use metrics::Meter;
use quant::{Policy, Scheme};
use tempfile::TempDir;
use validate::runtime::{ENCODERS, Options, RUNTIMES};
use validate::{Fit, RuntimeError};

use crate::cli::{Home, code, run, text};
use crate::consumers::{LLAMA_CPP, model};
use crate::fixture::{expected, fixture, repository, tokens};
use crate::gguf::bits;

const FORMAT: Gguf = Gguf { inputs: Inputs::Encoder, ..Gguf::DEFAULT };

/// A fixture's encoder in blocks or floats.
fn written(name: &str, scheme: &str) -> (Model, Artifact, TempDir) {
    let mut model = model(name);
    FORMAT.prepare(&mut model).unwrap_or_else(|e| panic!("{name}: {e}"));
    let scheme: Scheme = scheme.parse().expect("a scheme");
    let plan = Policy::of(scheme).plan(&model.graph).expect("planned");
    quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
    FORMAT.check(&model).unwrap_or_else(|e| panic!("{name}: {e}"));
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = FORMAT.write(&model, home.path()).expect("written");
    (model, artifact, home)
}

fn refusal(name: &str, format: &Gguf) -> String {
    let model = model(name);
    format.check(&model).expect_err("refused").to_string()
}

#[test]
fn the_file_holds_the_encoder_and_nothing_of_the_decoder() {
    for name in LLAMA_CPP {
        let (model, artifact, home) = written(name, "f16");
        let file = GgufFile::open(&home.path().join(FILE)).expect("opened");
        assert_eq!(file.get("general.architecture"), Some(&Value::string(ENCODER)), "{name}");
        let of_decoder =
            file.tensors.iter().find(|tensor| !tensor.name.starts_with("enc.") && tensor.name != "token_embd.weight");
        assert_eq!(of_decoder.map(|tensor| &tensor.name), None, "{name}");
        let read = FORMAT.read_weights(&model, &artifact).expect("read back");
        let held = FORMAT.held(&model.graph);
        assert!(held.weights.len() < model.graph.weights.len(), "{name}");
        assert!(bits(&read) == bits(&held.weights), "{name}");
        assert!(
            RUNTIMES.iter().all(|runtime| runtime.fit(&artifact) == Fit::Foreign || !runtime.runs("gguf")),
            "{name}"
        );
        assert!(ENCODERS.iter().all(|runtime| runtime.fit(&artifact) == Fit::Runs), "{name}");
    }
}

#[test]
fn what_no_engine_runs_alone_is_refused_with_what_does() {
    let told = refusal("bart", &FORMAT);
    assert!(
        told.contains("no engine runs the encoder of this family alone") && told.contains("T5, mT5 and UMT5"),
        "{told}"
    );
    let for_another: Gguf = serde_json::from_str(r#"{"for": "CrispASR", "inputs": "encoder"}"#).expect("options");
    let told = refusal("t5-v1.1", &for_another);
    assert!(told.contains("CrispASR runs no encoder alone") && told.contains("llama.cpp runs it"), "{told}");
}

#[test]
fn a_decoder_that_llama_cpp_cannot_run_is_no_obstacle_to_the_encoder() {
    let home = tempfile::tempdir().expect("temporary folder");
    let file = home.path().join("config.json");
    let config = fs::read(fixture("t5-v1.1").join("config.json")).expect("there");
    let mut config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    config["num_decoder_layers"] = (config["num_layers"].as_u64().expect("a count") + 1).into();
    fs::write(&file, config.to_string()).expect("written");
    let mut model = converters::import::import_config(&file).expect("imported");
    let told = Gguf::DEFAULT.prepare(&mut model).expect_err("refused").to_string();
    assert!(told.contains("num_decoder_layers"), "{told}");
    FORMAT.prepare(&mut model).expect("the decoder stays out");
    FORMAT.check(&model).expect("so do its keys");
}

/// Rows of f32[b, enc, d] that are not padding, after each other.
fn real(hidden: &Tensor, mask: &Tensor) -> Vec<f32> {
    let width = *hidden.shape().last().expect("of rank 3");
    let rows = hidden.as_f32().expect("floats").chunks(width).zip(mask.as_i64().expect("integers"));
    rows.filter(|(_, kept)| **kept != 0).flat_map(|(row, _)| row.to_vec()).collect()
}

#[cfg(feature = "llama-cpp")]
#[test]
fn llama_cpp_makes_of_texts_what_transformers_recorded() {
    // The encoder's share of the noise in `llama.rs`: a table of GELU in f16, inputs of matrices in 16 bits, or 8 in blocks.
    for (scheme, floor) in [("f32", 2e-3), ("f16", 3e-3), ("q8_0", 3e-2)] {
        let has_blocks = |name: &&&str| scheme != "q8_0" || **name == "t5-rows-of-32";
        for name in LLAMA_CPP.iter().filter(has_blocks) {
            let (model, artifact, _home) = written(name, scheme);
            let (recorded, _) = expected(&fixture(name));
            let [source, mask] = ["input_ids", "attention_mask"].map(|tensor| &recorded[tensor]);
            let options = Options { threads: 2, offline: true, ..Options::DEFAULT };
            let mut session = ENCODERS[0].open(&artifact, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            session.encode(&tokens(source, mask)).expect("encoded");
            let found = session.encoded().expect("shown").expect("by an engine of encoders");
            let Err(RuntimeError::Failed { message, .. }) = session.decode(&Tensor::i64([3, 1], vec![0; 3])) else {
                panic!("{name}: an encoder alone decodes");
            };
            assert!(message.contains("which decodes nothing"), "{message}");
            let meant = Interpreter::new(&model.graph).call("encoder", &tokens(source, mask)).expect("evaluates");
            let meant = if scheme == "f32" { &recorded["encoder_hidden"] } else { &meant[ENCODER_HIDDEN] };
            let mut meter = Meter::ZERO;
            meter.add(&real(meant, mask), &real(&found, mask), 1);
            let rel = meter.distances().rel_l2.expect("finite");
            println!("{name} {scheme}: {rel:.1e}");
            assert!(rel <= floor, "{name} {scheme}: {rel:e}");
        }
    }
}

#[cfg(feature = "llama-cpp")]
#[test]
fn a_recipe_makes_it_judges_it_and_verifies_it() {
    let model = repository("models/g2p-t5");
    let data = model.join("data/test.jsonl");
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - gguf: {{ inputs: encoder }}\n    quantize: {{ scheme: q8_0 }}\nvalidate:\n  data: {}\n  samples: 24\n",
        model.display(),
        data.display()
    ));
    let made = run(&["convert", &home.recipe()]);
    assert_eq!(code(&made), 0, "{}", text(&made.stderr));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path("out/report.json")).expect("a report")).expect("JSON");
    let checks = report["artifacts"][0]["checks"].as_array().expect("checks");
    let of_encoder = checks
        .iter()
        .find(|check| check["what"].as_str().is_some_and(|what| what.contains("what the encoder makes of 24 samples")));
    assert_eq!(of_encoder.expect("the engine ran")["outcome"], "passed");
    let tensors = report["artifacts"][0]["tensors"].as_array().expect("tensors");
    assert!(
        tensors.iter().all(|tensor| !tensor["name"].as_str().expect("a name").starts_with("decoder.")),
        "{tensors:?}"
    );
    let verified = run(&["verify", &home.path("out/gguf")]);
    assert_eq!(code(&verified), 0, "{}{}", text(&verified.stdout), text(&verified.stderr));
    let asked = run(&["run", &home.path("out/gguf"), "hello"]);
    assert_eq!(code(&asked), 2);
    assert!(
        text(&asked.stderr).contains("it holds an encoder alone, which answers nothing"),
        "{}",
        text(&asked.stderr)
    );
    assert!(Path::new(&home.path("out/gguf/model.gguf")).exists());
}
