//! Every family's artifact against the interpreter on the same weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use converters::export::gguf::{FILE, Gguf};
use converters::{Format, Model, import, import_gguf};
use graph::progress::Quiet;
use graph::{Feeds, Interpreter, Scratch, Tensor};
use quant::{Policy, Scheme};
use safetensors::{Dtype, SafeTensors};
use trefoil_engine::{Cache, Engine, EngineError, Options, Repacking, Session};

/// Tokens of each row: one call of several, then one at a time.
const STEPS: [usize; 4] = [2, 1, 1, 1];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn fixtures() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(repository("tests/fixtures"))
        .expect("the fixtures are in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|dir| dir.join("expected.safetensors").exists())
        .collect();
    folders.push(repository("models/g2p-t5"));
    folders.sort();
    assert!(folders.len() >= 40, "found only {folders:?}");
    folders
}

/// Recorded inputs of an encoder; for tokens three rows, the second padded and longer than a step of keys is.
fn source(dir: &Path, model: &Model) -> Feeds {
    let bytes = fs::read(dir.join("expected.safetensors")).expect("recorded");
    let sources = model.graph.sources(model.graph.entry("encoder").expect("an encoder"));
    let mut feeds = Feeds::new();
    for (name, view) in SafeTensors::deserialize(&bytes).expect("tensors").tensors() {
        if sources.iter().all(|port| port.name != name) && name != "attention_mask" {
            continue;
        }
        let tensor = match view.dtype() {
            Dtype::F32 => {
                Tensor::f32(view.shape(), view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            Dtype::I64 => {
                Tensor::i64(view.shape(), view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
            }
            other => panic!("{name}: {other:?} is not recorded"),
        };
        feeds.insert(name, tensor);
    }
    if feeds.contains_key("input_ids") {
        let row = |seed: i64| (0..7).map(move |i| 3 + (i * 7 + seed * 5) % 36);
        let mut mask = vec![1; 21];
        mask[10..14].fill(0);
        feeds.insert("input_ids".into(), Tensor::i64([3, 7], (0..3).flat_map(row).collect()));
        feeds.insert("attention_mask".into(), Tensor::i64([3, 7], mask));
    }
    feeds
}

/// The interpreter as a session.
struct Reference {
    interpreter: Interpreter<'static>,
    source: Feeds,
    hidden: Tensor,
    caches: BTreeMap<String, Tensor>,
}

impl Reference {
    fn new(file: &Path, source: &Feeds) -> Reference {
        let mut graph = import_gguf(file).unwrap_or_else(|e| panic!("{e}")).graph;
        graph::passes::run(&mut graph).expect("passes");
        Reference::of_graph(graph, source)
    }

    fn of_graph(graph: graph::Graph, source: &Feeds) -> Reference {
        let interpreter = Interpreter::owning(graph).with_cache(1 << 28);
        let mut reference =
            Reference { interpreter, source: source.clone(), hidden: Tensor::scalar(0.0), caches: BTreeMap::new() };
        let graph = reference.interpreter.graph();
        let before = graph.before(graph.entry("encoder").expect("an entry"));
        let made = before.iter().flat_map(|entry| reference.call(&entry.name, source.clone()));
        let feeds = source.clone().into_iter().chain(made).collect();
        reference.hidden = reference.call("encoder", feeds).remove("encoder_hidden").expect("hidden");
        reference
    }

    fn call(&self, entry: &str, mut feeds: Feeds) -> BTreeMap<String, Tensor> {
        let inputs = self.interpreter.graph().entry(entry).expect("an entry");
        feeds.retain(|name, _| inputs.input(name).is_some());
        self.interpreter.call(entry, &feeds).unwrap_or_else(|e| panic!("{e}"))
    }

    fn step(&mut self, ids: Tensor) -> Tensor {
        let mut feeds = self.source.clone();
        feeds.insert("decoder_input_ids".into(), ids);
        feeds.insert("encoder_hidden".into(), self.hidden.clone());
        feeds.extend(self.caches.clone());
        let mut out = self.call(if self.caches.is_empty() { "decoder" } else { "decoder_with_past" }, feeds);
        let logits = out.remove("logits").expect("logits");
        for (name, tensor) in out {
            let name = name.strip_prefix("present.").map_or(name.clone(), |rest| format!("past.{rest}"));
            self.caches.insert(name, tensor);
        }
        logits
    }
}

/// `|a - b| / |b|`
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let (off, all) = a.iter().zip(b).fold((0.0, 0.0), |(off, all), (a, b)| (off + square(a - b), all + square(*b)));
    (off / all).sqrt()
}

/// A GGUF artifact in a folder of its own; `None` when rows do not divide into the scheme's blocks.
fn artifact(dir: &Path, scheme: &str) -> Option<(tempfile::TempDir, PathBuf, Model)> {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    Gguf::DEFAULT.prepare(&mut model).ok()?;
    let scheme: Scheme = scheme.parse().expect("a scheme");
    let plan = Policy::of(scheme).plan(&model.graph).ok()?;
    quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
    Gguf::DEFAULT.check(&model).ok()?;
    let home = tempfile::tempdir().expect("temporary folder");
    Gguf::DEFAULT.write(&model, home.path()).expect("written");
    let file = home.path().join(FILE);
    Some((home, file, model))
}

/// `[hidden, logits]`: the largest distances to the interpreter.
fn distances(file: &Path, source: &Feeds, vocabulary: usize, options: &Options) -> [f64; 2] {
    let engine = Engine::open(file, options).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    apart(&engine, Reference::new(file, source), source, vocabulary)
}

/// The same of an engine and the interpreter of one graph.
fn apart(engine: &Engine, mut reference: Reference, source: &Feeds, vocabulary: usize) -> [f64; 2] {
    let mut session = engine.session();
    session.encode(source).unwrap_or_else(|e| panic!("{e}"));
    let visible = |x: &Tensor| -> Vec<f32> {
        // What padded places hold is nobody's affair.
        let x = x.as_f32().expect("floats");
        match source.get("input_ids").and(source.get("attention_mask")).and_then(Tensor::as_i64) {
            None => x.to_vec(),
            Some(mask) => {
                let width = x.len() / mask.len();
                mask.iter().zip(x.chunks(width)).filter(|(m, _)| **m != 0).flat_map(|(_, x)| x.to_vec()).collect()
            }
        }
    };
    let hidden = relative(&visible(session.hidden().expect("encoded")), &visible(&reference.hidden));
    let rows = session.rows();
    let mut worst = 0f64;
    let mut next = 0;
    for tokens in STEPS {
        let ids: Vec<i64> =
            (0..rows * tokens).map(|i| 3 + ((next + i) * 11 % (vocabulary.min(39) - 3)) as i64).collect();
        next += 5;
        let found = session.step(&ids, tokens).unwrap_or_else(|e| panic!("{e}"));
        let expected = reference.step(Tensor::i64([rows, tokens], ids));
        let off = relative(&found, expected.as_f32().expect("floats"));
        assert!(!off.is_nan(), "a NaN");
        worst = worst.max(off);
    }
    [hidden, worst]
}

fn name(dir: &Path) -> String {
    dir.file_name().expect("a folder").to_string_lossy().into_owned()
}

/// Compares every model that a scheme fits. Returns the worst distance.
fn each(scheme: &str, options: &Options, limit: f64, at_least: usize) {
    let (mut count, mut worst, mut problems) = (0, [0f64; 2], Vec::new());
    for dir in fixtures() {
        let Some((_home, file, model)) = artifact(&dir, scheme) else { continue };
        let feeds = source(&dir, &model);
        let vocabulary = Engine::open(&file, options).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).vocabulary();
        let found = distances(&file, &feeds, vocabulary, options);
        println!("{scheme} {}: hidden {:.1e}, logits {:.1e}", name(&dir), found[0], found[1]);
        worst = [worst[0].max(found[0]), worst[1].max(found[1])];
        if !found.iter().all(|x| *x <= limit) {
            problems.push(format!("{}: {found:?}", name(&dir)));
        }
        count += 1;
    }
    println!("{scheme}, {options:?}: {count} models, hidden {:.2e}, logits {:.2e}", worst[0], worst[1]);
    assert!(problems.is_empty(), "{scheme}: above {limit}: {}", problems.join("; "));
    assert!(count >= at_least, "{scheme}: only {count} models");
}

/// Sums in another order.
const SUMS: f64 = 1e-5; // 3.7e-6
/// GELU from a table of f16.
const TABLE: f64 = 4e-3; // 1.4e-3
/// The inputs of 16-bit matrices are rounded to 16 bits.
const HALVES: f64 = 2e-2; // 3.5e-3; 9.3e-3 with the type that each weight has
/// The same with the 8 bits that bf16 has of a number.
const BRAINS: f64 = 6e-2; // 2.7e-2
/// The inputs of matrices of blocks are rounded to 8 bits in blocks.
const BLOCKS: f64 = 8e-2; // 5.3e-2 of the logits and 6.7e-2 of the hidden states, with q4_1

/// Two threads for the encoder, as the engine has by default where there are two, and one for a step.
fn by_default() -> Options {
    Options { encoder_threads: 2, ..Options::default() }
}

fn exact() -> Options {
    Options { exact_activations: true, encoder_threads: 1, ..Options::default() }
}

#[test]
fn every_family_in_f32_is_the_interpreter_up_to_the_order_of_sums() {
    each("f32", &exact(), SUMS, 40);
}

#[test]
fn by_default_activations_come_from_a_table() {
    each("f32", &by_default(), TABLE, 40);
}

#[test]
fn every_type_of_a_gguf_file_is_computed_from_its_own_bytes() {
    for (scheme, limit, at_least) in [
        ("keep", HALVES, 40),
        ("f16", HALVES, 40),
        ("bf16", BRAINS, 40),
        ("q8_0", BLOCKS, 4),
        ("q4_0", BLOCKS, 4),
        ("q4_1", BLOCKS, 4),
        ("q5_0", BLOCKS, 4),
        ("q5_1", BLOCKS, 4),
        ("mxfp4", BLOCKS, 4),
        ("int8", BLOCKS, 4),
        ("int4-g32", BLOCKS, 4),
        ("q4_k", BLOCKS, 1),
        ("q5_k", BLOCKS, 1),
        ("q6_k", BLOCKS, 1),
    ] {
        each(scheme, &by_default(), limit, at_least);
    }
}

#[test]
fn a_cache_of_f16_rounds_keys_and_values_and_nothing_more() {
    each("f32", &Options { cache: Cache::F16, ..exact() }, 2e-3, 40);
}

#[test]
fn repacked_matrices_are_the_same_numbers() {
    for scheme in ["q4_0", "q4_k", "q8_0"] {
        each(scheme, &Options { repack: Repacking::All, ..by_default() }, BLOCKS, 1);
    }
}

#[test]
fn families_without_names_in_gguf_run_from_their_graph() {
    let mut count = 0;
    for dir in fixtures() {
        let mut model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        if !model.architecture.gguf_names().is_empty() {
            continue;
        }
        graph::passes::run(&mut model.graph).expect("passes");
        let feeds = source(&dir, &model);
        let engine =
            Engine::of_graph(model.graph.clone(), &exact()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let found = apart(&engine, Reference::of_graph(model.graph, &feeds), &feeds, engine.vocabulary());
        println!("{}: hidden {:.1e}, logits {:.1e}", name(&dir), found[0], found[1]);
        assert!(found.iter().all(|x| *x <= SUMS), "{}: {found:?}", name(&dir));
        count += 1;
    }
    assert!(count >= 4, "only {count} models");
}

/// Logits of greedy steps from token 0 on, and the tokens, one row.
fn greedy(session: &mut Session, steps: usize) -> (Vec<Vec<f32>>, Vec<i64>) {
    let (mut logits, mut ids) = (Vec::new(), vec![0]);
    for _ in 0..steps {
        let found = session.step(&ids[ids.len() - 1..], 1).expect("a step");
        let best = (0..found.len()).max_by(|a, b| found[*a].total_cmp(&found[*b])).expect("a vocabulary");
        ids.push(best as i64);
        logits.push(found);
    }
    (logits, ids)
}

fn g2p(scheme: &str, options: &Options) -> (tempfile::TempDir, Engine) {
    let (home, file, _) = artifact(&repository("models/g2p-t5"), scheme).expect("an artifact");
    (home, Engine::open(&file, options).unwrap_or_else(|e| panic!("{e}")))
}

#[test]
fn steps_beyond_the_first_cache_are_those_of_one_whole_pass() {
    let (_home, engine) = g2p("f32", &exact());
    let mut session = engine.session();
    session.encode_tokens(&[&[5, 9, 12, 7, 1]]).expect("encoded");
    // The cache holds 64 places at first, then 128 and 256.
    let ids: Vec<i64> = (0..150).map(|i| 3 + i * 7 % 40).collect();
    let single: Vec<f32> = ids.iter().flat_map(|id| session.step(&[*id], 1).expect("a step")).collect();
    session.restart();
    let whole = session.step(&ids, ids.len()).expect("one pass");
    let off = relative(&single, &whole);
    assert!(off <= SUMS, "{off:e}");
    assert_eq!(session.past_tokens(), 150);
}

#[test]
fn a_row_of_a_batch_says_what_it_says_alone_whatever_beside_it_is_padded() {
    for scheme in ["f32", "q8_0"] {
        let (_home, engine) = g2p(scheme, &exact());
        let rows: [&[i64]; 3] = [&[5, 9, 12, 7, 1], &[8, 1], &[20, 21, 22, 23, 24, 25, 1]];
        let mut together = engine.session();
        together.encode_tokens(&rows).expect("encoded");
        let mut alone: Vec<Session> = rows.iter().map(|_| engine.session()).collect();
        alone.iter_mut().zip(rows).for_each(|(session, row)| session.encode_tokens(&[row]).expect("encoded"));
        for id in [0, 7, 11, 30] {
            let ids = [id, id + 1, id + 2];
            let all = together.step(&ids, 1).expect("a step");
            for ((session, id), all) in alone.iter_mut().zip(ids).zip(all.chunks(engine.vocabulary())) {
                let off = relative(&session.step(&[id], 1).expect("a step"), all);
                // A sum in another order moves an input over an edge between two steps of 8 bits now and then.
                let limit = if scheme == "f32" { SUMS } else { BLOCKS };
                assert!(off <= limit, "{scheme}: {off:e}");
            }
        }
    }
}

#[test]
fn a_beam_goes_on_from_another_with_its_keys_and_its_source() {
    let (_home, engine) = g2p("f32", &exact());
    let vocabulary = engine.vocabulary();
    let sources: [&[i64]; 2] = [&[5, 9, 12, 7, 1], &[8, 6, 1]];
    let mut beams = engine.session();
    beams.encode_tokens(&sources).expect("encoded");
    // Two beams a source, then a swap within the first source, then the second source alone.
    beams.select(&[0, 0, 1, 1]).expect("spread");
    beams.step(&[0, 0, 0, 0], 1).expect("a step");
    beams.step(&[4, 5, 6, 7], 1).expect("a step");
    beams.select(&[1, 0, 3, 3]).expect("reordered");
    let swapped = beams.step(&[10, 11, 12, 13], 1).expect("a step");
    beams.select(&[3, 0]).expect("dropped");
    let dropped = beams.step(&[20, 21], 1).expect("a step");
    let alone = |source: usize, ids: &[i64]| -> Vec<f32> {
        let mut session = engine.session();
        session.encode_tokens(&[sources[source]]).expect("encoded");
        session.step(ids, ids.len()).expect("a step")[(ids.len() - 1) * vocabulary..].to_vec()
    };
    for (found, (source, ids)) in
        swapped.chunks(vocabulary).zip([(0, [0, 5, 10]), (0, [0, 4, 11]), (1, [0, 7, 12]), (1, [0, 7, 13])])
    {
        let off = relative(found, &alone(source, &ids));
        assert!(off <= SUMS, "{ids:?}: {off:e}");
    }
    for (found, (source, ids)) in dropped.chunks(vocabulary).zip([(1, [0, 7, 13, 20]), (0, [0, 5, 10, 21])]) {
        let off = relative(found, &alone(source, &ids));
        assert!(off <= SUMS, "{ids:?}: {off:e}");
    }
}

#[test]
fn two_sessions_of_one_engine_do_not_disturb_each_other() {
    let (_home, engine) = g2p("q8_0", &by_default());
    let run = |session: &mut Session| greedy(session, 6);
    let (mut a, mut b) = (engine.session(), engine.session());
    a.encode_tokens(&[&[5, 9, 12, 7, 1]]).expect("encoded");
    let expected = run(&mut a);
    a.restart();
    b.encode_tokens(&[&[8, 6, 1]]).expect("encoded");
    a.step(&[0], 1).expect("a step");
    b.step(&[0], 1).expect("a step");
    a.restart();
    assert!(run(&mut a) == expected);
}

#[test]
fn a_source_of_which_all_is_padding_gives_numbers_as_the_interpreter_does() {
    let (home, file, _) = artifact(&repository("models/g2p-t5"), "f32").expect("an artifact");
    let feeds = Feeds::from([
        ("input_ids".to_owned(), Tensor::i64([2, 3], vec![5, 6, 1, 7, 8, 1])),
        ("attention_mask".to_owned(), Tensor::i64([2, 3], vec![1, 1, 1, 0, 0, 0])),
    ]);
    let mut session = Engine::open(&file, &exact()).expect("opens").session();
    session.encode(&feeds).expect("encoded");
    let expected = Reference::new(&file, &feeds).step(Tensor::i64([2, 1], vec![0, 0]));
    let off = relative(&session.step(&[0, 0], 1).expect("a step"), expected.as_f32().expect("floats"));
    assert!(off <= SUMS, "{off:e}");
    drop(home);
}

#[test]
fn what_does_not_fit_is_an_error_that_says_what_would() {
    let (_home, engine) = g2p("f32", &exact());
    let mut session = engine.session();
    let said = |error: EngineError| error.to_string();
    assert_eq!(said(session.step(&[0], 1).unwrap_err()), "decoder_input_ids: expected an encoded source, found none");
    let ids = Tensor::i64([1, 2], vec![5, 1]);
    let only = Feeds::from([("input_ids".to_owned(), ids.clone())]);
    let message = said(session.encode(&only).unwrap_err());
    assert_eq!(message, "attention_mask: expected i64[batch, enc], found nothing");
    let uneven = [("input_ids", ids), ("attention_mask", Tensor::i64([1, 3], vec![1; 3]))];
    let message = said(session.encode(&uneven.map(|(name, x)| (name.to_owned(), x)).into()).unwrap_err());
    assert_eq!(message, "attention_mask: expected i64[batch, enc] with batch = 1, enc = 2, found I64 of shape [1, 3]");
    let message = said(session.encode_tokens(&[&[]]).unwrap_err());
    assert!(message.contains("with lengths above 0, found I64 of shape [1, 0]"), "{message}");
    let message = said(session.encode_tokens(&[&[5, 100_000]]).unwrap_err());
    assert!(message.starts_with("input_ids, place 1: expected an id of 0 to "), "{message}");
    session.encode_tokens(&[&[5, 1]]).expect("encoded");
    let message = said(session.step(&[0, 1], 1).unwrap_err());
    assert_eq!(message, "decoder_input_ids: expected 1 rows of 1 tokens above 0, found 2 ids");
    assert!(said(session.step(&[-1], 1).unwrap_err()).ends_with("found -1"));
    assert_eq!(said(session.select(&[1]).unwrap_err()), "rows: expected rows of 0 to 0, found [1]");
    // A call that was refused changed nothing.
    let after = session.step(&[0], 1).expect("a step");
    session.restart();
    assert!(session.step(&[0], 1).expect("a step") == after);
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_an_error_and_no_abort() {
    let (home, file, _) = artifact(&repository("tests/fixtures/t5-rows-of-32"), "q8_0").expect("an artifact");
    let bytes = fs::read(&file).expect("readable");
    for sixteenth in 0..16 {
        fs::write(&file, &bytes[..bytes.len() * sixteenth / 16]).expect("written");
        assert!(Engine::open(&file, &exact()).is_err(), "{sixteenth}/16");
    }
    drop(home);
}
