//! Whisper and Moonshine: what their importers read, refuse and leave alone.

use std::fs;
use std::path::Path;

use converters::{Model, import};
use graph::{Feeds, Interpreter, Tensor, text};
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{self, code, run, text as said};
use crate::fixture::{copy, expected, fixture, repository};

/// Relative L2 error of two f32 implementations of the same sums in another order.
const F32_NOISE: f64 = 1e-5; // 1.5e-6, 64 s

/// Numbers of `recording.lcg`.
pub fn lcg(seed: i64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::from_fn(move || {
        state = (1_103_515_245 * state + 12345) % (1 << 31);
        Some((state as f64 / f64::from(1 << 30) - 1.0) as f32)
    })
}

/// A copy of a fixture under a config with other keys; null takes a key away.
fn with_keys(name: &str, keys: Value) -> TempDir {
    let folder = copy(name);
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    config.as_object_mut().expect("a map").extend(keys.as_object().expect("keys").clone());
    fs::write(&file, config.to_string()).expect("written");
    folder
}

fn imported(folder: &TempDir) -> Model {
    import(folder.path()).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(folder: &TempDir) -> String {
    import(folder.path()).err().expect("refused").to_string()
}

/// Adds a `proj_out` to a copy: the embedding, or the embedding with another number at one place.
fn with_head(folder: &TempDir, embedding: &str, differs: bool) {
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).expect("there");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let embedding = tensors.tensor(embedding).expect("there");
    let mut head = embedding.data().to_vec();
    if differs {
        head[4 * 18..][..4].copy_from_slice(&7.0f32.to_le_bytes());
    }
    let head = TensorView::new(embedding.dtype(), embedding.shape().to_vec(), &head).expect("a tensor");
    let all: Vec<_> = tensors.tensors().into_iter().chain([("proj_out.weight".to_owned(), head)]).collect();
    fs::write(&file, serialize(all, None).expect("serialized")).expect("written");
}

#[test]
fn moonshine_takes_every_length_from_one_frame_to_the_documented_maximum() {
    let dir = fixture("moonshine");
    let (recorded, _) = expected(&dir);
    let model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
    let logits = recorded["length_logits"].as_f32().expect("floats");
    let lengths = recorded["length_samples"].as_i64().expect("integers");
    assert_eq!((lengths[0], lengths[lengths.len() - 1]), (895, 64 * 16_000));
    for (samples, expected) in lengths.iter().zip(logits.chunks(logits.len() / lengths.len())) {
        let shape = [1, *samples as usize];
        let feeds = Feeds::from([
            ("input_values".to_owned(), Tensor::f32(shape, lcg(*samples).take(shape[1]).collect())),
            ("attention_mask".to_owned(), Tensor::i64(shape, vec![1; shape[1]])),
            ("decoder_input_ids".to_owned(), recorded["length_ids"].clone()),
        ]);
        let found = Interpreter::new(&model.graph).call("full", &feeds).unwrap_or_else(|e| panic!("{samples}: {e}"));
        let found = found["logits"].as_f32().expect("floats");
        let error: f64 = found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let rel = (error / expected.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>()).sqrt();
        assert!(rel <= F32_NOISE, "{samples} samples: {rel:e}");
    }
}

#[test]
fn clips_too_short_for_a_frame_are_an_error_that_names_the_convolution() {
    let model = import(&fixture("moonshine")).unwrap_or_else(|e| panic!("{e}"));
    let feeds = Feeds::from([
        ("input_values".to_owned(), Tensor::f32([1, 894], vec![0.0; 894])),
        ("attention_mask".to_owned(), Tensor::i64([1, 894], vec![1; 894])),
        ("decoder_input_ids".to_owned(), Tensor::i64([1, 1], vec![1])),
    ]);
    let error = Interpreter::new(&model.graph).call("full", &feeds).expect_err("no frame").to_string();
    assert!(error.contains("encoder.conv"), "{error}");
}

#[test]
fn padding_of_heads_changes_nothing() {
    // transformers' numbers of both are recorded, and the import loop compares each.
    let print = |name| text::print(&import(&fixture(name)).unwrap_or_else(|e| panic!("{e}")).graph);
    assert!(print("moonshine") == print("moonshine-unpadded"));
}

