//! Each op on ggml against the interpreter, on graphs of one op, with one thread and with three.

use std::collections::BTreeMap;

use graph::{
    BATCH, Binary, Blob, Build, DEC, Dim, ENC, FakeQuant, Feeds, FloatType, Granularity, Interpreter, Layout, Op, Rope,
    Tensor, Type, Unary, Val, Visible, Weight, WeightData,
};
use trefoil_engine::{Options, evaluate};

/// Sums in another order, relative to the largest number.
const SUMS: f32 = 2e-6;
/// Angles: a position divided by a rounded inverse, some hundred radians at most.
const TURNS: f32 = 2e-5;

/// Numbers from -1 to 1.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn floats(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::f32(shape, numbers(seed, shape.iter().product()))
}

fn weight(name: &str, shape: &[usize]) -> Weight {
    let values = numbers(name.len() as u64 + 77, shape.iter().product());
    let mut bytes = vec![0; 4 * values.len()];
    FloatType::F32.encode(&values, &mut bytes);
    let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
    Weight { name: name.to_owned(), shape: shape.to_vec(), data }
}

/// Builds `y` from inputs of the shapes of `feeds`, and compares it.
fn same(what: &str, limit: f32, feeds: &[(&str, Tensor)], write: impl for<'b> Fn(&'b Build, &[Val<'b>]) -> Val<'b>) {
    let b = Build::new();
    let inputs: Vec<Val<'_>> = feeds
        .iter()
        .map(|(name, x)| {
            let shape = x.shape().iter().copied();
            b.input(name, if x.as_f32().is_some() { Type::f32(shape) } else { Type::i64(shape) })
        })
        .collect();
    let y = write(&b, &inputs);
    let ports: Vec<(&str, Val<'_>)> = feeds.iter().map(|(name, _)| *name).zip(inputs.iter().copied()).collect();
    b.entry("one", &ports, &[("y", y)], BTreeMap::new());
    let graph = b.finish().unwrap_or_else(|e| panic!("{what}: {e}"));
    let feeds: Feeds = feeds.iter().map(|(name, x)| ((*name).to_owned(), x.clone())).collect();
    let expected = &Interpreter::new(&graph).call("one", &feeds).unwrap_or_else(|e| panic!("{what}: {e}"))["y"];
    for threads in [1, 3] {
        let options = Options { encoder_threads: threads, exact_activations: true, ..Options::default() };
        let found = &evaluate(&graph, "one", &feeds, &options).unwrap_or_else(|e| panic!("{what}: {e}"))["y"];
        assert_eq!(found.shape(), expected.shape(), "{what}");
        let (a, b) = (found.as_f32().expect("floats"), expected.as_f32().expect("floats"));
        let largest = b.iter().filter(|x| x.is_finite()).fold(1e-3f32, |m, x| m.max(x.abs()));
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let off = (a - b).abs() / largest;
            assert!(
                a.to_bits() == b.to_bits() || off <= limit,
                "{what}, {threads} threads, place {i}: {a:e}, not {b:e}"
            );
        }
    }
}

#[test]
fn matrix_products_broadcast_both_ways() {
    for (a, b) in [
        (&[5, 7][..], &[7, 3][..]),
        (&[2, 3, 5, 7], &[2, 3, 7, 4]),
        (&[2, 3, 5, 7], &[7, 4]),
        (&[5, 7], &[2, 3, 7, 4]),
        (&[3, 5, 7], &[2, 1, 7, 4]),
        (&[2, 1, 1, 33], &[1, 3, 33, 1]),
    ] {
        same(&format!("{a:?} · {b:?}"), SUMS, &[("a", floats(1, a)), ("b", floats(2, b))], |_, x| x[0].matmul(x[1]));
    }
}

#[test]
fn linear_layers_take_any_leading_axes_and_number_of_rows() {
    for shape in [&[33][..], &[1, 33], &[2, 33], &[3, 5, 33], &[2, 3, 4, 33], &[2, 2, 2, 2, 33]] {
        for bias in [false, true] {
            same(&format!("linear {shape:?}"), SUMS, &[("x", floats(3, shape))], |b, x| {
                let bias = bias.then(|| b.weight(weight("bias", &[19])));
                x[0].linear(b.weight(weight("matrix", &[19, 33])), bias)
            });
        }
    }
}

#[test]
fn arithmetic_broadcasts_as_numpy_does() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3, 5], &[2, 3, 5]),
        (&[2, 3, 5], &[5]),
        (&[5], &[2, 3, 5]),
        (&[2, 1, 5], &[3, 1]),
        (&[4, 1, 1, 6], &[1, 3, 5, 6]),
        (&[1, 3, 5, 1], &[4, 1, 1, 6]),
        (&[2, 3, 5], &[1]),
        (&[2, 2, 2, 3, 5], &[2, 2, 2, 3, 5]),
    ];
    for (a, b) in shapes {
        for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            let divisor: Vec<f32> = numbers(5, b.iter().product()).iter().map(|x| x + 2.5).collect();
            let feeds = [("a", floats(4, a)), ("b", Tensor::f32(b, divisor))];
            same(&format!("{op:?} {a:?} {b:?}"), SUMS, &feeds, |b, x| b.op(Op::Binary(op), &[x[0], x[1]]));
        }
    }
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        let x = [("x", Tensor::f32([2, 3], vec![1.5, 2.0, -3.0, 0.25, 7.0, 1.0]))];
        same(&format!("{op:?} with 1.7"), SUMS, &x, |b, x| b.op(Op::Binary(op), &[x[0], b.scalar(1.7)]));
        same(&format!("1.7 {op:?}"), SUMS, &x, |b, x| b.op(Op::Binary(op), &[b.scalar(1.7), x[0]]));
        same(&format!("{op:?} of a turned one"), SUMS, &x, |b, x| b.op(Op::Binary(op), &[x[0].t(), x[0].t()]));
    }
}

