//! Weights that are computed: from other weights, or from nothing but their shape.

use std::sync::Arc;

use crate::ir::fake_quant::FakeQuant;

/// A computed weight. A few cases, no tensor algebra; each rounds once to f32. Columns and rows are those of
/// [`Weight::matrix`](super::Weight::matrix): a vector (bias, gain of a norm) is one row, so that its elements are columns.
#[derive(Clone, PartialEq, Debug)]
pub enum Derive {
    /// `w · c`
    MulScalar(f32),
    /// `w[i, j] · c[j]`
    Columns(Arc<[f32]>),
    /// `w[i, j] · c[i]`
    Rows(Arc<[f32]>),
    /// Rounded to fixed steps, as the activations that it meets are.
    Steps(FakeQuant),
    /// `round_half_even(w[i, j] / c[j]) · c[j]`, the code within an i32: a bias in the unit of the sums that it is added to.
    Multiples(Arc<[f32]>),
}

impl Derive {
    /// Of its vector of factors.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Derive::MulScalar(_) | Derive::Steps(_) => 0,
            Derive::Columns(factors) | Derive::Rows(factors) | Derive::Multiples(factors) => 4 * factors.len(),
        }
    }

    /// On rows from `first` on, of `columns` each.
    pub(super) fn apply(&self, first: usize, columns: usize, rows: &mut [f32]) {
        let each_row = rows.chunks_mut(columns.max(1));
        match self {
            Derive::MulScalar(c) => rows.iter_mut().for_each(|x| *x *= c),
            Derive::Columns(c) => each_row.for_each(|row| row.iter_mut().zip(&c[..]).for_each(|(x, c)| *x *= c)),
            Derive::Rows(c) => {
                each_row.zip(&c[first..]).for_each(|(row, c)| row.iter_mut().for_each(|x| *x *= c));
            }
            Derive::Steps(steps) => rows.iter_mut().for_each(|x| *x = steps.apply(*x)),
            Derive::Multiples(c) => {
                each_row.for_each(|row| row.iter_mut().zip(&c[..]).for_each(|(x, c)| *x = multiple(*x, *c) as f32 * c));
            }
        }
    }
}

/// The code of a number that is stored as a multiple of `unit`.
pub fn multiple(x: f32, unit: f32) -> i32 {
    (x / unit).round_ties_even() as i32
}

/// A table that follows from its shape.
///
/// Sinusoidal positions (Vaswani et al., arXiv 1706.03762) have sines in the first half of a row and cosines in the second;
/// place i of a half turns by `position · 10000^-e(i)`. Implementations differ in `e` and in their rounding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Computed {
    /// `e = 2i / columns`, in f64 and rounded once (`MarianSinusoidalPositionalEmbedding`, modeling_marian.py; Pegasus has
    /// the same). An odd number of columns has one sine more.
    Sinusoid,
    /// `e = i / (columns / 2 - 1)`, in f32 at each step (`M2M100SinusoidalPositionalEmbedding`, modeling_m2m_100.py).
    SinusoidBetweenEnds {
        /// The row of zeros, if it lies in the table.
        zero_row: Option<usize>,
    },
    /// Ones in one row and zeros elsewhere: looked up by id, it tells one token from all others.
    OneRow(usize),
}

impl Computed {
    /// The element at a row and a column of a table of `columns`.
    pub(super) fn element(self, row: usize, column: usize, columns: usize) -> f32 {
        match self {
            Computed::Sinusoid => {
                let sines = columns.div_ceil(2);
                let turn = |i: usize| row as f64 / 10000f64.powf(2.0 * i as f64 / columns as f64);
                match column.checked_sub(sines) {
                    None => turn(column).sin() as f32,
                    Some(i) => turn(i).cos() as f32,
                }
            }
            Computed::SinusoidBetweenEnds { zero_row } => {
                let half = columns / 2;
                let step = (10000f64.ln() / (half as f64 - 1.0)) as f32;
                let turn = |i: usize| row as f32 * (i as f32 * -step).exp();
                match column {
                    _ if zero_row == Some(row) || column >= 2 * half => 0.0,
                    _ if column < half => turn(column).sin(),
                    _ => turn(column - half).cos(),
                }
            }
            Computed::OneRow(one) => f32::from(u8::from(row == one)),
        }
    }
}
