//! The prepared kernels against the plain ones, op by op.

use super::*;
use crate::build::{Build, Val};
use crate::ir::fake_quant::FakeQuant;
use crate::ir::op::{Binary, Granularity, Layout, Rope, Unary, Visible};
use crate::weights::blob::Blob;
use crate::weights::ggml::GgmlType;
use crate::weights::{
    AffineTensor, Block, Derive, Float8Tensor, FloatType, Quantized, ScalePer, Weight, WeightData, WeightId,
};
use half::f16;

/// Relative to the largest number of a result: sums of up to some hundred terms in two orders, and functions to a unit in
/// the last place.
const F32_NOISE: f32 = 2e-6; // 6.0e-7

/// Numbers from -1 to 1 by a fixed rule.
pub(super) fn drawn(count: usize, seed: u64) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// All numbers of the only entry's output, by plain and by prepared kernels, at one thread and at three.
fn compare(what: &str, graph: &Graph, feeds: &Feeds) {
    let plain = Interpreter::new(graph).call("only", feeds);
    let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    let run = |n, bytes| {
        let interpreter = Interpreter::new(graph).prepared().with_cache(bytes);
        threads(n).install(|| interpreter.call("only", feeds).and_then(|_| interpreter.call("only", feeds)))
    };
    let plain = match plain {
        Ok(plain) => plain,
        Err(error) => {
            assert_eq!(run(1, 0).expect_err("the plain one refuses").to_string(), error.to_string(), "{what}");
            return;
        }
    };
    let first = run(1, 0).unwrap_or_else(|e| panic!("{what}: {e}"));
    let bits = |t: &Tensors| -> Vec<Vec<u32>> {
        t.values().map(|t| t.as_f32().unwrap_or_default().iter().map(|x| x.to_bits()).collect()).collect()
    };
    for (n, bytes) in [(3, 0), (1, 1 << 30), (3, 1 << 30)] {
        let again = run(n, bytes).expect("as before");
        assert_eq!(bits(&again), bits(&first), "{what}: {n} threads, a cache of {bytes}");
    }
    for (name, plain) in &plain {
        let (Some(a), Some(b)) = (plain.as_f32(), first[name].as_f32()) else {
            assert_eq!(*plain, first[name], "{what}");
            continue;
        };
        assert_eq!(plain.shape(), first[name].shape(), "{what}");
        let scale = a.iter().filter(|x| x.is_finite()).fold(0.0f32, |max, x| max.max(x.abs()));
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let same = a == b || a.is_nan() && b.is_nan();
            assert!(
                same || (a - b).abs() <= F32_NOISE * scale,
                "{what}, {name}[{i}]: {a:e} plain, {b:e} prepared, {scale}"
            );
        }
    }
}

/// One op on drawn floats, by the shapes of its arguments.
fn op(op: Op, shapes: &[&[usize]]) {
    let what = format!("{op} of {shapes:?}");
    let b = Build::new();
    let names: Vec<String> = (0..shapes.len()).map(|i| format!("arg{i}")).collect();
    let inputs: Vec<Val> = names.iter().zip(shapes).map(|(n, shape)| b.input(n, Type::f32(shape.to_vec()))).collect();
    let y = b.op(op, &inputs);
    let ports: Vec<_> = names.iter().map(String::as_str).zip(inputs).collect();
    b.entry("only", &ports, &[("y", y)], BTreeMap::new());
    let feed = |(i, shape): (usize, &&[usize])| {
        let count = shape.iter().product();
        (names[i].clone(), Tensor::f32(*shape, drawn(count, 7 * i as u64 + count as u64)))
    };
    let feeds = shapes.iter().enumerate().map(feed).collect();
    compare(&what, &b.finish().unwrap_or_else(|e| panic!("{what}: {e}")), &feeds);
}

#[test]
fn products_agree_at_every_shape() {
    for m in [0, 1, 2, 5, 8, 63, 64, 65, 130] {
        for (k, n) in [(0, 3), (1, 1), (3, 0), (17, 31), (40, 129), (300, 7), (513, 260)] {
            op(Op::MatMul, &[&[m, k], &[k, n]]);
            op(Op::Linear, &[&[m, k], &[n, k]]);
        }
    }
    op(Op::MatMul, &[&[2, 1, 3, 33], &[5, 33, 140]]);
    op(Op::MatMul, &[&[5, 1, 33], &[2, 1, 33, 140]]);
    op(Op::MatMul, &[&[0, 4, 3], &[3, 2]]);
    op(Op::Linear, &[&[2, 3, 9], &[5, 9], &[5]]);
    op(Op::Linear, &[&[0, 3, 9], &[5, 9], &[5]]);
}

