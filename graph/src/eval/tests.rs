mod prepared;
mod properties;

use std::collections::BTreeMap;

use super::kernels::{attention, norm, quant};
use super::tensor::Tensor;
use super::*;
use crate::build::Build;
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::Graph;
use crate::ir::op::{Granularity, Op, Visible};
use crate::ir::ty::{BATCH, DEC, Dim, ENC, PAST, Type};

fn feeds(pairs: &[(&str, Tensor)]) -> Feeds {
    pairs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

#[test]
fn a_causal_step_sees_its_past() {
    let b = Build::new();
    let q = b.input("q", Type::f32([Dim::from(BATCH), 2.into(), DEC.into(), 4.into()]));
    let past = b.input("past", Type::f32([Dim::from(BATCH), 2.into(), PAST.into(), 4.into()]));
    let k = b.op(Op::Concat { axis: 2 }, &[past, q]);
    let mask = b.mask(Visible::CAUSAL, PAST, DEC, Dim::from(PAST) + DEC.into());
    let y = q.attention(k, k, Some(mask), 0.5, None);
    b.entry("step", &[("q", q), ("past", past)], &[("y", y)], BTreeMap::new());
    b.entry("first", &[("q", q)], &[("y", y)], BTreeMap::from([(PAST, 0)]));
    let g = b.finish().expect("fits");
    let x: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
    let whole =
        eval(&g, "first", &feeds(&[("q", Tensor::f32([1, 2, 3, 4], x.clone()))]), &mut |_, _| {}).expect("whole");
    let part = |from: usize, to: usize| {
        let rows: Vec<f32> = (0..2).flat_map(|h| x[h * 12 + from * 4..h * 12 + to * 4].to_vec()).collect();
        Tensor::f32([1, 2, to - from, 4], rows)
    };
    let step = eval(&g, "step", &feeds(&[("q", part(2, 3)), ("past", part(0, 2))]), &mut |_, _| {}).expect("step");
    let (whole, step) = (whole["y"].as_f32().expect("f32"), step["y"].as_f32().expect("f32"));
    for h in 0..2 {
        assert_eq!(whole[h * 12 + 8..h * 12 + 12], step[h * 4..h * 4 + 4]);
    }
}

#[test]
fn feeds_that_do_not_fit_are_told_all_at_once() {
    let b = Build::new();
    let ids = b.input("input_ids", Type::i64([BATCH, ENC]));
    let mask = b.input("attention_mask", Type::i64([BATCH, ENC]));
    let y = b.padding_mask(mask);
    b.entry("encoder", &[("input_ids", ids), ("attention_mask", mask)], &[("y", y)], BTreeMap::new());
    let g = b.finish().expect("fits");
    let bad = feeds(&[
        ("input_ids", Tensor::i64([1, 3], vec![0; 3])),
        ("attention_mask", Tensor::i64([1, 2], vec![0; 2])),
        ("labels", Tensor::scalar(0.0)),
    ]);
    let error = eval(&g, "encoder", &bad, &mut |_, _| {}).expect_err("3 is not 2").to_string();
    assert_eq!(
        error,
        "encoder: labels: no such input\n  \
         attention_mask: expected i64[batch, enc] with batch = 1, enc = 3, found [1, 2]"
    );
    assert!(eval(&g, "decoder", &bad, &mut |_, _| {}).expect_err("no such entry").to_string().contains("encoder"));
}

#[test]
fn a_row_without_visible_keys_is_zero_and_a_nan_stays() {
    let inf = f32::NEG_INFINITY;
    let x = Tensor::f32([3, 2], vec![inf, inf, inf, 0.0, f32::NAN, inf]);
    let y = norm::softmax(&x);
    let y = y.as_f32().expect("f32");
    assert_eq!(y[..4], [0.0, 0.0, 0.0, 1.0]);
    assert!(y[4].is_nan());
}

#[test]
fn grouped_heads_share_neighbouring_keys() {
    let q = Tensor::f32([1, 4, 1, 1], vec![0.0; 4]);
    let v = Tensor::f32([1, 2, 1, 1], vec![10.0, 20.0]);
    let y = attention::attention(&q, &v, &v, None, 1.0, None);
    assert_eq!(y.as_f32().expect("f32"), [10.0, 10.0, 20.0, 20.0]);
}

#[test]
fn dynamic_quantization_keeps_zero_and_stays_within_half_a_step() {
    let x = [-0.3f32, 0.0, 0.7, 2.25];
    let y = quant::dynamic_quant(Granularity::Tensor, &Tensor::f32([4], x.to_vec()));
    let y = y.as_f32().expect("f32");
    let scale = 2.55 / 255.0;
    assert_eq!(y[1], 0.0);
    assert!(x.iter().zip(y).all(|(a, b)| (a - b).abs() <= scale / 2.0 * 1.0001), "{y:?}");
    let rows = quant::dynamic_quant(Granularity::Token, &Tensor::f32([2, 2], vec![127.5, -0.4, 0.0, 0.0]));
    assert_eq!(rows.as_f32().expect("f32"), [127.0, 0.0, 0.0, 0.0]);
}

#[test]
fn noise_is_of_the_size_of_roundings_and_follows_its_seed() {
    let b = Build::new();
    let x = b.input("x", Type::f32([4usize, 512]));
    let w = b.input("w", Type::f32([64usize, 512]));
    b.entry("only", &[("x", x), ("w", w)], &[("y", x.linear(w, None))], BTreeMap::new());
    let g = b.finish().expect("fits");
    let floats = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let fed = feeds(&[("x", Tensor::f32([4, 512], floats(4 * 512))), ("w", Tensor::f32([64, 512], floats(64 * 512)))]);
    let interpreter = Interpreter::new(&g);
    let noisy = |seed, times| {
        let mut out = interpreter.call_with_noise("only", &fed, seed, times).expect("evaluates");
        out.remove("y").expect("asked for").as_f32().expect("floats").to_vec()
    };
    let exact = noisy(1, 0.0);
    assert_eq!(exact, interpreter.call("only", &fed).expect("evaluates")["y"].as_f32().expect("floats"));
    assert_eq!(noisy(1, 1.0), noisy(1, 1.0));
    assert_ne!(noisy(1, 1.0), noisy(2, 1.0));
    let square = |xs: &[f32]| xs.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let rel = |times| {
        let off: Vec<f32> = noisy(3, times).iter().zip(&exact).map(|(a, b)| a - b).collect();
        (square(&off) / square(&exact)).sqrt()
    };
    // 2^-24 · √(512 / 8) = 4.8e-7, and what f32 makes of it.
    assert!((3e-7..7e-7).contains(&rel(1.0)), "{}", rel(1.0)); // 4.7e-7
    assert!((3e-6..7e-6).contains(&rel(10.0)), "{}", rel(10.0));
}

#[test]
fn blocks_are_rounded_each_by_its_own_largest_and_end_with_their_row() {
    // Blocks of 2 in rows of 3: a row's last block has one number, which is the largest of its block and stays.
    let x = Tensor::f32([2, 3], vec![127.0, -3.4, 0.013, 0.0, 0.0, -5e-3]);
    let y = quant::dynamic_quant(Granularity::Block(2), &x);
    let y = y.as_f32().expect("f32");
    assert_eq!(y[..2], [127.0, -3.0]);
    assert_eq!(y[3..5], [0.0, 0.0]);
    assert!((y[2] - 0.013).abs() < 1e-8 && (y[5] + 5e-3).abs() < 1e-9, "{y:?}");
}

#[test]
fn fixed_steps_round_ties_to_even_saturate_at_both_ends_and_keep_zero() {
    let round = |zero, bits, x: &[f32]| apply(Op::FakeQuant(FakeQuant { scale: 0.5, zero, bits }), &[(&[x.len()], x)]);
    // x / 0.5 = 0.5, 1.5, 2.5, -0.5, -1.5, -2.5: all ties.
    assert_eq!(round(10, 8, &[0.25, 0.75, 1.25, -0.25, -0.75, -1.25]), [0.0, 1.0, 1.0, 0.0, -1.0, -1.0]);
    // Codes 0 and 255 lie at -10 · 0.5 and 245 · 0.5.
    let far = [-5.0, -5.25, -1e30, f32::NEG_INFINITY, 122.5, 122.75, 1e30, f32::INFINITY];
    assert_eq!(round(10, 8, &far), [-5.0, -5.0, -5.0, -5.0, 122.5, 122.5, 122.5, 122.5]);
    // At 16 bits 0 and 65535 lie at -1000 · 0.5 and 64535 · 0.5.
    assert_eq!(round(1000, 16, &[-499.8, -600.0, 32267.3, 40000.0]), [-500.0, -500.0, 32267.5, 32267.5]);
    for (zero, bits) in [(0, 8), (255, 8), (0, 16), (65535, 16)] {
        let zeros = round(zero, bits, &[0.0, -0.0, 1e-40, -1e-40]);
        assert!(zeros.iter().all(|x| x.to_bits() == 0), "{zeros:?}");
    }
    assert!(round(10, 8, &[f32::NAN])[0].is_nan());
}

/// Codes of `QuantizeLinear` of onnxruntime 1.32 at opset 21. In f32, 0.35 / 0.1 is a tie and 0.45 / 0.1 is not; a rounded
/// product with 1 / scale would find other codes.
#[test]
fn fixed_steps_have_the_codes_of_onnxruntime() {
    let check = |scale, zero, bits, x: [f32; 16], codes: [i32; 16]| {
        let found = apply(Op::FakeQuant(FakeQuant { scale, zero, bits }), &[(&[16], &x)]);
        assert_eq!(found, codes.map(|code| (code - zero) as f32 * scale));
    };
    let x = [
        0.35,
        0.45,
        -0.25,
        -0.15,
        0.05,
        -0.05,
        1.23456,
        -3.7,
        -3.65,
        21.8,
        21.85,
        -100.0,
        3e38,
        0.149_999_9,
        0.15,
        0.250_000_1,
    ];
    check(0.1, 37, 8, x, [41, 41, 35, 35, 37, 37, 49, 0, 1, 255, 255, 0, 255, 38, 39, 40]);
    let x = [
        0.35, 0.45, -0.25, -0.15, 1.00125, -1.00125, 50.00325, -30.0001, -32.7685, 32.7685, -100.0, 3e38, 0.0015,
        0.0025, -0.0005, 10.0005,
    ];
    let codes = [30350, 30450, 29750, 29850, 31001, 28999, 65535, 0, 0, 62768, 0, 65535, 30002, 30002, 30000, 40000];
    check(0.001, 30000, 16, x, codes);
}

/// Computed by `T5Attention._relative_position_bucket` of transformers 5.23 for distances -140, -100, -20, -16, -9, -8, -1,
/// 0, 1, 7, 8, 9, 16, 20, 100, 140.
#[test]
fn buckets_equal_those_of_transformers() {
    let distances = [-140, -100, -20, -16, -9, -8, -1, 0, 1, 7, 8, 9, 16, 20, 100, 140];
    let of = |bidirectional| distances.map(|d| relative_bucket(d, 32, 128, bidirectional));
    assert_eq!(of(true), [15, 15, 10, 10, 8, 8, 1, 0, 17, 23, 24, 24, 26, 26, 31, 31]);
    assert_eq!(of(false), [31, 30, 17, 16, 9, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// One op on floats, by the shapes of its arguments.
fn apply(op: Op, args: &[(&[usize], &[f32])]) -> Vec<f32> {
    let b = Build::new();
    let names: Vec<String> = (0..args.len()).map(|i| format!("arg{i}")).collect();
    let inputs: Vec<_> =
        names.iter().zip(args).map(|(name, (shape, _))| b.input(name, Type::f32(shape.to_vec()))).collect();
    let y = b.op(op, &inputs);
    let ports: Vec<_> = names.iter().map(String::as_str).zip(inputs).collect();
    b.entry("only", &ports, &[("y", y)], BTreeMap::new());
    let feeds = names.iter().zip(args).map(|(name, (shape, data))| (name.clone(), Tensor::f32(*shape, data.to_vec())));
    let mut out = eval(&b.finish().expect("fits"), "only", &feeds.collect(), &mut |_, _| {}).expect("evaluates");
    out.remove("y").expect("asked for").as_f32().expect("floats").to_vec()
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 2e-6, "{found} instead of {expected}"); // 7e-7
    }
}

const X: [f32; 10] = [1.0, -2.0, 3.0, 0.5, 4.0, 0.25, 6.0, -1.0, 2.0, -3.0];

/// `torch.nn.functional.conv1d(x, w, bias, stride=2, padding=1)` of torch 2.15, x [1, 2, 5], w [4, 2, 3].
const CONVOLVED: [f32; 12] = [3.2875, 11.6, 7.35, 19.05, 1.8, -1.2, 6.05, 8.05, 1.55, 0.95, 7.975, 2.2];

#[test]
fn a_convolution_pads_and_strides_as_torch_does() {
    let w = [
        1.0, 0.5, -1.0, 2.0, -0.25, 0.125, 0.0, 1.0, 0.0, -1.0, 1.0, 3.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, -2.0, 1.0,
        0.75, 0.1, 0.2, 0.3,
    ];
    let conv = Op::Conv { stride: 2, pad: 1, length: None };
    assert_near(&apply(conv, &[(&[1, 2, 5], &X), (&[4, 2, 3], &w), (&[4], &[0.1, -0.2, 0.3, -0.4])]), &CONVOLVED);
}

#[test]
fn a_convolution_along_two_axes_pads_strides_and_groups_as_torch_does() {
    // torch.nn.functional.conv2d of torch 2.15 on whole numbers, which are exact.
    let x: Vec<f32> = (0..60).map(|i| (i % 7 - 3) as f32).collect();
    let w: Vec<f32> = (0..72).map(|i| (i % 5 - 2) as f32).collect();
    let conv = Op::Conv2d { stride: [2, 1], pad: [1, 2], groups: 2 };
    let expected = [
        8.0, 3.0, -7.0, -7.0, -7.0, 0.0, 5.0, 2.0, -11.0, -19.0, -1.0, 38.0, 1.0, -5.0, -2.0, 2.0, 10.0, 7.0, 4.0,
        -2.0, -4.0, -1.0, 22.0, -1.0, -21.0, -20.0, -2.0, 8.0, -2.0, -9.0, -8.0, -4.0, 0.0, 6.0, 2.0, -4.0, -10.0, 2.0,
        44.0, 2.0, -10.0, -4.0, 1.0, 2.0, -4.0, -8.0, -12.0, -5.0, 12.0, -9.0, -16.0, -1.0, 26.0, 11.0, 2.0, -3.0,
        -1.0, 2.0, 7.0, 10.0, -1.0, -5.0, -3.0, 16.0, 3.0, -19.0, -16.0, -6.0, 2.0, 6.0, 2.0, -3.0, -7.0, -7.0, 0.0,
        20.0, -3.0, -9.0, -3.0, 38.0, 7.0, -3.0, -8.0, -5.0,
    ];
    assert_eq!(apply(conv, &[(&[1, 4, 3, 5], &x), (&[6, 2, 2, 3], &w)]), expected);
}

#[test]
fn layer_and_group_norms_divide_as_torch_does() {
    // torch.nn.functional.layer_norm and group_norm of torch 2.15 with an eps large enough to show.
    let (w, bias) = ([1.0, 2.0, -1.0, 0.5, 3.0], [0.1, 0.2, 0.3, 0.4, 0.5]);
    let expected = [
        -0.043_509_43,
        -2.957_208,
        -0.513_220_25,
        0.208_654_08,
        4.374_755_4,
        -0.096_747_76,
        3.577_503_2,
        0.906_638_9,
        0.588_55,
        -3.287_394_3,
    ];
    let args: [(&[usize], &[f32]); 3] = [(&[1, 2, 5], &X), (&[5], &w), (&[5], &bias)];
    assert_near(&apply(Op::LayerNorm { eps: 1e-2 }, &args), &expected);
    let unbiased = apply(Op::LayerNorm { eps: 1e-2 }, &args[..2]);
    assert_near(&unbiased, &expected.iter().zip(bias.iter().cycle()).map(|(x, b)| x - b).collect::<Vec<f32>>());

    let expected = [
        -0.445_994_68,
        0.782_724_56,
        0.154_507_16,
        3.767_904_8,
        -1.331_741_5,
        -2.218_636_5,
        -0.230_508_4,
        -0.898_865_46,
        1.273_295,
        -0.186_901_03,
        0.986_901_04,
        0.021_960_497,
    ];
    let args: [(&[usize], &[f32]); 3] =
        [(&[1, 4, 3], &CONVOLVED), (&[4], &[1.0, 2.0, -1.0, 0.5]), (&[4], &[0.1, 0.2, 0.3, 0.4])];
    assert_near(&apply(Op::GroupNorm { groups: 2, eps: 1e-2 }, &args), &expected);
}

#[test]
fn a_mean_leaves_an_axis_of_one_place() {
    let x = || (&[2, 2, 2][..], &[1.0, 2.0, 4.0, 8.0, -1.0, -3.0, 0.5, 0.0][..]);
    assert_eq!(apply(Op::Mean { axis: 1 }, &[x()]), [2.5, 5.0, -0.25, -1.5]);
    assert_eq!(apply(Op::Mean { axis: 2 }, &[x()]), [1.5, 6.0, -2.0, 0.25]);
    let of_none = Op::Mean { axis: 0 }.infer(&[&Type::f32([0usize, 2])]);
    assert_eq!(of_none, Err("takes an axis whose length is a number above 0".to_owned()));
}

#[test]
fn rotary_positions_turn_halves_or_pairs_and_leave_the_rest() {
    // By the formula in torch 2.15: positions 3 and 7, theta 100, factor 2, x = (1..10) / 4 as [1, 1, 2, 5].
    let cases = [
        (
            crate::ir::op::Layout::Half,
            [
                -0.730_437,
                0.344_947_4,
                0.302_426_64,
                1.063_490_2,
                1.25,
                -0.703_118_56,
                0.872_382_2,
                -2.399_088_1,
                2.713_659_8,
                2.5,
            ],
        ),
        (
            crate::ir::op::Layout::Pairs,
            [
                -0.481_063_2,
                0.284_742_36,
                0.592_140_2,
                1.100_849_6,
                1.25,
                -0.790_814_4,
                -2.164_974,
                1.107_225_4,
                2.799_384,
                2.5,
            ],
        ),
    ];
    for (layout, expected) in cases {
        let b = Build::new();
        let x = b.input("x", Type::f32([1usize, 1, 2, 5]));
        let positions = b.input("positions", Type::i64([2usize]));
        let y = x.rope(positions, crate::ir::op::Rope { theta: 100.0, factor: 2.0, dims: 4, layout });
        b.entry("only", &[("x", x), ("positions", positions)], &[("y", y)], BTreeMap::new());
        let x = Tensor::f32([1, 1, 2, 5], (1..=10).map(|i| i as f32 / 4.0).collect());
        let fed = feeds(&[("x", x), ("positions", Tensor::i64([2], vec![3, 7]))]);
        let out = eval(&b.finish().expect("fits"), "only", &fed, &mut |_, _| {}).expect("evaluates");
        assert_near(out["y"].as_f32().expect("floats"), &expected);
    }
}

#[test]
fn a_window_ends_on_both_sides_where_it_says() {
    let seen = |before, after| -> Vec<Vec<usize>> {
        let visible = Visible { before, after };
        (0..5).map(|query| (0..5).filter(|key| visible.sees(query, *key)).collect()).collect()
    };
    assert_eq!(seen(Some(1), Some(2))[2], [1, 2, 3, 4]);
    assert_eq!(seen(Some(1), Some(0))[4], [3, 4]);
    assert_eq!(seen(None, Some(0))[3], [0, 1, 2, 3]);
    assert_eq!(seen(None, None)[0], [0, 1, 2, 3, 4]);
}

/// 3 samples a window, every 2nd; a mask over samples is taken where windows begin.
fn framed() -> Graph {
    let b = Build::new();
    let samples = crate::ir::ty::Sym("samples");
    let x = b.input("input_values", Type::f32([Dim::from(BATCH), 1.into(), samples.into()]));
    let mask = b.input("attention_mask", Type::i64([BATCH, samples]));
    let w = b.input("w", Type::f32([1usize, 1, 3]));
    let frames = x.conv(w, None, 2, 0, Some(ENC));
    let bias = b.padding_mask(mask.slice(1, 0, 2, ENC));
    let ports = [("input_values", x), ("attention_mask", mask), ("w", w)];
    b.entry(
        "encoder",
        &ports,
        &[("frames", frames), ("bias", bias), ("positions", b.positions(2, ENC))],
        BTreeMap::new(),
    );
    b.finish().expect("fits")
}

#[test]
fn a_convolution_tells_the_length_of_what_follows() {
    let g = framed();
    crate::ir::verify::verify(&g).expect("holds together");
    let fed = |n: usize| {
        let mask = Tensor::i64([1, n], (0..n).map(|i| i64::from(i < 3)).collect());
        let x = Tensor::f32([1, 1, n], (0..n).map(|i| i as f32).collect());
        feeds(&[("input_values", x), ("attention_mask", mask), ("w", Tensor::f32([1, 1, 3], vec![1.0, 0.0, 2.0]))])
    };
    let out = eval(&g, "encoder", &fed(8), &mut |_, _| {}).expect("evaluates");
    assert_eq!(out["frames"], Tensor::f32([1, 1, 3], vec![4.0, 10.0, 16.0]));
    assert_eq!(out["bias"], Tensor::f32([1, 1, 1, 3], vec![0.0, 0.0, f32::NEG_INFINITY]));
    assert_eq!(out["positions"], Tensor::i64([3], vec![2, 3, 4]));
    let error = eval(&g, "encoder", &fed(2), &mut |_, _| {}).expect_err("2 samples are no window").to_string();
    assert_eq!(error, "conv: Conv(stride=2, pad=0) reaches past the end of [1, 1, 2]");
}

#[test]
fn a_length_is_told_before_it_is_needed() {
    let mut g = framed();
    g.entries[0].outputs.swap(0, 2);
    let error = crate::ir::verify::verify(&g).expect_err("positions stand before the convolution").to_string();
    assert!(error.contains("encoder: positions needs the length of enc, which neither"), "{error}");
}

/// Two convolutions that name what they make alike, of 3 places and of `k`.
fn two_lengths(k: usize) -> Graph {
    let b = Build::new();
    let samples = crate::ir::ty::Sym("samples");
    let x = b.input("x", Type::f32([Dim::from(BATCH), 1.into(), samples.into()]));
    let [one, other] = [("one", 3), ("other", k)].map(|(name, k)| b.input(name, Type::f32([1usize, 1, k])));
    let [a, c] = [one, other].map(|w| x.conv(w, None, 1, 0, Some(ENC)));
    b.entry("encoder", &[("x", x), ("one", one), ("other", other)], &[("y", a + c)], BTreeMap::new());
    b.finish().expect("fits")
}

#[test]
fn a_length_that_is_two_numbers_is_told_where_the_second_is_made() {
    let fed = |k: usize| {
        let ones = |n: usize| Tensor::f32([1, 1, n], vec![1.0; n]);
        feeds(&[("x", ones(7)), ("one", ones(3)), ("other", ones(k))])
    };
    let same = eval(&two_lengths(3), "encoder", &fed(3), &mut |_, _| {}).expect("5 and 5");
    assert_eq!(same["y"].as_f32(), Some(&[6.0; 5][..]));
    let graph = two_lengths(1);
    for interpreter in [Interpreter::new(&graph), Interpreter::new(&graph).prepared()] {
        let error = interpreter.call("encoder", &fed(1)).expect_err("5 is not 7").to_string();
        let expected = "conv_1: expected f32[batch, 1, enc] with batch = 1, enc = 5, samples = 7, found [1, 1, 7]";
        assert_eq!(error, expected);
    }
}

#[test]
#[should_panic(expected = "inference broadcasts [5] and [7]")]
fn kernels_stretch_axes_of_length_1_alone() {
    super::kernels::strided::broadcast_shape(&[5], &[7]);
}
