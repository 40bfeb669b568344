//! GGUF files read back: equal numbers, and an error for every lie.

use std::fs;
use std::path::{Path, PathBuf};

use converters::export::gguf::{Array, FILE, Fallback, Gguf, GgufFile, Value};
use converters::{Artifact, ExportError, Format, Model, import};
use graph::passes::{QuantizeActivations, run_one};
use graph::progress::Quiet;
use graph::{Scratch, Weights};
use quant::{Policy, Scheme};
use tempfile::TempDir;

use crate::fixture::{fixture, fixtures, repository, round_to_fixed_steps, sees};

/// The one fixture whose largest relative distance llama.cpp does not know.
const NOT_RUN: &str = "t5-long";

/// An imported checkpoint, ready for the format.
pub fn prepared(checkpoint: &Path) -> Model {
    let mut model = import(checkpoint).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    Gguf::DEFAULT.prepare(&mut model).unwrap_or_else(|e| panic!("{}: {e}", checkpoint.display()));
    model
}

/// The same with other weights; `None` when rows do not divide into the scheme's blocks.
pub fn quantized(prepared: &Model, scheme: Scheme) -> Option<Model> {
    let mut model = prepared.clone();
    let plan = Policy::of(scheme).plan(&model.graph).ok()?;
    quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
    Some(model)
}

pub fn write(model: &Model, format: &Gguf) -> (TempDir, Artifact) {
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = format.write(model, home.path()).expect("written");
    (home, artifact)
}

/// Names, shapes and the bits of every number.
pub fn bits(weights: &Weights) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let mut all: Vec<_> = weights
        .iter()
        .map(|(_, w)| {
            (w.name.clone(), w.shape.clone(), w.read().expect("reads").into_iter().map(f32::to_bits).collect())
        })
        .collect();
    all.sort();
    all
}

pub fn all_models() -> Vec<PathBuf> {
    let mut folders = fixtures();
    folders.retain(|dir| !dir.ends_with(NOT_RUN) && !sees(dir));
    folders.push(repository("models/g2p-t5"));
    folders
}

#[test]
fn every_scheme_reads_back_bit_for_bit_or_is_refused_with_all_its_weights() {
    let (mut round_trips, mut refused) = (0, 0);
    for dir in all_models() {
        let prepared = prepared(&dir);
        for scheme in Scheme::ALL {
            let Some(model) = quantized(&prepared, *scheme) else { continue };
            let place = format!("{} as {scheme}", dir.display());
            match Gguf::DEFAULT.check(&model) {
                Ok(()) => {
                    let (_home, artifact) = write(&model, &Gguf::DEFAULT);
                    let read = Gguf::DEFAULT.read_weights(&model, &artifact).unwrap_or_else(|e| panic!("{place}: {e}"));
                    assert!(bits(&read) == bits(&model.graph.weights), "{place}");
                    round_trips += 1;
                }
                Err(ExportError::CannotHold { items, .. }) => {
                    let (Scheme::Affine { .. } | Scheme::Coded(_)) = scheme else { panic!("{place}: {items:?}") };
                    // Codes that no block holds are numbers that F32 holds.
                    let format = Gguf { fallback: Fallback::F32, ..Gguf::DEFAULT };
                    format.check(&model).unwrap_or_else(|e| panic!("{place}: {e}"));
                    let (_home, artifact) = write(&model, &format);
                    let read = format.read_weights(&model, &artifact).unwrap_or_else(|e| panic!("{place}: {e}"));
                    assert!(bits(&read) == bits(&model.graph.weights), "{place}");
                    refused += 1;
                }
                Err(other) => panic!("{place}: {other}"),
            }
        }
    }
    println!("{round_trips} round trips, {refused} refused");
    // Floats everywhere; all that is symmetric or ggml where rows are whole blocks.
    assert!(round_trips >= 4 * all_models().len() + 8 + 8 + 5 + 8, "{round_trips}");
    assert!(refused >= 8, "{refused}");
}

#[test]
fn rows_that_are_no_whole_blocks_are_all_listed() {
    let model = quantized(&prepared(&fixture("t5-v1.1")), "int8".parse().expect("a scheme")).expect("fits");
    let error = Gguf::DEFAULT.check(&model).expect_err("rows of 16, 18 and 28").to_string();
    let lines: Vec<&str> = error.lines().collect();
    // Two embeddings, 7 matrices in each of 3 encoder layers and 11 in each of 2 decoder layers.
    assert_eq!(lines[0], "gguf cannot hold 45 things:");
    assert_eq!(lines[1], "  shared.weight (int8 per row): rows of 16 are not a multiple of 32");
    assert_eq!(lines.len(), 1 + 45 + 1);
    assert!(lines[46].starts_with("hint: ") && lines[46].contains("`gguf: { fallback: f32 }`"), "{}", lines[46]);
}

