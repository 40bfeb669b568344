//! 8-bit floats (FP8, `E4M3`): the schemes `fp8`, one scale per row, and `fp8-tensor`, one scale per tensor.
//!
//! `code = e4m3(w / scale)`, halves to even, clamped to ±448; `scale = max|w| / 448` in f32, 1 where all weights are 0. Symmetric: the
//! zero point is 0.
//!
//! A float's steps grow with its size, so a smaller scale gains no precision where integers would: what a scale decides is where
//! weights fall between the edges of powers of two, and what is clipped. So where the importance of columns is known, scales from
//! 3/4 to twice the plain one, an octave and what clipping may gain, are tried in steps of 1/20; the one with the least
//! `Σ importance·error²` wins, of equals the plain one.

use graph::weights::{E4M3_MAX, from_e4m3, to_e4m3};
use graph::{Blob, Float8Tensor, Quantized, ScalePer, Weight, WeightError};
use rayon::prelude::*;

use super::rows::{Chunk, Codebook, Feedback, Rows};
use crate::settings::Clip;

/// One scale per row.
pub const PER_ROW: Float8 = Float8 { per: ScalePer::Row };
/// One scale per tensor.
pub const PER_TENSOR: Float8 = Float8 { per: ScalePer::Tensor };

/// Scales tried, in twentieths of the plain one; the plain one first, so that it wins among equals.
const TWENTIETHS: [u16; 26] =
    [20, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];

/// Weights that one task reads at a time where a whole tensor is looked at before its codes are chosen.
const TOGETHER: usize = 1 << 16;

/// `E4M3` elements, f32 scales, rows or the tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Float8 {
    /// What shares a scale.
    pub per: ScalePer,
}

impl Codebook for Float8 {
    fn name(&self) -> String {
        match self.per {
            ScalePer::Row => "fp8".to_owned(),
            ScalePer::Tensor => "fp8-tensor".to_owned(),
        }
    }

    fn row_bytes(&self, columns: usize) -> usize {
        columns
    }

    fn tensor(&self, shape: [usize; 2], codes: Blob, scales: &[f32], _zeros: Vec<i8>) -> Quantized {
        let scales = match self.per {
            ScalePer::Row => scales.to_vec(),
            // Each row told the one scale.
            ScalePer::Tensor => scales.iter().take(1).copied().collect(),
        };
        Quantized::Float8(Float8Tensor { shape, per: self.per, codes, scales })
    }

    fn rows<'a>(
        &'a self,
        weight: &Weight,
        _clip: Clip,
        importance: Option<&'a [f32]>,
    ) -> Result<Box<dyn Rows + 'a>, WeightError> {
        let scale = match self.per {
            ScalePer::Row => None,
            ScalePer::Tensor => Some(scale_of_all(weight, importance)?),
        };
        Ok(Box::new(Float8Rows { columns: weight.matrix()[1], importance, scale }))
    }
}

struct Float8Rows<'a> {
    columns: usize,
    importance: Option<&'a [f32]>,
    /// Of the tensor; `None` where each row has its own.
    scale: Option<f32>,
}

impl Rows for Float8Rows<'_> {
    fn encode(&self, values: &[f32], out: &mut Chunk) {
        let rows = values.chunks(self.columns);
        let became = out.bytes.chunks_mut(self.columns).zip(out.decoded.chunks_mut(self.columns));
        for (values, (codes, decoded)) in rows.zip(became) {
            let scale = self.scale.unwrap_or_else(|| scale_of_row(values, self.importance));
            for ((w, code), meant) in values.iter().zip(codes).zip(decoded) {
                (*code, *meant) = nearest(*w, scale);
            }
            out.scales.push(scale);
        }
    }

    fn recode(&self, out: &mut Chunk, feedback: Feedback) {
        let Chunk { bytes, decoded, scales, .. } = out;
        feedback(decoded, &mut |row, column, w| {
            let (code, meant) = nearest(w, scales[row]);
            bytes[row * self.columns + column] = code;
            meant
        });
    }
}

/// The nearest code, and what it means.
fn nearest(w: f32, scale: f32) -> (u8, f32) {
    let code = to_e4m3(w / scale);
    (code, from_e4m3(code) * scale)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |far, w| if w.abs() > far { w.abs() } else { far })
}

/// The scale with which codes reach as far as `max`. Never 0, also where the quotient is.
fn plain_scale(max: f32) -> f32 {
    match max / E4M3_MAX {
        _ if max == 0.0 => 1.0,
        0.0 => f32::from_bits(1),
        scale => scale,
    }
}

/// All scales that are tried. None is 0 or infinite, as the largest weight is below 2^128.
fn tried(max: f32) -> [f32; TWENTIETHS.len()] {
    let plain = plain_scale(max);
    TWENTIETHS.map(|part| if part == 20 { plain } else { (plain * f32::from(part) / 20.0).max(f32::from_bits(1)) })
}

fn scale_of_row(values: &[f32], importance: Option<&[f32]>) -> f32 {
    let max = largest(values);
    match importance {
        None => plain_scale(max),
        Some(importance) => least(tried(max), |scale| weighted_squared_error(values, importance, scale)),
    }
}

/// `Σ importance·error²` of one row.
fn weighted_squared_error(values: &[f32], importance: &[f32], scale: f32) -> f64 {
    let error = |w: &f32| f64::from(*w) - f64::from(nearest(*w, scale).1);
    values.iter().zip(importance).map(|(w, counts)| f64::from(*counts) * error(w).powi(2)).sum()
}

/// The first of the scales with the least error.
fn least<const N: usize>(scales: [f32; N], error: impl Fn(f32) -> f64) -> f32 {
    let errors = scales.map(|scale| (error(scale), scale));
    errors[1..].iter().fold(errors[0], |best, next| if next.0 < best.0 { *next } else { best }).1
}

/// The scale of a whole tensor. The same at any number of threads.
fn scale_of_all(weight: &Weight, importance: Option<&[f32]>) -> Result<f32, WeightError> {
    let max = over_rows(weight, largest)?.into_iter().fold(0.0, f32::max);
    let (Some(importance), scales) = (importance, tried(max)) else { return Ok(plain_scale(max)) };
    let columns = weight.matrix()[1];
    let errors = over_rows(weight, |values| {
        let of_rows = |scale| values.chunks(columns).map(|row| weighted_squared_error(row, importance, scale)).sum();
        scales.map(of_rows)
    })?;
    let sum = |at: usize| -> f64 { errors.iter().map(|errors: &[f64; TWENTIETHS.len()]| errors[at]).sum() };
    let sums: Vec<f64> = (0..scales.len()).map(sum).collect();
    Ok(least(scales, |scale| sums[scales.iter().position(|one| *one == scale).expect("one of them")]))
}

/// `each` of some whole rows at a time, in order.
fn over_rows<T: Send>(weight: &Weight, each: impl Fn(&[f32]) -> T + Sync) -> Result<Vec<T>, WeightError> {
    let [rows, columns] = weight.matrix();
    if weight.is_empty() {
        return Ok(Vec::new());
    }
    let step = (TOGETHER / columns).max(1);
    let task = |start: usize| {
        let mut values = Vec::new();
        weight.rows(start * step..rows.min((start + 1) * step), &mut values)?;
        Ok(each(&values))
    };
    (0..rows.div_ceil(step)).into_par_iter().map(task).collect()
}
