//! safetensors folders read back: equal numbers, by us and by another reader, and an error for every lie.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use converters::export::safetensors::{Dtype, Safetensors};
use converters::{Artifact, ExportError, Format, Model, import};
use graph::passes::{QuantizeActivations, run_one};
use graph::progress::Quiet;
use graph::{FloatType, GgmlType, Granularity, Scratch, WeightData, Weights};
use quant::{Policy, Role, Rule, Scheme};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{fixture, fixtures, repository, round_to_fixed_steps};

const WIDE: Safetensors = Safetensors { widen_codes: true, ..Safetensors::DEFAULT };

/// A checkpoint after the passes.
pub fn imported(checkpoint: &Path) -> Model {
    let mut model = import(checkpoint).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    model
}

fn rule(role: Role, scheme: Scheme) -> Rule {
    Rule { role: Some(role), pattern: None, scheme, clip: None, method: None }
}

/// The model with other weights; `None` when rows do not divide into the scheme's blocks.
pub fn quantized(model: &Model, policy: &Policy) -> Option<Model> {
    let mut model = model.clone();
    let plan = policy.plan(&model.graph).ok()?;
    quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
    Some(model)
}

/// One scheme for every matrix, so that all codes have one width.
fn uniform(model: &Model, scheme: &str) -> Model {
    let scheme = scheme.parse().expect("a scheme");
    let policy =
        Policy { rules: vec![rule(Role::Embedding, scheme), rule(Role::Linear, scheme)], ..Policy::of(scheme) };
    let mut head = policy.clone();
    head.rules.push(rule(Role::Head, scheme));
    // A tied model has no head of its own, and a rule that decides nothing is an error.
    quantized(model, &head).or_else(|| quantized(model, &policy)).expect("fits")
}

/// int8 with rounded activations; embeddings stay.
fn rounded(model: &Model, granularity: Granularity) -> Model {
    let mut policy = Policy::of("int8".parse().expect("a scheme"));
    policy.rules = vec![rule(Role::Embedding, Scheme::Keep)];
    let mut model = quantized(model, &policy).expect("fits");
    run_one(&mut model.graph, &QuantizeActivations::all(granularity)).expect("fits");
    model
}

fn write(model: &Model, format: &Safetensors) -> (TempDir, Artifact) {
    let home = tempfile::tempdir().expect("temporary folder");
    format.check(model).unwrap_or_else(|e| panic!("{e}"));
    let artifact = format.write(model, home.path()).expect("written");
    (home, artifact)
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("config.json")).expect("there")).expect("JSON")
}

/// Names, shapes and the bits of every number.
fn bits(weights: &Weights) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let bits = |w: &graph::Weight| w.read().expect("reads").into_iter().map(f32::to_bits).collect();
    let mut all: Vec<_> = weights.iter().map(|(_, w)| (w.name.clone(), w.shape.clone(), bits(w))).collect();
    all.sort();
    all
}

fn assert_reads_back(model: &Model, artifact: &Artifact, place: &str) {
    let read = Safetensors::DEFAULT.read_weights(model, artifact).unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(bits(&read) == bits(&model.graph.weights), "{place}");
}

/// Every fixture, and the bundled model.
pub fn all_models() -> Vec<PathBuf> {
    let mut folders = fixtures();
    folders.push(repository("models/g2p-t5"));
    folders
}

/// Those of which transformers has each matrix in a Linear: a Conv1D takes no codes, and no more does what is no module's.
fn all_of_linears() -> Vec<PathBuf> {
    let mut folders = all_models();
    folders.retain(|dir| !dir.ends_with("vit-gpt2") && !dir.ends_with("florence2-microsoft"));
    folders
}

#[test]
fn every_scheme_reads_back_bit_for_bit_and_ggml_is_refused() {
    let mut refused = 0;
    for dir in all_models() {
        let model = imported(&dir);
        for &scheme in Scheme::ALL {
            let Some(model) = quantized(&model, &Policy::of(scheme)) else { continue };
            let place = format!("{} as {scheme}", dir.display());
            let only_gguf = matches!(scheme, Scheme::Ggml(kind) if kind != GgmlType::Mxfp4);
            match WIDE.check(&model) {
                Ok(()) => {
                    assert!(!only_gguf, "{place}");
                    let (_home, artifact) = write(&model, &WIDE);
                    assert_reads_back(&model, &artifact, &place);
                }
                Err(ExportError::CannotHold { items, .. }) => {
                    let conv1d = |item: &String| item.ends_with("transformers has none there");
                    assert!(only_gguf || items.iter().all(conv1d), "{place}: {items:?}");
                    refused += 1;
                }
                Err(other) => panic!("{place}: {other}"),
            }
        }
    }
    assert!(refused >= 8, "{refused}");
}

