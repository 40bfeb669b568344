//! `Q5_1`: `m = min w`, `d = (max w - m) / 31`; code = trunc((w - m) / d + 0.5), at most 31.

use half::f16;

use super::{extent, fifth_bits, nibbles, reciprocal};

pub(super) fn block(x: &[f32; 32], out: &mut [u8; 24]) {
    let (min, max) = extent(x);
    let d = (max - min) / 31.0;
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    let Some(id) = reciprocal(d) else { return out[4..].fill(0) };
    let codes = x.map(|v| (((v - min) * id + 0.5) as i32).min(31) as u8);
    out[4..8].copy_from_slice(&fifth_bits(&codes).to_le_bytes());
    out[8..].copy_from_slice(&nibbles(&codes));
}
