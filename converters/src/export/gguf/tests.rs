use std::collections::BTreeMap;
use std::fs;

use graph::{Blob, Quantized, Weight};
use tokenizer::{PieceType, Vocabulary};

use super::*;

/// As llama.cpp takes it.
fn exact_type(name: &str, weight: &Weight) -> Result<TensorType, String> {
    pack::exact_type(name, weight, &TensorTypes::LLAMA_CPP, "llama.cpp")
}

/// Values of every type, an empty array, and strings that are not ASCII.
fn metadata() -> Vec<(String, Value)> {
    [
        ("general.architecture", Value::string("t5")),
        ("u8", Value::U8(255)),
        ("i8", Value::I8(-128)),
        ("u16", Value::U16(65535)),
        ("i16", Value::I16(-32768)),
        ("u32", Value::U32(u32::MAX)),
        ("i32", Value::I32(i32::MIN)),
        ("f32", Value::F32(1.5e-6)),
        ("bool", Value::Bool(true)),
        ("string", Value::string("▁é")),
        ("u64", Value::U64(1 << 40)),
        ("i64", Value::I64(-1 << 40)),
        ("f64", Value::F64(0.1)),
        ("array.u8", Value::Array(Array::U8(vec![0, 255]))),
        ("array.i8", Value::Array(Array::I8(vec![-1, 1]))),
        ("array.u16", Value::Array(Array::U16(vec![1, 65535]))),
        ("array.i16", Value::Array(Array::I16(vec![-2, 2]))),
        ("array.u32", Value::Array(Array::U32(vec![3]))),
        ("array.i32", Value::Array(Array::I32(vec![-3, 3, 4]))),
        ("array.f32", Value::Array(Array::F32(vec![0.25, -0.0]))),
        ("array.bool", Value::Array(Array::Bool(vec![true, false]))),
        ("array.string", Value::Array(Array::String(vec!["a".into(), String::new(), "日本".into()]))),
        ("array.u64", Value::Array(Array::U64(vec![u64::MAX]))),
        ("array.i64", Value::Array(Array::I64(vec![i64::MIN]))),
        ("array.f64", Value::Array(Array::F64(vec![1e300]))),
        ("array.empty", Value::Array(Array::F32(Vec::new()))),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

/// Three tensors whose lengths need padding. Not BF16, of which gguf-rs 0.1.8 does not know the size.
fn weights() -> Vec<(&'static str, Weight, TensorType)> {
    let stored = |shape: &[usize], dtype: FloatType| {
        let len = shape.iter().product::<usize>() * dtype.bytes();
        let blob = Blob::memory((0..len).map(|i| (i * 7 % 120) as u8).collect::<Vec<u8>>());
        Weight { name: "w".into(), shape: shape.to_vec(), data: WeightData::Stored { blob, dtype } }
    };
    let blocks = Blob::memory((0..3 * 2 * 34).map(|i| (i % 100) as u8).collect::<Vec<u8>>());
    let data = WeightData::Quantized(Quantized::Ggml { kind: GgmlType::Q8_0, blocks });
    vec![
        ("a.weight", stored(&[5, 3], FloatType::F16), TensorType::Float(FloatType::F16)),
        ("b.weight", Weight { name: "w".into(), shape: vec![3, 64], data }, TensorType::Ggml(GgmlType::Q8_0)),
        ("c.weight", stored(&[7], FloatType::F32), TensorType::Float(FloatType::F32)),
    ]
}

fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().expect("temporary folder");
    let path = home.path().join(FILE);
    let weights = weights();
    let planned: Vec<_> = weights
        .iter()
        .map(|(name, weight, kind)| container::Planned { name: (*name).into(), shape: &weight.shape, kind: *kind })
        .collect();
    container::write(&path, &metadata(), &planned, |i, out| pack::write(&weights[i].1, weights[i].2, out))
        .expect("written");
    (home, path)
}

#[test]
fn metadata_of_every_type_and_tensors_read_back() {
    let (_home, path) = written();
    let file = GgufFile::open(&path).expect("opens");
    assert_eq!((file.version, file.metadata.clone()), (3, metadata()));
    for ((name, weight, kind), tensor) in weights().iter().zip(&file.tensors) {
        assert_eq!((*name, &weight.shape, *kind), (tensor.name.as_str(), &tensor.shape, tensor.kind));
        let mut bytes = Vec::new();
        pack::write(weight, *kind, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })
        .expect("packed");
        assert_eq!(tensor.data.read().expect("reads"), bytes, "{name}");
        assert_eq!(tensor.offset_bytes % 32, 0, "{name}");
    }
    let len = fs::metadata(&path).expect("there").len();
    assert_eq!(len % 32, 0, "the last tensor is padded too");
}

