//! 8-bit floats (FP8) with one scale per row, or one for the whole tensor.
//!
//! `E4M3` is `s eeee mmm`: `±2^(e - 7)·(1 + m/8)`, for `e = 0` `±2^-6·m/8`; no infinity, `±NaN` in the codes `0x7f` and `0xff` alone, so
//! the largest number is 448 (Micikevicius et al., FP8 formats for deep learning, arXiv 2209.05433; `float8_e4m3fn` of torch).

use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use super::blob::Blob;

/// The largest number of [`e4m3`].
pub const E4M3_MAX: f32 = 448.0;

/// Weights that share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ScalePer {
    /// An output channel.
    Row,
    /// All.
    Tensor,
}

/// `w = e4m3(code) · scale`, in f32. The zero point is 0.
#[derive(Clone, Debug)]
pub struct Float8Tensor {
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// What shares a scale.
    pub per: ScalePer,
    /// One byte per weight, row-major.
    pub codes: Blob,
    /// One per row, or one; finite and above 0.
    pub scales: Vec<f32>,
}

impl Float8Tensor {
    /// The scale of a row.
    pub fn scale(&self, row: usize) -> f32 {
        match self.per {
            ScalePer::Row => self.scales[row],
            ScalePer::Tensor => self.scales[0],
        }
    }

    /// The codes of some rows, as files hold them.
    pub fn codes(&self, rows: Range<usize>) -> io::Result<Vec<u8>> {
        let mut codes = vec![0; rows.len() * self.shape[1]];
        self.codes.read_at((rows.start * self.shape[1]) as u64, &mut codes)?;
        Ok(codes)
    }

    pub(super) fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> io::Result<()> {
        let columns = self.shape[1].max(1);
        let codes = self.codes(rows.clone())?;
        for (row, (out, codes)) in rows.zip(out.chunks_mut(columns).zip(codes.chunks(columns))) {
            let scale = self.scale(row);
            out.iter_mut().zip(codes).for_each(|(x, code)| *x = from_e4m3(*code) * scale);
        }
        Ok(())
    }
}

/// What a code means.
pub fn from_e4m3(code: u8) -> f32 {
    static MEANING: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|code| meaning(code as u8)));
    MEANING[usize::from(code)]
}

fn meaning(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7) / 8.0);
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => 2f32.powi(-6) * mantissa,
        _ => 2f32.powi(exponent - 7) * (1.0 + mantissa),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The code nearest to a number, halves to even; beyond 448, and for infinities, that of ±448. A NaN stays one.
pub fn to_e4m3(x: f32) -> u8 {
    /// Bits of an f32's mantissa that E4M3 has not.
    const DROPPED: u32 = 20;
    let sign = (x.to_bits() >> 24) as u8 & 0x80;
    if x.is_nan() {
        return sign | 0x7f;
    }
    let x = x.abs().min(E4M3_MAX);
    if x < 2f32.powi(-6) {
        return sign | (x * 512.0).round_ties_even() as u8;
    }
    let bits = x.to_bits();
    let even = bits >> DROPPED & 1;
    let rounded = (bits + (1 << (DROPPED - 1)) - 1 + even) >> DROPPED;
    sign | (rounded - ((127 - 7) << 3)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_the_nearest_to_what_it_means_and_to_its_surroundings() {
        for code in (0..=0x7e).chain(0x80..=0xfe) {
            assert_eq!(to_e4m3(from_e4m3(code)), code, "{code:#x}");
        }
        for code in 0..0x7e_u8 {
            let (low, high) = (from_e4m3(code), from_e4m3(code + 1));
            let middle = (low + high) / 2.0;
            let even = code + code % 2;
            assert_eq!(
                [middle.next_down(), middle, middle.next_up()].map(to_e4m3),
                [code, even, code + 1],
                "{low} to {high}"
            );
        }
    }

    #[test]
    fn the_table_is_that_of_torch() {
        // torch 2.15.0: torch.tensor([0x01, 0x07, 0x08, 0x38, 0x41, 0x7e, 0xfe], dtype=torch.uint8).view(torch.float8_e4m3fn).float()
        let codes = [0x01, 0x07, 0x08, 0x38, 0x41, 0x7e, 0xfe];
        assert_eq!(codes.map(from_e4m3), [0.001953125, 0.013671875, 0.015625, 1.0, 2.25, 448.0, -448.0]);
        assert!(from_e4m3(0x7f).is_nan() && from_e4m3(0xff).is_nan());
        assert_eq!([460.0, 1e9, f32::INFINITY, -1e9, -0.0].map(to_e4m3), [0x7e, 0x7e, 0x7e, 0xfe, 0x80]);
        assert_eq!(to_e4m3(f32::NAN) & 0x7f, 0x7f);
    }

    #[test]
    fn rows_have_scales_of_their_own_or_one_for_all() {
        let tensor = |per, scales: &[f32]| Float8Tensor {
            shape: [2, 2],
            per,
            codes: Blob::memory([0x38, 0x40, 0xb8, 0x7e]),
            scales: scales.to_vec(),
        };
        let mut out = [0.0; 4];
        tensor(ScalePer::Row, &[2.0, 0.5]).rows(0..2, &mut out).expect("memory");
        assert_eq!(out, [2.0, 4.0, -0.5, 224.0]);
        tensor(ScalePer::Row, &[2.0, 0.5]).rows(1..2, &mut out[..2]).expect("memory");
        assert_eq!(out[..2], [-0.5, 224.0]);
        tensor(ScalePer::Tensor, &[2.0]).rows(0..2, &mut out).expect("memory");
        assert_eq!(out, [2.0, 4.0, -2.0, 896.0]);
    }
}