#[test]
fn what_llama_cpp_does_not_compute_is_refused() {
    let mut model = import(&fixture(NOT_RUN)).expect("imports");
    let prepared = Gguf::DEFAULT.prepare(&mut model);
    let error = prepared.and_then(|_| Gguf::DEFAULT.check(&model)).expect_err("max_distance is 20").to_string();
    assert!(error.contains("128") && error.contains("20"), "{error}");

    let mut model =
        quantized(&self::prepared(&fixture("t5-rows-of-32")), "int8".parse().expect("a scheme")).expect("fits");
    run_one(&mut model.graph, &QuantizeActivations::all(graph::Granularity::Token)).expect("quantized");
    let error = Gguf::DEFAULT.check(&model).expect_err("activations").to_string();
    assert!(error.contains("activations are not quantized in GGUF"), "{error}");

    let mut model =
        quantized(&self::prepared(&fixture("t5-rows-of-32")), "int8".parse().expect("a scheme")).expect("fits");
    round_to_fixed_steps(&mut model.graph);
    let error = Gguf::DEFAULT.check(&model).expect_err("activations").to_string();
    assert!(error.contains("activations are not quantized in GGUF"), "{error}");
}

#[test]
fn the_logit_scale_goes_into_the_last_norm_and_the_report_says_so() {
    let mut model = import(&fixture("t5-v1.0")).expect("imports");
    let before = model.graph.weights.find("decoder.final_layer_norm.weight").expect("there");
    let before = model.graph.weights.get(before).read().expect("reads");
    let said = Gguf::DEFAULT.prepare(&mut model).expect("prepared");
    assert!(said[0].contains("0.25") && said[0].contains("dec.output_norm.weight"), "{said:?}");
    assert!(said[1].contains("the checkpoint has no tokenizer"), "{said:?}");
    let (_home, artifact) = write(&model, &Gguf::DEFAULT);
    let file = GgufFile::open(&artifact.dir.join(FILE)).expect("opens");
    let norm = file.tensor("dec.output_norm.weight").expect("there").data.read().expect("reads");
    let found: Vec<f32> = norm.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(found, before.iter().map(|x| x * 0.25).collect::<Vec<_>>());
    assert!(file.tensor("output.weight").is_none(), "the head is tied");
    assert_eq!(file.get("tokenizer.ggml.model"), Some(&Value::string("none")));
    assert_eq!(file.get("t5.vocab_size"), Some(&Value::U32(66)));
}

#[test]
fn the_metadata_of_the_bundled_model_is_what_llama_cpp_asks_for() {
    let model = quantized(&prepared(&repository("models/g2p-t5")), "q8_0".parse().expect("a scheme")).expect("fits");
    let (_home, artifact) = write(&model, &Gguf { name: Some("g2p".into()), ..Gguf::DEFAULT });
    let file = GgufFile::open(&artifact.dir.join(FILE)).expect("opens");
    let texts = ["config.json", "generation_config.json"]
        .map(|file| (file, fs::read_to_string(repository("models/g2p-t5").join(file)).expect("there")));
    let plain: Vec<String> = file
        .metadata
        .iter()
        .map(|(key, value)| match value {
            Value::Array(array) => format!("{key}: {} elements", array.len()),
            Value::String(text) if texts.iter().any(|(_, whole)| whole == text) => {
                let (file, _) = texts.iter().find(|(_, whole)| whole == text).expect("just found");
                format!("{key}: {file}")
            }
            other => format!("{key}: {other:?}"),
        })
        .collect();
    assert_eq!(
        plain,
        [
            "general.architecture: String(\"t5\")",
            "general.name: String(\"g2p\")",
            "general.file_type: U32(7)",
            "general.quantization_version: U32(2)",
            "t5.context_length: U32(512)",
            "t5.embedding_length: U32(256)",
            "t5.feed_forward_length: U32(512)",
            "t5.block_count: U32(4)",
            "t5.decoder_block_count: U32(2)",
            "t5.attention.head_count: U32(8)",
            "t5.attention.key_length: U32(32)",
            "t5.attention.value_length: U32(32)",
            "t5.attention.layer_norm_epsilon: F32(1e-6)",
            "t5.attention.layer_norm_rms_epsilon: F32(1e-6)",
            "t5.attention.relative_buckets_count: U32(32)",
            "t5.decoder_start_token_id: U32(0)",
            "tokenizer.ggml.model: String(\"t5\")",
            "tokenizer.ggml.pre: String(\"default\")",
            "tokenizer.ggml.tokens: 128 elements",
            "tokenizer.ggml.scores: 128 elements",
            "tokenizer.ggml.token_type: 128 elements",
            "tokenizer.ggml.add_space_prefix: Bool(true)",
            "tokenizer.ggml.remove_extra_whitespaces: Bool(true)",
            "tokenizer.ggml.precompiled_charsmap: 240007 elements",
            "tokenizer.ggml.eos_token_id: U32(1)",
            "tokenizer.ggml.unknown_token_id: U32(2)",
            "tokenizer.ggml.padding_token_id: U32(0)",
            "tokenizer.ggml.add_bos_token: Bool(false)",
            "tokenizer.ggml.add_eos_token: Bool(true)",
            "trefoil.version: U32(1)",
            "trefoil.config: config.json",
            "trefoil.generation_config: generation_config.json",
            "trefoil.tensors: 69 elements",
        ]
    );
    let Some(Value::Array(Array::String(tokens))) = file.get("tokenizer.ggml.tokens") else { panic!("not strings") };
    assert_eq!([&tokens[3], &tokens[99], &tokens[127]], ["▁AA0", "q", "[PAD127]"]);
    let kinds: Vec<(&str, &str)> = file.tensors.iter().map(|t| (t.name.as_str(), t.kind.name())).collect();
    assert_eq!(kinds[0], ("token_embd.weight", "Q8_0"));
    assert!(kinds.contains(&("enc.blk.0.attn_rel_b.weight", "F32")), "{kinds:?}");
    assert!(kinds.contains(&("dec.blk.1.cross_attn_norm.weight", "F32")), "{kinds:?}");
    let files: Vec<String> = artifact.files.iter().map(|f| f.display().to_string()).collect();
    for companion in ["config.json", "generation_config.json", FILE, "tokenizer.json", "spiece.model"] {
        assert!(files.iter().any(|file| file == companion), "{companion} not in {files:?}");
    }
}

