use super::*;
use crate::build::Build;
use crate::ir::{BATCH, DEC, ENC, PAST};
use crate::op::{Granularity, Visible};

fn feeds(pairs: &[(&str, Tensor)]) -> Feeds {
    pairs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

#[test]
fn a_causal_step_sees_its_past() {
    let b = Build::new();
    let q = b.input("q", Type::f32([Dim::from(BATCH), 2.into(), DEC.into(), 4.into()]));
    let past = b.input("past", Type::f32([Dim::from(BATCH), 2.into(), PAST.into(), 4.into()]));
    let k = b.op(Op::Concat { axis: 2 }, &[past, q]);
    let mask = b.mask(Visible::Causal, PAST, DEC, Dim::from(PAST) + DEC.into());
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
    let y = b.op(Op::PaddingMask, &[mask]);
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
    let y = kernels::softmax(&x);
    let y = y.as_f32().expect("f32");
    assert_eq!(y[..4], [0.0, 0.0, 0.0, 1.0]);
    assert!(y[4].is_nan());
}

#[test]
fn grouped_heads_share_neighbouring_keys() {
    let q = Tensor::f32([1, 4, 1, 1], vec![0.0; 4]);
    let v = Tensor::f32([1, 2, 1, 1], vec![10.0, 20.0]);
    let y = kernels::attention(&q, &v, &v, None, 1.0, None);
    assert_eq!(y.as_f32().expect("f32"), [10.0, 10.0, 20.0, 20.0]);
}

#[test]
fn dynamic_quantization_keeps_zero_and_stays_within_half_a_step() {
    let x = [-0.3f32, 0.0, 0.7, 2.25];
    let y = kernels::dynamic_quant(Granularity::Tensor, &Tensor::f32([4], x.to_vec()));
    let y = y.as_f32().expect("f32");
    let scale = 2.55 / 255.0;
    assert_eq!(y[1], 0.0);
    assert!(x.iter().zip(y).all(|(a, b)| (a - b).abs() <= scale / 2.0 * 1.0001), "{y:?}");
    let rows = kernels::dynamic_quant(Granularity::Token, &Tensor::f32([2, 2], vec![127.5, -0.4, 0.0, 0.0]));
    assert_eq!(rows.as_f32().expect("f32"), [127.0, 0.0, 0.0, 0.0]);
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
