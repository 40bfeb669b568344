//! The block types of ggml, as GGUF files store them: what each byte means, and nothing about how it is chosen.
//!
//! A row of weights is cut into blocks of [`GgmlType::block_len`] weights; a block is [`GgmlType::block_bytes`] bytes
//! and stands alone. Numbers are little-endian; `d`, `m` and `dmin` are f16, widened to f32 before any arithmetic.
//! Source: ggml-common.h and ggml-quants.c in llama.cpp (llama-cpp-sys-2 0.1.161); the tests compare every decoded bit
//! with that library, see tests/fixtures/ggml.

use std::fmt;

use half::f16;

/// Weights in a block of a K type: ggml calls it a super-block and cuts it into 8 or 16 sub-blocks.
const SUPER: usize = 256;

/// A ggml block type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GgmlType {
    /// 8 bits, 32 weights in 34 bytes: `d | i8[32]`; `w = q·d`.
    Q8_0,
    /// 4 bits, 32 weights in 18 bytes: `d | u4[32]`; `w = (q - 8)·d`. Byte i: weight i low, weight i + 16 high.
    Q4_0,
    /// 4 bits, 32 weights in 20 bytes: `d | m | u4[32]`; `w = q·d + m`. Nibbles as in `Q4_0`.
    Q4_1,
    /// 5 bits, 32 weights in 22 bytes: `d | u32 | u4[32]`; `w = (q - 16)·d`. Bit i of the u32 is weight i's fifth bit.
    Q5_0,
    /// 5 bits, 32 weights in 24 bytes: `d | m | u32 | u4[32]`; `w = q·d + m`. Bits as in `Q5_0`.
    Q5_1,
    /// 4 bits, 256 weights in 144 bytes: `d | dmin | u6[16] | u4[256]`; `w = (d·s)·q - dmin·m`, s and m per 32 weights.
    /// Byte 32c + i of the nibbles: weight 64c + i low, weight 64c + 32 + i high.
    Q4K,
    /// 5 bits, 256 weights in 176 bytes: `d | dmin | u6[16] | u8[32] | u4[256]`; `w` and nibbles as in `Q4K`.
    /// Bit b of byte i of the u8[32] is the fifth bit of weight 32b + i.
    Q5K,
    /// 6 bits, 256 weights in 210 bytes: `u4[256] | u2[256] | i8[16] | d`; `w = (d·s)·(q - 32)`, s per 16 weights.
    /// In each half of 128 weights, for i < 32: weights i, i + 64 share nibble byte i, weights i + 32, i + 96 share
    /// nibble byte i + 32, and weight i + 32b has bits 2b and 2b + 1 of pair byte i.
    Q6K,
    /// 4-bit floats, 32 weights in 17 bytes: `e | u4[32]`; `w = e2m1(q)·2^(e - 127)`, e a byte (E8M0). Nibbles as in `Q4_0`. OCP
    /// Microscaling Formats (MX) 1.0; what a code means is in [`MXFP4_TWICE`].
    Mxfp4,
}

impl GgmlType {
    /// Every type, in the order in which lists and tables show them.
    pub const ALL: &[GgmlType] = &[
        GgmlType::Q8_0,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
        GgmlType::Mxfp4,
    ];

