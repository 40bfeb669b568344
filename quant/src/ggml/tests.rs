use graph::ggml::GgmlType;

use super::quantize;

/// A file that tests/fixtures/ggml/make.rs wrote with ggml itself.
fn fixture(name: &str) -> Vec<u8> {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/ggml/{}"), name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn fixture_text(name: &str) -> String {
    String::from_utf8(fixture(name)).expect("a text file")
}

/// Name and weights of each case.
fn cases() -> Vec<(String, Vec<f32>)> {
    let inputs = fixture("inputs.bin");
    let mut weights = inputs.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b));
    let cases: Vec<_> = fixture_text("cases.txt")
        .lines()
        .map(|line| line.split_once(' ').expect("a name and a number"))
        .map(|(name, len)| (name.to_string(), weights.by_ref().take(len.parse().expect("a number")).collect()))
        .collect();
    assert!(weights.next().is_none(), "cases.txt does not cover inputs.bin");
    cases
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
