use graph::progress::Quiet;
use graph::weights::WeightData;
use graph::{Blob, Block, Build, ENC, FloatType, GgmlType, Graph, Quantized, Scratch, Type, Weight};

use crate::codebook::grid::{Extent, Grid};
use crate::*;

/// Numbers from -1 to 1 that look random and are the same everywhere (xorshift, `state` not 0).
pub(crate) fn drawn(count: usize, mut state: u64) -> Vec<f32> {
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A stored f32 weight.
fn weight(name: &str, shape: &[usize], values: &[f32]) -> Weight {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
    Weight { name: name.to_owned(), shape: shape.to_vec(), data }
}

/// xorshift, so that the rows are the same on every machine; roughly normal with deviation 1.
fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum()).collect()
}

/// Rows on which quantizers fail, each of `n` weights, then random ones.
fn edge_rows(n: usize) -> Vec<(&'static str, Vec<f32>)> {
    let ramp = |scale: f32| (0..n).map(|i| scale * (i + 1) as f32 / n as f32).collect::<Vec<f32>>();
    let one = |value: f32| (0..n).map(|i| if i == n / 2 { value } else { 0.0 }).collect::<Vec<f32>>();
    let mut outlier = normal(1, n);
    outlier[n / 3] = 1e4;
    let mut rows = vec![
        ("all positive", ramp(0.3)),
        ("all negative", ramp(-0.3)),
        ("all zero", vec![0.0; n]),
        ("one outlier", outlier),
        ("one weight", one(0.7)),
        ("signed zeros", (0..n).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 }).collect()),
        ("denormal", ramp(1e-40)),
        ("below the f16 scales", ramp(1e-7)),
        ("denormal f16 scales", ramp(3e-5)),
        ("largest scale", ramp(65504.0 * 7.0)),
    ];
    for seed in 2..12 {
        rows.push(("random", normal(seed, n)));
    }
    rows
}

fn planned_as(scheme: Scheme) -> Planned {
    Planned {
        id: graph::WeightId(0),
        name: "w".to_owned(),
        role: Role::Linear,
        scheme,
        clip: Clip::None,
        method: Method::Nearest,
        decided_by: Decider::Scheme,
    }
}

fn outcome(weight: &Weight, scheme: Scheme, clip: Clip) -> Result<(Vec<f32>, Outcome), QuantError> {
    let quantizer = QUANTIZERS.iter().find(|q| q.applies(scheme, Method::Nearest)).expect("one applies");
    let planned = Planned { name: weight.name.clone(), clip, ..planned_as(scheme) };
    let scratch = Scratch::new().expect("scratch");
    let outcome = quantizer.quantize(weight, &planned, &Known::Nothing, &scratch, &Quiet)?;
    let became = Weight { data: outcome.data.clone(), ..weight.clone() };
    Ok((became.read().expect("scratch"), outcome))
}

#[test]
fn exactly_one_quantizer_applies_to_each_scheme_and_method() {
    for &scheme in Scheme::ALL {
        for method in [Method::Nearest, Method::Importance, Method::Gptq] {
            assert_eq!(QUANTIZERS.iter().filter(|q| q.applies(scheme, method)).count(), 1, "{scheme} {method:?}");
        }
    }
}

#[test]
fn codes_scales_and_zeros_are_those_of_numpy() {
    let golden = include_str!("../../tests/fixtures/quant/golden.txt");
    let mut cases = 0;
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let [scheme, clip, weights, scale, zero, codes] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("six fields: {line}");
        };
        let values: Vec<f32> =
            weights.split(',').map(|b| f32::from_bits(u32::from_str_radix(b, 16).expect("hex"))).collect();
        let clip = if clip == "mse" { Clip::Mse } else { Clip::None };
        let (_, outcome) =
            outcome(&weight("w", &[1, values.len()], &values), scheme.parse().expect("scheme"), clip).expect("fits");
        let WeightData::Quantized(Quantized::Affine(tensor)) = outcome.data else { panic!("codes") };
        assert_eq!(format!("{:04x}", tensor.scales[0].to_bits()), scale, "scale of {line}");
        assert_eq!(tensor.zeros.map_or(0, |z| z[0]).to_string(), zero, "zero of {line}");
        let found: Vec<String> =
            tensor.codes.read().expect("scratch").iter().map(|c| c.cast_signed().to_string()).collect();
        assert_eq!(found.join(","), codes, "codes of {line}");
        cases += 1;
    }
    assert_eq!(cases, 22 * 8);
}

