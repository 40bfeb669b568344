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
use trefoil_engine::{Cache, Engine, EngineError, Options};

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
    let entry = model.graph.entry("encoder").expect("an encoder");
    let mut feeds = Feeds::new();
    for (name, view) in SafeTensors::deserialize(&bytes).expect("tensors").tensors() {
        if entry.input(&name).is_none() && name != "attention_mask" {
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
        let interpreter = Interpreter::owning(graph).with_cache(1 << 28);
        let mut reference =
            Reference { interpreter, source: source.clone(), hidden: Tensor::scalar(0.0), caches: BTreeMap::new() };
        reference.hidden = reference.call("encoder", source.clone()).remove("encoder_hidden").expect("hidden");
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

/// The largest difference, by the largest number.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0f32, |m, x| m.max(x.abs()));
    let difference = a.iter().zip(b).fold(0f32, |m, (x, y)| if (x - y).is_nan() { f32::NAN } else { m.max((x - y).abs()) });
    difference / largest
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
fn distances(file: &Path, source: &Feeds, vocabulary: usize, options: &Options) -> [f32; 2] {
    let engine = Engine::open(file, options).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut session = engine.session();
    session.encode(source).unwrap_or_else(|e| panic!("{e}"));
    let mut reference = Reference::new(file, source);
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
    let mut worst = 0f32;
    let mut next = 0;
    for tokens in STEPS {
        let ids: Vec<i64> = (0..rows * tokens).map(|i| 3 + ((next + i) * 11 % (vocabulary.min(39) - 3)) as i64).collect();
        next += 5;
        let found = session.step(&ids, tokens).unwrap_or_else(|e| panic!("{e}"));
        let expected = reference.step(Tensor::i64([rows, tokens], ids));
        worst = worst.max(relative(&found, expected.as_f32().expect("floats")));
        assert!(!relative(&found, expected.as_f32().expect("floats")).is_nan(), "NaN");
    }
    [hidden, worst]
}

fn name(dir: &Path) -> String {
    dir.file_name().expect("a folder").to_string_lossy().into_owned()
}

fn each(scheme: &str, options: &Options, limit: f32, at_least: usize) {
    let (mut count, mut worst, mut problems) = (0, [0f32; 2], Vec::new());
    for dir in fixtures() {
        let Some((_home, file, model)) = artifact(&dir, scheme) else { continue };
        let feeds = source(&dir, &model);
        let vocabulary = Engine::open(&file, options).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).vocabulary();
        let found = distances(&file, &feeds, vocabulary, options);
        println!("{scheme} {}: hidden {:.1e}, logits {:.1e}", name(&dir), found[0], found[1]);
        worst = [worst[0].max(found[0]), worst[1].max(found[1])];
        if found.iter().any(|x| *x > limit) {
            problems.push(format!("{}: {found:?}", name(&dir)));
        }
        count += 1;
    }
    println!("{scheme}: {count} models, at most {worst:?}");
    assert!(problems.is_empty(), "{scheme}: above {limit}: {}", problems.join("; "));
    assert!(count >= at_least, "{scheme}: only {count} models");
}

fn exact() -> Options {
    Options { exact_activations: true, encoder_threads: 1, ..Options::default() }
}

#[test]
fn every_family_in_f32_is_the_interpreter_up_to_the_order_of_sums() {
    each("f32", &exact(), 1e-4, 40);
}