#[test]
fn activations_are_exact_where_that_is_asked_for() {
    let x = Tensor::f32([4, 50], numbers(6, 200).iter().map(|x| 9.0 * x).collect());
    for op in [Unary::Relu, Unary::Tanh, Unary::Gelu, Unary::GeluTanh, Unary::Silu, Unary::Sigmoid, Unary::QuickGelu] {
        same(&format!("{op:?}"), SUMS, &[("x", x.clone())], |_, x| x[0].activation(op));
        same(&format!("{op:?}, turned"), SUMS, &[("x", x.clone())], |_, x| x[0].t().activation(op));
    }
}

#[test]
fn a_softmax_of_hidden_places_alone_is_zeros() {
    let mut scores = numbers(7, 24);
    scores[6..12].fill(f32::NEG_INFINITY);
    scores[13] = f32::NEG_INFINITY;
    for shape in [&[4, 6][..], &[2, 2, 6], &[1, 2, 2, 6]] {
        same("softmax", SUMS, &[("x", Tensor::f32(shape, scores.clone()))], |_, x| x[0].softmax());
    }
}

#[test]
fn norms_are_over_what_they_say() {
    let x = || [("x", floats(8, &[2, 6, 10]))];
    same("rms", SUMS, &x(), |b, x| x[0].rms_norm(b.weight(weight("w", &[10])), 1e-3));
    same("layer", SUMS, &x(), |b, x| x[0].layer_norm(b.weight(weight("w", &[10])), None, 1e-3));
    same("layer with a bias", SUMS, &x(), |b, x| {
        x[0].layer_norm(b.weight(weight("w", &[10])), Some(b.weight(weight("bias", &[10]))), 1e-3)
    });
    for groups in [1, 2, 3, 6] {
        same(&format!("{groups} groups"), SUMS, &x(), |b, x| {
            x[0].group_norm(b.weight(weight("w", &[6])), b.weight(weight("bias", &[6])), groups, 1e-3)
        });
    }
    same("a turned one", SUMS, &x(), |b, x| x[0].t().rms_norm(b.weight(weight("w", &[6])), 1e-3));
}

#[test]
fn convolutions_see_the_ends_and_every_row_of_a_batch() {
    for (channels, outputs, k, stride, pad, n) in
        [(3, 5, 3, 1, 1, 8), (3, 5, 3, 2, 1, 9), (1, 4, 7, 3, 0, 20), (2, 3, 1, 1, 0, 4), (1, 18, 127, 64, 0, 700)]
    {
        for batch in [1, 2] {
            let what = format!("conv {channels} to {outputs}, {k} by {stride}, {pad} zeros, batch {batch}");
            same(&what, SUMS, &[("x", floats(9, &[batch, channels, n]))], |b, x| {
                let w = b.weight(weight("kernel", &[outputs, channels, k]));
                x[0].conv(w, Some(b.weight(weight("bias", &[outputs]))), stride, pad, None)
            });
        }
    }
}