#[test]
fn a_scale_of_int8_inv_is_an_inverse_and_all_else_is_as_in_int8() {
    let plain: Scheme = "int8".parse().expect("a scheme");
    let mut moved = 0;
    let rows = [1, 31, 32, 128, 200].into_iter().flat_map(edge_rows);
    // Of the scales of one octave, a fifth has no inverse: ten sizes of each row meet them.
    let rows = rows.flat_map(|(kind, row)| {
        (10..20).map(move |tenths| (kind, row.iter().map(|x| x * tenths as f32 / 10.0).collect::<Vec<f32>>()))
    });
    for (kind, row) in rows {
        let n = row.len();
        for clip in [Clip::None, Clip::Mse] {
            let [plain, inverted] = [plain, Scheme::INVERTED]
                .map(|scheme| outcome(&weight("w", &[1, n], &row), scheme, clip).expect("fits").1.scales[0]);
            assert!(graph::weights::inverse(half::f16::from_f32(inverted)).is_some(), "{kind} {n}: {inverted:e}");
            let is_inverse = graph::weights::inverse(half::f16::from_f32(plain)).is_some();
            assert!(!is_inverse || clip == Clip::Mse || inverted == plain, "{kind} {n}: {plain:e} became {inverted:e}");
            moved += usize::from(!is_inverse);
            let steps = half::f16::from_f32(inverted).to_bits().checked_sub(half::f16::from_f32(plain).to_bits());
            assert!(clip == Clip::Mse || steps.is_some_and(|steps| steps <= 9), "{kind} {n}: {plain:e}, {inverted:e}");
        }
    }
    assert!(moved > 100, "{moved}");
}

#[test]
fn every_symmetric_code_is_within_half_a_step_and_every_asymmetric_one_within_five_eighths() {
    for &scheme in Scheme::ALL {
        let Scheme::Affine { block, symmetric, .. } = scheme else { continue };
        for n in [1, 31, 32, 128, 200] {
            for (kind, row) in edge_rows(n) {
                let (became, outcome) = outcome(&weight("w", &[1, n], &row), scheme, Clip::None).expect("fits");
                for (i, (w, v)) in row.iter().zip(&became).enumerate() {
                    let step = f64::from(outcome.scales[i / block.len(n)]);
                    // Rounding zero moves the grid by up to half a step and rounding the scale to f16 shortens the 255
                    // steps by up to 255/2048, which leaves 5/8 of a step at the ends. The quotient is rounded to f32.
                    let steps = if symmetric { 0.5 } else { 0.625 };
                    let limit = step * steps + f64::from(w.abs()) * f64::from(f32::EPSILON);
                    let error = (f64::from(*w) - f64::from(*v)).abs();
                    assert!(error <= limit, "{scheme}, {kind} {n}: {w:e} became {v:e}, step {step:e}");
                }
            }
        }
    }
}

#[test]
fn every_8_bit_float_is_within_half_a_step_of_its_size() {
    for scheme in ["fp8", "fp8-tensor"].map(|name| name.parse::<Scheme>().expect("a scheme")) {
        for n in [1, 31, 32, 200] {
            for (kind, row) in edge_rows(n) {
                // A row of half the size shares the scale, or has half of it.
                let both: Vec<f32> = row.iter().copied().chain(row.iter().map(|w| w / 2.0)).collect();
                let (became, outcome) = outcome(&weight("w", &[2, n], &both), scheme, Clip::None).expect("fits");
                for (i, (w, v)) in both.iter().zip(&became).enumerate() {
                    // Three bits of mantissa; below 2^-6 of a scale, steps of 2^-9.
                    let scale = f64::from(outcome.scales[i / n]);
                    let limit = (f64::from(w.abs()) / 16.0).max(scale / 1024.0);
                    // Scales of denormal rows are denormal, and a quotient is rounded to f32.
                    let noise = f64::from(w.abs()) * 2e-7 + 448.0 * f64::from(f32::from_bits(1));
                    let error = (f64::from(*w) - f64::from(*v)).abs();
                    assert!(error <= limit + noise, "{scheme}, {kind} {n}: {w:e} became {v:e}, scale {scale:e}");
                }
            }
        }
    }
}