#[test]
fn attention_agrees_with_shared_heads_caps_and_biases() {
    for (queries, keys) in [(0, 3), (1, 0), (3, 0), (1, 1), (1, 140), (2, 5), (70, 131), (129, 64)] {
        for (width, value_width) in [(8, 8), (5, 3), (64, 130)] {
            let [q, k, v] = [[2, 6, queries, width], [2, 3, keys, width], [2, 3, keys, value_width]];
            for softcap in [None, Some(2.0)] {
                op(Op::Attention { scale: 0.3, softcap }, &[&q, &k, &v]);
            }
            let plain = Op::Attention { scale: 0.3, softcap: None };
            for bias in
                [vec![queries, keys], vec![6, 1, keys], vec![2, 1, queries, 1], vec![2, 6, queries, keys], vec![1]]
            {
                op(plain.clone(), &[&q, &k, &v, &bias]);
            }
        }
    }
}

#[test]
fn hidden_keys_count_as_little_as_in_the_plain_kernel() {
    for keys in [1, 3, 16, 40] {
        let b = Build::new();
        let q = b.input("q", Type::f32([1usize, 2, 3, 4]));
        let k = b.input("k", Type::f32([1usize, 2, keys, 4]));
        let mask = b.input("mask", Type::f32([3usize, keys]));
        let y = q.attention(k, k, Some(mask), 0.5, None);
        let soft = b.op(Op::Softmax, &[mask]);
        b.entry("only", &[("q", q), ("k", k), ("mask", mask)], &[("y", y), ("soft", soft)], BTreeMap::new());
        let graph = b.finish().expect("fits");
        for special in [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, -90.0, -103.0] {
            // A row of them, a row with one, and a row with one other.
            let mut mask = vec![special; keys];
            mask.extend((0..keys).map(|i| if i == 0 { special } else { 0.5 }));
            mask.extend((0..keys).map(|i| if i == 0 { 0.5 } else { special }));
            let feeds = Feeds::from([
                ("q".into(), Tensor::f32([1, 2, 3, 4], drawn(24, 1))),
                ("k".into(), Tensor::f32([1, 2, keys, 4], drawn(8 * keys, 2))),
                ("mask".into(), Tensor::f32([3, keys], mask)),
            ]);
            compare(&format!("{keys} keys, {special}"), &graph, &feeds);
        }
    }
}

#[test]
fn functions_agree_from_the_least_to_the_largest_number() {
    let mut x: Vec<f32> = (-1600..=1600).map(|i| i as f32 / 100.0).collect();
    x.extend([0.0, -0.0, 1e-40, -1e-40, 1e-20, 1e-6, 87.0, -87.0, 89.0, -89.0, 104.5, -104.5, 1e30, -1e30]);
    x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN]);
    for unary in [Unary::Relu, Unary::Tanh, Unary::Gelu, Unary::GeluTanh, Unary::Silu, Unary::Sigmoid, Unary::QuickGelu]
    {
        let b = Build::new();
        let y = b.input("x", Type::f32([1usize]));
        let y = (y, b.op(Op::Unary(unary), &[y]));
        b.entry("only", &[("x", y.0)], &[("y", y.1)], BTreeMap::new());
        let graph = b.finish().expect("fits");
        // Each alone, so that each is held to its own size, and at both ends of a vector.
        for x in &x {
            let feeds = Feeds::from([("x".into(), Tensor::f32([1], vec![*x]))]);
            let run = |i: Interpreter| i.call("only", &feeds).expect("runs")["y"].as_f32().expect("floats")[0];
            let (plain, prepared) = (run(Interpreter::new(&graph)), run(Interpreter::new(&graph).prepared()));
            let same = plain == prepared || plain.is_nan() && prepared.is_nan();
            // Where a function nears 0, its formula cancels, and both have an error of the size of x's own.
            let noise = F32_NOISE * plain.abs().max(f32::MIN_POSITIVE) + 1e-7 * x.abs().min(10.0); // 3.0e-8 of x
            assert!(
                same || (plain - prepared).abs() <= noise,
                "{unary:?}({x:e}): {plain:e} plain, {prepared:e} prepared"
            );
        }
        for shape in [&[0][..], &[], &[7, 5], &[3, 11_000]] {
            op(Op::Unary(unary), &[shape]);
        }
    }
}