#[test]
fn convolutions_along_two_axes_see_every_channel_and_both_ends() {
    for (kernel, stride, pad, image) in
        [([3, 2], [1, 1], [0, 0], [5, 9]), ([4, 6], [4, 6], [0, 0], [20, 18]), ([3, 5], [2, 1], [1, 2], [7, 8])]
    {
        for (batch, channels) in [(1, 1), (3, 3)] {
            let what = format!("conv2d {kernel:?} by {stride:?}, {pad:?} zeros, {channels} channels, batch {batch}");
            same(&what, SUMS, &[("x", floats(9, &[batch, channels, image[0], image[1]]))], |b, x| {
                x[0].conv2d(b.weight(weight("kernel", &[5, channels, kernel[0], kernel[1]])), stride, pad, 1)
            });
        }
    }
}

#[test]
fn groups_of_channels_are_convolved_on_their_own() {
    for (groups, channels, outputs) in [(4, 4, 4), (2, 4, 6), (3, 3, 9)] {
        for batch in [1, 3] {
            let what = format!("{groups} groups of {channels} channels to {outputs}, batch {batch}");
            same(&what, SUMS, &[("x", floats(9, &[batch, channels, 5, 7]))], |b, x| {
                x[0].conv2d(b.weight(weight("kernel", &[outputs, channels / groups, 3, 2])), [1, 2], [1, 0], groups)
            });
        }
    }
}

#[test]
fn a_mean_is_over_its_axis() {
    for axis in 0..3 {
        same(&format!("axis {axis}"), SUMS, &[("x", floats(12, &[2, 5, 3]))], |_, x| x[0].mean(axis));
        same(&format!("axis {axis} of a turned one"), SUMS, &[("x", floats(12, &[2, 5, 3]))], |_, x| {
            x[0].t().mean(axis)
        });
    }
}