#[test]
fn importance_takes_weighted_error_off_every_codebook_that_seeks_its_scales() {
    let (rows, columns) = (24, 512);
    let values = normal(13, rows * columns);
    let importance: Vec<f32> = drawn(columns, 7).into_iter().map(|x| x.abs().powi(8) * 100.0 + 0.01).collect();
    let w = weight("w", &[rows, columns], &values);
    for (scheme, limit) in [("fp8", 0.96), ("fp8-tensor", 0.99), ("mxfp4", 0.94)] {
        let scheme: Scheme = scheme.parse().expect("a scheme");
        let error = |known: &Known, method| {
            let planned = Planned { scheme, method, ..planned_as(Scheme::Keep) };
            let scratch = Scratch::new().expect("scratch");
            let made = method::nearest::Nearest.quantize(&w, &planned, known, &scratch, &Quiet).expect("finite");
            let became = Weight { data: made.data, ..w.clone() }.read().expect("scratch");
            let errors = values.iter().zip(&became).zip(importance.iter().cycle());
            errors.map(|((w, v), counts)| f64::from(*counts) * f64::from(w - v).powi(2)).sum::<f64>()
        };
        let ratio =
            error(&Known::Importance(&importance), Method::Importance) / error(&Known::Nothing, Method::Nearest);
        assert!(ratio <= limit, "{scheme}: {ratio}");
    }
}

#[test]
fn zero_stays_zero_in_every_scheme_with_a_zero() {
    for &scheme in Scheme::ALL {
        // The K-quants and the types with a minimum choose their offset freely.
        let free = [GgmlType::Q4_1, GgmlType::Q5_1, GgmlType::Q4K, GgmlType::Q5K].map(Scheme::Ggml);
        // The row with the largest scale does not fit f16 itself.
        for (kind, row) in edge_rows(256).into_iter().filter(|(kind, _)| *kind != "largest scale") {
            let (became, _) = outcome(&weight("w", &[1, 256], &row), scheme, Clip::None).expect("fits");
            let zeros = row.iter().zip(&became).filter(|(w, _)| **w == 0.0);
            for (_, v) in zeros {
                assert!(*v == 0.0 || free.contains(&scheme), "{scheme}, {kind}: 0 became {v:e}");
            }
        }
    }
}

#[test]
fn least_squares_clipping_is_never_worse_and_often_better() {
    let mut better = 0;
    for bits in [4, 8] {
        for symmetric in [true, false] {
            let grid = Grid::new(bits, symmetric);
            for (kind, row) in edge_rows(128) {
                let plain = grid.squared_error(&row, grid.step(Extent::of(&row)));
                let clipped = grid.squared_error(&row, crate::codebook::clip::least_squares(&row, grid));
                assert!(clipped <= plain, "int{bits}, {kind}: {clipped} > {plain}");
                better += usize::from(clipped < 0.95 * plain);
            }
        }
    }
    assert!(better >= 20, "only {better} blocks gained");
}

#[test]
fn the_error_of_a_record_is_the_distance_between_the_weight_and_its_rows() {
    let (rows, columns) = (300, 512);
    let values = normal(5, rows * columns);
    for &scheme in Scheme::ALL {
        let (became, outcome) = outcome(&weight("w", &[rows, columns], &values), scheme, Clip::None).expect("fits");
        let distance = |a: f32, b: f32| (f64::from(a) - f64::from(b)).abs();
        let pairs = || values.iter().zip(&became).map(|(a, b)| distance(*a, *b));
        assert_eq!(outcome.errors.max_abs, pairs().fold(0.0, f64::max), "{scheme}");
        let squares: f64 = pairs().map(|d| d * d).sum();
        let found = outcome.errors.error_squares;
        // Both sum the same positive terms in f64, in another order.
        let noise = (rows * columns) as f64 * f64::EPSILON;
        assert!((found - squares).abs() <= noise * squares, "{scheme}: {found} and {squares}");
        let blocks = match (&outcome.data, scheme) {
            (_, Scheme::Affine { block, .. }) => rows * block.per_row(columns),
            (_, Scheme::Ggml(kind)) => rows * columns / kind.block_len(),
            (_, Scheme::Coded(_)) => rows,
            _ => 0,
        };
        assert_eq!(outcome.scales.len(), blocks, "{scheme}");
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let weight = weight("w", &[700, 512], &normal(9, 700 * 512));
    for &scheme in Scheme::ALL.iter().filter(|scheme| **scheme != Scheme::Keep) {
        let runs = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (_, outcome) = pool.install(|| outcome(&weight, scheme, Clip::None)).expect("fits");
            let bytes = match &outcome.data {
                WeightData::Stored { blob, .. } => blob.read(),
                WeightData::Quantized(Quantized::Affine(tensor)) => tensor.codes.read(),
                WeightData::Quantized(Quantized::Ggml { blocks, .. }) => blocks.read(),
                WeightData::Quantized(Quantized::Float8(tensor)) => tensor.codes.read(),
                WeightData::Derived(..) | WeightData::Computed(_) => panic!("no quantizer derives or computes"),
            };
            (bytes.expect("scratch"), outcome.scales, outcome.errors)
        });
        assert!(runs[0] == runs[1] && runs[1] == runs[2], "{scheme}");
    }
}