#[test]
fn norms_softmax_and_convolutions_agree() {
    for rows in [0, 1, 3, 300] {
        for width in [1, 7, 16, 129] {
            op(Op::Softmax, &[&[rows, width]]);
            op(Op::RmsNorm { eps: 1e-6 }, &[&[rows, width], &[width]]);
            op(Op::LayerNorm { eps: 1e-5 }, &[&[rows, width], &[width]]);
            op(Op::LayerNorm { eps: 1e-5 }, &[&[2, rows, width], &[width], &[width]]);
        }
    }
    op(Op::Softmax, &[&[3, 0]]);
    op(Op::RmsNorm { eps: 1e-6 }, &[&[3, 0], &[0]]);
    op(Op::GroupNorm { groups: 2, eps: 1e-5 }, &[&[2, 4, 33], &[4], &[4]]);
    for (stride, pad) in [(1, 0), (2, 1), (3, 2), (2, 5)] {
        let conv = || Op::Conv { stride, pad, length: None };
        for n in [3, 4, 40, 301] {
            op(conv(), &[&[2, 3, n], &[5, 3, 3]]);
            op(conv(), &[&[1, 1, n], &[1, 1, 1], &[1]]);
            op(conv(), &[&[2, 2, n], &[130, 2, 2], &[130]]);
        }
        op(conv(), &[&[0, 3, 9], &[5, 3, 3], &[5]]);
    }
    for (stride, pad) in [([1, 1], [0, 0]), ([2, 3], [1, 2])] {
        let conv2d = |groups| Op::Conv2d { stride, pad, groups };
        op(conv2d(1), &[&[2, 3, 9, 31], &[5, 3, 3, 4]]);
        op(conv2d(1), &[&[2, 2, 40, 5], &[130, 2, 2, 3]]);
        op(conv2d(3), &[&[2, 6, 9, 7], &[9, 2, 3, 3]]);
        op(conv2d(4), &[&[0, 4, 5, 7], &[4, 1, 3, 3]]);
    }
}

#[test]
fn what_moves_or_rounds_numbers_is_the_same_in_both() {
    for binary in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        for shapes in
            [[&[3, 4][..], &[3, 4]], [&[3, 4], &[]], [&[2, 1, 4], &[3, 1]], [&[0, 4], &[4]], [&[1], &[5, 1, 3]]]
        {
            op(Op::Binary(binary), &shapes);
        }
    }
    op(Op::Broadcast([2usize, 3, 4].map(Into::into).to_vec()), &[&[3, 1]]);
    op(Op::Slice { axis: 1, start: 1, step: 2, len: 3.into() }, &[&[2, 7, 3]]);
    op(Op::Reshape([6usize, 2].map(Into::into).to_vec()), &[&[3, 4]]);
    op(Op::Transpose(vec![2, 0, 3, 1]), &[&[2, 3, 4, 5]]);
    op(Op::Concat { axis: 1 }, &[&[2, 3, 2], &[2, 0, 2], &[2, 1, 2]]);
    op(Op::DynamicQuant(Granularity::Tensor), &[&[3, 5]]);
    op(Op::DynamicQuant(Granularity::Token), &[&[3, 5]]);
    op(Op::FakeQuant(FakeQuant { scale: 0.01, zero: 128, bits: 8 }), &[&[3, 5]]);
    let hidden = f32::NEG_INFINITY;
    op(Op::Mask { visible: Visible::CAUSAL, start: 2.into(), q: 3.into(), k: 5.into(), hidden }, &[]);
    op(Op::Positions { start: 2.into(), len: 3.into() }, &[]);
    let bias = Op::RelativeBias {
        buckets: 8,
        max_distance: 20,
        bidirectional: true,
        start: 1.into(),
        q: 4.into(),
        k: 9.into(),
    };
    op(bias, &[&[8, 3]]);

    let b = Build::new();
    let ids = b.input("ids", Type::i64([2usize, 3]));
    let positions = b.input("positions", Type::i64([3usize]));
    let table = b.input("table", Type::f32([5usize, 4]));
    let x = b.input("x", Type::f32([2usize, 1, 3, 4]));
    let outputs = [
        ("embed", ids.embed(table)),
        ("rope", x.rope(positions, Rope { theta: 100.0, factor: 1.0, dims: 4, layout: Layout::Pairs })),
        ("padding", b.padding_mask(ids)),
        (
            "select",
            b.op(
                Op::Select,
                &[
                    ids,
                    b.op(Op::Softmax, &[table.slice(1, 0, 1, 3)]).slice(0, 0, 1, 2),
                    table.slice(1, 1, 1, 3).slice(0, 0, 1, 1),
                ],
            ),
        ),
    ];
    b.entry("only", &[("ids", ids), ("positions", positions), ("table", table), ("x", x)], &outputs, BTreeMap::new());
    let feeds = |id| {
        Feeds::from([
            ("ids".into(), Tensor::i64([2, 3], vec![0, 4, id, 1, 0, 2])),
            ("positions".into(), Tensor::i64([3], vec![0, 5, 2])),
            ("table".into(), Tensor::f32([5, 4], drawn(20, 1))),
            ("x".into(), Tensor::f32([2, 1, 3, 4], drawn(24, 2))),
        ])
    };
    let graph = b.finish().expect("fits");
    compare("ops on integers", &graph, &feeds(3));
    compare("an id outside the table", &graph, &feeds(5));
}