#[test]
fn codes_of_one_width_are_packed_in_it() {
    for dir in all_of_linears() {
        let model = imported(&dir);
        for (scheme, num_bits, symmetric) in
            [("int4", 4, true), ("int4-g32", 4, true), ("int4-g32-asym", 4, false), ("int8-asym", 8, false)]
        {
            let model = uniform(&model, scheme);
            let (home, artifact) = write(&model, &Safetensors::DEFAULT);
            assert_reads_back(&model, &artifact, scheme);
            let config = config(home.path());
            let quantization = &config["quantization_config"];
            assert_eq!(quantization["format"], "pack-quantized");
            assert_eq!(quantization["dequantize"], true);
            assert_eq!(config["dtype"], "float32");
            let weights = &quantization["config_groups"]["group_0"]["weights"];
            assert_eq!(
                (&weights["num_bits"], &weights["symmetric"]),
                (&Value::from(num_bits), &Value::from(symmetric))
            );
        }
    }
}

#[test]
fn a_foreign_reader_sees_the_same_floats_and_packed_codes() {
    let model = uniform(&imported(&fixture("t5-v1.1")), "int4-g32-asym");
    let (home, _) = write(&model, &Safetensors::DEFAULT);
    let bytes = fs::read(home.path().join("model.safetensors")).expect("written");
    let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
    assert_eq!(header_len % 8, 0);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a header");
    assert_eq!(metadata.metadata().as_ref().and_then(|m| m.get("format")).map(String::as_str), Some("pt"));
    let tensors = SafeTensors::deserialize(&bytes).expect("valid");
    let mut codes_seen = 0;
    for (_, weight) in model.graph.weights.iter() {
        let values = weight.read().expect("reads");
        let Ok(scales) = tensors.tensor(&format!("{}_scale", weight.name)) else {
            let data = tensors.tensor(&weight.name).expect("there").data().to_vec();
            assert_eq!(data, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(), "{}", weight.name);
            continue;
        };
        let word = |name: &str, at: usize| {
            let tensor = tensors.tensor(&format!("{}{name}", weight.name)).expect("there");
            u32::from_le_bytes(tensor.data()[4 * at..4 * at + 4].try_into().expect("4 bytes"))
        };
        let (columns, groups) = (weight.shape[1], scales.shape()[1]);
        for (i, value) in values.iter().enumerate() {
            let (row, column) = (i / columns, i % columns);
            let group = column * groups / columns;
            let nibble = |word: u32, at: usize| (word >> (4 * (at % 8)) & 15) as i32 - 8;
            let code = nibble(word("_packed", row * columns.div_ceil(8) + column / 8), column);
            let zero = nibble(word("_zero_point", row / 8 * groups + group), row);
            let scale = f32::from_bits(word("_scale", row * groups + group));
            assert_eq!(((code - zero) as f32 * scale).to_bits(), value.to_bits(), "{} [{row}, {column}]", weight.name);
            codes_seen += 1;
        }
    }
    assert!(codes_seen > 10_000, "{codes_seen}");
}

#[test]
fn rounded_activations_make_int_quantized_groups() {
    for dir in all_of_linears() {
        let model = rounded(&imported(&dir), Granularity::Token);
        let (home, artifact) = write(&model, &Safetensors::DEFAULT);
        assert_reads_back(&model, &artifact, &dir.display().to_string());
        let quantization = config(home.path())["quantization_config"].clone();
        assert_eq!(quantization["format"], "int-quantized");
        assert_eq!(quantization.get("dequantize"), None);
        let group = &quantization["config_groups"]["group_0"];
        assert_eq!(group["targets"], serde_json::json!(["Linear"]));
        assert_eq!(group["weights"]["strategy"], "channel");
        assert_eq!(group["input_activations"]["strategy"], "token");
        let ignored = quantization["ignore"].as_array().expect("a list");
        let tables = quant::roles(&model.graph).into_iter().filter(|(_, role)| *role == Role::Embedding);
        let tables = tables.map(|(id, _)| model.graph.weights.get(id));
        for table in tables.filter(|table| !matches!(table.data, WeightData::Computed(_))) {
            let module = table.name.trim_end_matches(".weight");
            assert!(ignored.contains(&module.into()), "{module} is not in {ignored:?}");
        }
        let head = model.architecture.head(&model.checkpoint);
        let has_head = model.graph.weights.find(&format!("{head}.weight")).is_some();
        assert_eq!(ignored.contains(&head.into()), !has_head, "{ignored:?}");
    }
}

