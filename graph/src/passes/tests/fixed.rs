//! The passes of static graphs in fixed steps.

use super::*;
use crate::ir::graph::ValueId;
use crate::ir::op::{Binary, Unary};
use crate::weights::Derive;

/// Far below all scores of the small model, which reach 200.
const HIDDEN: f32 = -1e4;

/// A T5 in small with a ReLU, a bias and a scale on the scores, split.
fn model() -> Graph {
    let mut graph = tiny_seq2seq();
    run(&mut graph).expect("passes");
    graph
}

fn expanded() -> Graph {
    let mut graph = model();
    run_one(&mut graph, &Expand { hidden: HIDDEN, split_bias: true, positions: 16 }).expect("attention alone");
    graph
}

fn fixed(graph: &Graph, lengths: Lengths) -> Graph {
    let mut fixed = graph.clone();
    run_one(&mut fixed, &MakeStatic { lengths }).expect("static");
    fixed
}

fn find(graph: &Graph, name: &str) -> ValueId {
    ValueId(graph.values.iter().position(|value| value.name == name).unwrap_or_else(|| panic!("{name}")))
}

fn whole(graph: &Graph) -> Tensors {
    let mut feeds = source();
    feeds.insert("decoder_input_ids".into(), ids([2, 3], &[0, 3, 5, 0, 4, 2]));
    Interpreter::new(graph).call("full", &feeds).expect("evaluates")
}

fn near(a: &Tensors, b: &Tensors) {
    for (name, x) in a {
        let (x, y) = (x.as_f32().expect("f32"), b[name].as_f32().expect("f32"));
        let scale = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let worst = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(worst <= F32_NOISE * scale, "{name}: {worst} at {scale}");
    }
}

#[test]
fn attention_spelled_out_adds_masks_last_and_hides_as_infinity_does() {
    let (before, after) = (model(), expanded());
    near(&whole(&before), &whole(&after));
    assert!(!after.values.iter().any(|v| matches!(v.def, Def::Op(Op::Attention { .. }, _))));
    let softmaxes = (0..after.values.len()).map(ValueId).filter(|id| after.op(*id) == Some(&Op::Softmax));
    let mut masked = 0;
    for softmax in softmaxes {
        let sum = after.args(softmax)[0];
        assert_eq!(after.op(sum), Some(&Op::Binary(Binary::Add)));
        match after.op(after.args(sum)[1]) {
            Some(Op::Mask { hidden, .. } | Op::PaddingMask { hidden }) => assert_eq!(*hidden, HIDDEN),
            other => panic!("{other:?} is no mask"),
        }
        masked += 1;
    }
    assert_eq!(masked, 5, "one of the encoder, two in each layer of the decoder");
    // A mask that has its number keeps it.
    let mut again = after.clone();
    assert_eq!(count(&mut again, &Expand { hidden: -7.0, split_bias: true, positions: 16 }), Ok(0));
    assert_eq!(text::print(&again), text::print(&after));
}

#[test]
fn shared_key_heads_soft_caps_and_partial_rotation_are_spelled_out() {
    for (cap, dims) in [(None, 4), (Some(3.0), 2)] {
        let b = Build::new();
        let head = |heads: usize, n: Dim| Type::f32([BATCH.into(), heads.into(), n, 4.into()]);
        let q = b.input("q", head(6, DEC.into()));
        let k = b.input("k", head(2, ENC.into()));
        let v = b.input("v", head(2, ENC.into()));
        let rope = Rope { theta: 50.0, factor: 1.0, dims, layout: Layout::Half };
        let y = q.rope(b.positions(0, DEC), rope).attention(k, v, None, 0.5, cap);
        b.entry("full", &[("q", q), ("k", k), ("v", v)], &[("y", y)], BTreeMap::new());
        let graph = b.finish().expect("fits");
        let mut after = graph.clone();
        assert_eq!(count(&mut after, &Expand { hidden: HIDDEN, split_bias: false, positions: 3 }), Ok(2));
        near(&outputs(&graph), &outputs(&after));
        let ranks = after.values.iter().map(|value| value.ty.shape.len()).max();
        assert_eq!(ranks, Some(4), "compilers take no more");
    }
    let b = Build::new();
    let x = b.input("x", Type::f32([Dim::from(BATCH), 1.into(), DEC.into(), 4.into()]));
    let rope = Rope { theta: 50.0, factor: 1.0, dims: 4, layout: Layout::Pairs };
    let y = x.rope(b.positions(0, DEC), rope);
    b.entry("full", &[("x", x)], &[("y", y)], BTreeMap::new());
    let mut graph = b.finish().expect("fits");
    let error = run_one(&mut graph, &Expand { hidden: HIDDEN, split_bias: false, positions: 3 })
        .expect_err("five axes")
        .to_string();
    assert!(error.ends_with("rope: expected rotary pairs of half a head apart, found neighbours"), "{error}");
}