#[test]
fn layout_is_layout() {
    let x = || [("x", floats(10, &[2, 3, 4, 5]))];
    for perm in [[0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        same(&format!("{perm:?}"), 0.0, &x(), |_, x| x[0].transpose(perm.to_vec()));
    }
    let five = || [("x", floats(11, &[2, 3, 4, 5, 6]))];
    for perm in [[0, 3, 2, 1, 4], [4, 3, 2, 1, 0], [0, 1, 2, 4, 3], [2, 0, 4, 1, 3]] {
        same(&format!("{perm:?}"), 0.0, &five(), |_, x| x[0].transpose(perm.to_vec()));
    }
    same("reshape of a turned one", 0.0, &x(), |_, x| x[0].t().reshape([6.into(), 20.into()]));
    for axis in 0..4 {
        for (start, step, len) in [(0, 1, 2), (1, 1, 1), (0, 2, 1), (1, 1, if axis == 0 { 1 } else { 2 })] {
            let what = format!("axis {axis} from {start} by {step}, {len}");
            same(&what, 0.0, &x(), |_, x| x[0].slice(axis, start, step, len));
            let turned = 3 - axis;
            same(&what, 0.0, &x(), |_, x| x[0].transpose(vec![3, 2, 1, 0]).slice(turned, start, step, len));
        }
        same(&format!("joined at {axis}"), 0.0, &x(), |b, x| b.concat(&[x[0], x[0], x[0]], axis));
    }
    same("every second of a row", 0.0, &x(), |_, x| x[0].slice(3, 0, 2, 3));
    same("broadcast", 0.0, &[("x", floats(12, &[3, 1, 5]))], |_, x| {
        x[0].broadcast([2.into(), 3.into(), 4.into(), 5.into()])
    });
}

#[test]
fn rows_of_tables_are_taken_by_id_and_by_position() {
    let ids = Tensor::i64([2, 3], vec![0, 6, 3, 3, 1, 5]);
    same("embed", 0.0, &[("ids", ids.clone())], |b, x| x[0].embed(b.weight(weight("table", &[7, 5]))));
    same("a column of ids", 0.0, &[("ids", ids.clone())], |b, x| {
        x[0].slice(1, 1, 1, 2).transpose(vec![1, 0]).embed(b.weight(weight("table", &[7, 5])))
    });
    same("joined, broadcast", 0.0, &[("ids", ids)], |b, x| {
        let wide = b.concat(&[x[0], x[0].slice(1, 0, 2, 2)], 1).reshape([1.into(), 2.into(), 5.into()]);
        wide.broadcast([2.into(), 2.into(), 5.into()]).embed(b.weight(weight("table", &[7, 5])))
    });
    same("positions", 0.0, &[("x", floats(13, &[1, 4, 5]))], |b, x| {
        x[0] + b.positions(2, 4).embed(b.weight(weight("table", &[7, 5])))
    });
}

#[test]
fn a_choice_takes_one_or_the_other() {
    let choice = Tensor::i64([2, 1], vec![0, 4]);
    let feeds = [("choice", choice), ("a", floats(14, &[2, 3])), ("b", floats(15, &[3]))];
    same("select", 0.0, &feeds, |b, x| b.op(Op::Select, &[x[0], x[1], x[2]]));
}

#[test]
fn heads_turn_by_their_positions() {
    for (dims, width) in [(8, 8), (8, 9), (6, 8), (2, 16)] {
        for layout in [Layout::Half, Layout::Pairs] {
            for heads in [1, 2, 3] {
                let rope = Rope { theta: 10_000.0, factor: 1.5, dims, layout };
                let what = format!("{layout:?} {dims} of {width}, {heads} heads");
                same(&what, TURNS, &[("x", floats(16, &[2, heads, 7, width]))], |b, x| {
                    x[0].rope(b.positions(300, 7), rope)
                });
                same(&what, TURNS, &[("x", floats(16, &[2, 7, heads * width]))], |b, x| {
                    x[0].heads(heads).rope(b.positions(3, 7), rope).merge_heads()
                });
            }
        }
    }
}

#[test]
fn masks_and_biases_are_those_of_the_interpreter() {
    let x = || [("x", floats(17, &[5, 7]))];
    for visible in [Visible::CAUSAL, Visible { before: Some(2), after: Some(1) }, Visible { before: None, after: None }]
    {
        let hidden = -1e4;
        same(&format!("{visible}"), SUMS, &x(), |b, x| {
            x[0] + b.op(Op::Mask { visible, start: 2.into(), q: 5.into(), k: 7.into(), hidden }, &[])
        });
    }
    let mask = Tensor::i64([2, 3], vec![1, 0, 1, 0, 0, 2]);
    same("padding", SUMS, &[("m", mask), ("x", floats(18, &[2, 2, 4, 3]))], |b, x| {
        x[1] + b.op(Op::PaddingMask { hidden: -7.0 }, &[x[0]])
    });
    for (bidirectional, start) in [(true, 0), (false, 0), (false, 40)] {
        same(&format!("bias {bidirectional} {start}"), 0.0, &[("x", floats(19, &[1, 3, 60, 70]))], |b, x| {
            let op = Op::RelativeBias {
                buckets: 32,
                max_distance: 20,
                bidirectional,
                start: start.into(),
                q: 60.into(),
                k: 70.into(),
            };
            x[0] + b.op(op, &[b.weight(weight("table", &[32, 3]))])
        });
    }
}

#[test]
fn attention_shares_heads_caps_scores_and_adds_every_kind_of_bias() {
    let feeds = |q: usize| {
        [
            ("q", floats(20, &[2, 6, q, 8])),
            ("k", floats(21, &[2, 3, 9, 8])),
            ("v", floats(22, &[2, 3, 9, 5])),
            ("m", Tensor::i64([2, 9], vec![1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])),
        ]
    };
    for q in [1, 4] {
        for softcap in [None, Some(2.5)] {
            for scale in [1.0, 0.35] {
                for kind in 0..7 {
                    let what = format!("{q} queries, cap {softcap:?}, scale {scale}, bias {kind}");
                    same(&what, SUMS, &feeds(q), |b, x| {
                        let table = b.weight(weight("table", &[32, 6]));
                        let far = Op::RelativeBias {
                            buckets: 32,
                            max_distance: 64,
                            bidirectional: true,
                            start: 0.into(),
                            q: q.into(),
                            k: 9.into(),
                        };
                        let causal = b.mask(Visible::CAUSAL, 5, q, 9);
                        let padding = b.padding_mask(x[3]);
                        let bias = match kind {
                            0 => None,
                            1 => Some(padding),
                            2 => Some(causal),
                            3 => Some(causal + padding),
                            4 => Some(b.op(far, &[table]) + padding),
                            5 => Some(b.op(far, &[table]) + (causal + padding)),
                            _ => Some(b.op(far, &[table])),
                        };
                        x[0].attention(x[1], x[2], bias, scale, softcap)
                    });
                }
            }
        }
    }
}

#[test]
fn a_length_that_a_convolution_makes_is_known_afterwards() {
    let b = Build::new();
    let x = b.input("x", Type::f32([Dim::from(BATCH), 1.into(), ENC.into()]));
    let made = x.conv(b.weight(weight("kernel", &[4, 1, 3])), None, 2, 0, Some(DEC)).t();
    let y = made + b.positions(0, DEC).embed(b.weight(weight("table", &[9, 4])));
    b.entry("one", &[("x", x)], &[("y", y)], BTreeMap::new());
    let graph = b.finish().expect("fits");
    let feeds = Feeds::from([("x".to_owned(), floats(23, &[2, 1, 12]))]);
    let expected = Interpreter::new(&graph).call("one", &feeds).expect("evaluates");
    let found = evaluate(&graph, "one", &feeds, &Options::default()).expect("computes");
    assert_eq!(found["y"].shape(), [2, 5, 4]);
    for (a, b) in found["y"].as_f32().expect("floats").iter().zip(expected["y"].as_f32().expect("floats")) {
        assert!((a - b).abs() <= SUMS * 4.0, "{a} {b}");
    }
    let short = Feeds::from([("x".to_owned(), floats(24, &[2, 1, 2]))]);
    let error = evaluate(&graph, "one", &short, &Options::default()).expect_err("no window");
    assert_eq!(error.to_string(), "ggml cannot run this model: conv: expected at least 3 places, found 2");
}

#[test]
fn what_ggml_does_not_compute_is_refused_with_its_place() {
    let refused = |op: Op| {
        let b = Build::new();
        let x = b.input("x", Type::f32([2usize, 3]));
        let y = b.op(op, &[x]);
        b.entry("one", &[("x", x)], &[("y", y)], BTreeMap::new());
        let graph = b.finish().expect("fits");
        let feeds = Feeds::from([("x".to_owned(), floats(25, &[2, 3]))]);
        evaluate(&graph, "one", &feeds, &Options::default()).expect_err("refused").to_string()
    };
    let message = refused(Op::DynamicQuant(Granularity::Token));
    assert_eq!(
        message,
        "ggml cannot run this model: dynamic_quant: expected a graph without DynamicQuant(per token), which ggml does not \
         compute; run its ONNX artifact"
    );
    let message = refused(Op::FakeQuant(FakeQuant { scale: 0.1, zero: 0, bits: 8 }));
    assert!(
        message.starts_with("ggml cannot run this model: fake_quant: expected a graph without FakeQuant"),
        "{message}"
    );
}

#[test]
fn weights_of_types_that_ggml_lacks_are_named_all_at_once() {
    let affine = |name: &str| {
        let tensor = graph::AffineTensor {
            shape: [2, 32],
            bits: 8,
            block: graph::Block::Row,
            codes: Blob::memory(vec![1; 64]),
            scales: vec![half::f16::ONE; 2],
            zeros: None,
        };
        let data = WeightData::Quantized(graph::Quantized::Affine(tensor));
        Weight { name: name.to_owned(), shape: vec![2, 32], data }
    };
    let b = Build::new();
    let x = b.input("x", Type::f32([1usize, 32]));
    let y = x.linear(b.weight(affine("first")), None) + x.linear(b.weight(affine("second")), None);
    b.entry("one", &[("x", x)], &[("y", y)], BTreeMap::new());
    let graph = b.finish().expect("fits");
    let feeds = Feeds::from([("x".to_owned(), floats(26, &[1, 32]))]);
    let message = evaluate(&graph, "one", &feeds, &Options::default()).expect_err("refused").to_string();
    let line = "expected floats or blocks of ggml, found int8 per row; a gguf artifact of the model has blocks";
    assert_eq!(message, format!("ggml cannot run this model: first: {line}\n  second: {line}"));
}
