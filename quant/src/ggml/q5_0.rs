//! `Q5_0`: `d = w_far / -16`; code = trunc(w / d + 16.5), at most 31.

use half::f16;

use super::{farthest, fifth_bits, nibbles, reciprocal};

pub(super) fn block(x: &[f32; 32], out: &mut [u8; 22]) {
    let d = farthest(x) / -16.0;
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let Some(id) = reciprocal(d) else { return out[2..].fill(0) };
    let codes = x.map(|v| ((v * id + 16.5) as i32).min(31) as u8);
    out[2..6].copy_from_slice(&fifth_bits(&codes).to_le_bytes());
    out[6..].copy_from_slice(&nibbles(&codes));
}
