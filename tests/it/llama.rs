//! GGUF artifacts in llama.cpp. Run with `--features llama-cpp`.

use std::fs;
use std::path::Path;

use converters::checkpoint::Generation;
use converters::export::gguf::{FILE, Gguf};
use converters::{Artifact, Format, Model, Tokenizer, import};
use graph::progress::Quiet;
use graph::{Feeds, Interpreter, Scratch, Tensor};
use quant::{Calibration, Method, Policy, Samples, Scheme};
use validate::calibration::{Calibrated, Prefixes};
use validate::metrics::{Distances, Meter};
use validate::runtime::ggml::{Ggml, engine};
use validate::runtime::llama::{self, LlamaCpp};
use validate::runtime::{Options, Program, Runtime, Session};
use validate::task::Data;
use validate::{Fit, Greedy};

use crate::consumers::LLAMA_CPP;
use crate::fixture::{expected, fixture, repository, tokens};

/// Relative L2 of logits with f32 weights: GELU is a table in f16.
const F32_FLOOR: f64 = 2e-3; // 8.1e-4, t5-tied-unscaled; 1.3e-4 on the real model
/// The same without GELU.
const RELU_FLOOR: f64 = 1e-5; // 3.5e-7
/// The inputs of 16-bit matrices are rounded to 16 bits.
const HALVES_FLOOR: f64 = 1e-3; // 3.1e-4
/// The inputs of quantized matrices are rounded to 8 bits in blocks of 32 (256 for K-quants).
const INTEGER_FLOOR: f64 = 3e-2; // 9.7e-3 with q8_0, 1.13e-2 with q4_k

/// Logits this near to each other are equal to llama.cpp: twice its largest error on the real model, 8.7e-3 with f32.
const TIE: f32 = 2e-2; // 5.2e-4, at word 31

/// An artifact, and what it is meant to compute.
struct Exported {
    model: Model,
    artifact: Artifact,
    _home: tempfile::TempDir,
}

fn exported(checkpoint: &Path, scheme: &str) -> Exported {
    let mut model = import(checkpoint).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    let scheme: Scheme = scheme.parse().expect("a scheme");
    let format = Gguf::DEFAULT;
    format.prepare(&mut model).expect("prepared");
    let plan = Policy::of(scheme).plan(&model.graph).expect("planned");
    quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
    format.check(&model).unwrap_or_else(|e| panic!("{}: {e}", checkpoint.display()));
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = format.write(&model, home.path()).expect("written");
    Exported { model, artifact, _home: home }
}

fn open(artifact: &Artifact) -> Result<Box<dyn Session>, String> {
    let options = Options { threads: 2, offline: true, ..Options::DEFAULT };
    LlamaCpp.open(artifact, &options).map_err(|e| e.to_string())
}

fn session(exported: &Exported) -> Box<dyn Session> {
    open(&exported.artifact).unwrap_or_else(|e| panic!("{e}"))
}

fn floats(tensor: &Tensor) -> &[f32] {
    tensor.as_f32().expect("floats")
}

fn rel_l2(reference: &[f32], found: &[f32]) -> f64 {
    distances(reference, found, 1).rel_l2.expect("finite")
}

fn distances(reference: &[f32], found: &[f32], width: usize) -> Distances {
    let mut meter = Meter::ZERO;
    meter.add(reference, found, width);
    meter.distances()
}

/// The interpreter's logits f32[b, n, vocabulary] on what the artifact is meant to compute.
fn meant(model: &Model, [source, mask, target]: [&Tensor; 3]) -> Tensor {
    let names = ["input_ids", "attention_mask", "decoder_input_ids"];
    let feeds: Feeds = names.map(str::to_owned).into_iter().zip([source, mask, target].map(Clone::clone)).collect();
    Interpreter::new(&model.graph).call("full", &feeds).expect("evaluates").remove("logits").expect("logits")
}

/// Columns of i64[b, n].
fn columns(ids: &Tensor, columns: std::ops::Range<usize>) -> Tensor {
    let n = ids.shape()[1];
    let rows = ids.as_i64().expect("integers").chunks(n);
    Tensor::i64([ids.shape()[0], columns.len()], rows.flat_map(|row| row[columns.clone()].to_vec()).collect::<Vec<_>>())
}

