//! Codes that are small floats, as compressed-tensors lays them out: FP8 (`float-quantized`) and MXFP4 (`mxfp4-pack-quantized`).

use std::io;
use std::ops::Range;

use graph::{Blob, Float8Tensor, GgmlType, Quantized, ScalePer, Weight};
use serde_json::{Value, json};

/// Weights in a block of MXFP4, in the graph and in the file.
pub const MX_BLOCK: usize = 32;
/// Bytes of such a block in the graph: the scale, then the codes.
const MX_BYTES: usize = 1 + MX_BLOCK / 2;

/// A weight whose codes are small floats.
#[derive(Clone, Copy)]
pub enum SmallFloats<'a> {
    /// E4M3 and f32 scales.
    Float8(&'a Float8Tensor),
    /// Blocks of [`GgmlType::Mxfp4`]: E2M1, and a scale E8M0 every 32 weights.
    Mxfp4(&'a Blob),
}

/// What all such weights of a model have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// FP8.
    Float8(ScalePer),
    /// MXFP4.
    Mxfp4,
}

impl Kind {
    /// Of both; `None` where no one format holds them.
    pub fn and(self, other: Kind) -> Option<Kind> {
        match (self, other) {
            _ if self == other => Some(self),
            // One scale for all is one that each row repeats.
            (Kind::Float8(_), Kind::Float8(_)) => Some(Kind::Float8(ScalePer::Row)),
            _ => None,
        }
    }

    /// `format` in config.json.
    pub fn format(self) -> &'static str {
        match self {
            Kind::Float8(_) => "float-quantized",
            Kind::Mxfp4 => "mxfp4-pack-quantized",
        }
    }

    /// `weights` in config.json.
    pub fn config(self) -> Value {
        let (bits, strategy) = match self {
            Kind::Float8(ScalePer::Row) => (8, "channel"),
            Kind::Float8(ScalePer::Tensor) => (8, "tensor"),
            Kind::Mxfp4 => (4, "group"),
        };
        let mut config =
            json!({ "num_bits": bits, "type": "float", "symmetric": true, "dynamic": false, "strategy": strategy });
        if self == Kind::Mxfp4 {
            config["group_size"] = MX_BLOCK.into();
            config["scale_dtype"] = "torch.uint8".into();
        }
        config
    }
}

impl<'a> SmallFloats<'a> {
    /// Of a weight; `None` where its codes are others.
    pub fn of(quantized: &'a Quantized) -> Option<SmallFloats<'a>> {
        match quantized {
            Quantized::Float8(tensor) => Some(SmallFloats::Float8(tensor)),
            Quantized::Ggml { kind: GgmlType::Mxfp4, blocks } => Some(SmallFloats::Mxfp4(blocks)),
            Quantized::Affine(_) | Quantized::Ggml { .. } => None,
        }
    }

    /// What it is alone.
    pub fn kind(self) -> Kind {
        match self {
            SmallFloats::Float8(tensor) => Kind::Float8(tensor.per),
            SmallFloats::Mxfp4(_) => Kind::Mxfp4,
        }
    }

    /// The codes of some rows of `columns`, as the file has them.
    pub fn rows(self, rows: Range<usize>, columns: usize) -> io::Result<Vec<u8>> {
        match self {
            SmallFloats::Float8(tensor) => tensor.codes(rows),
            SmallFloats::Mxfp4(blocks) => Ok(in_pairs(&blocks_of(blocks, rows, columns)?)),
        }
    }

    /// All scales, as the file has them.
    pub fn scales(self, weight: &Weight, kind: Kind) -> io::Result<Vec<u8>> {
        let [rows, columns] = weight.matrix();
        match (self, kind) {
            (SmallFloats::Mxfp4(blocks), _) => {
                Ok(blocks_of(blocks, 0..rows, columns)?.as_chunks::<MX_BYTES>().0.iter().map(scale).collect())
            }
            (SmallFloats::Float8(tensor), Kind::Float8(ScalePer::Tensor)) => Ok(tensor.scale(0).to_le_bytes().to_vec()),
            (SmallFloats::Float8(tensor), _) => Ok((0..rows).flat_map(|row| tensor.scale(row).to_le_bytes()).collect()),
        }
    }
}

fn blocks_of(blocks: &Blob, rows: Range<usize>, columns: usize) -> io::Result<Vec<u8>> {
    let row_bytes = columns / MX_BLOCK * MX_BYTES;
    let mut bytes = vec![0; rows.len() * row_bytes];
    blocks.read_at((rows.start * row_bytes) as u64, &mut bytes)?;
    Ok(bytes)
}

/// The scale of a block. A block of zeros has any; 255, which is NaN to all but ggml, becomes 0.
fn scale(block: &[u8; MX_BYTES]) -> u8 {
    let is_zero = block[1..].iter().all(|codes| codes & 0x77 == 0);
    if block[0] == u8::MAX && is_zero { 0 } else { block[0] }
}

/// Byte i of a block has weights i and i + 16, and in the file weights 2i and 2i + 1; the even one low in both.
fn in_pairs(blocks: &[u8]) -> Vec<u8> {
    let pairs = |block: &[u8; MX_BYTES]| {
        let codes = &block[1..];
        let code = |i: usize| if i < MX_BLOCK / 2 { codes[i] & 15 } else { codes[i - MX_BLOCK / 2] >> 4 };
        std::array::from_fn::<u8, { MX_BLOCK / 2 }, _>(|i| code(2 * i) | code(2 * i + 1) << 4)
    };
    blocks.as_chunks().0.iter().flat_map(pairs).collect()
}

/// The blocks that [`SmallFloats::rows`] and [`SmallFloats::scales`] came from.
pub fn blocks(pairs: &[u8], scales: &[u8]) -> Vec<u8> {
    let block = |(pairs, scale): (&[u8; MX_BLOCK / 2], &u8)| {
        let code = |i: usize| pairs[i / 2] >> (4 * (i % 2)) & 15;
        let mut block = [0; MX_BYTES];
        block[0] = *scale;
        (0..MX_BLOCK / 2).for_each(|i| block[1 + i] = code(i) | code(i + MX_BLOCK / 2) << 4);
        block
    };
    pairs.as_chunks().0.iter().zip(scales).flat_map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_block_change_their_places_and_come_back() {
        // Weight i has code i mod 16.
        let block: Vec<u8> = [vec![127], (0..16).map(|i| i | i << 4).collect()].concat();
        assert_eq!(in_pairs(&block), [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe].repeat(2));
        let two = [block.clone(), block.iter().map(|byte| byte ^ 0x5a).collect()].concat();
        assert_eq!(blocks(&in_pairs(&two), &[two[0], two[17]]), two);
    }

    #[test]
    fn only_a_block_of_zeros_may_lose_the_scale_that_is_no_number() {
        let mut block = [0; 17];
        block[0] = 255;
        assert_eq!(scale(&block), 0);
        block[3] = 1;
        assert_eq!(scale(&block), 255);
    }

    #[test]
    fn eight_bit_floats_share_a_format_and_four_bit_ones_have_their_own() {
        let (row, tensor) = (Kind::Float8(ScalePer::Row), Kind::Float8(ScalePer::Tensor));
        assert_eq!([row.and(row), row.and(tensor), tensor.and(tensor)], [Some(row), Some(row), Some(tensor)]);
        assert_eq!(tensor.and(Kind::Mxfp4), None);
    }
}