/// `embed(ids) -> norm -> x; x + wo(relu(a(x))) -> head -> logits`, with these rows in every weight.
fn graph(columns: usize, value: impl Fn(&str) -> f32) -> Graph {
    let b = Build::new();
    let ids = b.input("ids", Type::i64([ENC]));
    let w = |name: &str, shape: &[usize]| b.weight(weight(name, shape, &vec![value(name); shape.iter().product()]));
    let x = ids.embed(w("shared.weight", &[8, columns])).rms_norm(w("norm.weight", &[columns]), 1e-6);
    let y = x.linear(w("a.weight", &[columns, columns]), Some(w("a.bias", &[columns]))).relu();
    let x = x + y.linear(w("block.0.wo.weight", &[columns, columns]), None);
    let logits = x.linear(w("lm_head.weight", &[8, columns]), None) * 0.5;
    b.entry("full", &[("ids", ids)], &[("logits", logits)], Default::default());
    b.finish().expect("fits")
}

fn schemes(plan: &Plan) -> Vec<String> {
    plan.weights.iter().map(|w| format!("{}: {} -> {}", w.name, w.role, w.scheme)).collect()
}

#[test]
fn roles_come_from_use_and_the_defaults_from_roles() {
    let plan = Policy::of("int4-g32".parse().expect("scheme")).plan(&graph(64, |_| 1.0)).expect("fits");
    assert_eq!(
        schemes(&plan),
        [
            "shared.weight: embedding -> int8",
            "norm.weight: norm -> keep",
            "a.weight: linear -> int4-g32",
            "a.bias: bias -> keep",
            "block.0.wo.weight: feed_forward_out -> int8-g32",
            "lm_head.weight: head -> int8",
        ]
    );
    assert_eq!(
        plan.weights[5].decided_by.to_string(),
        "default: each row is a token, and an error in it is not averaged over a sum"
    );
    let float = Policy::of(Scheme::Float(FloatType::BF16)).plan(&graph(64, |_| 1.0)).expect("fits");
    assert!(float.weights.iter().all(|w| w.scheme == Scheme::Float(FloatType::BF16)));
    let blocks = Policy::of(Scheme::Ggml(GgmlType::Q4_0)).plan(&graph(64, |_| 1.0)).expect("fits");
    assert_eq!(schemes(&blocks)[0], "shared.weight: embedding -> q8_0", "rows of 64 do not fit q6_k");
    let k_quants = Policy::of(Scheme::Ggml(GgmlType::Q4K)).plan(&graph(256, |_| 1.0)).expect("fits");
    assert_eq!(schemes(&k_quants)[0], "shared.weight: embedding -> q6_k");
    assert_eq!(schemes(&k_quants)[4], "block.0.wo.weight: feed_forward_out -> q5_k");
}