/// One row of i64[b, n].
fn row(ids: &Tensor, row: usize) -> Tensor {
    let n = ids.shape()[1];
    Tensor::i64([1, n], ids.as_i64().expect("integers")[row * n..][..n].to_vec())
}

/// Logits of a target fed in calls of some lengths, put together: f32[b, n, vocabulary].
fn fed(session: &mut dyn Session, target: &Tensor, calls: &[usize]) -> Vec<f32> {
    let (b, mut at) = (target.shape()[0], 0);
    let mut rows = vec![Vec::new(); b];
    for n in calls {
        let logits = session.decode(&columns(target, at..at + n)).expect("decoded");
        let per_row = logits.len() / b;
        rows.iter_mut().zip(floats(&logits).chunks(per_row)).for_each(|(row, part)| row.extend_from_slice(part));
        at += n;
    }
    rows.concat()
}

#[test]
fn logits_of_every_kind_of_t5_are_the_interpreters_and_those_of_transformers() {
    for name in LLAMA_CPP {
        let exported = exported(&fixture(name), "f32");
        let (recorded, metadata) = expected(&fixture(name));
        let [source, mask, target] =
            ["input_ids", "attention_mask", "decoder_input_ids"].map(|tensor| &recorded[tensor]);
        let meant = meant(&exported.model, [source, mask, target]);
        let mut session = session(&exported);
        session.encode(&tokens(source, mask)).expect("encoded");
        let found = session.decode(target).expect("decoded");
        assert_eq!(found.shape(), meant.shape(), "{name}");
        let floor = if name.starts_with("t5-v1.0") { RELU_FLOOR } else { F32_FLOOR };
        let rel = rel_l2(floats(&meant), floats(&found));
        println!("{name}: {rel:.1e}, transformers {:.1e}", rel_l2(floats(&recorded["logits"]), floats(&found)));
        assert!(rel <= floor, "{name}: {rel:e}");
        let rel = rel_l2(floats(&recorded["logits"]), floats(&found));
        assert!(rel <= floor, "{name}: {rel:e} from transformers {}", metadata["transformers"]);
    }
}

#[test]
fn steps_give_the_logits_of_the_whole_target_and_a_row_those_it_has_alone() {
    let exported = exported(&fixture("t5-v1.1"), "f32");
    let (recorded, _) = expected(&fixture("t5-v1.1"));
    let [source, mask, target] = ["input_ids", "attention_mask", "decoder_input_ids"].map(|tensor| &recorded[tensor]);
    let mut session = session(&exported);
    session.encode(&tokens(source, mask)).expect("encoded");
    let whole = fed(&mut *session, target, &[7]);
    // The same sources again start the target anew, whether or not the encoder runs.
    for calls in [&[1; 7][..], &[3, 4], &[7]] {
        session.encode(&tokens(source, mask)).expect("encoded");
        let rel = rel_l2(&whole, &fed(&mut *session, target, calls));
        println!("{calls:?}: {rel:.1e}");
        assert!(rel <= F32_FLOOR, "{calls:?}: {rel:e}");
    }
    for i in 0..3 {
        session.encode(&tokens(&row(source, i), &row(mask, i))).expect("encoded");
        let alone = fed(&mut *session, &row(target, i), &[7]);
        assert!(alone == whole[i * alone.len()..][..alone.len()], "row {i} depends on the others or on its padding");
    }
    // A larger batch after a smaller one, in another order.
    let reversed = |ids: &Tensor| {
        let rows: Vec<i64> = (0..3).rev().flat_map(|i| row(ids, i).as_i64().expect("integers").to_vec()).collect();
        Tensor::i64(ids.shape(), rows)
    };
    session.encode(&tokens(&reversed(source), &reversed(mask))).expect("encoded");
    let found = fed(&mut *session, &reversed(target), &[7]);
    let n = whole.len() / 3;
    assert!((0..3).all(|i| found[i * n..][..n] == whole[(2 - i) * n..][..n]), "rows are mixed up");
}