    /// ggml's own spelling, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            GgmlType::Q8_0 => "Q8_0",
            GgmlType::Q4_0 => "Q4_0",
            GgmlType::Q4_1 => "Q4_1",
            GgmlType::Q5_0 => "Q5_0",
            GgmlType::Q5_1 => "Q5_1",
            GgmlType::Q4K => "Q4_K",
            GgmlType::Q5K => "Q5_K",
            GgmlType::Q6K => "Q6_K",
            GgmlType::Mxfp4 => "MXFP4",
        }
    }

    /// The type with this [`name`](Self::name), in any case: recipes write `q4_k`.
    pub fn from_name(name: &str) -> Option<GgmlType> {
        Self::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// The number that stands for the type in a GGUF file's tensor table (`enum ggml_type` in ggml.h).
    pub fn gguf_id(self) -> u32 {
        match self {
            GgmlType::Q4_0 => 2,
            GgmlType::Q4_1 => 3,
            GgmlType::Q5_0 => 6,
            GgmlType::Q5_1 => 7,
            GgmlType::Q8_0 => 8,
            GgmlType::Q4K => 12,
            GgmlType::Q5K => 13,
            GgmlType::Q6K => 14,
            GgmlType::Mxfp4 => 39,
        }
    }

    /// The type with this [`gguf_id`](Self::gguf_id).
    pub fn from_gguf_id(id: u32) -> Option<GgmlType> {
        Self::ALL.iter().copied().find(|kind| kind.gguf_id() == id)
    }

    /// Weights in a block. A row's length must be a multiple of it.
    pub fn block_len(self) -> usize {
        match self {
            GgmlType::Q8_0 | GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Mxfp4 => 32,
            GgmlType::Q4K | GgmlType::Q5K | GgmlType::Q6K => SUPER,
        }
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        match self {
            GgmlType::Q8_0 => 34,
            GgmlType::Q4_0 => 18,
            GgmlType::Q4_1 => 20,
            GgmlType::Q5_0 => 22,
            GgmlType::Q5_1 => 24,
            GgmlType::Q4K => 144,
            GgmlType::Q5K => 176,
            GgmlType::Q6K => 210,
            GgmlType::Mxfp4 => 17,
        }
    }

    /// Stored bits a weight, scales included: 4.5 for `Q4_0` and `Q4_K`.
    pub fn bits_per_weight(self) -> f64 {
        (8 * self.block_bytes()) as f64 / self.block_len() as f64
    }

    /// The weights that `blocks` mean, bit for bit what ggml's `to_float` writes.
    ///
    /// `blocks`: u8[k·block_bytes], `out`: f32[k·block_len]. Panics when the lengths do not fit.
    pub fn dequantize(self, blocks: &[u8], out: &mut [f32]) {
        let (len, bytes) = (self.block_len(), self.block_bytes());
        assert!(
            out.len().is_multiple_of(len) && blocks.len() == out.len() / len * bytes,
            "{self}: {} bytes for {} weights, at {bytes} bytes for {len}",
            blocks.len(),
            out.len()
        );
        match self {
            GgmlType::Q8_0 => each_block(blocks, out, q8_0),
            GgmlType::Q4_0 => each_block(blocks, out, q4_0),
            GgmlType::Q4_1 => each_block(blocks, out, q4_1),
            GgmlType::Q5_0 => each_block(blocks, out, q5_0),
            GgmlType::Q5_1 => each_block(blocks, out, q5_1),
            GgmlType::Q4K => each_block(blocks, out, q4_k),
            GgmlType::Q5K => each_block(blocks, out, q5_k),
            GgmlType::Q6K => each_block(blocks, out, q6_k),
            GgmlType::Mxfp4 => each_block(blocks, out, mxfp4),
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn each_block<const BYTES: usize, const LEN: usize>(
    blocks: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (block, out) in blocks.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

/// The `N` bytes from `at` on.
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("`at + N` is inside the block by the layouts above")
}

/// The f16 at byte `at`, widened.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes(*part(block, at)).to_f32()
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (w, &q) in out.iter_mut().zip(part::<32>(block, 2)) {
        *w = f32::from(q as i8) * d;
    }
}

/// The 32 codes of a 4-bit block: byte i holds weight i (low) and weight i + 16 (high).
fn nibbles(bytes: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for i in 0..16 {
        codes[i] = bytes[i] & 15;
        codes[i + 16] = bytes[i] >> 4;
    }
    codes
}

/// The 32 codes of a 5-bit block: [`nibbles`], and bit i of `fifth` for weight i.
fn five_bits(fifth: &[u8; 4], bytes: &[u8; 16]) -> [u8; 32] {
    let fifth = u32::from_le_bytes(*fifth);
    let mut codes = nibbles(bytes);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((fifth >> i & 1) << 4) as u8;
    }
    codes
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (w, q) in out.iter_mut().zip(nibbles(part(block, 2))) {
        *w = f32::from(q as i8 - 8) * d;
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (w, q) in out.iter_mut().zip(nibbles(part(block, 4))) {
        *w = f32::from(q) * d + m;
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (w, q) in out.iter_mut().zip(five_bits(part(block, 2), part(block, 6))) {
        *w = f32::from(q as i8 - 16) * d;
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (w, q) in out.iter_mut().zip(five_bits(part(block, 4), part(block, 8))) {
        *w = f32::from(q) * d + m;
    }
}

/// The 8 scales and 8 minima, 6 bits each, that `Q4_K` and `Q5_K` hold in 12 bytes.
///
/// With j < 4, byte j is scale j and byte 4 + j is minimum j in the low 6 bits. Byte 8 + j has the low 4 bits of scale
/// 4 + j (low nibble) and of minimum 4 + j (high nibble); their upper 2 bits are the top bits of bytes j and 4 + j.
fn scales_and_mins(packed: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|j| {
        if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            let low = packed[j + 4];
            (low & 15 | packed[j - 4] >> 6 << 4, low >> 4 | packed[j] >> 6 << 4)
        }
    })
}

fn q4_k(block: &[u8; 144], out: &mut [f32; SUPER]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let nibbles = part::<128>(block, 16).as_chunks::<32>().0;
    for (j, ((s, m), out)) in scales_and_mins(part(block, 4)).into_iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
        let (scale, min) = (d * f32::from(s), dmin * f32::from(m));
        let shift = j % 2 * 4;
        for (w, &byte) in out.iter_mut().zip(&nibbles[j / 2]) {
            *w = scale * f32::from(byte >> shift & 15) - min;
        }
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; SUPER]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let fifth = part::<32>(block, 16);
    let nibbles = part::<128>(block, 48).as_chunks::<32>().0;
    for (j, ((s, m), out)) in scales_and_mins(part(block, 4)).into_iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
        let (scale, min) = (d * f32::from(s), dmin * f32::from(m));
        let shift = j % 2 * 4;
        for (w, (&byte, &fifth)) in out.iter_mut().zip(nibbles[j / 2].iter().zip(fifth)) {
            *w = scale * f32::from(byte >> shift & 15 | (fifth >> j & 1) << 4) - min;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; SUPER]) {
    let nibbles = part::<128>(block, 0).as_chunks::<32>().0;
    let pairs = part::<64>(block, 128).as_chunks::<32>().0;
    let scales = part::<16>(block, 192).as_chunks::<2>().0;
    let d = half_at(block, 208);
    for (j, (scales, out)) in scales.iter().zip(out.as_chunks_mut::<32>().0).enumerate() {
        // j = 0 and 2, 1 and 3, 4 and 6, 5 and 7 share 32 nibble bytes.
        let (half, b) = (j / 4, j % 4);
        let (nibbles, pairs) = (&nibbles[2 * half + b % 2], &pairs[half]);
        let mut codes = [0; 32];
        for i in 0..32 {
            codes[i] = (nibbles[i] >> (b / 2 * 4) & 15 | (pairs[i] >> (2 * b) & 3) << 4) as i8 - 32;
        }
        for ((out, codes), &scale) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0).zip(scales)
        {
            let scale = d * f32::from(scale as i8);
            for (w, &q) in out.iter_mut().zip(codes) {
                *w = scale * f32::from(q);
            }
        }
    }
}

