//! ONNX artifacts: names, numbers, and what onnxruntime makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use converters::export::onnx::{Attention, Compute, Consumer, DATA_FILE, Folder, Onnx, Placement, Products, describe};
use converters::{Artifact, Format, Model, import};
use graph::passes::{Pass, QuantizeActivations, QuantizeActivationsInBlocks, QuantizeStatically, run_one};
use graph::progress::Quiet;
use graph::{
    AffineTensor, BATCH, Blob, Build, DEC, Dim, ENC, FakeQuant, Feeds, FloatType, Granularity, Graph, Interpreter,
    Layout, Rope, Scratch, Sym, Tensor, Type, Unary, Val, Visible, Weight, WeightData,
};
use quant::{Policy, Scheme};
use validate::runtime::onnx::{self, OnnxRuntime};
use validate::runtime::reference::Reference;
use validate::runtime::{Options, Runtime, Session};

use crate::fixture::{expected, fixture, source, tokens};

/// Largest difference of logits, relative to the largest logit, from the interpreter on the same weights: other orders of
/// the same f32 sums.
const F32_NOISE: f32 = 2e-5; // 1.1e-5 for byt5 as int4-g32-asym, 3.5e-6 for f32
/// With activations rounded to 8 bits, f32 noise moves one of them across the edge of a step in some fixtures.
const INT8_STEP: f32 = 3e-2; // 2.3e-2 for t5-rows-of-32, 6.5e-3 for t5-long, below 3e-7 for all others
/// With activations in 65535 steps, f32 noise moves some of them across an edge in most fixtures.
const INT16_STEPS: f32 = 2e-3; // 4.2e-4 for t5-long, 3.5e-4 and below for all others
/// Linear layers computed in f16 have 11 bits, but onnxruntime's CPU computes them in f32.
const F16_NOISE: f32 = 1e-5; // 2.6e-6

/// Checkpoints that differ in what they compute; the others differ in how they are stored.
pub const FIXTURES: &[&str] = &[
    "bart",
    "bart-rows-of-32",
    "bart-untied",
    "blenderbot",
    "blenderbot-small",
    "byt5",
    "donut",
    "florence2",
    "m2m_100",
    "marian",
    "marian-two-vocabularies",
    "mbart",
    "moonshine",
    "moonshine-own-width",
    "mt5",
    "mu",
    "mu-interleaved",
    "nllb",
    "nougat",
    "pegasus",
    "plbart",
    "t5-bf16",
    "t5-f16",
    "t5-long",
    "t5-rows-of-32",
    "t5-tied-unscaled",
    "t5-v1.0",
    "t5-v1.1",
    "t5gemma",
    "t5gemma-untied",
    "t5gemma2",
    "trocr-deit",
    "trocr-vit",
    "umt5",
    "umt5-untied",
    "vit-bert",
    "vit-gpt2",
    "whisper",
    "whisper-english",
];

const SCHEMES: &[&str] =
    &["keep", "f16", "bf16", "int8", "int8-g32", "int8-g64-asym", "int4", "int4-g32", "int4-g32-asym"];

fn model(dir: &Path, scheme: &str) -> Model {
    let mut model = import(dir).unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut model.graph).expect("passes");
    let scheme: Scheme = scheme.parse().expect("a scheme");
    let plan = Policy::of(scheme).plan(&model.graph).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    quant::quantize(&mut model.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
    model
}

/// Runs a pass and gives how often it fired.
fn fired(graph: &mut Graph, pass: &dyn Pass) -> usize {
    run_one(graph, pass).expect("quantized").count
}

/// The same with activations rounded when the model runs.
fn dynamic(dir: &Path) -> Model {
    let mut model = model(dir, "int8");
    assert!(fired(&mut model.graph, &QuantizeActivations::all(Granularity::Tensor)) > 0);
    model
}

/// With activations rounded as the kernels of `compute: int8` do.
fn in_blocks(dir: &Path, scheme: &str) -> Model {
    let mut model = model(dir, scheme);
    let block_of = |weight: &AffineTensor| Onnx::DEFAULT.rounds_blocks_of(weight);
    assert!(fired(&mut model.graph, &QuantizeActivationsInBlocks { block_of: &block_of }) > 0);
    model
}