#[test]
fn padding_may_stand_on_either_side() {
    let exported = exported(&fixture("t5-v1.0"), "f32");
    let source = Tensor::i64([2, 6], vec![9, 8, 7, 1, 0, 0, 0, 0, 21, 4, 30, 1]);
    let mask = Tensor::i64([2, 6], vec![1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]);
    let target = Tensor::i64([2, 3], vec![0, 12, 40, 0, 3, 9]);
    let mut session = session(&exported);
    session.encode(&tokens(&source, &mask)).expect("encoded");
    let found = session.decode(&target).expect("decoded");
    let rel = rel_l2(floats(&meant(&exported.model, [&source, &mask, &target])), floats(&found));
    assert!(rel <= RELU_FLOOR, "{rel:e}");
}

#[test]
fn a_target_that_outgrows_the_cache_goes_on_from_where_it_was() {
    let exported = exported(&fixture("t5-v1.0"), "f32");
    let ids = |n: i64, seed: i64| (0..2 * n).map(|i| 2 + (i * 7 + seed) % 60).collect::<Vec<_>>();
    let (source, mask) = (Tensor::i64([2, 9], ids(9, 1)), Tensor::i64([2, 9], vec![1; 18]));
    let target = Tensor::i64([2, 300], ids(300, 5));
    let meant = meant(&exported.model, [&source, &mask, &target]);
    let mut session = session(&exported);
    for calls in [&[300][..], &[200, 55, 1, 1, 43], &[255, 1, 44]] {
        session.encode(&tokens(&source, &mask)).expect("encoded");
        let rel = rel_l2(floats(&meant), &fed(&mut *session, &target, calls));
        println!("{calls:?}: {rel:.1e}");
        assert!(rel <= RELU_FLOOR, "{calls:?}: {rel:e}");
    }
    let source = Tensor::i64([1, 600], ids(300, 2));
    session
        .encode(&tokens(&source, &Tensor::i64([1, 600], vec![1; 600])))
        .expect("a source longer than the first context");
}

fn g2p() -> std::path::PathBuf {
    repository("models/g2p-t5")
}

/// A GGUF of the real model, calibrated on its 512 words, and one that llama-quantize made from our f32: each in llama.cpp, on
/// 400 test words, against the float model.
#[test]
fn at_the_size_of_q4_k_m_our_file_is_nearer_to_the_float_model_than_llama_quantizes() {
    const WORDS: usize = 400;
    let floats = exported(&g2p(), "f32");
    let home = tempfile::tempdir().expect("temporary folder");
    let theirs = home.path().join(FILE);
    llama::quantize_q4_k_m(&floats.artifact.dir.join(FILE), &theirs, 2).expect("quantized");
    let theirs = Artifact::list("gguf", home.path()).expect("listed");

    let text = Tokenizer::open(&g2p()).expect("a tokenizer");
    let load = |file: &str, count| Data::load(&g2p().join("data").join(file), count, &text).expect("the data");
    let greedy = Greedy::from(floats.model.checkpoint.generation());
    let words = load("calibration.jsonl", usize::MAX);
    let graph = &floats.model.graph;
    let mut words = Calibrated::new(graph, words, &greedy, Prefixes::Targets, &Quiet).expect("short words");
    let statistics = words.gather(graph, &Quiet).expect("finite");
    let policy = Policy { method: Method::Gptq, ..Policy::of("q4_k".parse().expect("a scheme")) };
    let mut model = floats.model.clone();
    let feeds = |sample: usize| words.feeds(sample);
    let samples = Samples { entry: "full", count: words.data.samples.len(), feeds: &feeds };
    let dir = std::env::temp_dir();
    let calibration = Calibration { samples, statistics: &statistics, gptq: policy.gptq, dir: &dir };
    let plan = policy.plan(&model.graph).expect("planned");
    let scratch = Scratch::new().expect("scratch");
    quant::quantize_calibrated(&mut model.graph, &plan, Some(&calibration), &scratch, &Quiet).expect("quantized");
    let ours_home = tempfile::tempdir().expect("temporary folder");
    let ours = Gguf::DEFAULT.write(&model, ours_home.path()).expect("written");

    let test = load("test.jsonl", WORDS);
    let prompt = greedy.prompt();
    let batches = validate::task::batches(&test, 50, &prompt, 0).expect("one kind");
    let kl = |artifact: &Artifact| {
        let mut session = open(artifact).expect("opens");
        let mut meter = Meter::default();
        for batch in &batches {
            session.encode(&batch.source).expect("encoded");
            let found = session.decode(&batch.decoder_input_ids).expect("decoded");
            let mut feeds = batch.source.clone();
            feeds.insert("decoder_input_ids".to_owned(), batch.decoder_input_ids.clone());
            let expected = Interpreter::new(graph).call("full", &feeds).expect("runs");
            let (columns, expected) = (batch.decoder_tokens(), self::floats(&expected["logits"]).to_vec());
            for (row, tokens) in batch.target_tokens.iter().enumerate() {
                let rows = row * columns * 128..(row * columns + tokens) * 128;
                meter.add(&expected[rows.clone()], &self::floats(&found)[rows], 128);
            }
        }
        meter.distances().kl.expect("finite")
    };
    let size = |artifact: &Artifact| fs::metadata(artifact.dir.join(FILE)).expect("written").len();
    let (ours_kl, theirs_kl) = (kl(&ours), kl(&theirs));
    println!(
        "ours: {} bytes, KL {ours_kl:.2e}; llama-quantize: {} bytes, KL {theirs_kl:.2e}",
        size(&ours),
        size(&theirs)
    );
    assert!(size(&ours) <= size(&theirs), "{} bytes against {}", size(&ours), size(&theirs));
    assert!(ours_kl < 0.5 * theirs_kl, "{ours_kl} against {theirs_kl}");
}

