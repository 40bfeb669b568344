//! Files that lie: each ends in its own error, none in a panic or a large allocation.

use std::fs;
use std::path::{Path, PathBuf};

use converters::checkpoint::{Checkpoint, CheckpointError, check_finite};
use converters::import;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{copy, repository};

/// A copy of a fixture, to be broken.
struct Folder(TempDir);

impl Folder {
    fn of(name: &str) -> Folder {
        Folder(copy(name))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(file), bytes).expect("written");
    }

    fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut json = serde_json::from_slice(&fs::read(self.path(file)).expect("there")).expect("JSON");
        edit(&mut json);
        self.write(file, json.to_string());
    }

    /// What `import` says, without the folder.
    fn refusal(&self) -> String {
        let error = import(self.0.path()).err().expect("refused");
        let folder = format!("{}/", self.0.path().display());
        error.to_string().replace(&folder, "").replace(&format!("{}: ", self.0.path().display()), "")
    }
}

fn safetensors(header: &str, data_len: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data_len, 0);
    file
}

/// What opening a `model.safetensors` of these bytes says.
fn refusal_of(bytes: impl AsRef<[u8]>) -> String {
    let folder = Folder::of("t5-v1.1");
    folder.write("model.safetensors", bytes);
    folder.refusal()
}

/// Address space that the process ever had, in bytes.
#[cfg(target_os = "linux")]
pub fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("linux has it");
    let line = status.lines().find(|line| line.starts_with("VmPeak")).expect("linux has it");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn a_file_cut_at_any_sixteenth_is_refused_by_name() {
    let cut = [
        ("t5-v1.1", "model.safetensors"),
        ("t5-v1.1", "config.json"),
        ("t5-v1.1", "generation_config.json"),
        ("t5-sharded", "model-00002-of-00002.safetensors"),
        ("t5-sharded", "model.safetensors.index.json"),
        ("t5-bin", "pytorch_model.bin"),
        ("t5-bin-sharded", "pytorch_model-00001-of-00002.bin"),
        ("t5-bin-sharded", "pytorch_model.bin.index.json"),
    ];
    for (name, file) in cut {
        let folder = Folder::of(name);
        let whole = fs::read(folder.path(file)).expect("there");
        for sixteenth in 0..16 {
            folder.write(file, &whole[..whole.len() * sixteenth / 16]);
            let message = folder.refusal();
            assert!(message.starts_with(&format!("{file}: ")), "{name}/{file} at {sixteenth}/16: {message}");
        }
    }
}

#[test]
fn a_header_that_claims_100_gb_allocates_nothing() {
    #[cfg(target_os = "linux")]
    let before = peak_bytes();
    let mut bytes = safetensors(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4);
    bytes[..8].copy_from_slice(&100_000_000_000u64.to_le_bytes());
    assert_eq!(
        refusal_of(&bytes),
        "model.safetensors: the header claims 100000000000 bytes; the file has 58 more and the format allows 100000000"
    );
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal_of(&bytes).starts_with("model.safetensors: the header claims 18446744073709551615 bytes"));
    #[cfg(target_os = "linux")]
    assert!(peak_bytes() < before + (10 << 30), "other tests take some, none takes gigabytes");
}