/// The same with activations in fixed steps, from the least to the greatest number of the fixture's own inputs.
fn fixed_steps(dir: &Path, bits: u8) -> Model {
    let mut model = model(dir, "int8");
    let (mut feeds, mut ranges) = (recorded(dir).source, BTreeMap::<String, [f32; 2]>::new());
    feeds.insert("decoder_input_ids".to_owned(), recorded(dir).target);
    let mut tap = |id, tensor: &Tensor| {
        let range = ranges.entry(model.graph.value(id).name.clone()).or_default();
        let floats = tensor.as_f32().unwrap_or_default();
        *range = floats.iter().fold(*range, |[low, high], x| [low.min(*x), high.max(*x)]);
    };
    graph::eval(&model.graph, "full", &feeds, &mut tap).expect("evaluates");
    let steps = ranges.into_iter().map(|(name, [low, high])| {
        let scale = (high - low).max(1e-3) / ((1u32 << bits) - 1) as f32;
        (name, FakeQuant { scale, zero: (-low / scale).round() as i32, bits })
    });
    let steps = steps.collect();
    assert!(fired(&mut model.graph, &QuantizeStatically { steps: &steps }) > 0);
    model
}

fn write(model: &Model, format: &Onnx, dir: &Path) -> Artifact {
    format.check(model).unwrap_or_else(|e| panic!("{e}"));
    format.write(model, dir).unwrap_or_else(|e| panic!("{e}"))
}

/// Without the `ORT_DYLIB_PATH`, a cache or a Python environment, the library is fetched.
fn open(artifact: &Artifact, merged: bool) -> Box<dyn Session> {
    let options = Options { merged, ..Options::DEFAULT };
    OnnxRuntime.open(artifact, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// Source and target.
struct Inputs {
    source: Feeds,
    target: Tensor,
}

/// Batch 3; the second row is padded; the target is longer than the source.
fn made() -> Inputs {
    let row = |seed: i64, n: i64| (0..n).map(move |i| 3 + (i * 7 + seed * 5) % 40);
    let mut mask = vec![1; 21];
    mask[10..14].fill(0);
    Inputs {
        source: tokens(
            &Tensor::i64([3, 7], (0..3).flat_map(|seed| row(seed, 7)).collect()),
            &Tensor::i64([3, 7], mask),
        ),
        target: Tensor::i64([3, 9], (0..3).flat_map(|seed| row(seed + 3, 9)).collect()),
    }
}

/// What a fixture was recorded with.
fn recorded(dir: &Path) -> Inputs {
    let (recorded, _) = expected(dir);
    Inputs { source: source(&recorded), target: recorded["decoder_input_ids"].clone() }
}

/// Columns of i64[b, n].
fn columns(ids: &Tensor, range: std::ops::Range<usize>) -> Tensor {
    let (rows, width) = (ids.shape()[0], ids.shape()[1]);
    let all = ids.as_i64().expect("ids");
    let part = (0..rows).flat_map(|row| all[row * width..][range.clone()].iter().copied());
    Tensor::i64([rows, range.len()], part.collect())
}

/// Largest difference, relative to the largest logit.
fn distance(expected: &Tensor, found: &Tensor) -> f32 {
    assert_eq!(expected.shape(), found.shape());
    let [expected, found] = [expected, found].map(|t| t.as_f32().expect("floats"));
    assert!(found.iter().all(|x| x.is_finite()), "not finite");
    let scale = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale
}

/// The worst of the whole target in one call, and of its first tokens in one call followed by four single ones. The
/// interpreter is called in the same steps, because the scale of rounded activations is that of a call.
fn worst(session: &mut dyn Session, reference: &mut dyn Session, Inputs { source, target }: &Inputs) -> f32 {
    let n = target.shape()[1];
    let mut worst = 0.0f32;
    for ends in [vec![n], vec![n - 4, n - 3, n - 2, n - 1, n]] {
        session.encode(source).unwrap_or_else(|e| panic!("{e}"));
        reference.encode(source).expect("evaluates");
        let mut at = 0;
        for end in ends {
            let step = columns(target, at..end);
            let found = session.decode(&step).unwrap_or_else(|e| panic!("{e}"));
            worst = worst.max(distance(&reference.decode(&step).expect("evaluates"), &found));
            at = end;
        }
    }
    worst
}

/// The worst of the merged decoder and of the pair, over some inputs.
fn run(graph: &Graph, artifact: &Artifact, inputs: &Inputs) -> f32 {
    let interpreter = Interpreter::new(graph);
    let worst =
        [true, false].map(|merged| worst(&mut *open(artifact, merged), &mut Reference::new(&interpreter), inputs));
    worst.into_iter().fold(0.0, f32::max)
}

/// Writes, reads back, and runs.
fn round_trip_and_run(model: &Model, format: &Onnx, what: &str) -> f32 {
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = write(model, format, home.path());
    equal_weights(model, format, &artifact, what);
    run(&model.graph, &artifact, &recorded(model.checkpoint.dir()))
}

fn equal_weights(model: &Model, format: &Onnx, artifact: &Artifact, what: &str) {
    let read = format.read_weights(model, artifact).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(read.len(), model.graph.weights.len());
    for ((_, a), (_, b)) in model.graph.weights.iter().zip(read.iter()) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape), "{what}");
        let bits = |w: &graph::Weight| w.read().expect("readable").iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        assert!(bits(a) == bits(b), "{what}: {} changed", a.name);
    }
}