#[test]
fn linears_with_other_codes_get_a_group_of_their_own() {
    let mut policy = Policy::of("int8".parse().expect("a scheme"));
    policy.rules = vec![
        rule(Role::Embedding, Scheme::Keep),
        Rule { pattern: Some("*.wo.weight".into()), ..rule(Role::Linear, "int4-g32".parse().expect("a scheme")) },
    ];
    let mut model = quantized(&imported(&repository("models/g2p-t5")), &policy).expect("fits");
    run_one(&mut model.graph, &QuantizeActivations::all(Granularity::Token)).expect("fits");
    let (home, artifact) = write(&model, &Safetensors::DEFAULT);
    assert_reads_back(&model, &artifact, "two groups");
    let groups = config(home.path())["quantization_config"]["config_groups"].clone();
    let find = |bits: u64| {
        groups.as_object().expect("groups").values().find(|g| g["weights"]["num_bits"] == bits).expect("there").clone()
    };
    assert_eq!(find(4)["targets"].as_array().map(Vec::len), Some(6));
    assert_eq!(find(4)["input_activations"], Value::Null);
    assert_eq!(find(4)["weights"]["group_size"], 32);
    assert_eq!(find(8)["targets"].as_array().map(Vec::len), Some(4 * 6 + 2 * 10));
}

#[test]
fn files_end_at_the_shard_size_and_import_as_a_checkpoint() {
    let model = imported(&repository("models/g2p-t5"));
    let format = Safetensors { shard_size_mb: NonZeroU64::MIN, dtype: Dtype::F32, ..Safetensors::DEFAULT };
    let (home, artifact) = write(&model, &format);
    assert_reads_back(&model, &artifact, "shards");
    let index: Value =
        serde_json::from_slice(&fs::read(home.path().join("model.safetensors.index.json")).expect("there"))
            .expect("JSON");
    let places: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].clone()).expect("names");
    let shards: std::collections::BTreeSet<&String> = places.values().collect();
    assert!(shards.len() > 10, "{shards:?}");
    for shard in &shards {
        let bytes = fs::read(home.path().join(shard)).expect("there");
        let (header, metadata) = SafeTensors::read_metadata(&bytes).expect("a header");
        let data = bytes.len() - 8 - header;
        assert!(data <= 1_000_000 || metadata.tensors().len() == 1, "{shard}: {data} bytes");
    }
    let again = import(home.path()).unwrap_or_else(|e| panic!("{e}"));
    assert!(bits(&again.graph.weights) == bits(&import(&repository("models/g2p-t5")).expect("imports").graph.weights));
    assert_eq!(config(home.path())["dtype"], "float32");
}

#[test]
fn a_float_type_of_all_weights_is_the_dtype_of_the_config() {
    let model = imported(&fixture("t5-v1.1"));
    for (dtype, name) in [(FloatType::F16, "float16"), (FloatType::BF16, "bfloat16"), (FloatType::F32, "float32")] {
        let model = quantized(&model, &Policy::of(Scheme::Float(dtype))).expect("fits");
        let (home, artifact) = write(&model, &Safetensors::DEFAULT);
        assert_reads_back(&model, &artifact, name);
        assert_eq!(config(home.path())["dtype"], name);
        let option = if dtype == FloatType::F16 { Dtype::F16 } else { Dtype::Bf16 };
        let same = Safetensors { dtype: option, ..Safetensors::DEFAULT }.check(&model);
        assert_eq!(same.is_ok(), dtype != FloatType::F32, "{name}");
    }
    let mut mixed = Policy::of(Scheme::Float(FloatType::BF16));
    mixed.rules = vec![rule(Role::Norm, Scheme::Keep)];
    let (home, _) = write(&quantized(&model, &mixed).expect("fits"), &Safetensors::DEFAULT);
    assert_eq!(config(home.path())["dtype"], "float32");
}

