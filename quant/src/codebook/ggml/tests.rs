use graph::ggml::GgmlType;

use super::{IMPORTANCE_LIMIT, quantize, quantize_weighted};

/// A file that tests/fixtures/ggml/make.rs wrote with ggml itself.
fn fixture(name: &str) -> Vec<u8> {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/ggml/{}"), name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn fixture_text(name: &str) -> String {
    String::from_utf8(fixture(name)).expect("a text file")
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))
}

/// Name and weights of each case.
fn cases() -> Vec<(String, Vec<f32>)> {
    let inputs = fixture("inputs.bin");
    let mut weights = floats(&inputs);
    let cases: Vec<_> = fixture_text("cases.txt")
        .lines()
        .map(|line| line.split_once(' ').expect("a name and a number"))
        .map(|(name, len)| (name.to_string(), weights.by_ref().take(len.parse().expect("a number")).collect()))
        .collect();
    assert!(weights.next().is_none(), "cases.txt does not cover inputs.bin");
    cases
}

/// Some rows and the importance of their columns.
struct Weighted {
    name: String,
    weights: Vec<f32>,
    importance: Vec<f32>,
}

fn weighted_cases() -> Vec<Weighted> {
    let sources = cases();
    let bytes = fixture("importance.bin");
    let mut importance = floats(&bytes);
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let case = |line: &str| {
        let [name, source, rows, columns] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (_, weights) = sources.iter().find(|(name, _)| name == source).expect("a case of this name");
        let importance: Vec<f32> = importance.by_ref().take(number(columns)).collect();
        Weighted { name: name.to_string(), weights: weights[..number(rows) * number(columns)].to_vec(), importance }
    };
    let cases = fixture_text("weighted.txt").lines().map(case).collect();
    assert!(importance.next().is_none(), "weighted.txt does not cover importance.bin");
    cases
}

fn weighted_blocks(kind: GgmlType, weights: &[f32], importance: &[f32]) -> Vec<u8> {
    let mut out = vec![0xaa; weights.len() / kind.block_len() * kind.block_bytes()];
    quantize_weighted(kind, weights, importance, &mut out);
    out
}

fn blocks(kind: GgmlType, weights: &[f32]) -> Vec<u8> {
    let mut out = vec![0xaa; weights.len() / kind.block_len() * kind.block_bytes()];
    quantize(kind, weights, &mut out);
    out
}

fn decoded(kind: GgmlType, blocks: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; blocks.len() / kind.block_bytes() * kind.block_len()];
    kind.dequantize(blocks, &mut out);
    out
}

fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// splitmix64, as in make.rs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn normal(&mut self) -> f32 {
        let mut sum = -6 * 65535;
        for _ in 0..3 {
            let four = self.next();
            sum += (0..4).map(|i| (four >> (16 * i) & 0xffff) as i64).sum::<i64>();
        }
        sum as f32 / 65536.0
    }
}

/// `stream` of make.rs, to the bit.
fn stream(len: usize) -> Vec<f32> {
    let mut random = Random(7);
    let mut out = Vec::with_capacity(len);
    for block in 0..len / 32 {
        let scale = (1 + random.next() % 1000) as f32 / 8192.0;
        let shift = if block % 2 == 0 { 0.0 } else { (random.next() % 2001) as f32 / 8192.0 - 0.125 };
        out.extend((0..32).map(|_| scale * random.normal() + shift));
    }
    out
}

/// `channels` of make.rs, to the bit.
fn channels(len: usize) -> Vec<f32> {
    let mut random = Random(11);
    let mut out = Vec::with_capacity(len);
    for _ in 0..len {
        let scale = (1 << (random.next() % 16)) as f32 / 256.0;
        let v = random.normal();
        out.push(scale * (v * v));
    }
    out
}

#[test]
fn blocks_of_every_kind_of_row_equal_those_of_ggml() {
    for &kind in GgmlType::ALL {
        let golden = fixture(&format!("{kind}.bin"));
        let mut golden = golden.chunks(kind.block_bytes());
        for (name, weights) in cases() {
            for (i, block) in weights.chunks(kind.block_len()).enumerate() {
                let expected = golden.next().expect("as many blocks as the inputs have");
                assert_eq!(blocks(kind, block), expected, "{kind}, block {i} of {name}: {block:?}");
            }
        }
        assert!(golden.next().is_none(), "{kind}.bin is longer than the inputs");
    }
}

