//! Imported graphs against the numbers that transformers computed, and one model in every container.

use std::path::Path;

use converters::checkpoint::{check_finite, sha256};
use converters::{Model, import};
use graph::{Def, FloatType, Interpreter, Op, Tensors, Unary, Weights};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{copy, expected, feeds, fixture, fixtures, repository};

/// Relative L2 error of two f32 implementations of the same sums in another order.
pub const F32_NOISE: f64 = 1e-5; // 1.7e-6, the logits of t5-long

/// Of two lists of the same length.
pub fn relative_l2(found: impl Iterator<Item = f32>, expected: impl Iterator<Item = f32>) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (a, b) in found.zip(expected) {
        error += f64::from(a - b).powi(2);
        norm += f64::from(b).powi(2);
    }
    (error / norm).sqrt()
}

/// Relative errors of `encoder_hidden` where the mask is 1, and of `logits`.
fn errors(model: &Model, recorded: &Tensors) -> [f64; 2] {
    let found = Interpreter::new(&model.graph).call("full", &feeds(recorded)).expect("evaluates");
    for name in ["encoder_hidden", "logits"] {
        assert_eq!(found[name].shape(), recorded[name].shape(), "{name}");
    }
    let &[rows, places, width] = recorded["encoder_hidden"].shape() else { panic!("[b, n, d_model]") };
    // The mask of samples is that of frames only for the decoder: what the encoder makes of padding counts.
    let mask = match recorded.contains_key("input_ids") {
        true => {
            let mask = &recorded["attention_mask"];
            // What an image has more places for stands before them, and is seen.
            let seen = vec![1; places - mask.shape()[1]];
            let rows = mask.as_i64().expect("integers").chunks(mask.shape()[1]);
            rows.flat_map(|row| [&seen[..], row].concat()).collect()
        }
        false => vec![1; rows * places],
    };
    let unpadded = |tensors: &Tensors| -> Vec<f32> {
        let rows = tensors["encoder_hidden"].as_f32().expect("floats").chunks(width);
        rows.zip(&mask).filter(|(_, mask)| **mask == 1).flat_map(|(row, _)| row.to_vec()).collect()
    };
    let logits = |tensors: &Tensors| tensors["logits"].as_f32().expect("floats").to_vec();
    [
        relative_l2(unpadded(&found).into_iter(), unpadded(recorded).into_iter()),
        relative_l2(logits(&found).into_iter(), logits(recorded).into_iter()),
    ]
}

#[test]
fn every_imported_graph_computes_what_transformers_computes() {
    for dir in fixtures().into_iter().chain([repository("models/g2p-t5")]) {
        let (recorded, metadata) = expected(&dir);
        let model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        let errors = errors(&model, &recorded);
        println!("{} {errors:?}", dir.display());
        assert!(errors.iter().all(|e| *e <= F32_NOISE), "{}: {errors:?}", dir.display());
        let named = model.semantics.logit_scale.split(':').next();
        assert_eq!(named, metadata.get("logit_scale").map(String::as_str), "{}", dir.display());
        let transformers = metadata.get("transformers").map(|version| format!("transformers {version}"));
        let reference = transformers.unwrap_or_else(|| metadata["reference"].clone());
        assert!(reference.starts_with(model.semantics.reference), "{}: {reference}", dir.display());
    }
}

fn weights(name: &str) -> Weights {
    import(&fixture(name)).unwrap_or_else(|e| panic!("{e}")).graph.weights
}