#[test]
fn a_tied_head_is_an_embedding() {
    let b = Build::new();
    let ids = b.input("ids", Type::i64([ENC]));
    let table = b.weight(weight("shared.weight", &[8, 4], &[0.5; 32]));
    let logits = ids.embed(table).linear(table, None);
    b.entry("full", &[("ids", ids)], &[("logits", logits)], Default::default());
    let graph = b.finish().expect("fits");
    assert_eq!(roles(&graph).into_values().collect::<Vec<_>>(), [Role::Embedding]);
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rule = |role, pattern: Option<&str>, scheme: &str| Rule {
        role,
        pattern: pattern.map(str::to_owned),
        scheme: scheme.parse().expect("scheme"),
        clip: None,
        method: None,
    };
    let mut policy = Policy::of("int8".parse().expect("scheme"));
    policy.rules = vec![
        rule(Some(Role::Linear), Some("block.*.weight"), "int8-g64"),
        rule(Some(Role::Linear), None, "int4"),
        rule(Some(Role::Norm), None, "f16"),
    ];
    let plan = policy.plan(&graph(64, |_| 1.0)).expect("fits");
    assert_eq!(
        schemes(&plan)[1..5],
        [
            "norm.weight: norm -> f16",
            "a.weight: linear -> int4",
            "a.bias: bias -> keep",
            "block.0.wo.weight: feed_forward_out -> int8-g64",
        ]
    );
    assert_eq!(plan.weights[4].decided_by.to_string(), "rule 1 (role: linear, match: \"block.*.weight\")");
}

#[test]
fn every_fault_of_a_policy_is_told_at_once() {
    let rule = |role, pattern: Option<&str>, scheme: &str, clip| Rule {
        role,
        pattern: pattern.map(str::to_owned),
        scheme: scheme.parse().expect("scheme"),
        clip,
        method: None,
    };
    let policy = Policy {
        scheme: Scheme::Ggml(GgmlType::Q4K),
        clip: Clip::Mse,
        activations: Activations::Dynamic,
        method: Method::Nearest,
        gptq: GptqSettings::default(),
        equalize: crate::Equalize::default(),
        bias_correction: false,
        rules: vec![
            rule(Some(Role::Linear), None, "q4_k", None),
            rule(None, Some("*.wo.weight"), "q8_0", None),
            rule(None, Some("decoder.*"), "q8_0", None),
            rule(None, Some("a[.weight"), "q8_0", Some(Clip::Mse)),
            rule(None, None, "keep", None),
            rule(Some(Role::Norm), None, "int8", Some(Clip::None)),
        ],
    };
    let message = policy.plan(&graph(64, |_| 1.0)).expect_err("nothing is right").to_string();
    assert_eq!(
        message.lines().collect::<Vec<_>>(),
        [
            "rule 4 (match: \"a[.weight\"): `clip: mse` needs an int4 or int8 scheme",
            "rule 4 (match: \"a[.weight\"): unclosed character class; missing ']' in the glob",
            "rule 5 () has neither `role` nor `match`; the scheme of the policy is the one for all weights",
            "norm.weight cannot become int8: expected a matrix, found [64]",
            "a.weight cannot become q4_k: rows of 64 are not a multiple of 256",
            "block.0.wo.weight cannot become q4_k: rows of 64 are not a multiple of 256",
            "rule 2 (match: \"*.wo.weight\") decides nothing, because earlier rules match the same weights; put it before \
             them",
            "rule 3 (match: \"decoder.*\") matches no weight of the model; `trefoil inspect` lists the names",
            "`clip: mse` has no effect: no weight gets integer codes; floats have no range and ggml's blocks a search of \
             their own",
            "`activations: dynamic` has no effect: no Linear has int8 weights with one symmetric scale per row",
            "hint: a rule for these weights, or `gguf: { fallback: nearest }` for all such, says what they become",
        ],
        "{message}"
    );
}

#[test]
fn rows_that_do_not_fit_a_block_are_named_or_take_the_fallback() {
    let policy = Policy::of(Scheme::Ggml(GgmlType::Q4K));
    let error = policy.plan(&graph(64, |_| 1.0)).expect_err("64 is not 256").to_string();
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "a.weight cannot become q4_k: rows of 64 are not a multiple of 256",
            "block.0.wo.weight cannot become q5_k: rows of 64 are not a multiple of 256",
            "hint: a rule for these weights, or `gguf: { fallback: nearest }` for all such, says what they become",
        ]
    );
    let to_half = Fallback::To(Scheme::Float(FloatType::F16));
    let plan = policy.plan_with_fallback(&graph(64, |_| 1.0), to_half).expect("falls back");
    assert_eq!(schemes(&plan)[2], "a.weight: linear -> f16");
    assert_eq!(
        plan.weights[2].decided_by.to_string(),
        "fallback instead of q4_k: rows of 64 are not a multiple of 256"
    );
    let nearest = |columns| {
        let plan = policy.plan_with_fallback(&graph(columns, |_| 1.0), Fallback::Nearest).expect("falls back");
        schemes(&plan)
            .into_iter()
            .filter(|line| line.contains("a.weight") || line.contains("wo.weight"))
            .collect::<Vec<_>>()
    };
    assert_eq!(nearest(64), ["a.weight: linear -> q5_0", "block.0.wo.weight: feed_forward_out -> q5_1"]);
    assert_eq!(nearest(40), ["a.weight: linear -> f16", "block.0.wo.weight: feed_forward_out -> f16"]);
    assert_eq!(nearest(256), ["a.weight: linear -> q4_k", "block.0.wo.weight: feed_forward_out -> q5_k"]);
}

