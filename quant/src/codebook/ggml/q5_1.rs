//! `Q5_1`: `m = min w`, `d = (max w - m) / 31`; code = trunc((w - m) / d + 0.5), at most 31. With importance `m ≤ 0` and
//! `d` are the best of 38 fits.

use half::f16;

use super::parts::{extent, fifth_bits, nibbles, reciprocal};

/// The largest code.
pub(super) const TOP: u8 = 31;

pub(super) fn block(x: &[f32; 32], out: &mut [u8; 24]) {
    let (min, max) = extent(x);
    let d = (max - min) / 31.0;
    let codes = reciprocal(d).map(|id| x.map(|v| (((v - min) * id + 0.5) as i32).min(31) as u8));
    pack(d, min, &codes.unwrap_or([0; 32]), out);
}

pub(super) fn pack(d: f32, m: f32, codes: &[u8; 32], out: &mut [u8; 24]) {
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(m).to_le_bytes());
    set_codes(codes, out);
}

pub(super) fn set_codes(codes: &[u8; 32], out: &mut [u8; 24]) {
    out[4..8].copy_from_slice(&fifth_bits(codes).to_le_bytes());
    out[8..].copy_from_slice(&nibbles(codes));
}