/// A small file, and what opening an edited copy of it says.
struct Lie {
    home: TempDir,
    bytes: Vec<u8>,
}

impl Lie {
    fn new() -> Lie {
        let (home, artifact) = write(&prepared(&fixture("t5-v1.0")), &Gguf::DEFAULT);
        let bytes = fs::read(artifact.dir.join(FILE)).expect("written");
        Lie { home, bytes }
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        let path = self.home.path().join("lie.gguf");
        fs::write(&path, bytes).expect("written");
        let error = GgufFile::open(&path).expect_err("refused").to_string();
        error.strip_prefix(&format!("{}: ", path.display())).expect("names its file").to_owned()
    }

    /// The file with `new` at `at`.
    fn with(&self, at: usize, new: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    }

    /// Where a text ends.
    fn after(&self, text: &str) -> usize {
        let at = self.bytes.windows(text.len()).position(|w| w == text.as_bytes());
        at.expect("in the file") + text.len()
    }
}

#[test]
fn a_truncated_file_is_an_error_at_every_sixteenth_and_at_every_byte_of_its_start() {
    let lie = Lie::new();
    let len = lie.bytes.len();
    for end in (0..16).map(|i| len * i / 16).chain(0..2000).chain([len - 1]) {
        let error = lie.refusal(&lie.bytes[..end]);
        assert!(error.contains("expected"), "{end} of {len}: {error}");
    }
}