#[test]
fn a_million_random_weights_give_the_bytes_and_the_values_of_ggml() {
    let weights = stream(1 << 20);
    let mut found = String::new();
    for &kind in GgmlType::ALL {
        let blocks = blocks(kind, &weights);
        let values = decoded(kind, &blocks).into_iter().flat_map(f32::to_le_bytes);
        found += &format!("{kind} {:016x} {:016x}\n", fnv(blocks.iter().copied()), fnv(values));
    }
    assert_eq!(found, fixture_text("stream.txt"));
}

/// The types that ggml itself quantizes by importance, or for which it ignores it as is done here.
fn weighted_by_ggml() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|kind| *kind != GgmlType::Mxfp4)
}

#[test]
fn blocks_by_importance_equal_those_of_ggml() {
    for kind in weighted_by_ggml() {
        let golden = fixture(&format!("{kind}.weighted.bin"));
        let mut golden = golden.chunks(kind.block_bytes());
        for Weighted { name, weights, importance } in weighted_cases() {
            if !importance.len().is_multiple_of(kind.block_len()) {
                continue;
            }
            for (i, block) in weighted_blocks(kind, &weights, &importance).chunks(kind.block_bytes()).enumerate() {
                let expected = golden.next().expect("as many blocks as the cases have");
                assert_eq!(block, expected, "{kind}, block {i} of {name}");
            }
        }
        assert!(golden.next().is_none(), "{kind}.weighted.bin is longer than the cases");
    }
}

#[test]
fn a_million_random_weights_of_unequal_importance_give_the_bytes_of_ggml() {
    let (weights, importance) = (stream(1365 * 768), channels(768));
    let hash = |kind| fnv(weighted_blocks(kind, &weights, &importance));
    let found: String = weighted_by_ggml().map(|kind| format!("{kind} {:016x}\n", hash(kind))).collect();
    assert_eq!(found, fixture_text("stream.weighted.txt"));
}

#[test]
fn the_fixtures_have_a_scale_that_the_fit_made_negative() {
    // Else the wrapped byte of Q4_K, the cut one of Q5_K and the negative d of Q4_1 go untested.
    let cases = weighted_cases();
    let Weighted { weights, importance, .. } =
        cases.iter().find(|case| case.name == "ignored_outliers").expect("there");
    let negative = |block: &[u8]| block[1] & 0x80 != 0;
    assert!(weighted_blocks(GgmlType::Q4_1, weights, importance).chunks(20).any(negative));
}

#[test]
fn error_moves_away_from_the_channels_of_high_importance() {
    let (weights, importance) = (stream(64 * 768), channels(768));
    let ratio = |kind: GgmlType| {
        let error = |blocks: Vec<u8>| {
            let off = weights.iter().zip(decoded(kind, &blocks)).map(|(a, b)| f64::from(a - b).powi(2));
            off.zip(importance.iter().cycle()).map(|(off, &v)| off * f64::from(v)).sum::<f64>().sqrt()
        };
        error(weighted_blocks(kind, &weights, &importance)) / error(blocks(kind, &weights))
    };
    let limits = [
        (GgmlType::Q4_0, 0.73),  // 0.716
        (GgmlType::Q4_1, 0.55),  // 0.538
        (GgmlType::Q5_0, 0.73),  // 0.721
        (GgmlType::Q5_1, 0.55),  // 0.543
        (GgmlType::Q4K, 0.65),   // 0.639
        (GgmlType::Q5K, 0.7),    // 0.691
        (GgmlType::Q6K, 0.69),   // 0.680
        (GgmlType::Mxfp4, 0.96), // 0.954
    ];
    for (kind, limit) in limits {
        let ratio = ratio(kind);
        assert!(ratio <= limit, "{kind}: {ratio}");
    }
}

