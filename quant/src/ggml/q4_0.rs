//! `Q4_0`: `d = w_far / -8`, so the weight farthest from zero has code 0 exactly; code = trunc(w / d + 8.5), at most 15.

use half::f16;

use super::{farthest, nibbles, reciprocal};

pub(super) fn block(x: &[f32; 32], out: &mut [u8; 18]) {
    let d = farthest(x) / -8.0;
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let Some(id) = reciprocal(d) else { return out[2..].fill(0) };
    out[2..].copy_from_slice(&nibbles(&x.map(|v| ((v * id + 8.5) as i32).min(15) as u8)));
}