#[test]
fn all_that_cannot_be_held_is_listed() {
    let model = imported(&fixture("t5-v1.1"));
    let told = |format: &Safetensors, model: &Model| match format.check(model) {
        Err(ExportError::CannotHold { items, .. }) => items,
        other => panic!("{other:?}"),
    };
    let f16 = Safetensors { dtype: Dtype::F16, ..Safetensors::DEFAULT };
    let items = told(&f16, &model);
    assert_eq!(items.len(), model.graph.weights.len());
    assert_eq!(items[0], "shared.weight: expected f16 for dtype f16, found f32; the scheme rounds");

    let mixture = quantized(&model, &Policy::of("int4".parse().expect("a scheme"))).expect("fits");
    let items = told(&Safetensors::DEFAULT, &mixture);
    assert!(
        items[0].starts_with("7 of 45 weights with codes have 8 bits and the others 4, but transformers"),
        "{items:?}"
    );

    let mut policy = Policy::of("int8".parse().expect("a scheme"));
    let mut embedding = quantized(&model, &policy).expect("fits");
    run_one(&mut embedding.graph, &QuantizeActivations::all(Granularity::Token)).expect("fits");
    let items = told(&Safetensors::DEFAULT, &embedding);
    assert_eq!(items, ["shared.weight: an embedding cannot have codes where activations are rounded"]);

    let items = told(&Safetensors::DEFAULT, &rounded(&model, Granularity::Tensor));
    assert!(items[0].ends_with(": expected activations with a scale a token, found one a tensor"), "{items:?}");

    policy.rules = vec![rule(Role::Embedding, Scheme::Keep)];
    let mut fixed = quantized(&model, &policy).expect("fits");
    round_to_fixed_steps(&mut fixed.graph);
    let items = told(&Safetensors::DEFAULT, &fixed);
    assert!(!items.is_empty());
    let expected = ": expected activations with a scale a token, found fixed steps";
    assert!(items.iter().all(|item| item.ends_with(expected)), "{items:?}");

    policy.rules = vec![rule(Role::RelativeBias, "int8".parse().expect("a scheme"))];
    let table = quantized(&model, &policy).expect("fits");
    WIDE.check(&table).expect("a relative bias is a table of transformers too");
}

/// An artifact whose one file of weights is about to be broken.
struct Broken {
    model: Model,
    home: TempDir,
    artifact: Artifact,
    /// As it was written.
    whole: Vec<u8>,
}

impl Broken {
    fn new(checkpoint: &str, scheme: &str) -> Broken {
        let model = uniform(&imported(&fixture(checkpoint)), scheme);
        let (home, artifact) = write(&model, &Safetensors::DEFAULT);
        let whole = fs::read(home.path().join("model.safetensors")).expect("written");
        Broken { model, home, artifact, whole }
    }

    /// With other bytes in the file.
    fn read(&self, bytes: &[u8]) -> Result<Weights, String> {
        fs::write(self.home.path().join("model.safetensors"), bytes).expect("written");
        Safetensors::DEFAULT.read_weights(&self.model, &self.artifact).map_err(|e| e.to_string())
    }

    /// With the first `honest` of the header replaced by something as long.
    fn read_lie(&self, honest: &str, lie: &str) -> String {
        let header = 8 + u64::from_le_bytes(self.whole[..8].try_into().expect("8 bytes")) as usize;
        let text = std::str::from_utf8(&self.whole[8..header]).expect("JSON");
        assert!(text.contains(honest) && honest.len() == lie.len(), "{honest}");
        let mut bytes = self.whole.clone();
        bytes[8..header].copy_from_slice(text.replacen(honest, lie, 1).as_bytes());
        self.read(&bytes).map(drop).expect_err(lie)
    }

    /// With other bytes at the beginning of a tensor's data.
    fn read_data(&self, tensor: &str, data: &[u8]) -> Result<Weights, String> {
        let tensors = SafeTensors::deserialize(&self.whole).expect("valid");
        let at = tensors.tensor(tensor).expect("there").data().as_ptr() as usize - self.whole.as_ptr() as usize;
        let mut bytes = self.whole.clone();
        bytes[at..at + data.len()].copy_from_slice(data);
        self.read(&bytes)
    }

