//! Sums of products and functions of floats: as fast as the processor can, or the same bits on every processor.
//!
//! Kernels of processors fuse a product with its sum, or add in another order, and the system's functions of floats differ by its version
//! and by the processor. While a [`Portable`] lives, whatever computes here adds products from the first to the last, each rounded before
//! it is added, and takes its functions from the crate `libm`.

use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, LinalgScalar};

/// What [`crate::eval::kernel`] calls arithmetic that is the same everywhere.
pub const PORTABLE: &str = "portable";

static LIVING: AtomicUsize = AtomicUsize::new(0);

/// While one lives, this process computes the same bits as on any other processor.
#[derive(Debug)]
pub struct Portable(());

impl Portable {
    /// From now on.
    pub fn begin() -> Portable {
        LIVING.fetch_add(1, Ordering::SeqCst);
        Portable(())
    }
}

impl Drop for Portable {
    fn drop(&mut self) {
        LIVING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether one lives.
pub fn is_portable() -> bool {
    LIVING.load(Ordering::SeqCst) > 0
}

/// `out = alpha · a · b + beta · out` with `a[m, k]` and `b[k, n]`; what `out` held is not read where `beta` is 0.
pub fn product<F: LinalgScalar>(alpha: F, a: &ArrayView2<F>, b: &ArrayView2<F>, beta: F, out: &mut ArrayViewMut2<F>) {
    match is_portable() {
        true => in_order(alpha, a, b, beta, out),
        false => general_mat_mul(alpha, a, b, beta, out),
    }
}

/// Terms that are added to a row of sums in one pass over it, one after the other.
const TERMS: usize = 4;

fn in_order<F: LinalgScalar>(alpha: F, a: &ArrayView2<F>, b: &ArrayView2<F>, beta: F, out: &mut ArrayViewMut2<F>) {
    let (b, n) = (b.as_standard_layout(), b.ncols());
    let b = b.as_slice().expect("just laid out");
    let mut factors = Vec::with_capacity(a.ncols());
    let mut sums = vec![F::zero(); n];
    for (a, mut out) in a.rows().into_iter().zip(out.rows_mut()) {
        factors.clear();
        factors.extend(a.iter().copied());
        sums.fill(F::zero());
        let (whole, rest) = factors.as_chunks::<TERMS>();
        for (at, [p, q, r, s]) in whole.iter().enumerate() {
            let [row_p, row_q, row_r, row_s] = [0, 1, 2, 3].map(|i| &b[(at * TERMS + i) * n..][..n]);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = *sum + *p * row_p[i] + *q * row_q[i] + *r * row_r[i] + *s * row_s[i];
            }
        }
        for (i, p) in rest.iter().enumerate() {
            let row = &b[(whole.len() * TERMS + i) * n..][..n];
            sums.iter_mut().zip(row).for_each(|(sum, b)| *sum = *sum + *p * *b);
        }
        for (out, sum) in out.iter_mut().zip(&sums) {
            *out = if beta.is_zero() { alpha * *sum } else { beta * *out + alpha * *sum };
        }
    }
}

/// `e^x`.
pub fn exp(x: f32) -> f32 {
    if is_portable() { libm::expf(x) } else { x.exp() }
}

/// `tanh x`.
pub fn tanh(x: f32) -> f32 {
    if is_portable() { libm::tanhf(x) } else { x.tanh() }
}

/// `sin x` and `cos x`.
pub fn sin_cos(x: f32) -> (f32, f32) {
    if is_portable() { libm::sincosf(x) } else { x.sin_cos() }
}

/// `x^y`.
pub fn powf(x: f32, y: f32) -> f32 {
    if is_portable() { libm::powf(x, y) } else { x.powf(y) }
}

/// The natural logarithm.
pub fn ln(x: f64) -> f64 {
    if is_portable() { libm::log(x) } else { x.ln() }
}

/// The logarithm to base 2.
pub fn log2(x: f32) -> f32 {
    if is_portable() { libm::log2f(x) } else { x.log2() }
}

/// The logarithm to base 10.
pub fn log10(x: f64) -> f64 {
    if is_portable() { libm::log10(x) } else { x.log10() }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// A sum whose order shows: `(1 + 2^-24) + 2^-24` is 1, and `1 + (2^-24 + 2^-24)` is not.
    #[test]
    fn terms_are_added_from_the_first_to_the_last_and_each_product_is_rounded() {
        let tiny = 2f32.powi(-24);
        for at in 0..7 {
            let mut row = vec![tiny; 7];
            row[at] = 1.0;
            let expected = row.iter().fold(0.0, |sum, x| sum + x);
            let (a, b) = (Array2::from_shape_vec((1, 7), row).expect("7"), Array2::from_elem((7, 1), 1.0f32));
            let mut out = Array2::from_elem((1, 1), f32::NAN);
            in_order(1.0, &a.view(), &b.view(), 0.0, &mut out.view_mut());
            assert_eq!(out[[0, 0]], expected, "{at}");
        }
        // Fused, the rounding of the second product would be in the sum.
        let x = 1.0 + 2f32.powi(-12);
        let (a, b) = (
            Array2::from_shape_vec((1, 2), vec![-1.0, x]).expect("2"),
            Array2::from_shape_vec((2, 1), vec![x * x, x]).expect("2"),
        );
        let mut out = Array2::zeros((1, 1));
        in_order(1.0, &a.view(), &b.view(), 0.0, &mut out.view_mut());
        assert_eq!(out[[0, 0]], 0.0);
        assert_ne!(x.mul_add(x, -(x * x)), 0.0);
    }

    #[test]
    fn products_are_those_of_the_definition_however_they_lie() {
        let count = |rows: usize, columns: usize| {
            Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0)
        };
        for (m, k, n) in [(1, 1, 1), (2, 4, 3), (3, 5, 2), (4, 9, 7), (2, 0, 3)] {
            let (a, b) = (count(k, m), count(n, k));
            let [mut found, mut expected] = [(); 2].map(|()| count(m, n));
            in_order(2.0, &a.t(), &b.t(), -1.0, &mut found.view_mut());
            general_mat_mul(2.0, &a.t(), &b.t(), -1.0, &mut expected);
            // Whole numbers leave nothing to round.
            assert_eq!(found, expected, "{m} {k} {n}");
        }
    }
}