/// The first test words as padded ids and their mask.
fn words(count: usize) -> [Tensor; 2] {
    let tokenizer = Tokenizer::open(&g2p()).expect("a tokenizer");
    let lines = fs::read_to_string(g2p().join("data/test.jsonl")).expect("the data");
    let words = lines.lines().take(count).map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line"));
    let rows: Vec<Vec<i64>> =
        words.map(|word| tokenizer.encode(word["input"].as_str().expect("a text")).expect("ids")).collect();
    let n = rows.iter().map(Vec::len).max().expect("words");
    let padded = |of: fn(i64) -> i64| {
        let row = |row: &Vec<i64>| (0..n).map(|i| row.get(i).map_or(0, |id| of(*id))).collect::<Vec<_>>();
        Tensor::i64([count, n], rows.iter().flat_map(row).collect::<Vec<_>>())
    };
    [padded(|id| id), padded(|_| 1)]
}

#[test]
fn greedy_tokens_of_the_real_model_are_those_of_transformers_but_for_ties() {
    const WORDS: usize = 100;
    let exported = exported(&g2p(), "f32");
    let (recorded, _) = expected(&g2p());
    let greedy = Greedy::from(&Generation::plain(0, &[1], 0, recorded["greedy"].shape()[1] - 1));
    let mut session = session(&exported);
    let [source, mask] = words(WORDS);
    let found = greedy.run(&mut *session, &tokens(&source, &mask)).expect("decoded");
    let mut differing = 0;
    for (word, found) in found.iter().enumerate() {
        let recorded = row(&recorded["greedy"], word);
        let tokens = recorded.as_i64().expect("integers");
        // After the start token, up to the end of the sequence.
        let expected = tokens[1..].split_inclusive(|id| *id == 1).next().expect("tokens");
        if found.tokens == expected {
            continue;
        }
        differing += 1;
        let same = expected.iter().zip(&found.tokens).take_while(|(a, b)| a == b).count();
        let target = Tensor::i64([1, same + 1], tokens[..=same].to_vec());
        let meant = meant(&exported.model, [&row(&source, word), &row(&mask, word), &target]);
        let logits = &floats(&meant)[same * 128..];
        let lead = logits[expected[same] as usize] - logits[found.tokens[same] as usize];
        println!("word {word}, token {same}: {} leads {} by {lead:.1e}", expected[same], found.tokens[same]);
        assert!(lead.abs() <= TIE, "word {word}, token {same}: {found:?} for {expected:?}, which leads by {lead}");
    }
    assert!(differing <= 1, "{differing} words");
}