/// Twice what each code of `Mxfp4` means: integers, as ggml has them. Code 8 is another 0.
pub const MXFP4_TWICE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `2^(e - 128)`: half of what a scale of `Mxfp4` means, to go with [`MXFP4_TWICE`]. e = 255 stands for NaN in the standard and is 2^127
/// here, as in ggml.
pub fn half_of_e8m0(e: u8) -> f32 {
    match e {
        0 | 1 => f32::from_bits(0x0020_0000 << e), // below the smallest normal f32
        _ => f32::from_bits(u32::from(e - 1) << 23),
    }
}

fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = half_of_e8m0(block[0]);
    for (w, q) in out.iter_mut().zip(nibbles(part(block, 1))) {
        *w = f32::from(MXFP4_TWICE[usize::from(q)]) * d;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that tests/fixtures/ggml/make.rs wrote with ggml itself.
    fn fixture(name: &str) -> Vec<u8> {
        let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/ggml/{}"), name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    #[test]
    fn decoded_blocks_equal_ggml_bit_for_bit() {
        for &kind in GgmlType::ALL {
            let expected: Vec<f32> =
                fixture(&format!("{kind}.decoded.bin")).as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            assert!(expected.len() >= 4096, "{kind}: the fixture has {} weights", expected.len());
            let mut found = vec![f32::INFINITY; expected.len()];
            kind.dequantize(&fixture(&format!("{kind}.bin")), &mut found);
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                // An infinite scale times code 0 is NaN in both; the sign of a NaN is the processor's affair.
                assert!(
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                    "{kind}, weight {i}: {a:e}, ggml {b:e}"
                );
            }
        }
    }

    #[test]
    fn every_bit_of_a_block_changes_a_weight() {
        // Flip each in turn. Every scale is 0.5 (finite with any one bit flipped) and every code times scale nonzero, so
        // no product hides a bit.
        for &kind in GgmlType::ALL {
            let start = match kind {
                GgmlType::Q6K => [vec![0x11; 192], vec![3; 16], vec![0, 0x38]].concat(),
                GgmlType::Mxfp4 => [vec![128], vec![0x55; 16]].concat(),
                _ => [vec![0, 0x38, 0, 0x38], vec![0x55; kind.block_bytes() - 4]].concat(),
            };
            let decode = |block: &[u8]| {
                let mut out = vec![0.0; kind.block_len()];
                kind.dequantize(block, &mut out);
                out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
            };
            let mut seen = std::collections::HashSet::from([decode(&start)]);
            for bit in 0..8 * start.len() {
                let mut flipped = start.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(decode(&flipped)), "{kind}: bit {bit} of the block has no meaning of its own");
            }
        }
    }

    #[test]
    fn names_and_ids_lead_back_to_the_type() {
        for &kind in GgmlType::ALL {
            assert_eq!(GgmlType::from_name(&kind.name().to_lowercase()), Some(kind));
            assert_eq!(GgmlType::from_gguf_id(kind.gguf_id()), Some(kind));
        }
        assert_eq!(GgmlType::from_name("Q4K"), None);
        assert_eq!(GgmlType::from_gguf_id(9), None, "Q8_1 is a type of activations, not of files");
    }

    #[test]
    fn the_sizes_are_the_ones_that_ggml_prints() {
        let bits: Vec<f64> = GgmlType::ALL.iter().map(|kind| kind.bits_per_weight()).collect();
        assert_eq!(bits, [8.5, 4.5, 5.0, 5.5, 6.0, 4.5, 5.5, 6.5625, 4.25]);
    }

    #[test]
    #[should_panic(expected = "Q4_K: 143 bytes for 256 weights, at 144 bytes for 256")]
    fn a_block_that_is_cut_short_stops_the_decoder() {
        GgmlType::Q4K.dequantize(&[0; 143], &mut [0.0; 256]);
    }
}