#[test]
fn heads_become_the_batch_where_values_of_16_bits_are_fed_and_nothing_masks_the_scores() {
    let attention = |heads: usize, bits: u8, is_masked: bool| {
        let b = Build::new();
        let round = |x| b.op(Op::FakeQuant(FakeQuant::over(-2.0, 2.0, bits)), &[x]);
        let [q, k, v] =
            ["q", "k", "v"].map(|name| b.input(name, Type::f32([1, heads, if name == "q" { 1 } else { 5 }, 4])));
        let mask = b.input("mask", Type::f32([1usize, 1, 1, 5]));
        let scores = round(round(q).matmul(round(k.t())));
        let scores = if is_masked { round(scores + round(mask)) } else { scores };
        let y = round(round(scores.softmax()).matmul(round(v)));
        let inputs = [("q", q), ("k", k), ("v", v), ("mask", mask)];
        b.entry("decoder", &inputs[..if is_masked { 4 } else { 3 }], &[("y", y)], BTreeMap::new());
        b.finish().expect("fits")
    };
    let feeds: Feeds = [("q", 1), ("k", 5), ("v", 5)]
        .map(|(name, n)| {
            (name.into(), Tensor::f32([1, 3, n, 4], (0..12 * n).map(|i| (i * 7 % 11) as f32 / 6.0 - 0.9).collect()))
        })
        .into();
    let run = |graph: &Graph| Interpreter::new(graph).call("decoder", &feeds).expect("evaluates");

    let before = attention(3, 16, false);
    let mut after = before.clone();
    assert_eq!(count(&mut after, &FoldHeads), Ok(1));
    assert_eq!(run(&before), run(&after));
    let ranks: Vec<usize> =
        after.values.iter().filter(|v| matches!(v.def, Def::Op(Op::MatMul, _))).map(|v| v.ty.shape.len()).collect();
    assert_eq!(ranks, [4, 3]);
    let product =
        before.values.iter().filter(|v| matches!(v.def, Def::Op(Op::MatMul, _))).nth(1).expect("softmax(s)·v");
    let folded = format!("{}.of_heads", product.name);
    assert!(after.values.iter().any(|v| v.name == folded && v.ty.shape.len() == 3), "calibration knows it by its name");
    assert_eq!(count(&mut after, &FoldHeads), Ok(0), "once is enough");
    for mut other in [attention(3, 8, false), attention(3, 16, true), attention(1, 16, false)] {
        assert_eq!(count(&mut other, &FoldHeads), Ok(0));
    }
}