/// Names, shapes and bits, by name; `rounded` is applied to each value.
fn bits(weights: &Weights, rounded: impl Fn(f32) -> f32) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let mut all: Vec<_> = weights
        .iter()
        .map(|(_, w)| {
            let values = w.read().expect("readable");
            // A base model is saved without the prefix.
            let name = w.name.trim_start_matches("model.").to_owned();
            (name, w.shape.clone(), values.into_iter().map(|x| rounded(x).to_bits()).collect())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_container_gives_the_weights_of_its_twin_bit_for_bit() {
    let twins = [
        ("t5-sharded", "t5-v1.1"),
        ("t5-bin", "t5-v1.1"),
        ("t5-bin-sharded", "t5-v1.1"),
        ("t5-v1.1-resaved", "t5-v1.1"),
        ("mt5", "t5-v1.1"),
        ("t5-aliased", "t5-tied-unscaled"),
        ("t5-v1.0-legacy", "t5-v1.0"),
        ("moonshine-bare", "moonshine"),
        ("whisper-bare", "whisper"),
        ("whisper-bin", "whisper"),
    ];
    for (name, twin) in twins {
        assert!(bits(&weights(name), |x| x) == bits(&weights(twin), |x| x), "{name} against {twin}");
    }
    let rounded = [
        ("t5-bf16", "t5-v1.1", FloatType::BF16),
        ("t5-f16", "t5-v1.1", FloatType::F16),
        ("whisper-f16", "whisper", FloatType::F16),
    ];
    for (name, twin, dtype) in rounded {
        let exact = weights(twin);
        let rounded = |x: f32| {
            let (mut stored, mut back) = ([0; 2], [0.0]);
            dtype.encode(&[x], &mut stored);
            dtype.decode(&stored, &mut back);
            back[0]
        };
        assert!(bits(&weights(name), |x| x) == bits(&exact, rounded), "{name} against {twin} rounded");
    }
}

#[test]
fn a_tied_head_is_the_embedding_itself_and_an_own_head_is_not() {
    for (name, tied) in [("t5-v1.0", true), ("t5-aliased", true), ("t5-v1.1", false), ("t5-v1.1-resaved", false)] {
        let weights = weights(name);
        assert!(weights.find("shared.weight").is_some(), "{name}");
        assert_eq!(weights.find("lm_head.weight").is_none(), tied, "{name}");
    }
}

/// A copy of a fixture with other values of some keys in config.json; null is as good as no key.
fn edited(name: &str, keys: &Value) -> TempDir {
    let folder = copy(name);
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).expect("there")).expect("JSON");
    config.as_object_mut().expect("a map").extend(keys.as_object().expect("keys").clone());
    std::fs::write(&file, config.to_string()).expect("written");
    folder
}

/// What an import says of a folder, without the folder's name.
fn refusal(folder: &TempDir) -> String {
    let error = import(folder.path()).err().expect("refused").to_string();
    error.replacen(&format!("{}: ", folder.path().display()), "", 1)
}

#[test]
fn a_checkpoint_with_the_tensors_of_another_family_lists_what_is_missing_and_what_is_left_over() {
    let folder = edited("blenderbot", &json!({"model_type": "bart", "normalize_before": false}));
    let expected = "\
10 problems
  model.encoder.embed_positions.weight: expected [42, 16] (max_position_embeddings + 2, d_model), found [40, 16] in model.safetensors
  model.encoder.layernorm_embedding.weight: expected [16] (d_model), found no such tensor
  model.encoder.layernorm_embedding.bias: expected [16] (d_model), found no such tensor
  model.decoder.embed_positions.weight: expected [42, 16] (max_position_embeddings + 2, d_model), found [40, 16] in model.safetensors
  model.decoder.layernorm_embedding.weight: expected [16] (d_model), found no such tensor
  model.decoder.layernorm_embedding.bias: expected [16] (d_model), found no such tensor
  model.decoder.layer_norm.bias: bart has no use for this tensor, F16 [16] in model.safetensors
  model.decoder.layer_norm.weight: bart has no use for this tensor, F16 [16] in model.safetensors
  model.encoder.layer_norm.bias: bart has no use for this tensor, F16 [16] in model.safetensors
  model.encoder.layer_norm.weight: bart has no use for this tensor, F16 [16] in model.safetensors";
    assert_eq!(refusal(&folder), expected);
}

#[test]
fn a_key_of_config_that_changes_the_result_is_refused_by_its_name() {
    let cases = [
        ("bart", json!({"normalize_before": true}), "normalize_before = true is not supported by bart: only false is"),
        (
            "mbart",
            json!({"normalize_before": false}),
            "normalize_before = false is not supported by mbart: only true is",
        ),
        ("bart", json!({"num_hidden_layers": 2}), "num_hidden_layers = 2 is not supported by bart: only 3 is"),
        ("plbart", json!({"is_decoder": true}), "is_decoder = true is not supported by plbart: only false is"),
        (
            "pegasus",
            json!({"encoder_attention_heads": 5}),
            "encoder_attention_heads = 5 is not supported by pegasus: it does not divide d_model = 16",
        ),
        (
            "blenderbot-small",
            json!({"gated_ffn": true}),
            "gated_ffn = true is not known to blenderbot-small; it may change the result",
        ),
        ("marian", json!({"decoder_vocab_size": 60}), "decoder_vocab_size = 60 is not supported by marian: only 64 is"),
        (
            "m2m_100",
            json!({"pad_token_id": null}),
            "pad_token_id = null is not supported by m2m_100: the first position is the one after it",
        ),
    ];
    for (name, keys, expected) in cases {
        assert_eq!(refusal(&edited(name, &keys)), format!("config.json: {expected}"), "{name}");
    }
}