#[test]
fn gguf_rs_sees_the_same_metadata_and_tensors() {
    let (_home, path) = written();
    let text = path.to_str().expect("a path of the test");
    let foreign = gguf_rs::get_gguf_container_array_size(text, 1 << 20).expect("opens").decode().expect("decodes");
    assert_eq!((foreign.get_version(), foreign.num_kv(), foreign.num_tensor()), ("v3".into(), 26, 3));
    let json = |value: &Value| match value {
        Value::U32(x) => serde_json::json!(x),
        Value::I32(x) => serde_json::json!(x),
        Value::Bool(x) => serde_json::json!(x),
        Value::String(x) => serde_json::json!(x),
        Value::U64(x) => serde_json::json!(x),
        Value::F64(x) => serde_json::json!(x),
        Value::Array(Array::String(x)) => serde_json::json!(x),
        Value::Array(Array::I32(x)) => serde_json::json!(x),
        Value::Array(Array::U8(x)) => serde_json::json!(x),
        Value::Array(Array::Bool(x)) => serde_json::json!(x),
        _ => serde_json::Value::Null,
    };
    let mut compared = 0;
    for (key, value) in metadata() {
        let found = foreign.metadata().get(&key).unwrap_or_else(|| panic!("{key} is missing"));
        if !json(&value).is_null() {
            assert_eq!(*found, json(&value), "{key}");
            compared += 1;
        }
    }
    assert_eq!(compared, 11);
    let ours = GgufFile::open(&path).expect("opens");
    for (ours, theirs) in ours.tensors.iter().zip(foreign.tensors()) {
        let shape: Vec<u64> = ours.shape.iter().rev().map(|n| *n as u64).collect();
        let expected = (ours.name.clone(), ours.kind.id(), shape, ours.offset_bytes, ours.data.len());
        let offset = foreign.data_offset() + theirs.offset;
        assert_eq!(expected, (theirs.name.clone(), theirs.kind, theirs.shape.clone(), offset, theirs.size));
    }
}

#[test]
fn int4_codes_become_nibbles_of_code_plus_eight() {
    let codes: Vec<u8> = (0..64).map(|i| (i % 16 - 8_i8).cast_unsigned()).collect();
    let scales = [0.5, 2.0].map(half::f16::from_f32).to_vec();
    let tensor = graph::AffineTensor {
        shape: [1, 64],
        bits: 4,
        block: graph::Block::Group(32),
        codes: Blob::memory(codes),
        scales,
        zeros: None,
    };
    let data = WeightData::Quantized(Quantized::Affine(tensor));
    let weight = Weight { name: "w".into(), shape: vec![1, 64], data };
    let kind = exact_type("enc.blk.0.attn_q.weight", &weight).expect("fits");
    assert_eq!(kind, TensorType::Ggml(GgmlType::Q4_0));
    let mut bytes = Vec::new();
    pack::write(&weight, kind, &mut |more| {
        bytes.extend_from_slice(more);
        Ok(())
    })
    .expect("packed");
    let mut back = vec![0.0; 64];
    GgmlType::Q4_0.dequantize(&bytes, &mut back);
    assert_eq!(back, weight.read().expect("reads"));
    assert!(exact_type("enc.blk.0.attn_rel_b.weight", &weight).is_err());
}

#[test]
fn a_vocabulary_is_filled_up_to_the_rows_of_the_embedding_and_no_further() {
    let known = Vocabulary {
        pieces: vec!["<pad>".into(), "<unk>".into()],
        scores: vec![0.0, 0.0],
        types: vec![PieceType::Control, PieceType::Unknown],
        charsmap: Vec::new(),
        add_space_prefix: true,
        remove_extra_whitespaces: false,
        eos: None,
        pad: Some(0),
    };
    let metadata: BTreeMap<String, Value> = vocabulary::pieces(&known, 4).expect("fits").into_iter().collect();
    let padded = ["<pad>", "<unk>", "[PAD2]", "[PAD3]"].map(str::to_owned).to_vec();
    assert_eq!(metadata["tokenizer.ggml.tokens"], Value::Array(Array::String(padded)));
    assert_eq!(metadata["tokenizer.ggml.scores"], Value::Array(Array::F32(vec![0.0, 0.0, -10000.0, -10000.0])));
    assert_eq!(metadata["tokenizer.ggml.token_type"], Value::Array(Array::I32(vec![3, 2, 5, 5])));
    assert_eq!(metadata["tokenizer.ggml.unknown_token_id"], Value::U32(1));
    assert!(!metadata.contains_key("tokenizer.ggml.eos_token_id"));
    assert!(!metadata.contains_key("tokenizer.ggml.precompiled_charsmap"));
    let error = vocabulary::pieces(&known, 1).expect_err("two pieces, one row").to_string();
    assert_eq!(error, "gguf: the tokenizer has 2 pieces and the embedding 1 rows");
}
