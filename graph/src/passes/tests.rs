mod fixed;
mod positions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::build::{Build, Val};
use crate::eval::tensor::Tensor;
use crate::eval::{Feeds, Interpreter, Tensors};
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::Def;
use crate::ir::op::{Granularity, Layout, Op, Rope, Visible};
use crate::ir::ty::{BATCH, DEC, Dim, ENC, PAST, Sym, Type};
use crate::ir::verify::verify;
use crate::rewrite::rewrite;
use crate::weights::{AffineTensor, Block, FloatType, Quantized, Weight, WeightData};
use crate::{Blob, text};

/// Fused and unfused softmax sum in the same order; products differ by the order of scale and sum.
const F32_NOISE: f32 = 2e-6; // 3.6e-7

struct Fires(usize);

/// Runs a pass and gives how often it fired.
fn count(graph: &mut Graph, pass: &dyn Pass) -> Result<usize, PassError> {
    run_one(graph, pass).map(|fired| fired.count)
}

/// Seeded numbers in -1..1; every 7th is 40 times larger.
fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let unit = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            if i % 7 == 3 { unit * 40.0 } else { unit }
        })
        .collect()
}

/// Random feeds for an entry: batch 2, enc 5, dec 3, past 4; the bias has a fully masked row.
fn feeds(graph: &Graph, entry: &str) -> Feeds {
    let lengths = BTreeMap::from([(BATCH, 2), (ENC, 5), (DEC, 3), (PAST, 4)]);
    let entry = graph.entry(entry).expect("the entry is there");
    let feed = |(i, port): (usize, &crate::ir::graph::Port)| {
        let shape: Vec<usize> =
            graph.value(port.value).ty.shape.iter().map(|d| d.resolve(&lengths).expect("known")).collect();
        let mut floats = random(i as u64 + 1, shape.iter().product());
        if port.name == "bias" {
            floats[..*shape.last().expect("rank 2")].fill(f32::NEG_INFINITY);
        }
        (port.name.clone(), Tensor::f32(shape, floats))
    };
    entry.inputs.iter().enumerate().map(feed).collect()
}

fn outputs(graph: &Graph) -> Tensors {
    Interpreter::new(graph).call("full", &feeds(graph, "full")).expect("evaluates")
}

/// Whether a rule keeps the meaning of a graph and fires exactly so often; a second run must not fire.
fn same_meaning(rule: &crate::rewrite::Rule, graph: &Graph, Fires(expected): Fires) -> Result<Graph, String> {
    let before = outputs(graph);
    let mut after = graph.clone();
    let fired = rewrite(&mut after, rule).map_err(|e| e.to_string())?;
    verify(&after).map_err(|e| e.to_string())?;
    if fired != expected {
        return Err(format!("fired {fired} times, expected {expected}"));
    }
    let again = rewrite(&mut after.clone(), rule).map_err(|e| e.to_string())?;
    if again != 0 {
        return Err(format!("fired {again} times on its own result"));
    }
    let result = outputs(&after);
    if !before.keys().eq(result.keys()) {
        return Err("the outputs have other names".into());
    }
    for (name, x) in &before {
        let (x, y) = (x.as_f32().expect("f32"), result[name].as_f32().expect("f32"));
        let scale = x.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
        let worst = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        if worst.is_nan() || worst > F32_NOISE * scale {
            return Err(format!("{name}: differs by {worst} at a scale of {scale}"));
        }
    }
    Ok(after)
}