#[test]
fn each_lie_of_a_header_has_its_own_message() {
    let cases = [
        (r#"[]"#, 0, "expected the header to start with {"),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "b: its data at 4..12 overlaps a, which ends at 8",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#,
            16,
            "4 bytes between a and b belong to no tensor",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "4 bytes between the header and a belong to no tensor",
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 9, "5 bytes after a belong to no tensor"),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            4,
            "a: expected offsets inside the 4 bytes of data, found 0..8",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            8,
            "a: expected offsets inside the 8 bytes of data, found 8..0",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            8,
            "a: F32 [3] takes 12 bytes, its offsets span 8",
        ),
        (
            r#"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}}"#,
            8,
            "a: BF16 [2] takes 4 bytes, its offsets span 8",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            8,
            "a: F32 [4294967296, 4294967296] is longer than any file",
        ),
        (
            r#"{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}"#,
            8,
            "a: expected an element type of safetensors, found \"F31\"",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            "the header is not valid: a comes twice at line 1 column 57",
        ),
        (r#"{"a":{"dtype":"F32","shape":[1]}}"#, 4, "the header is not valid: a: missing field `data_offsets`"),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            4,
            "the header is not valid: a: invalid value: integer `-1`, expected usize",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"file":"/etc/passwd"}}"#,
            4,
            "the header is not valid: a: unknown field `file`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
            4,
            "the header is not valid: EOF while parsing an object",
        ),
    ];
    for (header, data_len, expected) in cases {
        let message = refusal_of(safetensors(header, data_len));
        assert!(message.starts_with(&format!("model.safetensors: {expected}")), "{header}\n{message}\n{expected}");
    }
}

#[test]
fn an_index_cannot_point_outside_its_folder() {
    for shard in ["/etc/passwd", "../model.safetensors", "a/../../b", "..\\b", "C:\\b", "", "."] {
        let folder = Folder::of("t5-sharded");
        folder.edit_json("model.safetensors.index.json", |index| index["weight_map"]["lm_head.weight"] = json!(shard));
        let expected =
            format!("model.safetensors.index.json: shard {shard:?}: expected a path inside the checkpoint's folder");
        assert_eq!(folder.refusal(), expected);
    }
}

