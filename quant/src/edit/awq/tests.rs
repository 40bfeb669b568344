use std::collections::BTreeMap;

use graph::progress::Quiet;
use graph::{BATCH, Blob, Build, DEC, Dim, Feeds, FloatType, Interpreter, Tensor, Type, Weight, WeightData};

use super::*;
use crate::calibrate::{Samples, gather};
use crate::edit::equalize;
use crate::edit::sites::{apply, places, power_of_two};
use crate::tests::drawn;
use crate::{Activations, Clip, Factors, GptqSettings, Policy, Smoothquant, Statistics};

const ANY: Equalize = Equalize::Awq(Factors { exact: false });
const EXACT: Equalize = Equalize::Awq(Factors { exact: true });

fn stored(name: &str, shape: &[usize], values: &[f32]) -> Weight {
    let mut bytes = vec![0; 4 * values.len()];
    FloatType::F32.encode(values, &mut bytes);
    let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
    Weight { name: name.into(), shape: shape.to_vec(), data }
}

/// `norm(x)·Wᵀ`, norm with `gain`.
fn model(gain: &[f32], w: &[f32]) -> Graph {
    let n = gain.len();
    let b = Build::new();
    let x = b.input("x", Type::f32([Dim::from(BATCH), DEC.into(), n.into()]));
    let y = x.rms_norm(b.weight(stored("gain", &[n], gain)), 1e-6);
    let y = y.linear(b.weight(stored("w", &[w.len() / n, n], w)), None);
    b.entry("full", &[("x", x)], &[("y", y)], BTreeMap::new());
    b.finish().expect("fits")
}

fn policy(scheme: &str, how: Equalize) -> Policy {
    Policy { equalize: how, ..Policy::of(scheme.parse().expect("a scheme")) }
}

/// Calls `use_it` with samples of random rows.
fn calibrated<T>(graph: &Graph, n: usize, use_it: impl FnOnce(&Calibration) -> T) -> T {
    let feeds = |i: usize| Feeds::from([("x".to_owned(), Tensor::f32([1, 6, n], drawn(6 * n, 77 + i as u64)))]);
    let samples = Samples { entry: "full", count: 9, feeds: &feeds };
    let statistics: Statistics = gather(graph, &samples, &|_, _| {}, &Quiet).expect("runs");
    let dir = std::env::temp_dir();
    use_it(&Calibration { samples, statistics: &statistics, gptq: GptqSettings::default(), dir: &dir })
}

fn chosen(graph: &Graph, policy: &Policy, n: usize) -> Vec<Chosen> {
    let plan = policy.plan(graph).unwrap_or_else(|e| panic!("{e}"));
    calibrated(graph, n, |known| equalize::choose(graph, policy.equalize, &plan, Some(known), &Quiet).expect("runs"))
}

#[test]
fn factors_follow_the_magnitudes_around_their_middle() {
    assert_eq!(normalized(&[4.0, 1.0, 0.25], 1.0), [4.0, 1.0, 0.25]);
    assert_eq!(normalized(&[16.0, 1.0], 0.5), [2.0, 0.5]); // [4, 1] over √4
    assert_eq!(normalized(&[16.0, 1.0, 0.0], 0.0), [1.0; 3]);
    assert_eq!(normalized(&[0.0, 16.0, 1.0], 0.5), [1.0, 2.0, 0.5]);
    assert_eq!(normalized(&[0.0, 0.0], 0.5), [1.0; 2]);
    assert_eq!(normalized(&[1e20, 1e-10], 1.0), [LIMIT, 1.0 / LIMIT]);
}

#[test]
fn the_column_of_the_large_channel_gets_the_finer_step_as_computed_by_hand() {
    // x is ±16 and ±1, never together. int4 with max 7 has scale 1: 0.4 becomes 0, and counts 256 times as much as the
    // error of the other column, which is none.
    let graph = model(&[1.0, 1.0], &[0.4, 7.0]);
    let plan = policy("int4", EXACT).plan(&graph).expect("fits");
    let place = places(&graph).remove(0);
    let mut gram = Gram::new(2);
    gram.add(&[16.0, 0.0, 0.0, 1.0]);
    let measured = |s: [f32; 2]| error(&graph, &place, &plan, &s, &gram).expect("memory");
    let near = |found: f64, expected: f64| (found - expected).abs() < 1e-3 * expected;
    assert!(near(measured([1.0; 2]), 256.0 * 0.4 * 0.4));
    // 0.8 and 3.5: scale 0.5, codes 2 and 7, which mean 1.0 / 2 and 7.
    assert!(near(measured([2.0, 0.5]), 256.0 * 0.1 * 0.1));
    // 1.6 and 1.75: scale 0.25, codes 6 and 7, which mean 1.5 / 4 and 7.
    assert!(near(measured([4.0, 0.25]), 256.0 * 0.025 * 0.025));
    let found = search(&graph, EXACT, place, &plan, &gram).expect("memory");
    assert_eq!(found.factors, [4.0, 0.25]);
    let [before, after] = found.errors.expect("measured");
    assert!(near(before, 40.96) && near(after, 0.16), "{before} {after}");
}