#[test]
fn the_folder_of_transformers_js_has_the_same_weights_and_computes_the_same() {
    let embedded = Onnx { consumer: Consumer::TransformersJs, weights: Placement::Embedded, ..Onnx::DEFAULT };
    for name in ["t5-rows-of-32", "bart", "whisper"] {
        for scheme in SCHEMES {
            for format in [Onnx { weights: Placement::External, ..embedded.clone() }, embedded.clone()] {
                let worst = round_trip_and_run(&model(&fixture(name), scheme), &format, name);
                assert!(worst <= F32_NOISE, "{name} as {scheme}: {worst:e}");
            }
        }
    }
}

#[test]
fn weights_read_back_bit_for_bit_and_onnxruntime_computes_what_the_interpreter_does() {
    for name in FIXTURES {
        for scheme in SCHEMES {
            let worst = round_trip_and_run(&model(&fixture(name), scheme), &Onnx::DEFAULT, name);
            assert!(worst <= F32_NOISE, "{name} as {scheme}: {worst:e}");
        }
    }
}

#[test]
fn without_each_of_the_fused_nodes_a_file_computes_the_same() {
    let choices = [
        ("attention: standard", Onnx { attention: Attention::Standard, ..Onnx::DEFAULT }),
        ("attention: fused", Onnx { attention: Attention::Fused, ..Onnx::DEFAULT }),
        ("products: apart", Onnx { products: Products::Apart, ..Onnx::DEFAULT }),
    ];
    for (choice, format) in choices {
        for name in FIXTURES {
            for scheme in ["keep", "int4-g32"] {
                let worst = round_trip_and_run(&model(&fixture(name), scheme), &format, name);
                assert!(worst <= F32_NOISE, "{choice}, {name} as {scheme}: {worst:e}");
            }
        }
    }
}

/// How many nodes of each kind a file has.
fn operators(model: &Model, format: &Onnx, file: &str) -> BTreeMap<String, usize> {
    let home = tempfile::tempdir().expect("temporary folder");
    write(model, format, home.path());
    let described = describe(&home.path().join(file)).expect("described");
    let listed = &described.facts.iter().find(|(key, _)| key == "operators").expect("counted").1;
    let count = |item: &str| {
        let (count, op) = item.split_once(' ').expect("a count and a name");
        (op.to_owned(), count.parse().expect("a count"))
    };
    listed.split(", ").map(count).collect()
}

/// A gated T5 of 2 decoder layers.
#[test]
fn a_step_joins_products_and_appends_to_caches() {
    let model = in_blocks(&fixture("t5-v1.1"), "int8");
    let layers = model.graph.entry("decoder").expect("split").outputs.len() / 4;
    let apart = Onnx { attention: Attention::Fused, products: Products::Apart, ..Onnx::DEFAULT };
    let [before, after] =
        [apart, Onnx::DEFAULT].map(|format| operators(&model, &format, "decoder_with_past_model.onnx"));
    let count = |of: &BTreeMap<String, usize>, op: &str| of.get(op).copied().unwrap_or(0);
    // q, k, v, o of one attention, q, o of the other, the gate and what it opens, what is behind it; and the head.
    assert_eq!([&before, &after].map(|of| count(of, "MatMulNBits")), [9 * layers + 1, 6 * layers + 1]);
    // Keys and values; what is left are weights, joined when the file is opened, and lengths.
    let joined = 2 * 2 * layers;
    assert_eq!(count(&before, "Concat") + joined - count(&after, "Concat"), 2 * layers, "{before:?} {after:?}");
}

#[test]
fn dynamic_activations_are_integer_products_in_linear_layers_only() {
    let mut exact = 0;
    for name in FIXTURES {
        let model = dynamic(&fixture(name));
        let worst = round_trip_and_run(&model, &Onnx::DEFAULT, name);
        exact += usize::from(worst <= F32_NOISE);
        if worst > F32_NOISE {
            let carried = carried(&model.graph, &recorded(model.checkpoint.dir()));
            assert!(worst <= INT8_STEP.min(2.0 * carried), "{name}: {worst:e}, noise {carried:e}");
        }
    }
    assert!(exact >= FIXTURES.len() - 2, "only {exact} are within f32 noise");

    let model = dynamic(&fixture("t5-v1.1")); // 3 encoder layers
    let home = tempfile::tempdir().expect("temporary folder");
    write(&model, &Onnx { attention: Attention::Standard, ..Onnx::DEFAULT }, home.path());
    let described = describe(&home.path().join("encoder_model.onnx")).expect("described");
    let operators = &described.facts.iter().find(|(key, _)| key == "operators").expect("counted").1;
    // A layer has q, k, v, o, wi_0, wi_1 and wo; its scores and its sums of values are two products of floats.
    assert!(operators.contains("6 MatMul, 21 MatMulInteger"), "{operators}");
}