#[test]
fn the_activation_follows_the_keys_as_in_transformers() {
    // `T5Config(**keys).dense_act_fn` of transformers 4.57.6 and 5.23.0.
    let cases = [
        ("t5-v1.0-legacy", json!({}), Unary::Relu),
        ("t5-v1.0-legacy", json!({"feed_forward_proj": "gelu"}), Unary::Gelu),
        ("t5-v1.0-legacy", json!({"feed_forward_proj": "silu"}), Unary::Silu),
        ("t5-v1.1", json!({"feed_forward_proj": "gated-gelu"}), Unary::GeluTanh),
        ("t5-v1.1", json!({"feed_forward_proj": "gated-silu"}), Unary::Silu),
        ("t5-v1.1", json!({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}), Unary::Gelu),
        ("t5-v1.1", json!({"feed_forward_proj": "relu", "is_gated_act": true}), Unary::Relu),
    ];
    for (name, keys, activation) in cases {
        let folder = edited(name, &keys);
        let graph = import(folder.path()).unwrap_or_else(|e| panic!("{e}")).graph;
        let unary = graph.values.iter().filter_map(|value| match value.def {
            Def::Op(Op::Unary(unary), _) => Some(unary),
            _ => None,
        });
        assert_eq!(unary.collect::<Vec<_>>(), [activation; 5], "{name} with {keys}: one in each of 3 + 2 layers");
    }
}

#[test]
fn aliases_that_differ_are_refused_with_the_first_difference() {
    let error = import(&fixture("t5-aliases-differ")).err().expect("refused").to_string();
    let (_, message) = error.split_once("t5-aliases-differ: ").expect("names the folder");
    // make.py adds 0.5 at [5, 3].
    let expected = "decoder.embed_tokens.weight: expected the same values as shared.weight, found ";
    let found = message.strip_prefix(expected).unwrap_or_else(|| panic!("{message}"));
    let (values, place) = found.split_once(" at ").expect("a place");
    let (differing, shared) = values.split_once(" against ").expect("two values");
    let difference = differing.parse::<f32>().expect("a value") - shared.parse::<f32>().expect("a value");
    assert!((difference - 0.5).abs() < 1e-6, "{message}");
    assert_eq!(place, "row 5, column 3; T5 has one embedding for encoder and decoder");
}

#[test]
fn decoding_starts_and_ends_where_generation_config_says() {
    let g2p = import(&repository("models/g2p-t5")).expect("supported");
    let generation = g2p.checkpoint.generation();
    assert_eq!((generation.decoder_start_token_id, generation.pad_token_id), (0, 0));
    assert_eq!((generation.eos_token_ids.as_slice(), generation.max_new_tokens), (&[1][..], 40));
    let tiny = import(&fixture("t5-v1.1")).expect("supported");
    assert_eq!(tiny.checkpoint.generation().max_new_tokens, 20, "the default of transformers");
}

#[test]
fn the_files_of_a_checkpoint_are_all_that_was_read() {
    let names = |dir: &Path| {
        let model = import(dir).expect("supported");
        let name = |file: &std::path::PathBuf| file.file_name().expect("a file").to_string_lossy().into_owned();
        let mut names: Vec<String> = model.checkpoint.inputs().iter().map(name).collect();
        names.sort();
        names
    };
    let sharded = [
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(names(&fixture("t5-sharded")), sharded);
    let g2p = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&repository("models/g2p-t5")), g2p);
}

#[test]
fn a_digest_is_sha_256() {
    // FIPS 180-2, appendix B.1.
    let file = tempfile::NamedTempFile::new().expect("temporary folder");
    std::fs::write(file.path(), "abc").expect("written");
    let digest = sha256(file.path()).expect("readable");
    assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn trained_weights_are_finite() {
    let model = import(&repository("models/g2p-t5")).expect("supported");
    check_finite(&model.graph.weights).expect("finite");
}

#[test]
fn what_llama_cpp_cannot_run_is_refused_and_the_rest_is_described() {
    use converters::export::gguf::Value::U32;
    let metadata = |name: &str| {
        let model = import(&fixture(name)).expect("supported");
        model.architecture.gguf_metadata(&model.checkpoint)
    };
    let error = metadata("t5-long").expect_err("max_distance is 20").to_string();
    assert!(
        error.ends_with("config.json: relative_attention_max_distance = 20 is not supported by llama.cpp's t5: it is fixed at 128 there"),
        "{error}"
    );
    let found = metadata("t5-v1.1").unwrap_or_else(|e| panic!("{e}"));
    for (key, value) in
        [("block_count", 3), ("decoder_block_count", 2), ("attention.key_length", 6), ("context_length", 512)]
    {
        let (_, found) = found.iter().find(|(k, _)| *k == format!("t5.{key}")).expect(key);
        assert!(matches!(found, U32(n) if *n == value), "{key}");
    }
}
