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
use half::f16;

use super::k_search;
use super::parts::{Step, half_at};
use super::{q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};
use crate::codebook::affine::rounded;

/// The codes of some blocks, to be chosen anew under the blocks' own scales.
pub struct Codes {
    kind: GgmlType,
    /// Weights that share a step.
    shared: usize,
    steps: Vec<Step>,
    codes: Vec<i8>,
    lowest: f32,
    highest: f32,
}

impl Codes {
    /// Those that the blocks hold. `blocks`: u8[k·block_bytes].
    pub fn of(kind: GgmlType, blocks: &[u8]) -> Codes {
        let (lowest, highest) = bounds(kind);
        let mut steps = Vec::new();
        let mut plain = blocks.to_vec();
        for (block, plain) in blocks.chunks(kind.block_bytes()).zip(plain.chunks_mut(kind.block_bytes())) {
            push_steps(kind, block, &mut steps);
            set_unit_steps(kind, plain);
        }
        let mut values = vec![0.0; blocks.len() / kind.block_bytes() * kind.block_len()];
        kind.dequantize(&plain, &mut values);
        let shared = if kind == GgmlType::Q6K { 16 } else { 32 };
        let codes = values.into_iter().map(|v| v as i8).collect();
        Codes { kind, shared, steps, codes, lowest: f32::from(lowest), highest: f32::from(highest) }
    }

    /// Gives the weight at `at` the code nearest to `w`, and returns what that means.
    ///
    /// Where the scale is 0 all codes mean the same and the code stays as it is.
    pub fn choose(&mut self, at: usize, w: f32) -> f32 {
        let Step { scale, offset } = self.steps[at / self.shared];
        if scale == 0.0 {
            return self.meaning(at);
        }
        let code = rounded((w + offset) / scale, self.lowest, self.highest);
        self.codes[at] = code as i8;
        scale * code - offset
    }

    /// What the code of the weight at `at` means.
    pub fn meaning(&self, at: usize) -> f32 {
        let Step { scale, offset } = self.steps[at / self.shared];
        scale * f32::from(self.codes[at]) - offset
    }

    /// Puts the codes into the blocks that they are of; scales and minima stay.
    pub fn write(&self, blocks: &mut [u8]) {
        let Codes { kind, codes, .. } = self;
        match kind {
            GgmlType::Q8_0 => each_block(codes, 0, blocks, q8_0::set_codes),
            GgmlType::Q4_0 => each_block(codes, 8, blocks, q4_0::set_codes),
            GgmlType::Q4_1 => each_block(codes, 0, blocks, q4_1::set_codes),
            GgmlType::Q5_0 => each_block(codes, 16, blocks, q5_0::set_codes),
            GgmlType::Q5_1 => each_block(codes, 0, blocks, q5_1::set_codes),
            GgmlType::Q4K => each_block(codes, 0, blocks, q4_k::set_codes),
            GgmlType::Q5K => each_block(codes, 0, blocks, q5_k::set_codes),
            GgmlType::Q6K => each_block(codes, 32, blocks, q6_k::set_codes),
        }
    }
}

/// The lowest and the highest code that is ever chosen.
fn bounds(kind: GgmlType) -> (i8, i8) {
    match kind {
        GgmlType::Q8_0 => (-127, 127),
        GgmlType::Q4_0 => (-8, 7),
        GgmlType::Q5_0 => (-16, 15),
        GgmlType::Q4_1 | GgmlType::Q4K => (0, 15),
        GgmlType::Q5_1 | GgmlType::Q5K => (0, 31),
        GgmlType::Q6K => (-32, 31),
    }
}

/// The steps of one block, in the order of its weights.
fn push_steps(kind: GgmlType, block: &[u8], steps: &mut Vec<Step>) {
    match kind {
        GgmlType::Q8_0 | GgmlType::Q4_0 | GgmlType::Q5_0 => steps.push(Step { scale: half_at(block, 0), offset: 0.0 }),
        GgmlType::Q4_1 | GgmlType::Q5_1 => steps.push(Step { scale: half_at(block, 0), offset: -half_at(block, 2) }),
        GgmlType::Q4K | GgmlType::Q5K => {
            steps.extend(k_search::steps(block.first_chunk().expect("a block is longer than its head")));
        }
        GgmlType::Q6K => {
            let d = half_at(block, 208);
            steps.extend(block[192..208].iter().map(|&s| Step { scale: d * f32::from(s as i8), offset: 0.0 }));
        }
    }
}

/// Makes every weight of a block mean its code.
fn set_unit_steps(kind: GgmlType, block: &mut [u8]) {
    let one = f16::ONE.to_le_bytes();
    match kind {
        GgmlType::Q8_0 | GgmlType::Q4_0 | GgmlType::Q5_0 => block[..2].copy_from_slice(&one),
        GgmlType::Q4_1 | GgmlType::Q5_1 => {
            block[..2].copy_from_slice(&one);
            block[2..4].fill(0);
        }
        GgmlType::Q4K | GgmlType::Q5K => {
            block[..16].copy_from_slice(&k_search::head(f16::ONE, f16::ZERO, &[1; 8], &[0; 8]));
        }
        GgmlType::Q6K => {
            block[192..208].fill(1);
            block[208..].copy_from_slice(&one);
        }
    }
}

/// `set` gets the codes of each block as its bytes hold them: `code + side`.
fn each_block<const LEN: usize, const BYTES: usize>(
    codes: &[i8],
    side: i8,
    blocks: &mut [u8],
    set: fn(&[u8; LEN], &mut [u8; BYTES]),
) {
    for (codes, block) in codes.as_chunks::<LEN>().0.iter().zip(blocks.as_chunks_mut().0) {
        set(&codes.map(|code| code.wrapping_add(side).cast_unsigned()), block);
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
        bytes
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
            let (lowest, highest) = bounds(kind);
            let mut meant = Vec::new();
            let mut negative = 0;
            for (at, held) in before.iter().enumerate() {
                let Step { scale, offset } = codes.steps[at / codes.shared];
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
                let least = (lowest..=highest).map(distance).fold(f64::INFINITY, f64::min);
                // The quotient is rounded to f32, which may turn a tie.
                let noise = 1e-5 * (f64::from(scale.abs()) * 256.0 + f64::from(offset.abs()));
                let code = codes.codes[at];
                assert!((lowest..=highest).contains(&code), "{kind}, weight {at}: {code}");
                assert!(distance(code) <= least + noise, "{kind}, weight {at}: {w:e} got code {code}, {value:e}");
            }
            assert!(negative > 1000, "{kind}: {negative}");
            codes.write(&mut blocks);
            for (at, (found, meant)) in decoded(kind, &blocks).iter().zip(&meant).enumerate() {
                assert!(same(*found, *meant), "{kind}, weight {at}: {found:e}, chosen {meant:e}");
            }
        }
    }
}