/// Columns that are no multiple of a block, rows that are few and many, both widths of codes, with zeros and without.
#[test]
fn a_product_of_codes_rounds_its_input_as_the_graph_says() {
    for (columns, scheme) in [(128, "int8"), (48, "int8"), (200, "int8-asym"), (384, "int4-g32"), (80, "int4-g32-asym")]
    {
        let b = Build::new();
        let mut state = 7u32;
        let mut random = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            (0..count).map(|_| next()).collect()
        };
        let mut weight = |name: &str, shape: [usize; 2]| {
            let bytes: Vec<u8> = random(shape[0] * shape[1]).iter().flat_map(|x| x.to_le_bytes()).collect();
            let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
            b.weight(Weight { name: name.to_owned(), shape: shape.to_vec(), data })
        };
        let ids = |name, n: Sym| b.input(name, Type::i64([Dim::from(BATCH), n.into()]));
        let (source, mask, target) = (ids("input_ids", ENC), ids("attention_mask", ENC), ids("decoder_input_ids", DEC));
        let table = weight("table", [50, columns]);
        // No rounded number passes through a second product, so f32 noise moves nothing across an edge.
        let hidden = source.embed(table).linear(weight("encoder.w", [columns, columns]), None);
        let y = target.embed(table);
        let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
        let own = y.heads(4).attention(y.heads(4), y.heads(4), Some(causal), 0.3, None).merge_heads();
        let padding = b.padding_mask(mask);
        let cross = own.heads(4).attention(hidden.heads(4), hidden.heads(4), Some(padding), 0.3, None).merge_heads();
        let logits = y.linear(weight("decoder.w", [columns, columns]), None) + cross;
        let inputs_of = [("input_ids", source), ("attention_mask", mask), ("decoder_input_ids", target)];
        b.entry("full", &inputs_of, &[("logits", logits), ("encoder_hidden", hidden)], Default::default());
        let mut graph = b.finish().expect("fits");
        graph::passes::run(&mut graph).expect("passes");
        let plan = Policy::of(scheme.parse().expect("a scheme")).plan(&graph).expect("fits");
        quant::quantize(&mut graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
        let block_of = |weight: &AffineTensor| Onnx::DEFAULT.rounds_blocks_of(weight);
        let rounded = fired(&mut graph, &QuantizeActivationsInBlocks { block_of: &block_of });
        assert_eq!(rounded, 2, "{columns} as {scheme}");
        let home = tempfile::tempdir().expect("temporary folder");
        Onnx::DEFAULT.write_graphs(&graph, home.path()).unwrap_or_else(|e| panic!("{e}"));
        let artifact = Artifact::list("onnx", home.path()).expect("listed");
        let worst = run(&graph, &artifact, &made());
        assert!(worst <= 2e-6, "{columns} as {scheme}: {worst:e}");
    }
}

/// The worst of a graph with noise, against itself.
fn carried(graph: &Graph, inputs: &Inputs) -> f32 {
    let interpreter = Interpreter::new(graph);
    let noisy = |seed| Reference::new(&interpreter).with_noise(seed, 16.0);
    (0..8).map(|seed| worst(&mut noisy(seed), &mut Reference::new(&interpreter), inputs)).fold(0.0, f32::max)
}

/// A number of a fixture that lies on an edge between two steps falls to either side, and its logits are few: how far that
/// carries is known of the fixture alone.
#[test]
fn activations_rounded_in_blocks_are_those_of_the_interpreter() {
    for scheme in ["int8", "int8-asym", "int4", "int4-g32", "int4-g32-asym"] {
        let mut exact = 0;
        for name in FIXTURES {
            let model = in_blocks(&fixture(name), scheme);
            let found = round_trip_and_run(&model, &Onnx::DEFAULT, name);
            exact += usize::from(found <= F32_NOISE);
            if found > F32_NOISE {
                let carried = carried(&model.graph, &recorded(model.checkpoint.dir()));
                assert!(found <= 2.0 * carried, "{name} as {scheme}: {found:e}, noise {carried:e}");
            }
        }
        // 19 of 28 with int8.
        assert!(exact >= FIXTURES.len() / 2, "{scheme}: only {exact} are within f32 noise");
    }
}