#[test]
fn only_the_ratios_of_importances_matter() {
    let (weights, importance) = (stream(4 * 768), channels(768));
    for &kind in GgmlType::ALL {
        let expected = weighted_blocks(kind, &weights, &importance);
        for power in [-20, 20] {
            let scaled: Vec<f32> = importance.iter().map(|v| v * 2f32.powi(power)).collect();
            assert!(weighted_blocks(kind, &weights, &scaled) == expected, "{kind}, 2^{power}");
        }
    }
}

#[test]
fn weights_of_channels_without_importance_become_what_the_documentation_says() {
    let weights = stream(512);
    let mut importance = vec![0.0; 256];
    for &kind in GgmlType::ALL {
        let values = decoded(kind, &weighted_blocks(kind, &weights, &importance));
        let far = |(a, b): (&f32, &f32)| (a - b).abs() > 0.1 * weights.iter().fold(0.0, |far: f32, v| far.max(v.abs()));
        match kind {
            GgmlType::Q8_0 | GgmlType::Q4_1 | GgmlType::Q5_1 => {
                assert!(!weights.iter().zip(&values).any(far), "{kind}")
            }
            GgmlType::Mxfp4 => assert_eq!(values, decoded(kind, &blocks(kind, &weights))),
            _ => assert!(values.iter().all(|&v| v == 0.0), "{kind}"),
        }
    }
    // Sixteen dead channels of Q6_K beside live ones.
    importance[16..].fill(1.0);
    let values = decoded(GgmlType::Q6K, &weighted_blocks(GgmlType::Q6K, &weights, &importance));
    assert!(values[..16].iter().all(|&v| v == 0.0) && values[16..32].iter().any(|&v| v != 0.0));
}