#[test]
fn logits_of_the_real_model_are_within_the_floor_of_each_kind_of_arithmetic() {
    let (recorded, _) = expected(&g2p());
    let [source, mask, target] = ["input_ids", "attention_mask", "decoder_input_ids"].map(|tensor| &recorded[tensor]);
    let kinds = [
        ("f32", F32_FLOOR),
        ("f16", HALVES_FLOOR),
        ("q8_0", INTEGER_FLOOR),
        ("q4_k", INTEGER_FLOOR),
        ("mxfp4", INTEGER_FLOOR),
    ];
    for (scheme, floor) in kinds {
        let exported = exported(&g2p(), scheme);
        let meant = meant(&exported.model, [source, mask, target]);
        let mut session = session(&exported);
        session.encode(&tokens(source, mask)).expect("encoded");
        let found = session.decode(target).expect("decoded");
        let distances = distances(floats(&meant), floats(&found), 128);
        println!("{scheme}: {distances:?}");
        assert!(distances.rel_l2.expect("finite") <= floor, "{scheme}: {distances:?}");
    }
}

#[test]
fn what_llama_cpp_would_abort_on_is_refused_before_it() {
    let exported = exported(&fixture("t5-v1.0"), "f32");
    let mut session = session(&exported);
    let ids = |rows: usize, ids: &[i64]| Tensor::i64([rows, ids.len() / rows], ids.to_vec());
    let mut said =
        |source: &Tensor, mask: &Tensor| session.encode(&tokens(source, mask)).expect_err("refused").to_string();
    assert_eq!(
        said(&ids(2, &[5, 1, 7, 1]), &ids(2, &[1, 1, 0, 0])),
        "llama.cpp: attention_mask[1]: expected one run of tokens between padding, found [0, 0]"
    );
    assert_eq!(
        said(&ids(1, &[5, 6, 1]), &ids(1, &[1, 0, 1])),
        "llama.cpp: attention_mask[0]: expected one run of tokens between padding, found [1, 0, 1]"
    );
    assert_eq!(
        said(&ids(1, &[5, 66, 1]), &ids(1, &[1, 1, 1])),
        "llama.cpp: input_ids[0, 1]: expected an id of 0 to 65, found 66"
    );
    assert_eq!(
        said(&ids(1, &[5, 6, 1]), &ids(1, &[1, 1])),
        "llama.cpp: attention_mask: expected i64[1, 3], as input_ids, found [1, 2]"
    );
    let long = vec![5; 4097];
    assert_eq!(
        said(&ids(1, &long), &ids(1, &vec![1; 4097])),
        "llama.cpp: input_ids[0]: expected at most 4096 tokens, found 4097"
    );
    let empty = Tensor::i64([1, 0], vec![]);
    assert_eq!(said(&empty, &empty), "llama.cpp: input_ids: expected i64[b, n] with b and n above 0, found i64[1, 0]");
    let features = Feeds::from([("input_features".to_owned(), Tensor::f32([1, 2, 3], vec![0.0; 6]))]);
    let message = session.encode(&features).expect_err("refused").to_string();
    assert_eq!(message, "llama.cpp: input_ids: expected it, found input_features");
    let mut said = |ids: &Tensor| session.decode(ids).expect_err("refused").to_string();
    assert_eq!(said(&ids(1, &[0])), "llama.cpp: decode before encode");
    session.encode(&tokens(&ids(2, &[5, 1, 7, 1]), &ids(2, &[1, 1, 1, 1]))).expect("encoded");
    let mut said = |ids: &Tensor| session.decode(ids).expect_err("refused").to_string();
    assert_eq!(said(&ids(1, &[0])), "llama.cpp: decoder_input_ids: expected 2 sequences, as encoded, found 1");
    assert_eq!(
        said(&ids(2, &[0, 3, 0, -1])),
        "llama.cpp: decoder_input_ids[1, 1]: expected an id of 0 to 65, found -1"
    );
    let floats = Tensor::f32([2, 1], vec![0.0; 2]);
    assert_eq!(said(&floats), "llama.cpp: decoder_input_ids: expected i64[b, n] with b and n above 0, found f32[2, 1]");
    let limit = session.limit_tokens().expect("its context");
    let long = vec![0; 2 * (limit + 1)];
    let message = session.decode(&ids(2, &long)).expect_err("refused").to_string();
    assert_eq!(message, format!("llama.cpp: decoder_input_ids: expected at most {limit} tokens, found {}", limit + 1));
    session.decode(&ids(2, &[0, 0])).expect("still usable");
}