#[test]
fn fixed_steps_are_those_of_the_interpreter() {
    for (bits, limit, exact) in [(8, INT8_STEP, FIXTURES.len() - 3), (16, INT16_STEPS, 1)] {
        let mut within_noise = 0;
        for name in FIXTURES {
            let model = fixed_steps(&fixture(name), bits);
            let home = tempfile::tempdir().expect("temporary folder");
            let artifact = write(&model, &Onnx::DEFAULT, home.path());
            equal_weights(&model, &Onnx::DEFAULT, &artifact, name);
            let (inputs, interpreter) = (recorded(model.checkpoint.dir()), Interpreter::new(&model.graph));
            let as_written = [true, false].map(|merged| {
                let options = Options { merged, ..Options::DEFAULT };
                let mut session = onnx::open_as_written(&artifact, &options).unwrap_or_else(|e| panic!("{e}"));
                worst(&mut *session, &mut Reference::new(&interpreter), &inputs)
            });
            let worst = as_written.into_iter().fold(run(&model.graph, &artifact, &inputs), f32::max);
            if worst > limit {
                let carried = carried(&model.graph, &inputs);
                assert!(worst <= 2.0 * carried, "{name} at {bits} bits: {worst:e}, noise {carried:e}");
            }
            within_noise += usize::from(worst <= F32_NOISE);
        }
        assert!(within_noise >= exact, "at {bits} bits only {within_noise} are within f32 noise");
    }
}

#[test]
fn fixed_steps_are_quantize_and_dequantize_nodes_of_the_oldest_opset_that_has_them() {
    for (bits, opsets, zero) in
        [(8, "ai.onnx 18, com.microsoft 1", "uint8"), (16, "ai.onnx 21, com.microsoft 1", "uint16")]
    {
        let model = fixed_steps(&fixture("t5-v1.1"), bits); // 3 encoder layers
        let home = tempfile::tempdir().expect("temporary folder");
        write(&model, &Onnx::DEFAULT, home.path());
        for file in Folder::find(home.path()).graphs() {
            let described = describe(&file).expect("described");
            let file = file.display();
            assert!(
                described.facts.contains(&("opsets".to_owned(), opsets.to_owned())),
                "{file}: {:?}",
                described.facts
            );
            assert!(described.tensors.iter().any(|t| t.type_name == zero && t.shape.is_empty()), "{file}");
        }
        let operators = describe(&home.path().join("encoder_model.onnx")).expect("described").operators;
        // In a layer q, k and v share one, and so do wi_0 and wi_1; o and wo have their own. 7 weights are dequantized.
        assert_eq!([operators["QuantizeLinear"], operators["DequantizeLinear"]], [3 * 4, 3 * 4 + 3 * 7]);
    }
}

#[test]
fn a_source_without_a_token_gives_the_interpreters_zeros_and_no_nan() {
    for name in ["t5-v1.0", "umt5"] {
        let model = model(&fixture(name), "keep");
        let mut inputs = made();
        let mut mask = vec![1; 21];
        mask[7..14].fill(0);
        inputs.source.insert("attention_mask".to_owned(), Tensor::i64([3, 7], mask));
        for attention in [Attention::Cached, Attention::Fused, Attention::Standard] {
            let format = Onnx { attention, ..Onnx::DEFAULT };
            let home = tempfile::tempdir().expect("temporary folder");
            let artifact = write(&model, &format, home.path());
            let worst = run(&model.graph, &artifact, &inputs);
            assert!(worst <= F32_NOISE, "{name}, {attention:?}: {worst:e}");
        }
    }
}

fn heads<'b>(x: Val<'b>, w: Val<'b>) -> Val<'b> {
    x.linear(w, None).heads(3)
}