#[test]
fn no_importance_up_to_the_limit_makes_a_scale_nan() {
    for Weighted { name, weights, importance } in weighted_cases() {
        // The weights of `large` pass f16.
        if name == "large" || !importance.len().is_multiple_of(256) {
            continue;
        }
        for extreme in [IMPORTANCE_LIMIT, f32::from_bits(1), f32::MIN_POSITIVE] {
            for stride in [1, 7] {
                let spread: Vec<f32> =
                    (0..importance.len()).map(|i| if i % stride == 0 { extreme } else { 1.0 }).collect();
                for &kind in GgmlType::ALL {
                    let values = decoded(kind, &weighted_blocks(kind, &weights, &spread));
                    assert!(values.iter().all(|v| v.is_finite()), "{kind}, {name}, {extreme:e} every {stride}");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "Q4_0: importance of column 40: expected 0 to 1e18, found NaN")]
fn an_importance_that_is_nan_is_refused() {
    quantize_weighted(GgmlType::Q4_0, &[1.0; 64], &[[1.0; 40].as_slice(), &[f32::NAN; 24]].concat(), &mut [0; 36]);
}

#[test]
#[should_panic(expected = "Q6_K: importance of column 0: expected 0 to 1e18, found inf")]
fn an_importance_that_is_infinite_is_refused() {
    quantize_weighted(GgmlType::Q6K, &[1.0; 256], &[f32::INFINITY; 256], &mut [0; 210]);
}

#[test]
#[should_panic(expected = "Q8_0: importance of column 31: expected 0 to 1e18, found -1")]
fn a_negative_importance_is_refused_even_where_it_is_not_used() {
    quantize_weighted(GgmlType::Q8_0, &[1.0; 32], &[[1.0; 31].as_slice(), &[-1.0]].concat(), &mut [0; 34]);
}

#[test]
#[should_panic(expected = "Q5_1: 48 bytes for 64 weights in rows of 48, at 24 bytes for 32")]
fn importance_of_other_columns_than_those_of_the_rows_is_refused() {
    quantize_weighted(GgmlType::Q5_1, &[1.0; 64], &[1.0; 48], &mut [0; 48]);
}

#[test]
fn rows_of_zeros_come_back_as_zeros() {
    for &kind in GgmlType::ALL {
        for (name, weights) in cases().iter().filter(|(name, _)| name.ends_with("zero") || name == "signed_zeros") {
            assert!(decoded(kind, &blocks(kind, weights)).iter().all(|&v| v == 0.0), "{kind}, {name}");
        }
    }
}

#[test]
fn every_weight_lies_within_a_step_of_what_its_block_means() {
    // Half a step by rounding; a whole one where the far end of an asymmetric code range is cut off. The scale and the
    // minimum are rounded to f16 afterwards, and no code makes up for it: half a unit of their 11 bits, or of 2^-24.
    for kind in [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q5_0, GgmlType::Q5_1] {
        for (name, weights) in cases().iter().filter(|(name, _)| name != "large") {
            let values = decoded(kind, &blocks(kind, weights));
            for (x, values) in weights.chunks(32).zip(values.chunks(32)) {
                let max = x.iter().copied().fold(f32::MIN, f32::max);
                let min = x.iter().copied().fold(f32::MAX, f32::min);
                let far = max.max(-min);
                let (limit, top) = match kind {
                    GgmlType::Q8_0 => (0.5 * far / 127.0, 127.0),
                    GgmlType::Q4_0 => (far / 8.0, 8.0),
                    GgmlType::Q5_0 => (far / 16.0, 16.0),
                    GgmlType::Q4_1 => (0.5 * (max - min) / 15.0, 15.0),
                    _ => (0.5 * (max - min) / 31.0, 31.0),
                };
                let rounded = (max - min + 2.0 * far) * 2f32.powi(-12) + (top + 1.0) * 2f32.powi(-25);
                for (x, value) in x.iter().zip(values) {
                    assert!((x - value).abs() <= 1.0001 * limit + rounded, "{kind}, {name}: {x:e} became {value:e}");
                }
            }
        }
    }
}

#[test]
fn every_weight_of_mxfp4_lies_within_half_a_step_of_its_code_or_is_clipped_by_a_quarter() {
    // Steps of E2M1 grow with the weight: half of one is at most 1/4 of what is above 1 scale and 1/4 scale below; and what lies
    // between 6 and 8 scales becomes 6.
    for (name, weights) in cases() {
        let values = decoded(GgmlType::Mxfp4, &blocks(GgmlType::Mxfp4, &weights));
        for (x, values) in weights.chunks(32).zip(values.chunks(32)) {
            let far = x.iter().fold(0.0f32, |far, v| far.max(v.abs()));
            for (x, value) in x.iter().zip(values) {
                let limit = (x.abs() / 4.0).max(far / 16.0);
                assert!((x - value).abs() <= limit || far < 2f32.powi(-125), "{name}: {x:e} became {value:e}");
            }
        }
    }
}

#[test]
fn the_search_of_the_k_types_takes_a_quarter_off_the_error_of_equal_bits() {
    // Q4_0 and Q4_K are both 4.5 bits a weight, Q5_0 and Q5_K both 5.5.
    let weights = stream(1 << 16);
    let error = |kind| {
        let values = decoded(kind, &blocks(kind, &weights));
        weights.iter().zip(values).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let [four, five] = [error(GgmlType::Q4K) / error(GgmlType::Q4_0), error(GgmlType::Q5K) / error(GgmlType::Q5_0)];
    assert!(four <= 0.75, "{four}"); // 0.743
    assert!(five <= 0.77, "{five}"); // 0.759
}

#[test]
fn the_largest_finite_weights_stop_nothing() {
    // Sums of squares overflow here and scales are infinite; a NaN code or an integer overflow would panic.
    let rows = [
        vec![f32::MAX; 256],
        vec![f32::MIN; 256],
        (0..256).map(|i| if i % 2 == 0 { f32::MAX } else { f32::MIN }).collect(),
        (0..256).map(|i| if i == 3 { f32::MAX } else { f32::from_bits(1) }).collect(),
    ];
    for &kind in GgmlType::ALL {
        for row in &rows {
            decoded(kind, &blocks(kind, row));
        }
    }
}

#[test]
#[should_panic(expected = "Q4_K: 144 bytes for 288 weights, at 144 bytes for 256")]
fn a_row_that_is_no_multiple_of_a_block_is_refused() {
    quantize(GgmlType::Q4K, &[0.0; 288], &mut [0; 144]);
}
