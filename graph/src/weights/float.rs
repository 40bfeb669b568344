//! Floats as files store them.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Floats as a file stores them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FloatType {
    /// IEEE 754 single.
    F32,
    /// IEEE 754 half.
    F16,
    /// The upper half of a single.
    BF16,
}

/// The elements of a matrix `[rows, columns]`, column by column; of `element` bytes each.
pub fn transposed(bytes: &[u8], [rows, columns]: [usize; 2], element: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            out.extend_from_slice(&bytes[(row * columns + column) * element..][..element]);
        }
    }
    out
}

impl FloatType {
    /// Bytes an element.
    pub fn bytes(self) -> usize {
        match self {
            FloatType::F32 => 4,
            FloatType::F16 | FloatType::BF16 => 2,
        }
    }

    /// `f32`, `f16`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            FloatType::F32 => "f32",
            FloatType::F16 => "f16",
            FloatType::BF16 => "bf16",
        }
    }

    /// Little-endian bytes to floats; exact. `bytes` holds `out.len()` elements.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * self.bytes(), "bytes of {} {}", out.len(), self.name());
        match self {
            FloatType::F32 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            FloatType::F16 => {
                // The slice conversion uses the processor's own instruction where it has one.
                let bits: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
            FloatType::BF16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
        }
    }

    /// Floats to little-endian bytes, rounded to nearest even; `out` holds `values.len()` elements.
    pub fn encode(self, values: &[f32], out: &mut [u8]) {
        assert_eq!(out.len(), values.len() * self.bytes(), "bytes of {} {}", values.len(), self.name());
        match self {
            FloatType::F32 => {
                for (b, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *b = x.to_le_bytes();
                }
            }
            FloatType::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                for (b, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(&halves) {
                    *b = x.to_le_bytes();
                }
            }
            FloatType::BF16 => {
                for (b, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    *b = half::bf16::from_f32(*x).to_le_bytes();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_reads_back_what_it_stores() {
        let values = [0.0, -0.0, 1.0, -1.5, 65504.0, 6.103_515_6e-5, 3.0, -2.0];
        for dtype in [FloatType::F32, FloatType::F16, FloatType::BF16] {
            let mut bytes = vec![0; values.len() * dtype.bytes()];
            let mut back = [0.0; 8];
            dtype.encode(&values, &mut bytes);
            dtype.decode(&bytes, &mut back);
            for (a, b) in values.iter().zip(back) {
                let exact = dtype != FloatType::BF16 || half::bf16::from_f32(*a).to_f32() == *a;
                assert!(!exact || a.to_bits() == b.to_bits(), "{}: {a} became {b}", dtype.name());
            }
        }
    }
}