/// What no T5 has: shared key heads, a soft cap, a scale, a bias of a linear layer, every function of an element.
#[test]
fn ops_that_no_t5_uses_are_lowered_too() {
    let mut seed = 1u32;
    let mut random = |shape: &[usize]| {
        let bytes: Vec<u8> = (0..shape.iter().product())
            .flat_map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((seed >> 8) as f32 / (1 << 25) as f32 - 0.25).to_le_bytes()
            })
            .collect();
        (shape.to_vec(), WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 })
    };
    let b = Build::new();
    let mut weight = |name: &str, shape: &[usize]| {
        let (shape, data) = random(shape);
        b.weight(Weight { name: name.to_owned(), shape, data })
    };
    let ids = |name, n: Sym| b.input(name, Type::i64([Dim::from(BATCH), n.into()]));
    let (source, mask, target) = (ids("input_ids", ENC), ids("attention_mask", ENC), ids("decoder_input_ids", DEC));
    let table = weight("table", &[50, 12]);
    let padding = b.padding_mask(mask);
    let x = source.embed(table);
    // 4 heads of 3 read 2 heads of 3.
    let q = x.linear(weight("q", &[12, 12]), Some(weight("q.bias", &[12]))).heads(4);
    let [k, v] = ["k", "v"].map(|name| x.linear(weight(name, &[6, 12]), None).heads(2));
    let x = x + q.attention(k, v, Some(padding), 0.5, Some(2.0)).merge_heads();
    let hidden = [Unary::Gelu, Unary::GeluTanh, Unary::Silu, Unary::Tanh, Unary::Relu]
        .into_iter()
        .fold(x, |x, op| x.linear(weight(&format!("{op:?}"), &[12, 12]), None).activation(op) / 0.5 - x);
    // Widths of queries and values differ, so this one is not fused.
    let y = target.embed(table);
    let causal = b.mask(Visible::CAUSAL, 0, DEC, DEC);
    let (q, k, v) = (weight("self.q", &[12, 12]), weight("self.k", &[12, 12]), weight("self.v", &[6, 12]));
    let y = heads(y, q).attention(heads(y, k), heads(y, v), Some(causal), 0.3, None).merge_heads();
    let y = y.linear(weight("self.o", &[12, 6]), None);
    let (q, k, v) = (weight("cross.q", &[12, 12]), weight("cross.k", &[12, 12]), weight("cross.v", &[12, 12]));
    let y = y + heads(y, q).attention(heads(hidden, k), heads(hidden, v), Some(padding), 1.5, None).merge_heads();
    let logits = y.rms_norm(weight("norm", &[12]), 1e-6).linear(table, None);
    let inputs_of = [("input_ids", source), ("attention_mask", mask), ("decoder_input_ids", target)];
    b.entry("full", &inputs_of, &[("logits", logits), ("encoder_hidden", hidden)], Default::default());
    let mut graph = b.finish().expect("fits");
    graph::passes::run(&mut graph).expect("passes");

    let home = tempfile::tempdir().expect("temporary folder");
    Onnx::DEFAULT.write_graphs(&graph, home.path()).unwrap_or_else(|e| panic!("{e}"));
    let artifact = Artifact::list("onnx", home.path()).expect("listed");
    let worst = run(&graph, &artifact, &made());
    assert!(worst <= F32_NOISE, "{worst:e}");
}

