//! CTranslate2's files: what is in them, and what the engine makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use converters::export::ctranslate2::{CTranslate2, FILE, ModelFile};
use converters::{Artifact, ExportError, Format, Model};
use graph::passes::{QuantizeActivationsInBlocks, run_one};
use graph::{AffineTensor, Feeds, Interpreter, Tensor};
use quant::{Policy, Role, Rule, Scheme};
use validate::Greedy;
use validate::chain::{Arithmetic, Floor};
use validate::metrics::Meter;
use validate::runtime::ctranslate2::CTranslate2 as Engine;
use validate::runtime::{Options, Runtime, Session};

use crate::fixture::{copy, expected, fixture, fixtures, source};
use crate::safetensors::{all_models, imported, quantized};

const FORMAT: CTranslate2 = CTranslate2::DEFAULT;

fn name(dir: &Path) -> String {
    dir.file_name().expect("a folder").to_string_lossy().into_owned()
}

/// Checkpoints of families that the engine has.
fn opened() -> Vec<PathBuf> {
    let found: Vec<PathBuf> =
        all_models().into_iter().filter(|dir| FORMAT.prepare(&mut imported(dir)).is_ok()).collect();
    assert!(found.len() >= 30, "{found:?}");
    found
}

fn rule(role: Role, scheme: Scheme) -> Rule {
    Rule { role: Some(role), pattern: None, scheme, clip: None, method: None }
}

/// The model under a policy, with what the engine rounds.
fn grown(model: &Model, policy: &Policy) -> Model {
    let mut model = quantized(model, policy).expect("fits");
    let block_of = |weight: &AffineTensor| FORMAT.rounds_rows_of(weight);
    run_one(&mut model.graph, &QuantizeActivationsInBlocks { block_of: &block_of }).expect("rounded");
    model
}

fn written(model: &Model) -> (tempfile::TempDir, Artifact) {
    FORMAT.check(model).unwrap_or_else(|e| panic!("{e}"));
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = FORMAT.write(model, home.path()).expect("checked before");
    (home, artifact)
}

/// Policies that the format holds, by what they are called.
fn policies(model: &Model) -> Vec<(&'static str, Policy)> {
    let int8 = Policy::of(Scheme::INVERTED);
    let mut all = vec![
        ("keep", Policy::default()),
        ("f32", Policy::of("f32".parse().expect("a scheme"))),
        ("f16", Policy::of("f16".parse().expect("a scheme"))),
        ("bf16", Policy::of("bf16".parse().expect("a scheme"))),
        ("int8", int8.clone()),
        ("int8 but embeddings", Policy { rules: vec![rule(Role::Embedding, Scheme::Keep)], ..int8.clone() }),
        (
            "int8 but the last matrices of layers",
            Policy { rules: vec![rule(Role::FeedForwardOut, Scheme::Keep)], ..int8.clone() },
        ),
    ];
    let convolves = quant::roles(&model.graph).values().any(|role| *role == Role::Conv);
    if convolves {
        all.push(("int8 and convolutions", Policy { rules: vec![rule(Role::Conv, Scheme::INVERTED)], ..int8 }));
    }
    all
}

