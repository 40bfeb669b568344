//! `Q4_1`: `m = min w`, `d = (max w - m) / 15`; code = trunc((w - m) / d + 0.5), at most 15.

use half::f16;

use super::{extent, nibbles, reciprocal};

pub(super) fn block(x: &[f32; 32], out: &mut [u8; 20]) {
    let (min, max) = extent(x);
    let d = (max - min) / 15.0;
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    let Some(id) = reciprocal(d) else { return out[4..].fill(0) };
    out[4..].copy_from_slice(&nibbles(&x.map(|v| (((v - min) * id + 0.5) as i32).min(15) as u8)));
}
