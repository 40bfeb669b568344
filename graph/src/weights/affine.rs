//! Integer codes with a scale and a zero point for each block.

use std::io;
use std::ops::Range;

use half::f16;

use super::blob::Blob;

/// Weights that share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Block {
    /// A whole row, that is an output channel.
    Row,
    /// This many neighbours in a row; the last group of a row may be shorter.
    Group(usize),
}

impl Block {
    /// Weights per scale in rows of `columns`.
    pub fn len(self, columns: usize) -> usize {
        match self {
            Block::Row => columns.max(1),
            Block::Group(n) => n,
        }
    }

    /// Scales a row of `columns` has.
    pub fn per_row(self, columns: usize) -> usize {
        columns.div_ceil(self.len(columns))
    }
}

/// `w = (code - zero) · scale`, in f32.
#[derive(Clone, Debug)]
pub struct AffineTensor {
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// 4 or 8.
    pub bits: u8,
    /// What shares a scale.
    pub block: Block,
    /// One `i8` per weight, row-major, unpacked at any width because every format packs in its own order.
    pub codes: Blob,
    /// `rows · block.per_row(columns)`, finite and above 0.
    pub scales: Vec<f16>,
    /// As many as scales; absent when symmetric.
    pub zeros: Option<Vec<i8>>,
}

impl AffineTensor {
    /// The codes of some rows.
    pub fn codes(&self, rows: Range<usize>) -> io::Result<Vec<i8>> {
        let mut bytes = vec![0; rows.len() * self.shape[1]];
        self.codes.read_at((rows.start * self.shape[1]) as u64, &mut bytes)?;
        Ok(bytes.into_iter().map(u8::cast_signed).collect())
    }

    pub(super) fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> io::Result<()> {
        let columns = self.shape[1];
        let codes = self.codes(rows.clone())?;
        let (len, per_row) = (self.block.len(columns), self.block.per_row(columns));
        for (row, (out, codes)) in rows.zip(out.chunks_mut(columns.max(1)).zip(codes.chunks(columns.max(1)))) {
            for (block, (out, codes)) in out.chunks_mut(len).zip(codes.chunks(len)).enumerate() {
                let at = row * per_row + block;
                let zero = self.zeros.as_ref().map_or(0, |zeros| zeros[at]);
                dequantize(codes, self.scales[at], zero, out);
            }
        }
        Ok(())
    }
}

/// The meaning of affine codes, in one place: `(code - zero) · scale`, in f32.
pub fn dequantize(codes: &[i8], scale: f16, zero: i8, out: &mut [f32]) {
    let (scale, zero) = (scale.to_f32(), i32::from(zero));
    for (x, code) in out.iter_mut().zip(codes) {
        *x = (i32::from(*code) - zero) as f32 * scale;
    }
}

/// The f32 whose inverse, rounded once, is a scale: for files that say what weights were multiplied by. `None` where there is none.
///
/// With `s = m·2^e`, `1 ≤ m < 2`, the inverses of neighbouring f32 near `1/s` are up to `m²/2` times as far apart as f32 near `s`, so
/// that some with `m > √2` are passed over. The next of the f16 that has one is at most nine of their 1024 steps away.
pub fn inverse(scale: f16) -> Option<f32> {
    let scale = scale.to_f32();
    let near = 1.0 / scale;
    (1.0 / near == scale).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_below_the_root_of_two_have_an_inverse_and_none_is_far_from_one_that_has() {
        let without = |bits: u16| inverse(f16::from_bits(bits)).is_none();
        // The mantissas of one exponent; all others are these times a power of two.
        let one = f16::ONE.to_bits();
        let passed_over: Vec<u16> = (0..1024).filter(|mantissa| without(one + mantissa)).collect();
        let root = (2f32.sqrt() - 1.0) * 1024.0;
        assert!(passed_over.iter().all(|mantissa| f32::from(*mantissa) > root), "{passed_over:?}");
        assert_eq!(passed_over.len(), 185);
        let longest = passed_over.chunk_by(|a, b| a + 1 == *b).map(<[u16]>::len).max();
        assert_eq!(longest, Some(8));
        let finite = 1..f16::INFINITY.to_bits();
        let found = finite.filter_map(|bits| Some((f16::from_bits(bits), inverse(f16::from_bits(bits))?)));
        assert_eq!(found.clone().count(), 26_005);
        found.for_each(|(scale, inverse)| assert_eq!(f16::from_f32(1.0 / inverse), scale));
    }
}