#[test]
fn every_family_reads_back_bit_for_bit_in_every_type() {
    for dir in opened() {
        let mut exact = imported(&dir);
        FORMAT.prepare(&mut exact).expect("it is opened");
        for (policy, wanted) in policies(&exact) {
            let model = grown(&exact, &wanted);
            let (_home, artifact) = written(&model);
            let read =
                FORMAT.read_weights(&model, &artifact).unwrap_or_else(|e| panic!("{}, {policy}: {e}", dir.display()));
            assert_eq!(read.iter().count(), model.graph.weights.iter().count(), "{}, {policy}", dir.display());
            for (_, weight) in model.graph.weights.iter() {
                let own = read.find(&weight.name).map(|id| read.get(id)).expect("each is read");
                let bits = |weight: &graph::Weight| {
                    weight.read().expect("readable").into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                assert_eq!(
                    (&own.shape, bits(own)),
                    (&weight.shape, bits(weight)),
                    "{}, {policy}: {}",
                    dir.display(),
                    weight.name
                );
            }
        }
    }
}

#[test]
fn a_family_that_the_engine_lacks_is_refused_by_name_with_what_holds_it() {
    for family in ["umt5", "plbart", "blenderbot", "blenderbot-small", "moonshine", "mu", "t5gemma", "t5gemma2"] {
        let error = FORMAT.prepare(&mut imported(&fixture(family))).expect_err("refused").to_string();
        let model_type = imported(&fixture(family)).checkpoint.config().model_type().expect("said").to_owned();
        assert!(error.starts_with(&format!("ctranslate2: {model_type}: CTranslate2 opens t5, mt5, bart,")), "{error}");
        assert!(error.ends_with(&format!("onnx, gguf and safetensors hold {model_type}")), "{error}");
    }
}

fn refused(model: &Model) -> Vec<String> {
    match FORMAT.check(model) {
        Err(ExportError::CannotHold { items, .. }) => items,
        other => panic!("expected to be refused, found {other:?}"),
    }
}

#[test]
fn what_the_engine_cannot_hold_is_refused_all_at_once() {
    let exact = imported(&fixture("t5-v1.1"));
    let under = |scheme: &str| grown(&exact, &Policy::of(scheme.parse().expect("a scheme")));
    // Two tables, and 3 · 7 + 2 · 11 matrices.
    for scheme in ["int4", "int8-asym", "int8-g32", "fp8"] {
        let items = refused(&quantized(&exact, &Policy::of(scheme.parse().expect("a scheme"))).expect("fits"));
        assert!(items.len() >= 40, "{scheme}: {items:?}");
    }
    let items = refused(&under("int8"));
    assert!(
        items.iter().all(|item| item.ends_with("scales are the inverse of no f32; int8-inv has others")),
        "{items:?}"
    );
    // Keys in floats beside queries in codes.
    let pattern = Some("encoder.block.0.layer.0.SelfAttention.k.weight".to_owned());
    let kept = Rule { role: None, pattern, scheme: Scheme::Keep, clip: None, method: None };
    let items = refused(&grown(&exact, &Policy { rules: vec![kept], ..Policy::of(Scheme::INVERTED) }));
    assert_eq!(
        items,
        [
            "encoder.block.0.layer.0.SelfAttention.k.weight (f32): encoder/layer_0/self_attention/linear_0 holds int8 with one symmetric \
          scale a row"
        ]
    );
    // The engine rounds what meets codes, and nothing else.
    let unrounded = quantized(&exact, &Policy::of(Scheme::INVERTED)).expect("fits");
    let items = refused(&unrounded);
    assert!(items[0].ends_with("the engine multiplies rows of 16 in 8 bits, the graph floats"), "{items:?}");
}

#[test]
fn a_file_of_another_model_is_refused_with_all_that_differs() {
    let model = imported(&fixture("t5-v1.1"));
    let (home, artifact) = written(&model);
    let other = imported(&fixture("t5-v1.0"));
    let error = FORMAT.read_weights(&other, &artifact).expect_err("another model").to_string();
    assert!(error.contains("encoder/layer_0/ffn/linear_0_noact/weight is no variable of this model"), "{error}");
    let path = home.path().join(FILE);
    let bytes = fs::read(&path).expect("written");
    for cut in (0..16).map(|part| bytes.len() * part / 16) {
        fs::write(&path, &bytes[..cut]).expect("written");
        assert!(FORMAT.read_weights(&model, &artifact).is_err(), "{cut} bytes");
    }
}

#[test]
fn tokens_of_a_checkpoint_have_their_names_and_those_without_a_tokenizer_are_ids() {
    let list = |home: &tempfile::TempDir| -> Vec<String> {
        let text = fs::read(home.path().join("shared_vocabulary.json")).expect("written");
        serde_json::from_slice(&text).expect("a list")
    };
    let (home, _) = written(&imported(&fixture("t5-v1.1")));
    assert_eq!(list(&home), (0..66).map(|id: usize| id.to_string()).collect::<Vec<_>>());
    let (home, _) = written(&imported(&crate::fixture::repository("models/g2p-t5")));
    let tokens = list(&home);
    assert_eq!(tokens[..3], ["<pad>", "</s>", "<unk>"]);
    assert!(!home.path().join("generation_config.json").exists() && home.path().join("tokenizer.json").exists());
}

/// The part of the layout that the engine's own converter decides: names, shapes, types and numbers, but for what is ours.
#[test]
fn convolutions_stay_floats_beside_codes_under_names_that_say_nothing_of_types() {
    let mut exact = imported(&fixture("whisper"));
    FORMAT.prepare(&mut exact).expect("it is opened");
    let (home, _) = written(&grown(&exact, &Policy::of(Scheme::INVERTED)));
    let file = ModelFile::open(&home.path().join(FILE)).expect("written");
    assert_eq!(file.spec, ("WhisperSpec".to_owned(), 3));
    for conv in ["encoder/conv1", "encoder/conv2"] {
        let alias = (format!("{conv}/weight"), format!("{conv}/floats"));
        assert!(file.aliases.contains(&alias), "{:?}", file.aliases);
    }
    let types: BTreeMap<bool, usize> = file.variables.iter().fold(BTreeMap::new(), |mut types, variable| {
        if variable.name.ends_with("weight") {
            *types.entry(variable.dtype == converters::export::ctranslate2::Dtype::I8).or_default() += 1;
        }
        types
    });
    assert_eq!(types.keys().collect::<Vec<_>>(), [&true], "one type under all names that end so");
}

fn session(artifact: &Artifact) -> Box<dyn Session> {
    let options = Options { threads: 2, offline: true, ..Options::DEFAULT };
    Engine.open(artifact, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// Relative L2 of the logits of a recording's targets, each of them fed in one call and in single steps.
fn distance(model: &Model, session: &mut dyn Session, fed: &Feeds, target: &Tensor) -> f64 {
    let mut feeds = fed.clone();
    feeds.insert("decoder_input_ids".to_owned(), target.clone());
    let meant =
        Interpreter::new(&model.graph).call("full", &feeds).expect("evaluates").remove("logits").expect("logits");
    let [rows, length, width] = meant.shape() else { panic!("{:?}", meant.shape()) };
    session.encode(fed).unwrap_or_else(|e| panic!("{e}"));
    let whole = session.decode(target).unwrap_or_else(|e| panic!("{e}"));
    let mut meter = Meter::ZERO;
    meter.add(meant.as_f32().expect("floats"), whole.as_f32().expect("floats"), *width);
    session.encode(fed).unwrap_or_else(|e| panic!("{e}"));
    let ids = target.as_i64().expect("ids");
    for at in 0..*length {
        let step = Tensor::i64([*rows, 1], ids.chunks(*length).map(|row| row[at]).collect());
        let logits = session.decode(&step).unwrap_or_else(|e| panic!("{e}"));
        let own = meant.as_f32().expect("floats").chunks(*width).skip(at).step_by(*length).flatten().copied();
        meter.add(&own.collect::<Vec<f32>>(), logits.as_f32().expect("floats"), *width);
    }
    meter.distances().rel_l2.expect("finite")
}

#[test]
#[ignore = "needs ctranslate2 in $VIRTUAL_ENV or in $TREFOIL_CTRANSLATE2_PYTHON; CI turns it on"]
fn every_family_says_in_the_engine_what_the_interpreter_says_in_every_type() {
    let mut far: BTreeMap<(&str, bool), (f64, String)> = BTreeMap::new();
    let mut faults = Vec::new();
    for dir in fixtures().into_iter().filter(|dir| opened().contains(dir)) {
        let mut exact = imported(&dir);
        FORMAT.prepare(&mut exact).expect("it is opened");
        let (recorded, _) = expected(&dir);
        // The target is the recorded answer, which begins as the model decodes.
        let (fed, target) = (source(&recorded), &recorded["greedy"]);
        for (policy, wanted) in policies(&exact) {
            let model = grown(&exact, &wanted);
            let (_home, artifact) = written(&model);
            let mut session = session(&artifact);
            let rel_l2 = distance(&model, &mut *session, &fed, target);
            let rounds = Arithmetic::of(&model.graph).rounds();
            let known = far.entry((policy, rounds)).or_insert((0.0, String::new()));
            if rel_l2 >= known.0 {
                *known = (rel_l2, name(&dir));
            }
            if policy == "keep" {
                let greedy = Greedy::from(model.checkpoint.generation());
                let found = greedy.run(&mut *session, &fed).unwrap_or_else(|e| panic!("{e}"));
                let ours = target.as_i64().expect("ids").chunks(target.shape()[1]);
                for (row, (found, ours)) in found.iter().zip(ours).enumerate() {
                    let said = [&found.prompt[..], &found.tokens].concat();
                    if !ours.starts_with(&said) {
                        faults.push(format!("{}, row {row}: recorded {ours:?}, found {said:?}", name(&dir)));
                    }
                }
            }
        }
    }
    for ((policy, _), (rel_l2, dir)) in &far {
        println!("{policy}: {rel_l2:.1e}, {dir}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for ((policy, rounds), (rel_l2, dir)) in &far {
        let arithmetic = if *rounds { Arithmetic::DynamicIntegers } else { Arithmetic::Floats };
        let floor = Floor::of("ctranslate2", arithmetic).expect("measured");
        assert!(*rel_l2 <= floor.rel_l2, "{policy}: {rel_l2:e}, {dir}");
    }
}

#[test]
fn a_checkpoint_with_a_tokenizer_of_fewer_pieces_fills_its_vocabulary_up() {
    let model = copy("t5-v1.1");
    let spiece = crate::fixture::repository("models/g2p-t5/tokenizer.json");
    fs::copy(spiece, model.path().join("tokenizer.json")).expect("copied");
    let (home, _) = written(&imported(model.path()));
    let text = fs::read(home.path().join("shared_vocabulary.json")).expect("written");
    let tokens: Vec<String> = serde_json::from_slice(&text).expect("a list");
    assert_eq!(tokens.len(), 66);
    let distinct: std::collections::HashSet<&String> = tokens.iter().collect();
    assert_eq!(distinct.len(), tokens.len(), "{tokens:?}");
}