/// Replaces the bytes after the first place of `key`.
fn patched(bytes: &[u8], key: &str, skip: usize, new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).expect("the key") + key.len() + skip;
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

/// The same file without a key, which has another name of as many letters.
fn renamed(bytes: &[u8], key: &str) -> Vec<u8> {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).expect("the key");
    let mut bytes = bytes.to_vec();
    bytes[at..at + key.len()].fill(b'x');
    bytes
}

#[test]
fn a_file_that_trefoil_did_not_write_is_not_ggml_s_to_run() {
    let exported = exported(&fixture("t5-v1.0"), "f32");
    let path = exported.artifact.dir.join(FILE);
    let bytes = fs::read(&path).expect("written");
    assert_eq!(Ggml.fit(&exported.artifact), Fit::Runs);
    fs::write(&path, renamed(&bytes, "trefoil.version")).expect("written");
    let Fit::CannotRun(why) = Ggml.fit(&exported.artifact) else { panic!("it runs") };
    assert!(why.ends_with("this one has no key trefoil.version"), "{why}");
    assert_eq!(LlamaCpp.fit(&exported.artifact), Fit::Runs, "it needs no key of ours");
}

#[test]
fn a_file_that_llama_cpp_would_abort_on_or_does_not_know_is_a_sentence() {
    let exported = exported(&fixture("t5-v1.0"), "f32");
    let path = exported.artifact.dir.join(FILE);
    let bytes = fs::read(&path).expect("written");
    let said = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        match open(&exported.artifact) {
            Ok(_) => panic!("opened"),
            Err(message) => message.replace(&path.display().to_string(), "FILE"),
        }
    };
    // A u32 follows its key and its type; a string its key, its type and its length.
    let deep = 4u32.to_le_bytes();
    assert_eq!(
        said(&patched(&bytes, "t5.decoder_block_count", 4, &deep)),
        "llama.cpp: FILE: t5.decoder_block_count: expected at most 3, as t5.block_count, found 4; llama.cpp gives its \
         cache the layers of the encoder"
    );
    // Absent, as older converters of llama.cpp left it, it is the encoder's, and here layers are missing then.
    let absent = said(&renamed(&bytes, "t5.decoder_block_count"));
    assert!(absent.starts_with("llama.cpp: FILE: ") && !absent.contains("decoder_block_count"), "{absent}");
    assert_eq!(
        said(&patched(&bytes, "t5.block_count", 4, &[0xff; 4])),
        "llama.cpp: FILE: t5.block_count: expected at most 512, found 4294967295"
    );
    assert_eq!(
        said(&patched(&bytes, "t5.attention.value_length", 4, &[7])),
        "llama.cpp: FILE: t5.attention.value_length: expected 6, as t5.attention.key_length, found 7"
    );
    assert_eq!(
        said(&patched(&bytes, "t5.attention.head_count", 4, &[0])),
        "llama.cpp: FILE: t5.attention.head_count: expected a u32 above 0, found U32(0)"
    );
    assert_eq!(
        said(&patched(&bytes, "general.architecture", 12, b"t6")),
        "llama.cpp: FILE: general.architecture: expected t5 or t5encoder, found String(\"t6\")"
    );
    assert_eq!(
        said(&patched(&bytes, "dec.blk.0.attn_rel_", 0, b"c")),
        "llama.cpp: FILE: dec.blk.0.attn_rel_b.weight: expected a tensor, found none"
    );
    assert_eq!(
        said(&patched(&bytes, "tokenizer.ggml.model", 12, b"nope")),
        "llama.cpp: FILE: tokenizer.ggml.model: expected t5 or none, found String(\"nope\")"
    );
    // What only llama.cpp knows, it says itself.
    let missing = said(&patched(&bytes, "enc.output_nor", 0, b"n"));
    assert!(missing.starts_with("llama.cpp: FILE: ") && missing.contains("enc.output_norm.weight"), "{missing}");
    for cut in 0..16 {
        let message = said(&bytes[..bytes.len() * cut / 16]);
        assert!(message.starts_with("llama.cpp: FILE: "), "{cut}/16: {message}");
    }
}