#[test]
fn a_header_that_lies_is_refused_before_anything_is_allocated() {
    let lie = Lie::new();
    let huge = (1_u64 << 60).to_le_bytes();
    let says = |bytes: Vec<u8>, words: &str| {
        let error = lie.refusal(&bytes);
        assert!(error.contains(words), "expected {words:?} in {error:?}");
    };
    says(lie.with(0, b"GGML"), "expected the magic \"GGUF\", found \"GGML\"");
    says(lie.with(4, &1_u32.to_le_bytes()), "expected version 2 or 3, found 1");
    says(lie.with(4, &3_u32.to_be_bytes()), "a big-endian file");
    says(lie.with(8, &huge), "at byte 24: expected 1152921504606846976 tensors");
    says(lie.with(16, &huge), "at byte 24: expected 1152921504606846976 metadata keys");
    says(lie.with(8, &u64::MAX.to_le_bytes()), "18446744073709551615 tensors");
    says(lie.with(24, &huge), "expected 1152921504606846976 bytes of metadata key 0");
    says(lie.with(24, &u64::MAX.to_le_bytes()), "18446744073709551615 bytes of metadata key 0");

    let key = lie.after("general.architecture");
    says(lie.with(key, &99_u32.to_le_bytes()), "general.architecture: expected a value type of 0 to 12, found 99");
    says(lie.with(key + 4, &huge), "1152921504606846976 bytes of general.architecture");
    says(lie.with(key, &9_u32.to_le_bytes()), "general.architecture");
    says(lie.with(key + 12, &[0xff, 0xff]), "general.architecture is not UTF-8");

    let tensor = lie.after("token_embd.weight");
    says(lie.with(tensor, &5_u32.to_le_bytes()), "token_embd.weight: expected at most 4 dimensions, found 5");
    says(lie.with(tensor + 4, &huge), "token_embd.weight: [66, 1152921504606846976] is not a shape that F32 can have");
    says(lie.with(tensor + 4, &[huge, huge].concat()), "is not a shape that F32 can have");
    says(lie.with(tensor + 20, &77_u32.to_le_bytes()), "token_embd.weight: the tensor type 77 is not supported");
    says(lie.with(tensor + 20, &8_u32.to_le_bytes()), "token_embd.weight: [66, 16] is not a shape that Q8_0 can have");
    says(lie.with(tensor + 24, &huge), "token_embd.weight: expected 4224 bytes at");
    says(lie.with(tensor + 24, &1_u64.to_le_bytes()), "expected an offset that is a multiple of 32, found 1");
    says(lie.with(tensor + 24, &(u64::MAX - 31).to_le_bytes()), "token_embd.weight: expected 4224 bytes at");
    let overlap = lie.refusal(&lie.with(tensor + 24, &4224_u64.to_le_bytes()));
    assert!(overlap.contains("token_embd.weight") && overlap.contains(" overlap"), "{overlap}");
    let twice = lie.refusal(&lie.with(lie.after("enc.blk."), b"1"));
    assert!(twice.contains("enc.blk.1.attn_norm.weight appears twice"), "{twice}");
}

#[test]
fn no_damaged_byte_of_the_header_is_a_panic() {
    let lie = Lie::new();
    let path = lie.home.path().join("damaged.gguf");
    let (mut opened, mut refused) = (0, 0);
    for (at, to) in (0..4000).flat_map(|at| [(at, 0), (at, 0xff), (at, lie.bytes[at] ^ 1)]) {
        fs::write(&path, lie.with(at, &[to])).expect("written");
        match GgufFile::open(&path) {
            Ok(_) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(opened > 1000 && refused > 1000, "{opened} opened, {refused} refused");
}

/// A file with one key, `general.alignment`.
fn aligned(id: u32, alignment: u32) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([0_u64, 1, 17].iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(b"general.alignment");
    bytes.extend([id, alignment].iter().flat_map(|n| n.to_le_bytes()));
    bytes
}

#[test]
fn an_alignment_is_a_power_of_two() {
    let lie = Lie::new();
    for (bytes, found) in [(aligned(4, 0), "U32(0)"), (aligned(4, 24), "U32(24)"), (aligned(5, 32), "I32(32)")] {
        let expected = format!("general.alignment: expected a u32 power of two, found {found}");
        assert_eq!(lie.refusal(&bytes), expected);
    }
    let path = lie.home.path().join("64.gguf");
    fs::write(&path, aligned(4, 64)).expect("written");
    assert!(GgufFile::open(&path).expect("opens").tensors.is_empty());
}

#[test]
fn a_header_of_a_hundred_gigabytes_is_refused() {
    let home = tempfile::tempdir().expect("temporary folder");
    let path = home.path().join("sparse.gguf");
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([0_u64, 1, 100_000_000_000].iter().flat_map(|n| n.to_le_bytes()));
    fs::write(&path, bytes).expect("written");
    fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(100_000_000_100)).expect("sparse");
    let error = GgufFile::open(&path).expect_err("refused").to_string();
    assert!(error.contains("67108864 bytes that a header may take"), "{error}");
}

#[test]
fn a_file_of_another_model_lists_all_that_differs() {
    let (_home, artifact) = write(&prepared(&fixture("t5-v1.0")), &Gguf::DEFAULT);
    let error = Gguf::DEFAULT.read_weights(&prepared(&fixture("t5-v1.1")), &artifact).expect_err("gated").to_string();
    assert!(error.contains("enc.blk.0.ffn_gate.weight is missing"), "{error}");
    assert!(error.contains("output.weight is missing"), "{error}");
}

#[test]
fn a_family_that_no_engine_reads_is_refused_with_a_sentence() {
    let mut model = import(&fixture("trocr-vit")).expect("imports");
    let error = Gguf::DEFAULT.prepare(&mut model).expect_err("images").to_string();
    let expected = "config.json: model_type = vision-encoder-decoder is not supported by gguf: no engine reads encoder-decoders \
                    with images from it; `onnx` holds this model";
    assert!(error.ends_with(expected), "{error}");
}