#[test]
fn an_index_and_its_shards_must_tell_the_same() {
    let index = "model.safetensors.index.json";
    let [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let edited = |edit: &dyn Fn(&mut Value)| {
        let folder = Folder::of("t5-sharded");
        folder.edit_json(index, |json| edit(&mut json["weight_map"]));
        folder.refusal()
    };
    let moved = edited(&|map| map["shared.weight"] = json!(first));
    assert_eq!(moved, format!("{index}: shared.weight: expected in {first}, which does not hold it"));
    let dropped = edited(&|map| drop(map.as_object_mut().expect("a map").remove("shared.weight")));
    assert_eq!(dropped, format!("{index}: shared.weight: found in {second}, where the index does not place it"));
    let added = edited(&|map| map["x"] = json!(second));
    assert_eq!(added, format!("{index}: x: expected in {second}, which does not hold it"));
    let gone = edited(&|map| map["x"] = json!("model-3.safetensors"));
    assert_eq!(gone, format!("{index}: shard \"model-3.safetensors\" is not in the folder"));

    let folder = Folder::of("t5-sharded");
    folder.write(index, format!(r#"{{"weight_map": {{"a": "{first}", "a": "{second}"}}}}"#));
    assert!(folder.refusal().starts_with(&format!("{index}: not the expected JSON: a comes twice")));
    folder.write(index, r#"{"metadata": {}}"#);
    assert!(folder.refusal().starts_with(&format!("{index}: not the expected JSON: missing field `weight_map`")));
}

fn pickle(file: &str) -> Folder {
    let folder = Folder::of("t5-bin");
    fs::copy(repository("tests/hostile").join(file), folder.path("pytorch_model.bin")).expect("copied");
    folder
}

#[test]
fn a_pickle_that_runs_a_command_is_refused_and_runs_nothing() {
    let root = pickle("runs_a_command.bin").refusal();
    assert_eq!(
        root,
        "pytorch_model.bin: invalid PyTorch file format: Expected a dictionary at the root of the PyTorch file, found posix.system"
    );
    let entry = pickle("runs_a_command_among_tensors.bin").refusal();
    assert_eq!(
        entry,
        "pytorch_model.bin: expected tensors only, found calls that are not run: lm_head.weight = posix.system(..)"
    );
    let beside = Folder::of("mu");
    fs::copy(repository("tests/hostile/runs_a_command_beside_weights.pt"), beside.path("model.pt")).expect("copied");
    assert_eq!(
        beside.refusal(),
        "model.pt: expected tensors only, found calls that are not run: optimizer = posix.system(..)"
    );
    assert!(!Path::new("executed").exists() && !repository("tests/hostile/executed").exists());
}

#[test]
fn a_pickled_tensor_larger_than_its_file_is_refused() {
    // 6 floats in the file, read as 4 GiB with strides of 0.
    let folder = pickle("tensor_of_nothing.bin");
    folder.edit_json("config.json", |config| {
        (config["num_layers"], config["num_decoder_layers"]) = (json!(1), json!(1));
    });
    let message = folder.refusal();
    assert!(
        message.contains(
            "shared.weight: expected [66, 16] (vocab_size, d_model), found [1048576, 1024] in pytorch_model.bin"
        ),
        "{message}"
    );
}

#[test]
fn a_weight_that_is_not_finite_is_named_with_its_place() {
    let folder = Folder::of("t5-v1.1");
    for (name, value) in
        [("lm_head.weight", f32::NAN), ("encoder.block.1.layer.0.SelfAttention.q.weight", f32::NEG_INFINITY)]
    {
        let mut bytes = fs::read(folder.path("model.safetensors")).expect("there");
        let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).expect("a header");
        let start = header[name]["data_offsets"][0].as_u64().expect("an offset") as usize;
        let at = 8 + header_len + start + 4 * (7 * 16 + 3);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        folder.write("model.safetensors", bytes);
    }
    let model = import(folder.0.path()).expect("the files are well-formed");
    let mut lines: Vec<String> = match check_finite(&model.graph.weights) {
        Err(CheckpointError::NotFinite(found)) => found.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    };
    lines.sort();
    assert_eq!(
        lines,
        [
            "encoder.block.1.layer.0.SelfAttention.q.weight: expected finite values, found -inf at row 7, column 3",
            "lm_head.weight: expected finite values, found NaN at row 7, column 3",
        ]
    );
}

#[test]
fn a_folder_that_is_not_a_checkpoint_says_what_is_missing() {
    let folder = Folder::of("t5-v1.1");
    fs::remove_file(folder.path("model.safetensors")).expect("removed");
    assert_eq!(
        folder.refusal(),
        "not a checkpoint: expected one of model.safetensors, model.safetensors.index.json, pytorch_model.bin, \
         pytorch_model.bin.index.json, model.pt, model.gguf, found none"
    );
    fs::remove_file(folder.path("config.json")).expect("removed");
    assert_eq!(folder.refusal(), "not a checkpoint: expected config.json, found none");
    // Tensors alone do not tell a T5.
    let folder = Folder::of("t5-v1.1");
    fs::remove_file(folder.path("config.json")).expect("removed");
    assert_eq!(folder.refusal(), "not a checkpoint: expected config.json, found none");
}

#[test]
fn a_config_that_is_not_json_says_where() {
    let folder = Folder::of("t5-v1.1");
    let cases: [(&[u8], &str); 5] = [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b"[1]", "invalid type: sequence, expected an object at line 1 column 0"),
        (b"{\"d_model\": NaN}", "d_model: expected value at line 1 column 13"),
        (b"\xff\xfe{\x00}", "expected value at line 1 column 1"),
        (b"{\"d_model\": 8, \"d_model\": 16}", "d_model comes twice at line 1 column 24"),
    ];
    for (bytes, expected) in cases {
        folder.write("config.json", bytes);
        let message = folder.refusal();
        let expected = format!("config.json: not the expected JSON: {expected}");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
    // Nesting is bounded by the parser; without a bound the stack overflows.
    folder.write("config.json", "[".repeat(1_000_000));
    assert!(folder.refusal().starts_with("config.json: not the expected JSON: "));
    folder.write("config.json", format!("{{\"a\":{}", "[".repeat(1_000_000)));
    assert!(folder.refusal().contains("recursion limit exceeded"));
}

/// What `t5-v1.1` with these keys says; null removes a key.
fn config_refusal(keys: Value) -> String {
    let folder = Folder::of("t5-v1.1");
    folder.edit_json("config.json", |config| {
        for (key, value) in keys.as_object().expect("keys") {
            match value {
                Value::Null => drop(config.as_object_mut().expect("a map").remove(key)),
                value => config[key] = value.clone(),
            }
        }
    });
    folder.refusal()
}

#[test]
fn every_problem_of_a_config_is_told_at_once() {
    let message = config_refusal(json!({
        "d_model": null, "d_modle": 16, "num_heads": "three", "d_kv": -6, "d_ff": 1e30, "num_layers": 4_000_000_000u64,
        "layer_norm_epsilon": "small",
    }));
    assert_eq!(
        message,
        [
            "7 problems",
            "config.json: num_heads = \"three\", expected a number from 1 to 2^31",
            "config.json: d_kv = -6, expected a number from 1 to 2^31",
            "config.json: num_layers = 4000000000, expected a number from 1 to 2^31",
            "config.json: d_model is missing",
            "config.json: d_ff = 1e+30, expected a number from 1 to 2^31",
            "config.json: layer_norm_epsilon = \"small\", expected a number",
            "config.json: d_modle = 16 is not known to t5; it may change the result",
        ]
        .join("\n  ")
    );
}

#[test]
fn generation_needs_a_start_and_an_end() {
    let folder = Folder::of("t5-v1.1");
    folder.edit_json("generation_config.json", |config| config["eos_token_id"] = json!([1, -1]));
    assert_eq!(folder.refusal(), "generation_config.json: eos_token_id = [1,-1], expected a token id");
    folder.write("generation_config.json", r#"{"decoder_start_token_id": 0, "eos_token_id": [1, 2], "max_length": 0}"#);
    assert_eq!(folder.refusal(), "generation_config.json: max_length = 0, expected a number from 1 to 2^31");
    // As in transformers, config.json is not asked where there is a generation_config.json.
    folder.write("generation_config.json", "{}");
    let missing = ["decoder_start_token_id is missing", "eos_token_id is missing"];
    assert_eq!(folder.refusal(), ["2 problems", missing[0], missing[1]].join("\n  generation_config.json: "));
    fs::remove_file(folder.path("generation_config.json")).expect("removed");
    folder.edit_json("config.json", |config| {
        drop(config.as_object_mut().expect("a map").remove("decoder_start_token_id"))
    });
    assert_eq!(folder.refusal(), "config.json: decoder_start_token_id is missing");
}

#[test]
fn values_that_change_the_result_are_refused_by_name() {
    let known = "expected one of relu, gelu, gelu_python, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, silu, swish, tanh, \
                 sigmoid";
    let cases = [
        (
            json!({"feed_forward_proj": "gated-mish"}),
            format!("feed_forward_proj = \"gated-mish\" is not supported by t5: {known}"),
        ),
        (json!({"dense_act_fn": "laplace"}), format!("dense_act_fn = \"laplace\" is not supported by t5: {known}")),
        (json!({"is_decoder": true}), "is_decoder = true is not supported by t5: only false is".to_owned()),
        (
            json!({"relative_attention_max_distance": 5}),
            "relative_attention_max_distance = 5 is not supported by t5: expected more than half of \
             relative_attention_num_buckets"
                .to_owned(),
        ),
        (
            json!({"attn_logit_softcapping": 50.0}),
            "attn_logit_softcapping = 50.0 is not known to t5; it may change the result".to_owned(),
        ),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "quantization_config = {\"quant_method\":\"gptq\"} is not known to t5; it may change the result".to_owned(),
        ),
        (
            json!({"num_layers": 1_000_000}),
            "num_layers = 1000000, expected at most 61, the number of tensors".to_owned(),
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(config_refusal(keys), format!("config.json: {expected}"));
    }
}

#[test]
fn an_unknown_family_is_answered_with_the_known_ones() {
    let known = "known are bart, mbart, pegasus, blenderbot, blenderbot-small, plbart, florence2, m2m_100, marian, moonshine, mu, t5, mt5, \
                 umt5, t5gemma, t5gemma2, vision-encoder-decoder, whisper";
    let unknown = config_refusal(json!({"model_type": "llama"}));
    assert_eq!(unknown, format!("config.json: model_type is \"llama\"; {known}"));
    let missing = config_refusal(json!({"model_type": null}));
    assert_eq!(missing, format!("config.json: model_type is missing; {known}"));
}

#[test]
fn dimensions_of_any_size_end_in_errors_about_shapes() {
    #[cfg(target_os = "linux")]
    let before = peak_bytes();
    let huge = 1u64 << 31;
    let message = config_refusal(json!({
        "d_model": huge, "d_kv": huge, "d_ff": huge, "num_heads": huge, "vocab_size": huge,
        "relative_attention_num_buckets": huge, "relative_attention_max_distance": huge,
    }));
    assert!(
        message.contains(
            "encoder.block.0.layer.0.SelfAttention.q.weight: expected [4611686018427387904, 2147483648] \
             (num_heads·d_kv, d_model), found [18, 16] in model.safetensors"
        ),
        "{message}"
    );
    #[cfg(target_os = "linux")]
    assert!(peak_bytes() < before + (10 << 30), "other tests take some, none takes gigabytes");
}

#[test]
fn missing_surplus_and_different_tensors_are_told_at_once() {
    let folder = Folder::of("t5-v1.1");
    let bytes = fs::read(folder.path("model.safetensors")).expect("there");
    let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).expect("a header");
    let tensors = header.as_object_mut().expect("a map");
    let renamed = tensors.remove("encoder.block.2.layer.1.DenseReluDense.wo.weight").expect("there");
    tensors.insert("encoder.block.2.layer.1.DenseReluDense.w0.weight".to_owned(), renamed);
    tensors["decoder.block.1.layer.1.EncDecAttention.q.weight"]["shape"] = json!([16, 18]);
    tensors["encoder.final_layer_norm.weight"]["dtype"] = json!("I32");
    let mut edited = safetensors(&header.to_string(), 0);
    edited.extend(&bytes[8 + header_len..]);
    folder.write("model.safetensors", edited);
    folder.edit_json("config.json", |config| config["rope_theta"] = json!(1e4));
    assert_eq!(
        folder.refusal(),
        [
            "5 problems",
            "config.json: rope_theta = 10000.0 is not known to t5; it may change the result",
            "encoder.block.2.layer.1.DenseReluDense.wo.weight: expected [16, 28] (d_model, d_ff), found no such tensor",
            "encoder.final_layer_norm.weight: expected F32, F16 or BF16, found I32 in model.safetensors",
            "decoder.block.1.layer.1.EncDecAttention.q.weight: expected [18, 16] (num_heads·d_kv, d_model), found [16, 18] \
             in model.safetensors",
            "encoder.block.2.layer.1.DenseReluDense.w0.weight: t5 has no use for this tensor, F32 [16, 28] in \
             model.safetensors",
        ]
        .join("\n  ")
    );
}

#[test]
fn a_tied_config_beside_a_head_of_its_own_is_ambiguous() {
    // transformers 4.x overwrites lm_head with the embedding, transformers 5 keeps it.
    let message = config_refusal(json!({"tie_word_embeddings": true}));
    assert!(message.starts_with("lm_head.weight: expected the same values as shared.weight, found "), "{message}");
    assert!(message.ends_with("set tie_word_embeddings to false if it has weights of its own"), "{message}");
}

#[test]
fn a_checkpoint_that_no_importer_reads_can_still_be_listed() {
    let folder = Folder::of("t5-v1.1");
    folder.write("config.json", r#"{"model_type": "llama"}"#);
    folder.write("model.safetensors", safetensors(r#"{"a":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}}"#, 4));
    let checkpoint = Checkpoint::open(folder.0.path()).expect("well-formed");
    let listed: Vec<(&str, &str, &[usize])> = checkpoint.tensors().collect();
    assert_eq!(listed, [("a", "F4", &[2, 4][..])]);
}