#[test]
fn scales_move_into_weights_that_nothing_else_reads() {
    let mut graph = model();
    // The norm's weight takes the logit scale; 0.25 is a power of two, so not a bit may change.
    let before = whole(&graph);
    assert_eq!(count(&mut graph, &AbsorbScales), Ok(1));
    assert_eq!(before, whole(&graph));
    assert_eq!(count(&mut graph, &AbsorbScales), Ok(0));
    let norm = graph.weights.find("norm").expect("a weight");
    assert_eq!(graph.weights.get(norm).data.type_name(), "f32 x 0.25");

    // A table that two values show cannot take the scale of one; with a copy of its own it can.
    let b = Build::new();
    let token = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
    let table = b.weight(Weight::stored("table".into(), vec![3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let y = (token.embed(table) * 2.0).linear(table, None);
    b.entry("full", &[("decoder_input_ids", token)], &[("logits", y)], BTreeMap::new());
    let mut graph = b.finish().expect("fits");
    let feeds = Feeds::from([("decoder_input_ids".into(), ids([1, 2], &[0, 2]))]);
    let logits = |graph: &Graph| Interpreter::new(graph).call("full", &feeds).expect("evaluates")["logits"].clone();
    let before = logits(&graph);
    assert_eq!(count(&mut graph, &AbsorbScales), Ok(0));
    let untied = run_one(&mut graph, &UntieEmbeddings).expect("holds together");
    let note = "table.embedding: a copy of the table that is also the head, so that each has steps of its own";
    assert_eq!((untied.count, untied.notes), (1, vec![note.to_owned()]));
    assert_eq!(count(&mut graph, &UntieEmbeddings), Ok(0));
    assert_eq!(count(&mut graph, &AbsorbScales), Ok(1));
    assert_eq!(before, logits(&graph));
}

#[test]
fn lengths_that_do_not_fit_and_values_of_another_form_are_named() {
    let refusal = |graph: &Graph, source, target| {
        let lengths = Lengths { source, target, update: Update::Caller };
        run_one(&mut graph.clone(), &MakeStatic { lengths }).expect_err("does not fit").to_string()
    };
    let graph = expanded();
    let message = "expected a source of at least 1 and a target of at least 2";
    assert!(refusal(&graph, 0, 4).contains(message) && refusal(&graph, 3, 1).contains(message));
    let message = refusal(&tiny_seq2seq(), 3, 4);
    assert_eq!(message, "make_static: no entry named encoder");
    // Masks that were not made finite.
    let message = refusal(&model(), 3, 4);
    assert_eq!(message, "make_static: mask: expected a finite mask, found -inf");
}

#[test]
fn a_static_graph_has_numbers_for_lengths_and_no_batch() {
    let fixed = fixed(&expanded(), Lengths { source: 3, target: 4, update: Update::Caller });
    let names: Vec<&str> = fixed.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["encoder", "decoder"]);
    for value in &fixed.values {
        assert!(value.ty.shape.iter().all(|dim| dim.literal().is_some()), "{}: {}", value.name, value.ty);
        let made = matches!(&value.def, Def::Op(Op::Mask { .. } | Op::RelativeBias { .. } | Op::Positions { .. }, _));
        assert!(!made, "{} follows from lengths alone", value.name);
    }
    let ports = |entry: &str| {
        let entry = fixed.entry(entry).expect("made");
        let of = |ports: &[crate::ir::graph::Port]| -> Vec<String> {
            ports.iter().map(|port| format!("{} {}", port.name, fixed.value(port.value).ty)).collect()
        };
        (of(&entry.inputs), of(&entry.outputs))
    };
    let (inputs, outputs) = ports("encoder");
    assert_eq!(inputs, ["input_ids i64[1, 3]", "attention_mask i64[1, 3]"]);
    let heads = "f32[1, 2, 3, 4]";
    assert_eq!(outputs, ["cross.0.k", "cross.0.v", "cross.1.k", "cross.1.v"].map(|port| format!("{port} {heads}")));
    let (inputs, outputs) = ports("decoder");
    assert_eq!(inputs[..3], ["decoder_input_ids i64[1, 1]", "position i64[1]", "attention_mask i64[1, 3]"]);
    assert_eq!((inputs[3].as_str(), inputs.len()), ("past.0.k f32[1, 2, 3, 4]", 11));
    assert_eq!(outputs[..2], ["logits f32[1, 11]", "present.0.k f32[1, 2, 1, 4]"]);
    // The step knows nothing of the encoder.
    let of_encoder: Vec<ValueId> = fixed.order(fixed.entry("encoder").expect("made"));
    let step = fixed.order(fixed.entry("decoder").expect("made"));
    let shared: Vec<&str> =
        step.iter().filter(|id| of_encoder.contains(id)).map(|id| fixed.value(*id).name.as_str()).collect();
    assert_eq!(shared, ["shared"], "the table of tokens");
}

/// Steps for each group from what its values hold while `call` runs; 1 where they were not reached.
fn steps_of(tied: Vec<Tied>, call: impl FnOnce(&mut dyn FnMut(ValueId, &Tensor))) -> Vec<(Tied, FakeQuant)> {
    let mut extents: BTreeMap<ValueId, (f32, f32)> = BTreeMap::new();
    call(&mut |id, tensor| {
        let Some(floats) = tensor.as_f32() else { return };
        let seen = extents.entry(id).or_insert((0.0, 0.0));
        *seen = floats.iter().fold(*seen, |(low, high), x| (low.min(*x), high.max(*x)));
    });
    let steps = |group: Tied| {
        let of = group.values.iter().filter_map(|id| extents.get(id));
        let (low, high) = of.fold((0.0f32, 0.0f32), |(low, high), seen| (low.min(seen.0), high.max(seen.1)));
        let bits = group.bits;
        let steps = match group.kind {
            Kind::Symmetric => {
                let half = (1 << (bits - 1)) as f32;
                FakeQuant { scale: (high.max(-low) / (half - 1.0)).max(1e-6), zero: half as i32, bits }
            }
            Kind::Mask(hidden) => FakeQuant::over(hidden, 0.0, bits),
            Kind::Masked => FakeQuant::over(-500.0, high, bits),
            Kind::Probability | Kind::Seen => FakeQuant::over(low, high, bits),
        };
        (group, steps)
    };
    tied.into_iter().map(steps).collect()
}

const WORDS: Widths = Widths { activations: 16, keys: 8, scores: 16 };
const BYTES: Widths = Widths { activations: 8, keys: 8, scores: 16 };

#[test]
fn what_moves_numbers_is_tied_and_keys_are_symmetric() {
    let graph = expanded();
    for widths in [WORDS, BYTES] {
        let tied = tied_values(&graph, widths);
        let group_of = |name: &str, kind: fn(&Kind) -> bool| {
            let id = find(&graph, name);
            let of = tied.iter().filter(|group| group.values.contains(&id) && kind(&group.kind));
            of.map(|group| (group.values.clone(), group.bits)).collect::<Vec<_>>()
        };
        // Keys: the product, its reshape and transpose, the past and what is joined with it, and the transposed whole.
        let keys = group_of("past.0.k", |kind| *kind == Kind::Symmetric);
        assert_eq!((keys.len(), keys[0].1), (1, 8));
        let names: Vec<&str> = keys[0].0.iter().map(|id| graph.value(*id).name.as_str()).collect();
        for name in ["past.0.k", "decoder.0.linear_1", "decoder.0.reshape_1", "decoder.0.transpose_1"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        let made = find(&graph, "decoder.0.linear_1");
        let all: Vec<u8> = tied.iter().filter(|g| g.values.contains(&made)).map(|g| g.bits).collect();
        assert_eq!(all, if widths == WORDS { vec![16, 8] } else { vec![8] }, "an op has one width");
        // Both embeddings show the same table.
        let tables: Vec<&Tied> = tied.iter().filter(|group| !group.tables.is_empty()).collect();
        assert_eq!(tables.len(), 2, "tokens, and the bias by distance");
        assert!(tied.iter().any(|group| group.kind == Kind::Mask(HIDDEN)));
        assert_eq!(tied.iter().filter(|group| group.kind == Kind::Masked).count(), 5);
        assert!(tied.iter().filter(|group| group.kind == Kind::Masked).all(|group| group.bits == 16));
        let queries = tied.iter().filter(|group| group.values.contains(&find(&graph, "decoder.0.transpose")));
        assert_eq!(queries.map(|g| g.bits).collect::<Vec<_>>(), if widths == WORDS { vec![16] } else { vec![8, 16] });
    }
}

#[test]
fn a_relu_keeps_no_codes_for_what_it_cuts_off_and_norms_stay_in_floats() {
    let b = Build::new();
    let x = b.input("x", Type::f32([Dim::from(DEC), 4.into()]));
    let stored = Weight::stored;
    let w = b.weight(stored("w".into(), vec![4, 4], &random(3, 16)));
    let gain = b.weight(stored("gain".into(), vec![4], &[1.0; 4]));
    let normed = (x.linear(w, None) * 3.0).rms_norm(gain, 1e-6);
    let y = normed.linear(w, None).relu() + normed;
    b.entry("full", &[("x", x)], &[("y", y)], BTreeMap::new());
    let graph = b.finish().expect("fits");
    let tied = tied_values(&graph, BYTES);
    let relu = tied.iter().find(|group| group.values.contains(&find(&graph, "relu"))).expect("rounded");
    assert_eq!(relu.values, [find(&graph, "linear_1"), find(&graph, "relu")]);
    assert_eq!(relu.sources, [find(&graph, "relu")]);
    // The product with a number goes into the norm in floats, and is not rounded between.
    assert!(!tied.iter().any(|group| group.values.contains(&find(&graph, "mul"))));
    assert!(tied.iter().any(|group| group.values == [find(&graph, "rms_norm")]));
    let mut rounded = graph.clone();
    let groups = steps_of(tied, |tap| {
        let feeds = Feeds::from([("x".into(), Tensor::f32([2, 4], random(5, 8)))]);
        Interpreter::new(&graph).call_with("full", &feeds, tap).expect("evaluates");
    });
    assert_eq!(count(&mut rounded, &QuantizeValues { groups: &groups }), Ok(5));
    assert!(rounded.values.iter().any(|v| v.def == Def::Op(Op::Unary(Unary::Relu), vec![ValueId(0)])
        || matches!(v.def, Def::Op(Op::Unary(Unary::Relu), _))));
}

#[test]
fn rounded_graphs_stay_near_and_their_static_form_computes_the_same_bits() {
    let graph = expanded();
    let exact = whole(&graph);
    let mut rounded = graph.clone();
    // Scores of 200 do not stand keys of 8 bits.
    let groups = steps_of(tied_values(&rounded, Widths { keys: 16, ..WORDS }), |tap| {
        let mut feeds = source();
        feeds.insert("decoder_input_ids".into(), ids([2, 3], &[0, 3, 5, 0, 4, 2]));
        Interpreter::new(&graph).call_with("full", &feeds, tap).expect("evaluates");
    });
    assert!(count(&mut rounded, &QuantizeValues { groups: &groups }).expect("fits") > 40);
    let found = whole(&rounded);
    let (a, b) = (exact["logits"].as_f32().expect("f32"), found["logits"].as_f32().expect("f32"));
    let scale = a.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 0.02 * scale, "{worst} at {scale}");
    // The head multiplies with the table that both embeddings show, which therefore stays as it is.
    let table = rounded.weights.get(rounded.weights.find("shared").expect("kept"));
    assert_eq!(table.data.type_name(), "f32");

    let row = Feeds::from([
        ("input_ids".into(), ids([1, 3], &[4, 5, 6])),
        ("attention_mask".into(), ids([1, 3], &[1, 1, 1])),
    ]);
    let mut steps = Vec::new();
    for (update, places) in [(Update::Caller, 3), (Update::Step, 4)] {
        let fixed = fixed(&rounded, Lengths { source: 3, target: 4, update });
        let interpreter = Interpreter::new(&fixed);
        let mut feeds = interpreter.call("encoder", &row).expect("evaluates");
        feeds.insert("attention_mask".into(), row["attention_mask"].clone());
        let entry = fixed.entry("decoder").expect("made");
        for port in entry.inputs.iter().filter(|port| port.name.starts_with("past.")) {
            feeds.insert(port.name.clone(), Tensor::f32([1, 2, places, 4], vec![0.0; 8 * places]));
        }
        feeds.insert("decoder_input_ids".into(), ids([1, 1], &[0]));
        feeds.insert(POSITION.into(), Tensor::i64([1], vec![0]));
        if update == Update::Step {
            feeds.insert(SLOT.into(), Tensor::i64([1, 1, 4, 1], vec![1, 0, 0, 0]));
        }
        let step = interpreter.call("decoder", &feeds).expect("evaluates");
        // The first position of the first sequence of the whole pass.
        assert_eq!(step["logits"].as_f32().expect("f32"), &b[..11], "{update:?}");
        steps.push((step, fixed));
    }
    let [(token, _), (cache, fixed)] = &steps[..] else { panic!("two steps") };
    // The step wrote into its cache what the other leaves to the caller.
    for (name, new) in token.iter().filter(|(name, _)| name.starts_with("present.")) {
        let (new, all) = (new.as_f32().expect("f32"), cache[name].as_f32().expect("f32"));
        for head in 0..2 {
            assert_eq!(new[4 * head..][..4], all[16 * head..][..4], "{name}");
            assert_eq!(all[16 * head + 4..][..12], [0.0; 12], "{name}");
        }
    }
    // Tables are rounded where they are stored.
    let table = fixed.weights.iter().find(|(_, w)| w.name.contains("by_position")).expect("a table");
    assert!(matches!(table.1.data, WeightData::Derived(Derive::Steps(_), _)), "{}", table.1.data.type_name());
}

#[test]
fn a_bias_becomes_multiples_of_the_unit_of_its_sums() {
    let with_scale = |scale: f32| {
        let b = Build::new();
        let x = b.input("x", Type::f32([Dim::from(DEC), 2.into()]));
        let stored = Weight::stored;
        let w = b.weight(stored("w".into(), vec![2, 2], &[0.0; 4]));
        let bias = b.weight(stored("bias".into(), vec![2], &[0.3, -7.0]));
        let y = (x + x).linear(w, Some(bias));
        b.entry("full", &[("x", x)], &[("y", y)], BTreeMap::new());
        let mut graph = b.finish().expect("fits");
        let scales = vec![half::f16::from_f32(scale), half::f16::from_f32(0.5)];
        let codes = Blob::memory(vec![1; 4]);
        let tensor = AffineTensor { shape: [2, 2], bits: 8, block: Block::Row, codes, scales, zeros: None };
        let id = graph.weights.find("w").expect("a weight");
        graph.weights.get_mut(id).data = WeightData::Quantized(Quantized::Affine(tensor));
        graph
    };
    let steps = |graph: &Graph| {
        let tied = tied_values(graph, WORDS);
        tied.into_iter().map(|group| (group, FakeQuant { scale: 0.25, zero: 100, bits: 16 })).collect::<Vec<_>>()
    };
    let mut graph = with_scale(0.125);
    let groups = steps(&graph);
    run_one(&mut graph, &QuantizeValues { groups: &groups }).expect("fits");
    let bias = graph.weights.get(graph.weights.find("bias").expect("kept")).read().expect("memory");
    // Units of 0.25 · 0.125 and 0.25 · 0.5.
    assert_eq!(bias, [10.0 * 0.03125, -7.0]);

    let mut graph = with_scale(6e-8);
    let groups = steps(&graph);
    let unchanged = text::print(&graph);
    let tiny = with_scale(6e-8);
    let mut far = tiny.clone();
    let id = far.weights.find("bias").expect("kept");
    far.weights.get_mut(id).data = Weight::stored("bias".into(), vec![2], &[100.0, 0.0]).data;
    let error = run_one(&mut far, &QuantizeValues { groups: &groups }).expect_err("no 32 bits hold it").to_string();
    assert!(error.starts_with("quantize_values: bias[0]: expected at most 2^31 units of"), "{error}");
    assert_eq!(text::print(&far), unchanged);
    run_one(&mut graph, &QuantizeValues { groups: &groups }).expect("5e6 units of it");
}