#[test]
fn a_piece_that_appears_twice_is_refused_before_llama_cpp_asserts_that_it_does_not() {
    let exported = exported(&g2p(), "f32");
    let path = exported.artifact.dir.join(FILE);
    let bytes = fs::read(&path).expect("written");
    // The array of pieces starts with its type, element type and count, then <pad>, </s> and <unk>, each after its length.
    let skip = 4 + 4 + 8 + (8 + 5) + 8;
    fs::write(&path, patched(&bytes, "tokenizer.ggml.tokens", skip, b"<unk>"[..4].as_ref())).expect("written");
    assert!(open(&exported.artifact).is_ok(), "another piece is no fault");
    let skip = skip + 4 + 8;
    fs::write(&path, patched(&bytes, "tokenizer.ggml.tokens", skip, b"<pad>")).expect("written");
    let Err(message) = open(&exported.artifact) else { panic!("opened") };
    assert!(message.ends_with("tokenizer.ggml.tokens: expected each piece once, found \"<pad>\" twice"), "{message}");
}

/// The same numbers in the same order, of one source with steps of one token each.
fn bits_of(session: &mut dyn Session, source: &[i64], target: &[i64]) -> Vec<u32> {
    let ids = Tensor::i64([1, source.len()], source.to_vec());
    let mask = Tensor::i64([1, source.len()], vec![1; source.len()]);
    session.encode(&tokens(&ids, &mask)).expect("encoded");
    let step = |id: &i64| session.decode(&Tensor::i64([1, 1], vec![*id])).expect("decoded");
    target.iter().map(step).flat_map(|logits| floats(&logits).iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}

/// The same on ggml.
fn own_bits(session: &mut engine::Session, source: &[i64], target: &[i64]) -> Vec<u32> {
    session.encode_tokens(&[source]).expect("encoded");
    target.iter().flat_map(|id| session.step(&[*id], 1).expect("a step")).map(f32::to_bits).collect()
}

#[test]
fn a_t5_on_ggml_says_bit_for_bit_what_llama_cpp_says() {
    let places = LLAMA_CPP.iter().map(|name| fixture(name)).chain([repository("models/g2p-t5")]);
    let (mut equal, mut differing) = (0, Vec::new());
    for place in places {
        let is_model = !place.starts_with(fixture(""));
        // llama.cpp repacks where it can.
        let schemes: &[&str] =
            if is_model { &["f32", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"] } else { &["f32"] };
        for scheme in schemes {
            let exported = exported(&place, scheme);
            let options =
                engine::Options { encoder_threads: 2, repack: engine::Repacking::All, ..engine::Options::default() };
            let ours = engine::Engine::open(&exported.artifact.dir.join(FILE), &options);
            let mut ours = ours.unwrap_or_else(|e| panic!("{e}")).session();
            let mut theirs = session(&exported);
            for (i, source) in
                [&[5, 9, 12, 7, 1][..], &[8, 1], &[20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 1]].iter().enumerate()
            {
                let target = [0, 7, 11, 30, 4, 4, 19 + i as i64, 3];
                let (a, b) = (own_bits(&mut ours, source, &target), bits_of(&mut *theirs, source, &target));
                let off = a.iter().zip(&b).filter(|(a, b)| a != b).count();
                println!("{} {scheme}, source {i}: {off} of {} bits differ", place.display(), b.len());
                equal += usize::from(off == 0);
                if off > 0 {
                    differing.push(format!("{} {scheme}, source {i}: {off} of {} logits", place.display(), b.len()));
                }
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert_eq!(equal, 3 * (LLAMA_CPP.len() + 7));
}