#[test]
fn a_head_of_its_own_is_read_where_the_config_unties_it() {
    for (name, embedding) in
        [("whisper", "model.decoder.embed_tokens.weight"), ("moonshine-own-width", "model.decoder.embed_tokens.weight")]
    {
        let folder = with_keys(name, json!({"tie_word_embeddings": false}));
        with_head(&folder, embedding, true);
        let weights = imported(&folder).graph.weights;
        assert!(weights.find("proj_out.weight").is_some() && weights.find(embedding).is_some(), "{name}");

        let folder = with_keys(name, json!({}));
        with_head(&folder, embedding, false);
        assert!(imported(&folder).graph.weights.find("proj_out.weight").is_none(), "{name}: one weight with two users");

        let folder = with_keys(name, json!({}));
        with_head(&folder, embedding, true);
        let message = refusal(&folder);
        assert!(
            message.contains(&format!("proj_out.weight: expected the same values as {embedding}, found 7 against")),
            "{message}"
        );
        assert!(message.ends_with("set tie_word_embeddings to false if it has weights of its own"), "{message}");
    }
}

#[test]
fn keys_that_change_the_result_are_read_or_refused() {
    let refused = [
        (
            "whisper",
            json!({"encoder_attention_heads": 3}),
            "encoder_attention_heads = 3 is not supported by whisper: it does not divide d_model = 16",
        ),
        ("whisper", json!({"num_hidden_layers": 2}), "num_hidden_layers = 2 is not supported by whisper: only 4 is"),
        (
            "whisper",
            json!({"activation_function": "mish"}),
            "activation_function = \"mish\" is not supported by whisper: expected one of relu",
        ),
        ("whisper", json!({"relative_positions": 3}), "relative_positions = 3 is not known to whisper"),
        (
            "whisper",
            json!({"max_source_positions": 19}),
            "model.encoder.embed_positions.weight: expected [19, 16] (max_source_positions, d_model), found [20, 16]",
        ),
        (
            "moonshine",
            json!({"decoder_num_attention_heads": 3}),
            "decoder_num_attention_heads = 3 is not supported by moonshine: expected encoder_num_attention_heads = 2",
        ),
        (
            "moonshine",
            json!({"encoder_num_key_value_heads": 1}),
            "encoder_num_key_value_heads = 1 is not supported by moonshine",
        ),
        (
            "moonshine",
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
            "rope_scaling = {\"rope_type\":\"linear\",\"factor\":2.0} is not supported by moonshine",
        ),
        (
            "moonshine",
            json!({"rope_parameters": {"rope_type": "yarn"}}),
            "rope_parameters.rope_type = \"yarn\" is not supported by moonshine: only \"default\" is",
        ),
        (
            "moonshine",
            json!({"rope_parameters": {"rope_type": "default", "factor": 2.0}}),
            "rope_parameters.factor = 2.0 is not known to moonshine",
        ),
        (
            "moonshine",
            json!({"partial_rotary_factor": 1.0}),
            "partial_rotary_factor = 1.0 is not supported by moonshine: it turns 10 places of heads of 9",
        ),
        (
            "moonshine",
            json!({"encoder_hidden_act": "mish"}),
            "encoder_hidden_act = \"mish\" is not supported by moonshine",
        ),
        ("moonshine", json!({"attention_bias": true}), "model.encoder.layers.0.self_attn.q_proj.bias: expected [18]"),
    ];
    for (name, keys, expected) in refused {
        let message = refusal(&with_keys(name, keys));
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
    // transformers computes a factor from the first and never applies it; the others are for other heads, or for timestamps.
    let ignored = json!({"scale_embedding": true, "use_weighted_layer_sum": true, "median_filter_width": 9});
    let print = |folder: &TempDir| text::print(&imported(folder).graph);
    assert!(print(&with_keys("whisper", ignored)) == print(&copy("whisper")));
}

#[test]
fn a_checkpoint_of_another_family_says_what_is_missing_and_what_is_left_over() {
    let folder = copy("whisper");
    fs::copy(fixture("moonshine").join("model.safetensors"), folder.path().join("model.safetensors")).expect("copied");
    let message = refusal(&folder);
    assert!(message.contains("model.encoder.conv1.bias: expected [16] (d_model), found no such tensor"), "{message}");
    assert!(
        message.contains("model.encoder.conv3.weight: whisper has no use for this tensor, F32 [18, 36, 3]"),
        "{message}"
    );
}

const CLIP: &str = "tests/fixtures/audio/chirp.wav";

/// What `trefoil run` answers as JSON.
fn answer(artifact: &Path, clip: &Path, more: &[&str]) -> Value {
    let [artifact, clip] = [artifact, clip].map(|path| path.display().to_string());
    let output = run(&[&["run", &artifact, &clip, "--json", "--offline"], more].concat());
    assert_eq!(code(&output), 0, "{artifact}: {}", said(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a fixture said in transformers of the clip: the prompt, and what comes after it.
fn recorded(name: &str, prompt: usize) -> [Vec<i64>; 2] {
    let (recorded, _) = expected(&fixture(name));
    let tokens = recorded["clip_greedy"].as_i64().expect("ids");
    [tokens[..prompt].to_vec(), tokens[prompt..].to_vec()]
}

/// A GGUF file and the ONNX of a fixture, converted with the clip as data; validation finds what is recorded.
fn converted(name: &str, target: &[i64]) -> TempDir {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(home.path().join("clips")).expect("a folder");
    fs::copy(repository(CLIP), home.path().join("clips/chirp.wav")).expect("copied");
    let target: Vec<String> = target.iter().map(i64::to_string).collect();
    let line = json!({"input": "clips/chirp.wav", "target": target.join(" ")});
    fs::write(home.path().join("data.jsonl"), format!("{line}\n")).expect("written");
    let recipe = format!(
        "model: {}\nout: out\nquantize: {{ scheme: keep }}\nartifacts:\n  - gguf: {{}}\n  - onnx: {{}}\ndecode:\n  \
         max_new_tokens: 12\nvalidate:\n  data: data.jsonl\n  metric: exact_match\n",
        fixture(name).display()
    );
    cli::converted(run, home.path(), &recipe);
    home
}

#[test]
fn a_clip_is_what_transformers_makes_of_it_in_a_checkpoint_and_in_its_artifacts() {
    for (name, prompt) in [("whisper", 4), ("moonshine", 1)] {
        let [prompt, tokens] = recorded(name, prompt);
        let home = converted(name, &tokens);
        let report: Value =
            serde_json::from_slice(&fs::read(home.path().join("out/report.json")).expect("there")).expect("JSON");
        assert_eq!(report["model"]["score"]["figures"][0]["points"], 100.0, "{report}");
        let alone = tempfile::tempdir().expect("temporary folder");
        fs::copy(home.path().join("out/gguf/model.gguf"), alone.path().join("model.gguf")).expect("copied");
        for artifact in [fixture(name), home.path().join("out/gguf"), alone.path().to_owned()] {
            let found = answer(&artifact, &repository(CLIP), &["--max-new-tokens", "12"]);
            assert_eq!(found["prompt"], json!(prompt), "{}", artifact.display());
            assert_eq!(found["tokens"], json!(tokens), "{}", artifact.display());
        }
        let files = fs::read_dir(home.path().join("out/onnx")).expect("listed");
        let names: Vec<String> =
            files.map(|f| f.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        assert!(names.iter().any(|n| n == "preprocessor_config.json"), "{names:?}");
    }
}

#[test]
fn what_cannot_be_heard_is_an_error_that_says_why() {
    let message = |artifact: &Path, clip: &str| {
        let output = run(&["run", &artifact.display().to_string(), clip]);
        assert_eq!(code(&output), 2);
        said(&output.stderr)
    };
    let clip = repository(CLIP).display().to_string();
    let text = message(&fixture("whisper"), "hello");
    assert!(text.contains("hello: No such file or directory"), "{text}");
    let config = repository("tests/fixtures/whisper/config.json").display().to_string();
    let text = message(&fixture("whisper"), &config);
    assert!(text.contains("config.json: not a WAV: expected RIFF and WAVE, found \"{\\n  \" and "), "{text}");
    // Without a file, a front end of 30 s and 80 bins, which this model does not take.
    let folder = copy("whisper");
    fs::remove_file(folder.path().join("preprocessor_config.json")).expect("removed");
    let text = message(folder.path(), &clip);
    assert!(text.contains("input_features: expected f32[batch, 8, 40] with batch = 1, found [1, 80, 3000]"), "{text}");
    let text = message(&fixture("moonshine-bare"), &clip);
    assert!(text.contains("expected preprocessor_config.json, which says whether samples are normalized"), "{text}");
    let folder = copy("whisper");
    let half = r#"{"feature_size": 8, "chunk_length": 1, "sampling_rate": 8000, "hop_length": 200}"#;
    fs::write(folder.path().join("preprocessor_config.json"), half).expect("written");
    let text = message(folder.path(), &clip);
    assert!(text.contains("chirp.wav: expected 8000 samples a second, found 16000\nhint: ffmpeg -i "), "{text}");
}
