//! `MXFP4`: `e = ⌊log2 max|w|⌋ - 2`, so that the largest weight lies between 4 and 8 of a scale whose codes end at 6; codes are the
//! nearest of `±{0, 0.5, 1, 1.5, 2, 3, 4, 6}·2^e`, of two equally near the one nearer to 0.
//!
//! ggml knows no importance here. With it, e is the one of `e`, `e + 1`, `e - 1` and `e - 2` with the least `Σ importance·error²`, of
//! equals the first: a larger scale clips nothing, a smaller one clips weights that count little.
//!
//! Codes are integers, twice what OCP's E2M1 means, and scales half of what E8M0 means, as in ggml.

use graph::ggml::{GgmlType, MXFP4_TWICE, half_of_e8m0};

use super::block_type::{BlockType, each_block, each_block_by_importance};
use super::parts::{Step, nibbles};

/// The exponent that a byte of 0 stands for, less what brings the largest weight up to 4.
const LIFT: i32 = 127 - 2;

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Mxfp4,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, importance, out| each_block_by_importance(row, importance, out, block_by_importance),
    shared: 32,
    nearest,
    push_steps: |block, steps| {
        // A block of zeros stays one: whatever an error moves into it is far beyond its scale.
        let is_zero = block.iter().all(|byte| *byte == 0);
        steps.push(Step { scale: if is_zero { 0.0 } else { half_of_e8m0(block[0]) }, offset: 0.0 });
    },
    set_unit_steps: |block| block[0] = 128,
    set_codes: |codes, blocks| {
        for (codes, block) in codes.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<17>().0) {
            block[1..].copy_from_slice(&nibbles(&codes.map(nibble)));
        }
    },
    scale: |block| 2.0 * half_of_e8m0(block[0]),
};

fn block(x: &[f32; 32], out: &mut [u8; 17]) {
    pack(exponent(x), x, out);
}

fn block_by_importance(x: &[f32; 32], importance: &[f32; 32], out: &mut [u8; 17]) {
    let plain = exponent(x);
    let error = |e: u8| -> f64 {
        let d = half_of_e8m0(e);
        let error = |v: f32| f64::from(v) - f64::from(nearest(v / d) * d);
        x.iter().zip(importance).map(|(v, counts)| f64::from(*counts) * error(*v).powi(2)).sum()
    };
    let others = [1, -1, -2].into_iter().filter_map(|by| plain.checked_add_signed(by)).filter(|e| *e < u8::MAX);
    let mut best = (error(plain), plain);
    for found in others.map(|e| (error(e), e)) {
        best = if found.0 < best.0 { found } else { best };
    }
    pack(best.1, x, out);
}

/// The byte of the scale; 0 for zeros. Below 2^-125 it wraps, as C's conversion does on x86-64, and all codes are 0.
fn exponent(x: &[f32; 32]) -> u8 {
    let far = x.iter().fold(0.0f32, |far, v| if far < v.abs() { v.abs() } else { far });
    // log2f rounds to f32 before the floor is taken: just below a power of two it may reach it.
    let log = (f64::from(far).log2() as f32).floor();
    if far > 0.0 { (log as i32 + LIFT) as u8 } else { 0 }
}

fn pack(e: u8, x: &[f32; 32], out: &mut [u8; 17]) {
    let d = half_of_e8m0(e);
    out[0] = e;
    out[1..].copy_from_slice(&nibbles(&x.map(|v| nibble(nearest(v / d) as i8))));
}

/// The code, twice its meaning, nearest to a weight over `d`.
fn nearest(v: f32) -> f32 {
    let code = match v.abs() {
        v if v > 10.0 => 12.0,
        v if v > 7.0 => 8.0,
        v if v > 5.0 => 6.0,
        v if v > 3.5 => 4.0,
        v if v > 2.5 => 3.0,
        v if v > 1.5 => 2.0,
        v if v > 0.5 => 1.0,
        _ => return 0.0,
    };
    f32::copysign(code, v)
}

/// What the file holds for a code.
fn nibble(code: i8) -> u8 {
    MXFP4_TWICE.iter().position(|twice| *twice == code).expect("only these are chosen and read") as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weight_gets_the_nearest_code_of_all_sixteen() {
        for i in -4000..=4000 {
            let v = i as f32 / 256.0;
            let best = MXFP4_TWICE.iter().map(|code| (f32::from(*code) - v).abs()).fold(f32::MAX, f32::min);
            assert_eq!((nearest(v) - v).abs(), best, "{v}");
        }
    }

    #[test]
    fn importance_moves_the_exponent_either_way() {
        // 7.5 would become 6; with twice the scale it is 8.
        let mut row = [0.0; 32];
        row[3] = 7.5;
        let mut out = [0; 17];
        block_by_importance(&row, &[1.0; 32], &mut out);
        assert_eq!(out[0], 128);
        // Nobody looks at the large one, and 0.25 is a code of half the scale.
        let mut importance = [1.0; 32];
        (row, importance[3]) = ([0.25; 32], 0.0);
        row[3] = 4.0;
        block_by_importance(&row, &importance, &mut out);
        assert_eq!(out[0], 126);
    }
}