/// A convolution whose length the decoder's cross-attention needs, norms of layers and groups, windows, both rotations,
/// positions, and an attention over own and cross keys at once.
#[test]
fn ops_of_speech_and_rotary_models_are_lowered_too() {
    let b = Build::new();
    let weight = |name: &str, shape: &[usize]| {
        let seed: u32 = name.bytes().map(u32::from).sum();
        let values = (0..shape.iter().product::<usize>()).map(|i| ((i as u32 * 7 + seed) as f32 * 0.61).sin() * 0.4);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        b.weight(Weight { name: name.to_owned(), shape: shape.to_vec(), data })
    };
    let sized = |name: &str| weight(name, &[12]);
    let ids = |name, n: Sym| b.input(name, Type::i64([Dim::from(BATCH), n.into()]));
    let (source, mask, target) = (ids("input_ids", ENC), ids("attention_mask", ENC), ids("decoder_input_ids", DEC));
    let frames = Sym("frames");
    let x = source.embed(weight("table", &[50, 12])).transpose(vec![0, 2, 1]);
    let x = x.conv(weight("conv", &[12, 12, 3]), Some(sized("conv.bias")), 2, 1, Some(frames));
    let x = x.group_norm(sized("group"), sized("group.bias"), 3, 1e-5).activation(Unary::QuickGelu);
    let x = x.transpose(vec![0, 2, 1]);
    let padding = b.padding_mask(mask.slice(1, 0, 2, frames));
    let near = b.mask(Visible { before: Some(1), after: Some(1) }, 0, frames, frames) + padding;
    let pairs = Rope { theta: 100.0, factor: 1.0, dims: 4, layout: Layout::Pairs };
    let [q, k, v] = ["q", "k", "v"].map(|name| x.linear(weight(name, &[12, 12]), None).heads(2));
    let turned = |x: Val<'_>| x.rope(b.positions(0, frames), pairs).id().map(|id| b.val(id)).expect("fits");
    let x = x + turned(q).attention(turned(k), v, Some(near), 0.4, None).merge_heads();
    let hidden = x.layer_norm(sized("norm") + 1.0, None, 1e-5);

    let y = target.embed(weight("table", &[50, 12])) + b.positions(2, DEC).embed(weight("learned", &[20, 12]));
    let y = y.layer_norm(sized("norm2"), Some(sized("norm2.bias")), 1e-5);
    let halves = Rope { theta: 50.0, factor: 2.0, dims: 6, layout: Layout::Half };
    let heads = |x: Val<'_>, name: &str, n: usize| {
        x.linear(weight(name, &[6 * n, 12]), None).heads(n).id().map(|id| b.val(id)).expect("fits")
    };
    let turned = |x: Val<'_>| x.rope(b.positions(0, DEC), halves).id().map(|id| b.val(id)).expect("fits");
    // Two query heads share a key head.
    let k = b.concat(&[turned(heads(y, "mk", 1)), heads(hidden, "mk", 1)], 2);
    let v = b.concat(&[heads(y, "mv", 1), heads(hidden, "mv", 1)], 2);
    let own = b.mask(Visible { before: Some(3), after: Some(0) }, 0, DEC, DEC);
    let own = own.broadcast([BATCH.into(), 1.into(), DEC.into(), DEC.into()]);
    let seen = padding.broadcast([BATCH.into(), 1.into(), DEC.into(), frames.into()]);
    let bias = b.concat(&[own, seen], 3);
    let y = y + turned(heads(y, "mq", 2)).attention(k, v, Some(bias), 0.5, Some(3.0)).merge_heads();
    let (gate, up) = {
        let both = y.linear(weight("both", &[24, 12]), None);
        (both.slice(2, 12, 1, 12).activation(Unary::Sigmoid), both.slice(2, 0, 1, 12))
    };
    let logits = (gate * up).linear(weight("table", &[50, 12]), None);
    let inputs_of = [("input_ids", source), ("attention_mask", mask), ("decoder_input_ids", target)];
    b.entry("full", &inputs_of, &[("logits", logits), ("encoder_hidden", hidden)], Default::default());
    let mut graph = b.finish().unwrap_or_else(|e| panic!("{e}"));
    graph::passes::run(&mut graph).unwrap_or_else(|e| panic!("{e}"));

    let home = tempfile::tempdir().expect("temporary folder");
    Onnx::DEFAULT.write_graphs(&graph, home.path()).unwrap_or_else(|e| panic!("{e}"));
    let artifact = Artifact::list("onnx", home.path()).expect("listed");
    let worst = run(&graph, &artifact, &made());
    assert!(worst <= F32_NOISE, "{worst:e}");
}

#[test]
fn linear_layers_in_f16_stay_near_and_take_only_f16_weights() {
    let format = Onnx { compute: Compute::F16, ..Onnx::DEFAULT };
    for name in ["t5-v1.0", "t5-v1.1"] {
        let worst = round_trip_and_run(&model(&fixture(name), "f16"), &format, name);
        assert!(worst <= F16_NOISE, "{name}: {worst:e}");
    }
    let error = format.check(&model(&fixture("t5-v1.0"), "keep")).expect_err("f32 weights");
    assert!(error.to_string().contains("f32 in a graph computed in f16"), "{error}");
}

#[test]
fn embedded_weights_are_the_same_and_need_no_other_file() {
    let format = Onnx { weights: Placement::Embedded, ..Onnx::DEFAULT };
    for scheme in ["keep", "int4-g32-asym"] {
        let model = model(&fixture("t5-v1.1"), scheme);
        let home = tempfile::tempdir().expect("temporary folder");
        write(&model, &format, home.path());
        assert!(!home.path().join(DATA_FILE).exists());
        let worst = round_trip_and_run(&model, &format, scheme);
        assert!(worst <= F32_NOISE, "{scheme}: {worst:e}");
    }
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let model = model(&fixture("t5-v1.1"), "int8");
    for format in [Onnx::DEFAULT, Onnx { weights: Placement::Embedded, ..Onnx::DEFAULT }] {
        let [a, b] = [(), ()].map(|()| {
            let home = tempfile::tempdir().expect("temporary folder");
            let artifact = write(&model, &format, home.path());
            let read = |file: &std::path::PathBuf| (file.clone(), fs::read(home.path().join(file)).expect("written"));
            artifact.files.iter().map(read).collect::<Vec<_>>()
        });
        assert!(a == b);
    }
}

