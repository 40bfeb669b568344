//! `Q4_0`: `d = w_far / -8`, so the weight farthest from zero has code 0 exactly; code = trunc(w / d + 8.5), at most 15.
//! With importance `d` is the best of 19 fits around it.

use half::f16;

use super::parts::{farthest, nibbles, reciprocal};

/// Half of the codes.
pub(super) const SIDE: f32 = 8.0;

pub(super) fn block(x: &[f32; 32], out: &mut [u8; 18]) {
    let d = farthest(x) / -SIDE;
    let codes = reciprocal(d).map(|id| x.map(|v| ((v * id + 8.5) as i32).min(15) as u8));
    pack(d, &codes.unwrap_or([0; 32]), out);
}

pub(super) fn pack(d: f32, codes: &[u8; 32], out: &mut [u8; 18]) {
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    set_codes(codes, out);
}

pub(super) fn set_codes(codes: &[u8; 32], out: &mut [u8; 18]) {
    out[2..].copy_from_slice(&nibbles(codes));
}
