//! The prepared kernels against the plain ones, on every checkpoint, entry and kind of weight.

use std::collections::BTreeMap;

use converters::import;
use graph::eval::{EvalError, Feeds, Interpreter, Tensors};
use graph::progress::Quiet;
use graph::{Graph, PortRole, Scratch, Tensor};
use quant::{Policy, Scheme};
use validate::runtime::Session;
use validate::runtime::reference::{Reference, caching};

use crate::fixture::{fixtures, sample};

/// Largest difference of an output, relative to its largest number: sums of the same terms in another order, through all layers.
const F32_NOISE: f32 = 1e-5; // 4.4e-6

/// Of each kind of weight one at least; a fixture takes those that its rows are wide enough for.
const SCHEMES: &[&str] = &[
    "keep",
    "f32",
    "f16",
    "bf16",
    "int8",
    "int8-g32",
    "int8-asym",
    "int4-g32",
    "int4-g32-asym",
    "q8_0",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "q4_k",
    "q5_k",
    "q6_k",
];

/// All entries in turn, each fed with what those before it computed.
fn decoded(interpreter: &Interpreter, feeds: &Feeds) -> Result<BTreeMap<&'static str, Tensors>, EvalError> {
    decoded_with(interpreter, feeds, |entry, feeds| interpreter.call(entry, feeds))
}

/// The same by another way to call an entry.
pub fn decoded_with(
    interpreter: &Interpreter,
    feeds: &Feeds,
    mut call: impl FnMut(&str, &Feeds) -> Result<Tensors, EvalError>,
) -> Result<BTreeMap<&'static str, Tensors>, EvalError> {
    let fitting = |entry: &str, feeds: &Feeds| -> Feeds {
        let entry = interpreter.graph().entry(entry).expect("the passes made it");
        feeds.iter().filter(|(name, _)| entry.input(name).is_some()).map(|(n, t)| (n.clone(), t.clone())).collect()
    };
    let ids = &feeds["decoder_input_ids"];
    let columns = |from: usize, to: usize| {
        let rows = ids.as_i64().expect("ids").chunks(ids.shape()[1]);
        Tensor::i64([ids.shape()[0], to - from], rows.flat_map(|row| row[from..to].to_vec()).collect())
    };
    let mut out = BTreeMap::from([("full", call("full", &fitting("full", feeds))?)]);
    let mut known = feeds.clone();
    let graph = interpreter.graph();
    for entry in graph.before(graph.entry("encoder").expect("the passes made it")) {
        known.extend(call(&entry.name, &fitting(&entry.name, feeds))?);
    }
    for (entry, [from, to]) in [("encoder", [0, 0]), ("decoder", [0, 2]), ("decoder_with_past", [2, 3])] {
        known.insert("decoder_input_ids".into(), columns(from, to));
        let found = call(entry, &fitting(entry, &known))?;
        for (name, tensor) in &found {
            known.insert(PortRole::of(name).next().to_string(), tensor.clone());
        }
        out.insert(entry, found);
    }
    Ok(out)
}

fn worst(plain: &Tensors, prepared: &Tensors) -> f32 {
    let of = |(name, plain): (&String, &Tensor)| {
        assert_eq!(plain.shape(), prepared[name].shape(), "{name}");
        let (Some(a), Some(b)) = (plain.as_f32(), prepared[name].as_f32()) else { return 0.0 };
        let scale = a.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs() / scale)
            .fold(0.0, |max, x| if x > max || x.is_nan() { x } else { max })
    };
    plain.iter().map(of).fold(0.0, |max, x| if x > max || x.is_nan() { x } else { max })
}

fn quantized(graph: &Graph, scheme: &str, scratch: &Scratch) -> Option<Graph> {
    let mut graph = graph.clone();
    let plan = Policy::of(scheme.parse::<Scheme>().expect("a scheme")).plan(&graph).ok()?;
    quant::quantize(&mut graph, &plan, scratch, &Quiet).expect("finite");
    Some(graph)
}

#[test]
fn every_entry_of_every_fixture_agrees_with_the_plain_kernels_and_with_itself_at_two_threads() {
    let scratch = Scratch::new().expect("scratch");
    let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    let [one, two] = [threads(1), threads(2)];
    let (mut largest, mut runs) = (0.0f32, 0);
    for dir in fixtures() {
        let mut model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        graph::passes::run(&mut model.graph).expect("passes");
        let feeds = sample(&dir);
        for scheme in SCHEMES {
            let what = format!("{} as {scheme}", dir.display());
            let Some(graph) = quantized(&model.graph, scheme, &scratch) else { continue };
            let plain = decoded(&Interpreter::new(&graph), &feeds).unwrap_or_else(|e| panic!("{what}: {e}"));
            let prepared = |bytes| decoded(&Interpreter::new(&graph).prepared().with_cache(bytes), &feeds);
            let found = one.install(|| prepared(0)).expect("as the plain one");
            assert!(two.install(|| prepared(1 << 30)).expect("as before") == found, "{what}: two threads, other bits");
            for (entry, plain) in &plain {
                let distance = worst(plain, &found[entry]);
                assert!(distance <= F32_NOISE, "{what}, {entry}: {distance:e}");
                largest = largest.max(distance);
            }
            runs += 1;
        }
    }
    println!("{runs} runs, at most {largest:e}");
    assert!(runs > 400, "only {runs} runs");
}

#[test]
fn a_sequence_says_the_same_when_others_of_its_batch_have_left() {
    for dir in fixtures() {
        let mut model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        graph::passes::run(&mut model.graph).expect("passes");
        let feeds = sample(&dir);
        let (ids, source) = (feeds["decoder_input_ids"].clone(), {
            let mut source = feeds.clone();
            source.remove("decoder_input_ids");
            source
        });
        let rows = ids.shape()[0];
        let column = |at: usize, rows: &[usize]| {
            let width = ids.shape()[1];
            let all = ids.as_i64().expect("ids");
            Tensor::i64([rows.len(), 1], rows.iter().map(|row| all[row * width + at]).collect())
        };
        let interpreter = caching(&model.graph);
        let all: Vec<usize> = (0..rows).collect();
        let begun = || {
            let mut session = Reference::new(&interpreter);
            session.encode(&source).expect("encoded");
            session.decode(&column(0, &all)).expect("decoded");
            session
        };
        let whole = begun().decode(&column(1, &all)).expect("decoded");
        let kept = [rows - 1, 0];
        let mut session = begun();
        assert!(session.keep(&kept).expect("kept"));
        let found = session.decode(&column(1, &kept)).expect("decoded");
        let (width, whole) = (whole.shape()[2], whole.as_f32().expect("floats"));
        let expected: Vec<f32> = kept.iter().flat_map(|row| whole[row * width..][..width].to_vec()).collect();
        assert_eq!(found.as_f32(), Some(&expected[..]), "{}", dir.display());
    }
}