    fn assert_every_cut_is_an_error(&self) {
        for sixteenth in 0..16 {
            self.read(&self.whole[..self.whole.len() * sixteenth / 16]).map(drop).expect_err("cut short");
        }
        assert_eq!(self.read(&self.whole).map(drop), Ok(()));
    }
}

#[test]
fn a_folder_with_small_floats_that_is_cut_short_or_lies_is_an_error() {
    let name = "encoder.block.0.layer.0.SelfAttention.q.weight";
    let rows = Broken::new("t5-rows-of-32", "fp8");
    rows.assert_every_cut_is_an_error();
    let lies = [
        (format!("{name}_scale\""), format!("{name}_scole\""), format!("{name}_scale: expected F32 [")),
        (format!("\"{name}\":{{\"dtype\":\"F8_E4M3"), format!("\"{name}\":{{\"dtype\":\"F8_E5M2"), name.to_owned()),
    ];
    for (honest, lie, message) in lies {
        let error = rows.read_lie(&honest, &lie);
        assert!(error.contains(&message), "{lie}: {error}");
    }
    for scale in [0.0_f32, -1.0, f32::NAN, f32::INFINITY] {
        let error = rows.read_data(&format!("{name}_scale"), &scale.to_le_bytes()).map(drop).expect_err("no scale");
        assert!(error.contains(&format!("{name}_scale: expected finite numbers above 0")), "{error}");
    }
    // A code that is no number is a weight that differs, which the link export names.
    let read = rows.read_data(name, &[0x7f]).expect("as well formed as any");
    let id = read.find(name).expect("there");
    assert!(read.get(id).read().expect("reads").iter().any(|weight| weight.is_nan()), "no NaN of code 7f");

    let blocks = Broken::new("t5-rows-of-32", "mxfp4");
    blocks.assert_every_cut_is_an_error();
    for (honest, lie) in [("_scale\"", "_scole\""), ("_packed\"", "_pocked\"")] {
        let error = blocks.read_lie(&format!("{name}{honest}"), &format!("{name}{lie}"));
        assert!(error.contains(name), "{lie}: {error}");
    }
    let error = blocks.read_data(&format!("{name}_scale"), &[0xff]).map(drop).expect_err("no number");
    assert!(error.contains(&format!("{name}_scale: expected exponents below 255")), "{error}");
}

#[test]
fn a_folder_that_is_cut_short_or_lies_is_an_error() {
    let broken = Broken::new("t5-v1.1", "int4-g32-asym");
    broken.assert_every_cut_is_an_error();
    let lies = [
        ("q.weight_scale\"", "q.weight_scole\"", "found neither floats nor scales"),
        ("q.weight_packed\"", "q.weight_pocked\"", "q.weight: expected I8"),
        ("q.weight_shape\"", "q.weight_shope\"", "q.weight_shape: expected I64 [2]"),
        (
            "\"encoder.final_layer_norm.weight\":{\"dtype\":\"F32\",\"shape\":[16]",
            "\"encoder.final_layer_norm.weight\":{\"dtype\":\"I32\",\"shape\":[16]",
            "encoder.final_layer_norm.weight",
        ),
        (
            "\"encoder.final_layer_norm.weight\":{\"dtype\":\"F32\",\"shape\":[16]",
            "\"encoder.final_layer_norm.weight\":{\"dtype\":\"F16\",\"shape\":[32]",
            "expected [16], found [32]",
        ),
    ];
    for (honest, lie, message) in lies {
        let error = broken.read_lie(honest, lie);
        assert!(error.contains(message), "{lie}: {error}");
    }
    // A scale that no f16 is.
    let error = broken.read_data("lm_head.weight_scale", &0.1_f32.to_le_bytes()).map(drop).expect_err("0.1");
    assert!(error.contains("lm_head.weight_scale: expected f16 numbers above 0"), "{error}");

    let config = broken.home.path().join("config.json");
    let honest = fs::read_to_string(&config).expect("written");
    for (bits, message) in [
        ("8", "shared.weight_packed: expected [66, 4], found [66, 2]"),
        ("3", "expected codes of 4 or 8 bits in config.json, found 3"),
    ] {
        let lie = honest.replacen("\"num_bits\": 4", &format!("\"num_bits\": {bits}"), 1);
        fs::write(&config, lie).expect("written");
        let error = broken.read(&broken.whole).map(drop).expect_err("another width");
        assert!(error.contains(message), "{error}");
    }
}