/// A matrix of each kind of weight: `[70, 256]`.
fn stored() -> Vec<WeightData> {
    const SHAPE: [usize; 2] = [70, 256];
    let count = SHAPE[0] * SHAPE[1];
    let mut kinds = Vec::new();
    for dtype in [FloatType::F32, FloatType::F16, FloatType::BF16] {
        let mut bytes = vec![0; count * dtype.bytes()];
        dtype.encode(&drawn(count, 5), &mut bytes);
        kinds.push(WeightData::Stored { blob: Blob::memory(bytes), dtype });
    }
    let codes = |bits: u32| -> Vec<u8> {
        (0..count).map(|i| (((i * 37 + i / 9) % (1 << bits)) as i32 - (1 << (bits - 1))) as i8 as u8).collect()
    };
    for (bits, block, zeros) in [
        (8, Block::Row, false),
        (8, Block::Group(32), true),
        (4, Block::Group(32), false),
        (4, Block::Group(100), true),
        (4, Block::Row, true),
    ] {
        let scales = SHAPE[0] * block.per_row(SHAPE[1]);
        kinds.push(WeightData::Quantized(Quantized::Affine(AffineTensor {
            shape: SHAPE,
            bits,
            block,
            codes: Blob::memory(codes(u32::from(bits))),
            scales: drawn(scales, 9).into_iter().map(|x| f16::from_f32(0.01 + x.abs() / 100.0)).collect(),
            zeros: zeros.then(|| (0..scales).map(|i| (i % 5) as i8 - 2).collect()),
        })));
    }
    for kind in GgmlType::ALL {
        let bytes = count / kind.block_len() * kind.block_bytes();
        // Halves below 2, wherever a scale stands.
        let blocks: Vec<u8> = (0..bytes).map(|i| (i * 89 + i / 7) as u8 & 0x3d).collect();
        kinds.push(WeightData::Quantized(Quantized::Ggml { kind: *kind, blocks: Blob::memory(blocks) }));
    }
    for (per, scales) in [(ScalePer::Row, SHAPE[0]), (ScalePer::Tensor, 1)] {
        kinds.push(WeightData::Quantized(Quantized::Float8(Float8Tensor {
            shape: SHAPE,
            per,
            // Numbers below 2.
            codes: Blob::memory((0..count).map(|i| (i * 89 + i / 7) as u8 & 0xbf).collect::<Vec<u8>>()),
            scales: drawn(scales, 11).into_iter().map(|x| 0.01 + x.abs() / 100.0).collect(),
        })));
    }
    let base = kinds[1].clone();
    kinds.push(WeightData::Derived(Derive::MulScalar(0.37), Box::new(base)));
    let base = kinds[5].clone();
    kinds.push(WeightData::Derived(Derive::Rows(drawn(SHAPE[0], 3).into()), Box::new(base)));
    kinds
}

#[test]
fn every_kind_of_weight_agrees_however_it_is_held() {
    for data in stored() {
        let name = data.type_name();
        let b = Build::new();
        let x = b.input("x", Type::f32([Dim::from(BATCH), 256.into()]));
        let ids = b.input("ids", Type::i64([2usize]));
        let w = b.weight(Weight { name: "w".into(), shape: vec![70, 256], data });
        let ports = [("x", x), ("ids", ids)];
        b.entry("only", &ports, &[("y", x.linear(w, None)), ("rows", ids.embed(w))], BTreeMap::new());
        let graph = b.finish().expect("fits");
        let stored = graph.weights.get(WeightId(0)).data.resident_bytes();
        for rows in [1, 2, 70] {
            let feeds = Feeds::from([
                ("x".into(), Tensor::f32([rows, 256], drawn(rows * 256, 11))),
                ("ids".into(), Tensor::i64([2], vec![69, 0])),
            ]);
            compare(&format!("{name}, {rows} rows"), &graph, &feeds);
            // `compare` holds it in panels and not at all; as it is stored is between.
            let run = |bytes| {
                let out = Interpreter::new(&graph).prepared().with_cache(bytes).call("only", &feeds).expect("runs");
                out["y"].clone()
            };
            assert_eq!(run(stored), run(0), "{name}");
        }
    }
}
