//! `Q8_0`: `d = max|w| / 127`, code = w / d rounded half away from zero.

use graph::ggml::GgmlType;
use half::f16;

use super::block_type::{BlockType, each_block, first_half, integer, push_scale, set_each, set_unit_scale};
use super::parts::reciprocal;

/// The largest f32 below 0.5. Added to |v| < 2^22 before truncation, it rounds half away from zero, as C's `roundf`.
const BELOW_HALF: f32 = 0.5f32.next_down();

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Q8_0,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, _, out| each_block(row, out, block),
    shared: 32,
    nearest: integer::<{ -127 }, 127>,
    push_steps: push_scale,
    set_unit_steps: set_unit_scale,
    set_codes: |codes, blocks| set_each(codes, 0, blocks, set_codes),
    scale: first_half,
};

fn block(x: &[f32; 32], out: &mut [u8; 34]) {
    // Eight running maxima, for the vector unit; the order is free, because a maximum does not round.
    let mut far = [0.0f32; 8];
    for eight in x.as_chunks::<8>().0 {
        for (far, v) in far.iter_mut().zip(eight) {
            *far = if v.abs() > *far { v.abs() } else { *far };
        }
    }
    let d = far.into_iter().fold(0.0, f32::max) / 127.0;
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let codes = reciprocal(d).map(|id| x.map(|v| half_away(v * id) as u8));
    set_codes(&codes.unwrap_or([0; 32]), out);
}

fn set_codes(codes: &[u8; 32], out: &mut [u8; 34]) {
    out[2..].copy_from_slice(codes);
}

/// `v` rounded to the nearest integer, half away from zero. |v| < 2^22.
fn half_away(v: f32) -> i32 {
    (v + BELOW_HALF.copysign(v)) as i32
}

#[cfg(test)]
mod tests {
    #[test]
    fn rounding_is_half_away_from_zero_for_every_code_and_its_neighbours() {
        for half_steps in -260..=260 {
            let middle = half_steps as f32 * 0.5;
            for v in [middle.next_down(), middle, middle.next_up()] {
                assert_eq!(super::half_away(v), v.round() as i32, "{v:e}");
            }
        }
    }
}