#[test]
fn every_weight_that_holds_no_number_is_named_and_the_graph_stays_as_it_was() {
    let mut graph = graph(64, |name| match name {
        "norm.weight" => f32::NAN,
        "a.weight" => f32::NEG_INFINITY,
        "lm_head.weight" => 1e30,
        _ => 1.0,
    });
    let plan = Policy::of("int8".parse().expect("scheme")).plan(&graph).expect("fits");
    let error = quantize(&mut graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect_err("not finite");
    assert_eq!(
        error.to_string().lines().collect::<Vec<_>>(),
        [
            "norm.weight: expected finite numbers, found NaN at [0, 0]; the checkpoint is damaged",
            "a.weight: expected finite numbers, found -inf at [0, 0]; the checkpoint is damaged",
            "lm_head.weight: 1e30 at [0, 0] is out of range for int8, whose f16 ends at 65504; use bf16 or keep for \
             this weight",
        ]
    );
    assert!(graph.weights.iter().all(|(_, w)| matches!(w.data, WeightData::Stored { .. })));
}

#[test]
fn numbers_beyond_f16_are_refused_wherever_f16_holds_them() {
    for &scheme in Scheme::ALL {
        let holds = match scheme {
            Scheme::Keep | Scheme::Float(FloatType::F32 | FloatType::BF16) => true,
            Scheme::Coded(_) => scheme != Scheme::INVERTED,
            // Its scales are powers of two up to 2^127.
            Scheme::Ggml(GgmlType::Mxfp4) => true,
            Scheme::Float(FloatType::F16) | Scheme::Affine { .. } | Scheme::Ggml(_) => false,
        };
        let mut row = normal(3, 256);
        row[77] = 1e12;
        match outcome(&weight("w", &[1, 256], &row), scheme, Clip::None) {
            Ok(_) => assert!(holds, "{scheme}"),
            Err(QuantError::Refused(refusals)) => {
                assert!(!holds, "{scheme}");
                assert!(matches!(&refusals[..], [Refusal::Overflow { weight, row: 0, .. }] if weight == "w"));
            }
            Err(other) => panic!("{scheme}: {other}"),
        }
    }
}

#[test]
fn a_record_counts_packed_bits() {
    let mut graph = graph(64, |_| 0.25);
    let mut policy = Policy::of("int4-g32-asym".parse().expect("scheme"));
    policy.rules =
        vec![Rule { role: Some(Role::Linear), pattern: None, scheme: policy.scheme, clip: None, method: None }];
    let plan = policy.plan(&graph).expect("fits");
    let records = quantize(&mut graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("fits");
    let a = &records[2];
    // 64 · 64 codes of half a byte, and for each 32 a scale of 2 bytes and a zero of half a byte.
    assert_eq!((a.name.as_str(), a.bytes, a.bits_per_weight), ("a.weight", 2048 + 256 + 64, 4.625));
    assert_eq!((a.stored.as_str(), a.shape.as_slice()), ("int4 per 32 asymmetric", &[64, 64][..]));
    let scales = a.scales.clone().expect("codes have scales");
    assert!(scales.min == scales.median && scales.median == scales.max, "{scales:?}");
    assert!(records[1].scales.is_none() && records[1].sqnr_db.is_none() && records[1].bytes == 256);
}

#[test]
fn an_empty_weight_goes_through_every_quantizer() {
    for &scheme in Scheme::ALL {
        for shape in [[0, 256], [3, 0]] {
            let (became, outcome) = outcome(&weight("w", &shape, &[]), scheme, Clip::Mse).expect("nothing to refuse");
            assert!(became.is_empty() && outcome.scales.is_empty(), "{scheme}");
        }
    }
}

#[test]
fn a_group_that_ends_a_row_has_its_own_scale() {
    let row: Vec<f32> = (0..40).map(|i| if i < 32 { 1.0 } else { 100.0 }).collect();
    let scheme = Scheme::Affine { bits: 8, block: Block::Group(32), symmetric: true };
    let (became, outcome) = outcome(&weight("w", &[1, 40], &row), scheme, Clip::None).expect("fits");
    assert_eq!(outcome.scales.len(), 2);
    assert!((became[0] - 1.0).abs() < 1e-3 && (became[39] - 100.0).abs() < 0.1, "{became:?}");
}

#[test]
fn a_report_is_told_of_awq_before_gptq_and_of_rounding_that_calibration_did_not_see() {
    let told = |policy: &Policy, rounded: bool| {
        let mut graph = graph(64, |_| 1.0);
        let plan = policy.plan(&graph).expect("fits");
        if rounded {
            plan.typed(&mut graph);
            graph::passes::run_one(&mut graph, &graph::passes::QuantizeActivations::all(graph::Granularity::Token))
                .expect("fits");
        }
        cautions(policy, &plan, &graph).into_iter().map(|caution| (caution.about, caution.text)).collect::<Vec<_>>()
    };
    let awq = Equalize::Awq(Factors::default());
    let both = Policy { method: Method::Gptq, equalize: awq, ..Policy::of("int4-g32".parse().expect("scheme")) };
    let found = told(&both, false);
    assert_eq!(found.len(), 1);
    let start = "awq chooses factors for nearest codes, and 3 weights get theirs by gptq";
    assert!(found[0].0 == "equalize" && found[0].1.starts_with(start), "{found:?}");
    for alone in [
        Policy { equalize: Equalize::None, ..both.clone() },
        Policy { method: Method::Importance, clip: Clip::Mse, ..both.clone() },
    ] {
        assert_eq!(told(&alone, false), []);
    }

    let int8 = Policy {
        method: Method::Gptq,
        bias_correction: true,
        activations: Activations::Dynamic,
        ..Policy::of("int8".parse().expect("scheme"))
    };
    let found = told(&int8, true);
    assert_eq!(found.iter().map(|(about, _)| *about).collect::<Vec<_>>(), ["method", "bias_correction"]);
    assert!(found[0].1.starts_with("3 Linears read activations that are rounded, and gptq chose"), "{found:?}");
    assert!(found[1].1.starts_with("1 biases belong to Linears that read rounded activations"), "{found:?}");
    assert_eq!(told(&int8, false), []);
}

#[test]
fn a_method_reaches_each_weight_as_far_as_its_use_and_scheme_allow() {
    let plan = |scheme: &str, clip| {
        let policy = Policy { method: Method::Gptq, clip, ..Policy::of(scheme.parse().expect("scheme")) };
        let plan = policy.plan(&graph(256, |_| 1.0)).map_err(|e| e.to_string())?;
        Ok(plan.weights.into_iter().map(|w| format!("{} {} {}", w.name, w.scheme, w.method.name())).collect::<Vec<_>>())
    };
    assert_eq!(
        plan("int4-g32", Clip::None).as_deref(),
        Ok(&[
            "shared.weight int8 nearest".to_owned(),
            "norm.weight keep nearest".to_owned(),
            "a.weight int4-g32 gptq".to_owned(),
            "a.bias keep nearest".to_owned(),
            "block.0.wo.weight int8-g32 gptq".to_owned(),
            "lm_head.weight int8 gptq".to_owned(),
        ][..])
    );
    assert_eq!(
        plan("q4_k", Clip::None).as_deref(),
        Ok(&[
            "shared.weight q6_k nearest".to_owned(),
            "norm.weight keep nearest".to_owned(),
            "a.weight q4_k gptq".to_owned(),
            "a.bias keep nearest".to_owned(),
            "block.0.wo.weight q5_k gptq".to_owned(),
            "lm_head.weight q6_k gptq".to_owned(),
        ][..])
    );
    assert_eq!(
        plan("f16", Clip::None),
        Err("`method: gptq` has no effect: no weight of a Linear gets codes that calibration could choose".to_owned())
    );
}