/// `[b, 2, dec, 4]` against `[b, 2, enc, 4]`.
fn attention_graph(write: impl for<'b> Fn(&'b Build, [Val<'b>; 4]) -> Vec<(&'static str, Val<'b>)>) -> Graph {
    let b = Build::new();
    let head = |n: Dim| Type::f32([BATCH.into(), 2.into(), n, 4.into()]);
    let q = b.input("q", head(DEC.into()));
    let k = b.input("k", head(ENC.into()));
    let v = b.input("v", head(ENC.into()));
    let bias = b.input("bias", Type::f32([Dim::from(DEC), ENC.into()]));
    let outputs = write(&b, [q, k, v, bias]);
    b.entry("full", &[("q", q), ("k", k), ("v", v), ("bias", bias)], &outputs, BTreeMap::new());
    b.finish().expect("fits")
}

#[test]
fn attention_is_fused_with_and_without_scale_cap_and_bias() {
    for bits in 0..16 {
        let [scaled, capped, biased, swapped] = [0, 1, 2, 3].map(|i| bits >> i & 1 == 1);
        let graph = attention_graph(|b, [q, k, v, bias]| {
            let mut s = q.matmul(k.t());
            if scaled {
                s = if swapped { b.scalar(0.3) * s } else { s * 0.3 };
            }
            if capped {
                s = (s / 5.0).tanh() * 5.0;
            }
            if biased {
                s = if swapped { bias + s } else { s + bias };
            }
            vec![("y", s.softmax().matmul(v))]
        });
        let fused = same_meaning(&FUSE_ATTENTION, &graph, Fires(1)).unwrap_or_else(|e| panic!("{bits:04b}: {e}"));
        let y = fused.entry("full").expect("kept").output("y").expect("kept");
        let expected = Op::Attention { scale: if scaled { 0.3 } else { 1.0 }, softcap: capped.then_some(5.0) };
        assert_eq!(fused.op(y), Some(&expected), "{bits:04b}");
        assert_eq!(fused.args(y).len(), 3 + usize::from(biased), "{bits:04b}");
    }
}

#[test]
fn a_probability_that_is_also_an_output_stops_that_fusion_and_only_that_one() {
    let graph = attention_graph(|_, [q, k, v, bias]| {
        let shown = (q.matmul(k.t()) + bias).softmax();
        let hidden = (q.matmul(k.t()) * 0.5).softmax();
        vec![("shown", shown), ("y", shown.matmul(v)), ("z", hidden.matmul(v))]
    });
    same_meaning(&FUSE_ATTENTION, &graph, Fires(1)).expect("one of two");
}

#[test]
fn scores_used_elsewhere_and_two_different_caps_stop_the_fusion() {
    let used = attention_graph(|_, [q, k, v, _]| {
        let s = q.matmul(k.t());
        vec![("y", s.softmax().matmul(v)), ("z", s.relu())]
    });
    same_meaning(&FUSE_ATTENTION, &used, Fires(0)).expect("left alone");
    let caps = attention_graph(|_, [q, k, v, _]| {
        let s = (q.matmul(k.t()) / 5.0).tanh() * 4.0;
        vec![("y", s.softmax().matmul(v))]
    });
    same_meaning(&FUSE_ATTENTION, &caps, Fires(0)).expect("left alone");
}

#[test]
fn a_scale_that_is_no_constant_stops_the_fusion() {
    let graph = attention_graph(|_, [q, k, v, bias]| vec![("y", (q.matmul(k.t()) * bias.relu()).softmax().matmul(v))]);
    // The masked row is 0 after relu, so the product is finite.
    same_meaning(&FUSE_ATTENTION, &graph, Fires(0)).expect("left alone");
}

#[test]
fn the_harness_finds_a_wrong_rule() {
    let wrong = crate::rewrite::Rule {
        name: "forget_scale",
        replace: |m, b| {
            let [q, k, v] = ["q", "k", "v"].map(|hole| m.val(b, hole));
            Some(q.attention(k, v, m.optional_val(b, "bias"), 1.0, None))
        },
        ..FUSE_ATTENTION
    };
    let graph = attention_graph(|_, [q, k, v, _]| vec![("y", (q.matmul(k.t()) * 0.3).softmax().matmul(v))]);
    let error = same_meaning(&wrong, &graph, Fires(1)).map(|_| ()).expect_err("the scale is gone");
    assert!(error.starts_with("y: differs by"), "{error}");
}

#[test]
fn neutral_elements_are_folded_even_in_a_chain() {
    let graph = attention_graph(|b, [q, ..]| vec![("y", ((b.scalar(1.0) * q + 0.0) / 1.0 - 0.0).relu())]);
    let folded = same_meaning(&FOLD, &graph, Fires(4)).expect("all four");
    assert_eq!(folded.values.iter().filter(|v| matches!(v.def, Def::Op(..))).count(), 1);
    let near_miss = attention_graph(|b, [q, ..]| vec![("y", b.scalar(1.0) / q)]);
    same_meaning(&FOLD, &near_miss, Fires(0)).expect("1 / x is not x");
}

/// Two decoder layers over one encoder value, with everything that `split` has to tell apart.
fn tiny_seq2seq() -> Graph {
    let b = Build::new();
    let ids = b.input("input_ids", Type::i64([BATCH, ENC]));
    let mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
    let decoder_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
    let w = |name: &str, rows: usize, columns: usize| {
        let mut bytes = vec![0; 4 * rows * columns];
        let seed = name.bytes().map(u64::from).sum();
        let small: Vec<f32> = random(seed, rows * columns).iter().map(|x| x / 10.0).collect();
        FloatType::F32.encode(&small, &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        b.weight(Weight { name: name.into(), shape: vec![rows, columns], data })
    };
    let table = w("shared", 11, 8);
    let pad = b.padding_mask(mask);
    let encoder = {
        let _scope = b.scope("encoder");
        let x = ids.embed(table);
        let [q, k, v] = ["eq", "ek", "ev"].map(|name| x.linear(w(name, 8, 8), None).heads(2));
        x + (q.matmul(k.t()) + pad).softmax().matmul(v).merge_heads()
    };
    let bias = {
        let op = Op::RelativeBias {
            buckets: 6,
            max_distance: 5,
            bidirectional: false,
            start: Dim::default(),
            q: DEC.into(),
            k: DEC.into(),
        };
        b.op(op, &[w("bias", 6, 2)]) + b.mask(Visible::CAUSAL, Dim::default(), DEC, DEC)
    };
    let mut y = decoder_ids.embed(table);
    for layer in 0..2 {
        let _scope = b.scope(format!("decoder.{layer}"));
        let own = |name: &str| format!("{layer}{name}");
        let [q, k, v] = ["q", "k", "v"].map(|name| y.linear(w(&own(name), 8, 8), None).heads(2));
        y = y + (q.matmul(k.t()) + bias).softmax().matmul(v).merge_heads();
        let q = y.linear(w(&own("cq"), 8, 8), None).heads(2);
        let [k, v] = ["ck", "cv"].map(|name| encoder.linear(w(&own(name), 8, 8), None).heads(2));
        y = y + (q.matmul(k.t()) + pad).softmax().matmul(v).merge_heads();
    }
    let norm = b.weight(Weight {
        name: "norm".into(),
        shape: vec![8],
        data: WeightData::Stored { blob: Blob::memory(vec![0x3f; 32]), dtype: FloatType::F32 },
    });
    let logits = (y.rms_norm(norm, 1e-6) * 0.25).linear(table, None);
    b.entry(
        "full",
        &[("input_ids", ids), ("attention_mask", mask), ("decoder_input_ids", decoder_ids)],
        &[("logits", logits), ("encoder_hidden", encoder)],
        BTreeMap::new(),
    );
    b.finish().expect("fits")
}

fn ids(shape: [usize; 2], ids: &[i64]) -> Tensor {
    Tensor::i64(shape, ids.to_vec())
}

fn source() -> Feeds {
    Feeds::from([
        ("input_ids".into(), ids([2, 3], &[4, 5, 6, 7, 8, 0])),
        ("attention_mask".into(), ids([2, 3], &[1, 1, 1, 1, 1, 0])),
    ])
}

/// One layer whose self- and cross-attention are one, over samples that a convolution makes frames of; positions are
/// learned and rotary, and the mask is one of samples.
fn tiny_speech_model() -> Graph {
    let b = Build::new();
    let samples = Sym("samples");
    let x = b.input("input_values", Type::f32([Dim::from(BATCH), 1.into(), samples.into()]));
    let mask = b.input("attention_mask", Type::i64([BATCH, samples]));
    let decoder_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
    let w = |name: &str, shape: &[usize]| {
        let values = random(name.bytes().map(u64::from).sum(), shape.iter().product());
        let bytes = values.iter().flat_map(|x| (x / 10.0).to_le_bytes()).collect::<Vec<u8>>();
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        b.weight(Weight { name: name.into(), shape: shape.to_vec(), data })
    };
    let encoder = x.conv(w("conv", &[8, 1, 4]), None, 3, 0, Some(ENC)).transpose(vec![0, 2, 1]);
    let seen = b.padding_mask(mask.slice(1, 0, 3, ENC));
    let table = w("table", &[11, 8]);
    let y = decoder_ids.embed(table) + b.positions(2, DEC).embed(w("learned", &[9, 8]));
    let rope = Rope { theta: 100.0, factor: 1.0, dims: 2, layout: Layout::Pairs };
    let turned = |x: Val<'_>| x.rope(b.positions(0, DEC), rope).id().map(|id| b.val(id)).expect("fits");
    let heads =
        |x: Val<'_>, name: &str| x.linear(w(name, &[8, 8]), None).heads(2).id().map(|id| b.val(id)).expect("fits");
    let k = b.concat(&[turned(heads(y, "k")), heads(encoder, "k")], 2);
    let v = b.concat(&[heads(y, "v"), heads(encoder, "v")], 2);
    let own = b.mask(Visible { before: Some(1), after: Some(0) }, 0, DEC, DEC);
    let own = own.broadcast([BATCH.into(), 1.into(), DEC.into(), DEC.into()]);
    let seen = seen.broadcast([BATCH.into(), 1.into(), DEC.into(), ENC.into()]);
    let scores = turned(heads(y, "q")).matmul(k.t()) * 0.5 + b.concat(&[own, seen], 3);
    let y = y + scores.softmax().matmul(v).merge_heads();
    let inputs = [("input_values", x), ("attention_mask", mask), ("decoder_input_ids", decoder_ids)];
    b.entry("full", &inputs, &[("logits", y.linear(table, None)), ("encoder_hidden", encoder)], BTreeMap::new());
    b.finish().expect("fits")
}

const TARGETS: [[i64; 4]; 2] = [[0, 3, 9, 1], [0, 2, 2, 10]];

/// Runs the passes and compares four single steps with the whole pass before them; returns the caches after the last.
fn step_by_step(mut graph: Graph, source: &Feeds, expected_counts: [usize; 3]) -> Tensors {
    let mut feeds = source.clone();
    feeds.insert("decoder_input_ids".into(), ids([2, 4], TARGETS.as_flattened()));
    let before = Interpreter::new(&graph).call("full", &feeds).expect("unfused");

    let fired = run(&mut graph).expect("passes");
    assert_eq!(fired.iter().map(|f| f.pass).collect::<Vec<_>>(), ["fold", "fuse_attention", "split"]);
    assert_eq!(fired.iter().map(|f| f.count).collect::<Vec<_>>(), expected_counts);
    assert_eq!(run(&mut graph).expect("again").iter().map(|f| f.count).sum::<usize>(), 0);

    let machine = Interpreter::new(&graph).with_cache(1 << 20);
    let call = |entry: &str, mut feeds: Feeds| {
        feeds.retain(|name, _| graph.entry(entry).is_some_and(|entry| entry.input(name).is_some()));
        machine.call(entry, &feeds).unwrap_or_else(|e| panic!("{e}"))
    };
    let after = call("full", feeds);
    let whole = before["logits"].as_f32().expect("f32");
    let close = |x: &[f32], y: &[f32]| x.iter().zip(y).all(|(x, y)| (x - y).abs() <= F32_NOISE * 10.0); // 4.8e-7
    assert!(close(whole, after["logits"].as_f32().expect("f32")));

    let mut state = call("encoder", source.clone());
    for step in 0..4 {
        let mut feeds = source.clone();
        feeds.insert("decoder_input_ids".into(), ids([2, 1], &[TARGETS[0][step], TARGETS[1][step]]));
        feeds.extend(state.clone());
        let mut out = call(if step == 0 { "decoder" } else { "decoder_with_past" }, feeds);
        let logits = out.remove("logits").expect("its output");
        for row in 0..2 {
            let expected = &whole[(row * 4 + step) * 11..][..11];
            assert!(close(expected, &logits.as_f32().expect("f32")[row * 11..][..11]), "step {step}, row {row}");
        }
        for (name, tensor) in out {
            state.insert(name.replace("present", "past"), tensor);
        }
    }
    state
}

#[test]
fn decoding_step_by_step_equals_the_whole_pass() {
    let state = step_by_step(tiny_seq2seq(), &source(), [0, 5, 4]);
    assert_eq!(state["past.1.k"].shape(), [2, 2, 4, 4]);
}

#[test]
fn an_attention_over_own_and_cross_keys_is_cut_part_by_part() {
    let samples = random(5, 2 * 13);
    let mask: Vec<i64> = (0..26).map(|i| i64::from(i < 20)).collect();
    let source = Feeds::from([
        ("input_values".into(), Tensor::f32([2, 1, 13], samples)),
        ("attention_mask".into(), ids([2, 13], &mask)),
    ]);
    let state = step_by_step(tiny_speech_model(), &source, [0, 1, 2]);
    assert_eq!((state["past.0.k"].shape(), state["cross.0.v"].shape()), (&[2, 2, 4, 4][..], &[2, 2, 4, 4][..]));
}

#[test]
fn the_step_with_past_needs_no_encoder() {
    let mut graph = tiny_seq2seq();
    run(&mut graph).expect("passes");
    let step = graph.entry("decoder_with_past").expect("split made it");
    let weights: Vec<&str> = graph
        .order(step)
        .iter()
        .filter_map(|id| graph.weight_of(*id))
        .map(|id| graph.weights.get(id).name.as_str())
        .collect();
    assert!(!weights.iter().any(|w| w.ends_with("ck") || w.ends_with("cv") || w.starts_with('e')), "{weights:?}");
    assert!(weights.contains(&"1cq"));
}

#[test]
fn a_softmax_left_in_the_decoder_is_named() {
    let mut graph = tiny_seq2seq();
    let error = run_each(&mut graph, &[&Split]).expect_err("nothing was fused").to_string();
    assert_eq!(error, "split: decoder.0.softmax: expected fused attention in the decoder, found a softmax");
}

#[test]
fn the_logit_scale_moves_into_the_norm_and_the_logits_stay() {
    let mut graph = tiny_seq2seq();
    run(&mut graph).expect("passes");
    let mut feeds = source();
    feeds.insert("decoder_input_ids".into(), ids([2, 2], &[0, 3, 0, 4]));
    let before = Interpreter::new(&graph).call("full", &feeds).expect("scaled");
    assert_eq!(logit_scale(&graph), Ok(Some(0.25)));
    assert_eq!(count(&mut graph, &FoldLogitScale), Ok(1));
    // 0.25 is a power of two, so not a bit may change.
    assert_eq!(before, Interpreter::new(&graph).call("full", &feeds).expect("folded"));
    assert_eq!(logit_scale(&graph), Ok(None));
    assert_eq!(count(&mut graph, &FoldLogitScale), Ok(0));
}

#[test]
fn a_scale_that_a_norm_has_in_it_already_is_dropped_once_and_only_when_it_is_the_graphs() {
    let mut graph = tiny_seq2seq();
    let refusal = |graph: &mut Graph, c| run_one(graph, &DropLogitScale { c }).expect_err("another scale").to_string();
    assert_eq!(refusal(&mut graph, 0.5), "drop_logit_scale: expected a logit scale of 0.5, found 0.25");
    let mut folded = graph.clone();
    run_one(&mut folded, &FoldLogitScale).expect("folds");
    run_one(&mut graph, &DropLogitScale { c: 0.25 }).expect("the graph's own");
    // The file keeps the folded weight; here it is put back.
    graph.weights = folded.weights.clone();
    let mut feeds = source();
    feeds.insert("decoder_input_ids".into(), ids([2, 2], &[0, 3, 0, 4]));
    let of = |graph: &Graph| Interpreter::new(graph).call("full", &feeds).expect("evaluates");
    assert_eq!(of(&folded), of(&graph));
    assert_eq!(refusal(&mut graph, 0.25), "drop_logit_scale: expected a logit scale of 0.25, found none");
}

/// The tiny model with 8-bit codes in five weights, which read two values.
fn with_codes() -> Graph {
    let mut graph = tiny_seq2seq();
    run(&mut graph).expect("passes");
    for name in ["0q", "0k", "0v", "0ck", "1ck"] {
        let id = graph.weights.find(name).expect("a weight");
        let codes = Blob::memory(vec![3; 64]);
        let scales = vec![half::f16::from_f32(0.01); 8];
        let tensor = AffineTensor { shape: [8, 8], bits: 8, block: Block::Row, codes, scales, zeros: None };
        graph.weights.get_mut(id).data = WeightData::Quantized(Quantized::Affine(tensor));
    }
    graph
}

#[test]
fn activations_are_rounded_once_for_all_their_readers() {
    let mut graph = with_codes();
    assert_eq!(count(&mut graph, &QuantizeActivations::all(Granularity::Token)), Ok(5));
    let made = graph.values.iter().filter(|v| matches!(v.def, Def::Op(Op::DynamicQuant(_), _))).count();
    assert_eq!(made, 2, "one for the decoder's first input, one for the encoder's output");
    assert_eq!(count(&mut graph, &QuantizeActivations::all(Granularity::Token)), Ok(0), "they are rounded");
}

#[test]
fn activations_are_rounded_once_for_all_readers_of_the_same_block() {
    let mut graph = with_codes();
    let mut seen = 0;
    // The first Linear that asks rounds in blocks of 4, the others in blocks of 8.
    let calls = AtomicUsize::new(0);
    let block_of = |_: &AffineTensor| Some(if calls.fetch_add(1, Ordering::Relaxed) == 0 { 4 } else { 8 });
    assert_eq!(count(&mut graph, &QuantizeActivationsInBlocks { block_of: &block_of }), Ok(5));
    for value in &graph.values {
        if let Def::Op(Op::DynamicQuant(granularity), _) = &value.def {
            assert!(matches!(granularity, Granularity::Block(4 | 8)), "{granularity:?}");
            seen += 1;
        }
    }
    assert_eq!((seen, calls.into_inner()), (3, 5), "one more than with blocks alike");
    assert_eq!(count(&mut graph, &QuantizeActivationsInBlocks { block_of: &|_| Some(8) }), Ok(0), "they are rounded");
}

#[test]
fn fixed_steps_stand_once_before_each_value_and_round_nothing_else() {
    let mut graph = with_codes();
    let untouched = graph.clone();
    let steps = |scale: f32, zero: i32| FakeQuant { scale, zero, bits: 8 };
    let mut known = BTreeMap::from([("embed".to_owned(), steps(0.01, 120))]);
    let error = run_one(&mut graph, &QuantizeStatically { steps: &known })
        .expect_err("nothing for the encoder's output")
        .to_string();
    assert_eq!(error, "quantize_statically: encoder.add_1: expected steps for the input of a Linear, found none");
    known.insert("encoder.add_1".to_owned(), steps(0.0, 0));
    let error = run_one(&mut graph, &QuantizeStatically { steps: &known }).expect_err("no step").to_string();
    let expected = "quantize_statically: encoder.add_1: expected a scale that is finite and above 0, found 0";
    assert_eq!(error, expected);
    assert_eq!(text::print(&graph), text::print(&untouched));

    known.insert("encoder.add_1".to_owned(), steps(0.02, 100));
    known.insert("nobody reads this".to_owned(), steps(1.0, 0));
    assert_eq!(count(&mut graph, &QuantizeStatically { steps: &known }), Ok(5));
    let printed = text::print_entry(&graph, graph.entry("decoder").expect("split"));
    let lines: Vec<&str> = printed.lines().filter(|line| line.contains("FakeQuant")).collect();
    assert_eq!(lines.len(), 2, "{printed}");
    assert!(lines[0].ends_with("= FakeQuant(scale=1e-2, zero=120, bits=8)(embed)"), "{}", lines[0]);
    assert!(lines[1].ends_with("= FakeQuant(scale=2e-2, zero=100, bits=8)(encoder.add_1)"), "{}", lines[1]);
    assert_eq!(count(&mut graph, &QuantizeStatically { steps: &BTreeMap::new() }), Ok(0), "they are rounded");
}

#[test]
fn the_error_shrinks_with_the_step() {
    let graph = with_codes();
    let mut feeds = source();
    feeds.insert("decoder_input_ids".into(), ids([2, 2], &[0, 3, 0, 4]));
    let logits = |graph: &Graph| {
        let logits = &Interpreter::new(graph).call("full", &feeds).expect("evaluates")["logits"];
        logits.as_f32().expect("floats").to_vec()
    };
    let exact = logits(&graph);
    let at = |bits, scale| {
        let steps = FakeQuant { scale, zero: 1 << (bits - 1), bits };
        let known = ["embed", "encoder.add_1"].map(|name| (name.to_owned(), steps));
        let mut graph = graph.clone();
        run_one(&mut graph, &QuantizeStatically { steps: &known.into() }).expect("steps for both");
        let off = exact.iter().zip(logits(&graph)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        off / exact.iter().fold(0.0, |max: f32, x| max.max(x.abs()))
    };
    let [coarse, fine] = [at(8, 8.0 / 128.0), at(16, 8.0 / 32768.0)];
    assert!(fine < coarse / 50.0 && coarse < 0.1, "{coarse:e}, {fine:e}");
}

#[test]
fn a_broken_graph_is_told_with_every_breach() {
    let mut graph = tiny_seq2seq();
    run(&mut graph).expect("passes");
    let relu = graph.values.iter().position(|v| v.name == "encoder.add_1").expect("a value");
    graph.values[relu].ty = Type::f32([BATCH.into(), ENC.into(), Dim::from(9)]);
    let named = graph.values.iter().position(|v| v.name == "decoder.0.add_1").expect("a value");
    graph.values[named].name = "encoder.add_1".into();
    let error = verify(&graph).expect_err("two breaches").to_string();
    assert!(error.contains("encoder.add_1: expected f32[batch, enc, 8], found f32[batch, enc, 9]"), "{error}");
    assert!(error.contains("encoder.add_1: two values have this name"), "{error}");
}

#[test]
fn the_table_has_every_pass_of_the_folders_once() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/passes");
    let entries = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).collect()
    };
    let subjects = ["activations", "canonical", "npu", "scale"].map(|subject| folder.join(subject));
    let folders: Vec<_> =
        entries(&folder).into_iter().filter(|path| path.is_dir() && !path.ends_with("tests")).collect();
    assert_eq!(folders.len(), subjects.len(), "{folders:?}");
    let files = subjects.iter().flat_map(|subject| entries(subject)).filter(|path| path.is_file());
    let mut found: Vec<String> =
        files.map(|path| path.file_stem().expect("a file").to_string_lossy().into_owned()).collect();
    found.retain(|stem| stem != "mod");
    found.sort();
    let mut listed: Vec<&str> = TABLE.iter().map(|about| about.name).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
    let of_conversions: Vec<&str> =
        TABLE.iter().filter(|about| about.caller == Caller::Conversion).map(|about| about.name).collect();
    assert_eq!(PASSES.iter().map(|pass| pass.about().name).collect::<Vec<_>>(), of_conversions);
}
