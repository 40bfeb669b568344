//! Blocks whose scales are settled: what each code means, and other codes in their place.
//!
//! A weight of any type is `scale·code - offset`, with scale and offset shared by a few neighbours:
//!
//! | type | neighbours | code | scale | offset |
//! | --- | --- | --- | --- | --- |
//! | `Q8_0` | 32 | -127 to 127 | d | 0 |
//! | `Q4_0`, `Q5_0` | 32 | -8 to 7, -16 to 15 | d | 0 |
//! | `Q4_1`, `Q5_1` | 32 | 0 to 15, 0 to 31 | d | -m |
//! | `Q4_K`, `Q5_K` | 32 | 0 to 15, 0 to 31 | d·s | dmin·m |
//! | `Q6_K` | 16 | -32 to 31 | d·s | 0 |
//!
//! These are the operations of [`GgmlType::dequantize`] in its order, so the numbers are equal to the bit. Code -128 of
//! `Q8_0` means what it says where a block has it, but is never chosen, as ggml never does.

use graph::ggml::GgmlType;

use super::block_type::BlockType;
use super::parts::Step;
use super::types;

/// The codes of some blocks, to be chosen anew under the blocks' own scales.
pub struct Codes {
    of_type: &'static BlockType,
    steps: Vec<Step>,
    codes: Vec<i8>,
}

impl Codes {
    /// Those that the blocks hold. `blocks`: u8[k·block_bytes].
    pub fn of(kind: GgmlType, blocks: &[u8]) -> Codes {
        let of_type = types::of(kind);
        let mut steps = Vec::new();
        let mut plain = blocks.to_vec();
        for (block, plain) in blocks.chunks(kind.block_bytes()).zip(plain.chunks_mut(kind.block_bytes())) {
            (of_type.push_steps)(block, &mut steps);
            (of_type.set_unit_steps)(plain);
        }
        let mut values = vec![0.0; blocks.len() / kind.block_bytes() * kind.block_len()];
        kind.dequantize(&plain, &mut values);
        Codes { of_type, steps, codes: values.into_iter().map(|v| v as i8).collect() }
    }

    /// Gives the weight at `at` the code nearest to `w`, and returns what that means.
    ///
    /// Where the scale is 0 all codes mean the same and the code stays as it is.
    pub fn choose(&mut self, at: usize, w: f32) -> f32 {
        let Step { scale, offset } = self.steps[at / self.of_type.shared];
        if scale == 0.0 {
            return self.meaning(at);
        }
        let code = (self.of_type.nearest)((w + offset) / scale);
        self.codes[at] = code as i8;
        scale * code - offset
    }

    /// What the code of the weight at `at` means.
    pub fn meaning(&self, at: usize) -> f32 {
        let Step { scale, offset } = self.steps[at / self.of_type.shared];
        scale * f32::from(self.codes[at]) - offset
    }

    /// Puts the codes into the blocks that they are of; scales and minima stay.
    pub fn write(&self, blocks: &mut [u8]) {
        (self.of_type.set_codes)(&self.codes, blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte drawn alike: scales of either sign, among them 0, denormals, infinities and NaN, and all codes.
    fn random_blocks(kind: GgmlType) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(4096 * kind.block_bytes()).collect();
        bytes[..kind.block_bytes()].fill(0);
        if kind == GgmlType::Mxfp4 {
            // Code 8 is another 0, which is read and never written.
            for byte in bytes.chunks_mut(kind.block_bytes()).flat_map(|block| &mut block[1..]) {
                *byte &= if *byte & 15 == 8 { 0xf0 } else { 0xff };
                *byte &= if *byte >> 4 == 8 { 0x0f } else { 0xff };
            }
        }
        bytes
    }

    /// The codes that are ever chosen, rising.
    fn chosen(kind: GgmlType) -> Vec<i8> {
        match kind {
            GgmlType::Q8_0 => (-127..=127).collect(),
            GgmlType::Q4_0 => (-8..=7).collect(),
            GgmlType::Q5_0 => (-16..=15).collect(),
            GgmlType::Q4_1 | GgmlType::Q4K => (0..=15).collect(),
            GgmlType::Q5_1 | GgmlType::Q5K => (0..=31).collect(),
            GgmlType::Q6K => (-32..=31).collect(),
            GgmlType::Mxfp4 => vec![-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12],
        }
    }

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    fn decoded(kind: GgmlType, blocks: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; blocks.len() / kind.block_bytes() * kind.block_len()];
        kind.dequantize(blocks, &mut out);
        out
    }

    #[test]
    fn codes_mean_what_the_block_means_to_the_bit() {
        for &kind in GgmlType::ALL {
            let blocks = random_blocks(kind);
            let codes = Codes::of(kind, &blocks);
            for (at, value) in decoded(kind, &blocks).into_iter().enumerate() {
                let found = codes.meaning(at);
                assert!(same(found, value), "{kind}, weight {at}: {found:e}, dequantized {value:e}");
            }
        }
    }

    #[test]
    fn writing_the_codes_that_were_read_changes_no_byte() {
        for &kind in GgmlType::ALL {
            let blocks = random_blocks(kind);
            let mut written = blocks.clone();
            Codes::of(kind, &blocks).write(&mut written);
            assert!(written == blocks, "{kind}");
        }
    }

    #[test]
    fn a_chosen_code_is_the_nearest_of_its_block_and_what_it_means_is_what_the_block_then_means() {
        for &kind in GgmlType::ALL {
            let mut blocks = random_blocks(kind);
            let before = decoded(kind, &blocks);
            let mut codes = Codes::of(kind, &blocks);
            let chosen = chosen(kind);
            let (lowest, highest) = (chosen[0], chosen[chosen.len() - 1]);
            let mut meant = Vec::new();
            let mut negative = 0;
            for (at, held) in before.iter().enumerate() {
                let Step { scale, offset } = codes.steps[at / codes.of_type.shared];
                // From beyond one end of the range to beyond the other.
                let along = (at % 97) as f32 / 80.0 - 0.1;
                let w = scale * (f32::from(lowest) + along * (f32::from(highest) - f32::from(lowest))) - offset;
                let held_code = codes.codes[at];
                let value = codes.choose(at, w);
                meant.push(value);
                if scale == 0.0 {
                    assert!(codes.codes[at] == held_code && same(value, *held), "{kind}, weight {at}");
                    continue;
                }
                negative += usize::from(scale < 0.0);
                if !(scale.is_finite() && offset.is_finite()) {
                    continue;
                }
                let distance = |code: i8| (f64::from(scale) * f64::from(code) - f64::from(offset) - f64::from(w)).abs();
                let least = chosen.iter().copied().map(distance).fold(f64::INFINITY, f64::min);
                // The quotient is rounded to f32, which may turn a tie.
                let noise = 1e-5 * (f64::from(scale.abs()) * 256.0 + f64::from(offset.abs()));
                let code = codes.codes[at];
                assert!(chosen.contains(&code), "{kind}, weight {at}: {code}");
                assert!(distance(code) <= least + noise, "{kind}, weight {at}: {w:e} got code {code}, {value:e}");
            }
            assert!(negative > 1000 || kind == GgmlType::Mxfp4, "{kind}: {negative}"); // whose scales have no sign
            codes.write(&mut blocks);
            for (at, (found, meant)) in decoded(kind, &blocks).iter().zip(&meant).enumerate() {
                assert!(same(*found, *meant), "{kind}, weight {at}: {found:e}, chosen {meant:e}");
            }
        }
    }
}