#[test]
fn names_orders_and_symbols_are_those_of_optimum() {
    let model = model(&fixture("t5-v1.1"), "keep"); // 2 decoder layers, 3 heads of 6
    let home = tempfile::tempdir().expect("temporary folder");
    write(&model, &Onnx::DEFAULT, home.path());
    let (b, s) = ("batch_size", "encoder_sequence_length");
    let (d, p) = ("decoder_sequence_length", "past_decoder_sequence_length");
    let row = |name: &str, ty: String| (name.to_owned(), ty);
    let ids = |name, n| row(name, format!("int64[{b}, {n}]"));
    let hidden = |name| row(name, format!("float[{b}, {s}, 16]"));
    let cache = |prefix: &str, crosses: bool, past: &str| -> Vec<(String, String)> {
        let sides: &[(&str, &str)] = if crosses { &[("decoder", past), ("encoder", s)] } else { &[("decoder", past)] };
        (0..2)
            .flat_map(|i| sides.iter().flat_map(move |(side, n)| ["key", "value"].map(|kv| (i, *side, *n, kv))))
            .map(|(i, side, n, kv)| row(&format!("{prefix}.{i}.{side}.{kv}"), format!("float[{b}, 3, {n}, 6]")))
            .collect()
    };
    let grown = format!("{p} + {d}");
    let logits = row("logits", format!("float[{b}, {d}, 66]"));
    let (mask, tokens) = (ids("encoder_attention_mask", s), ids("input_ids", d));
    let past = cache("past_key_values", true, p);
    let flag = row("use_cache_branch", "bool[1]".to_owned());
    let expected = [
        ("encoder_model.onnx", vec![ids("input_ids", s), ids("attention_mask", s)], vec![hidden("last_hidden_state")]),
        (
            "decoder_model.onnx",
            vec![mask.clone(), tokens.clone(), hidden("encoder_hidden_states")],
            [vec![logits.clone()], cache("present", true, &grown)].concat(),
        ),
        (
            "decoder_with_past_model.onnx",
            [vec![mask.clone(), tokens.clone()], past.clone()].concat(),
            [vec![logits.clone()], cache("present", false, &grown)].concat(),
        ),
        (
            "decoder_model_merged.onnx",
            [vec![mask, tokens, hidden("encoder_hidden_states")], past, vec![flag]].concat(),
            [vec![logits], cache("present", true, &grown)].concat(),
        ),
    ];
    for (file, inputs, outputs) in expected {
        let found = describe(&home.path().join(file)).expect("described");
        assert_eq!(found.inputs, inputs, "{file}");
        assert_eq!(found.outputs, outputs, "{file}");
    }
}

#[test]
fn what_onnx_cannot_hold_is_refused_and_listed_before_a_byte_is_written() {
    let error = Onnx::DEFAULT.check(&model(&fixture("t5-rows-of-32"), "q8_0")).expect_err("blocks of GGUF").to_string();
    assert!(error.contains("Q8_0 is a block type of GGUF") && error.lines().count() > 10, "{error}");

    let mut token = model(&fixture("t5-v1.0"), "int8");
    run_one(&mut token.graph, &QuantizeActivations::all(Granularity::Token)).expect("quantized");
    let error = Onnx::DEFAULT.check(&token).expect_err("per token").to_string();
    assert!(error.contains("activations quantized per token") && error.contains("hint: "), "{error}");
}

#[test]
fn damaged_files_are_errors() {
    let model = model(&fixture("t5-v1.0"), "int4-g32-asym");
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = write(&model, &Onnx::DEFAULT, home.path());
    let files: Vec<_> = Folder::find(home.path()).graphs().chain([home.path().join(DATA_FILE)]).collect();
    assert_eq!(files.len(), 5);
    for path in files {
        let file = path.display();
        let whole = fs::read(&path).expect("written");
        for sixteenths in 0..16 {
            fs::write(&path, &whole[..whole.len() * sixteenths / 16]).expect("cut");
            // A graph cut between two fields may still be a message, but then weights are missing.
            let result = Onnx::DEFAULT.read_weights(&model, &artifact);
            assert!(result.is_err() || sixteenths > 0, "{file} cut at {sixteenths}/16");
        }
        for at in (0..whole.len()).step_by((whole.len() / 200).max(1)) {
            let mut bent = whole.clone();
            bent[at] ^= 0x5a;
            fs::write(&path, &bent).expect("bent");
            drop(Onnx::DEFAULT.read_weights(&model, &artifact)); // an error or other numbers, never a panic
        }
        fs::write(&path, &whole).expect("restored");
    }
    fs::write(home.path().join(DATA_FILE), []).expect("emptied");
    let error = Onnx::DEFAULT.read_weights(&model, &artifact).expect_err("no bytes").to_string();
    assert!(error.contains("lie outside model.onnx_data of 0 bytes"), "{error}");
}