#[test]
fn no_choice_is_worse_than_none_on_its_own_measure_whatever_the_scheme() {
    let n = 64;
    let gain: Vec<f32> = (0..n).map(|i| if i % 32 == 5 { 16.0 } else { 1.0 }).collect();
    let graph = model(&gain, &drawn(24 * n, 6));
    let mut gained = 0;
    for scheme in ["int4", "int4-g32", "int4-g32-asym", "int8", "int8-g32", "q4_0", "q4_1", "q5_0", "q8_0"] {
        let cases =
            [(Method::Nearest, Clip::None, EXACT), (Method::Nearest, Clip::None, ANY), (Method::Gptq, Clip::Mse, ANY)];
        for (method, clip, how) in cases {
            let mut policy = Policy { method, clip, ..policy(scheme, how) };
            if scheme.starts_with('q') {
                policy.clip = Clip::None;
            }
            let found = chosen(&graph, &policy, n).remove(0);
            let [before, after] = found.errors.expect("measured");
            assert!(after <= before, "{scheme} {method:?}: {before} {after}");
            assert_eq!(found.moves(), after < before, "{scheme} {method:?}");
            gained += usize::from(after < 0.8 * before);
        }
    }
    assert!(gained > 8, "large activations by few channels are what it is for: {gained}");
}

#[test]
fn what_is_measured_is_what_quantizing_the_edited_graph_leaves() {
    let n = 64;
    let gain: Vec<f32> = drawn(n, 5).iter().map(|x| (4.0 * x).exp2()).collect();
    let graph = model(&gain, &drawn(24 * n, 6));
    let policy = policy("int4-g32", ANY);
    let plan = policy.plan(&graph).expect("fits");
    let found = chosen(&graph, &policy, n).remove(0);
    let mut quantized = graph.clone();
    apply(&mut quantized, &found.place, &found.factors);
    crate::quantize(&mut quantized, &plan, &graph::Scratch::new().expect("temporary folder"), &Quiet).expect("finite");
    let squares = calibrated(&graph, n, |known| {
        let mut squares = 0.0;
        for sample in 0..known.samples.count {
            let y = |graph| Interpreter::new(graph).call("full", &(known.samples.feeds)(sample)).expect("runs");
            let (a, b) = (y(&graph), y(&quantized));
            let (a, b) = (a["y"].as_f32().expect("floats"), b["y"].as_f32().expect("floats"));
            squares += a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        }
        squares
    });
    let [before, after] = found.errors.expect("measured");
    assert!((squares - after).abs() < 1e-3 * after && after < before, "{squares} {before} {after}");
}

#[test]
fn smoothquant_takes_what_calibration_saw_and_weights_take_the_gain() {
    let gain = [8.0, 1.0, 0.25, 1.0];
    let graph = model(&gain, &[0.5, 0.5, 0.5, -0.5]);
    let places = places(&graph);
    let weights = chosen(&graph, &policy("int8", Equalize::Weights(Factors { exact: true })), 4).remove(0);
    assert_eq!(weights.factors, [4.0, 1.0, 0.5, 1.0]); // √(gain / 0.5) to the nearest power of two
    let how = Equalize::Smoothquant(Smoothquant { alpha: 1.0, exact: true });
    let found = chosen(&graph, &Policy { activations: Activations::Dynamic, ..policy("int8", how) }, 4).remove(0);
    let seen = calibrated(&graph, 4, |known| known.statistics.inputs["rms_norm"].max_abs.clone());
    assert_eq!(found.factors, power_of_two(&places[0].per_channel(&seen)));
    assert!(found.factors[0] > found.factors[1] && found.factors[1] > found.factors[2]);
}

#[test]
fn a_policy_whose_factors_no_weight_with_codes_could_take_is_refused() {
    let graph = model(&[1.0, 2.0], &[0.5, 0.5]);
    for how in [ANY, Equalize::Weights(Factors::default()), Equalize::Smoothquant(Smoothquant::default())] {
        let error = policy("f16", how).plan(&graph).expect_err("floats").to_string();
        let why = "no Linear with codes reads an activation whose channels have factors to take";
        assert_eq!(error, format!("`{}` has no effect: {why}", how.setting()));
        let plan = policy("int8", how).plan(&graph).expect("fits");
        let found = equalize::choose(&graph, how, &plan, None, &Quiet);
        match how.is_calibrated() {
            true => assert_eq!(
                found.expect_err("no samples").to_string(),
                format!(
                    "`{}` needs calibration samples; expected `calibrate: {{ data: FILE }}` in the recipe",
                    how.setting()
                )
            ),
            false => assert_eq!(found.expect("weights alone").len(), 1),
        }
    }
}
