//! Second moments of what flows into a Linear, and the factor of them that tells how rounding errors are compensated.

use graph::arithmetic;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

/// Edge of the tiles that one task computes: wide enough for fast products, narrow enough that two threads share the work.
const TILE: usize = 128;

/// `G = Σ x·xᵀ` over the rows x of an activation.
///
/// Tiles are computed independently and each adds its rows in order, so the sums are the same at any number of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    n: usize,
    /// f32[n, n]; only tiles on and above the diagonal are filled.
    upper: Vec<f32>,
    rows: u64,
}

impl Gram {
    /// Nothing added, for rows of `n`.
    pub fn new(n: usize) -> Gram {
        Gram { n, upper: vec![0.0; n * n], rows: 0 }
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.n
    }

    /// Rows added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows: f32[m, n], finite.
    pub fn add(&mut self, rows: &[f32]) {
        let n = self.n;
        assert!(n > 0 && rows.len().is_multiple_of(n), "rows of {n}, found {} numbers", rows.len());
        let x = ArrayView2::from_shape((rows.len() / n, n), rows).expect("m·n floats");
        self.rows += x.nrows() as u64;
        self.upper.par_chunks_mut(TILE * n).enumerate().for_each(|(tile, band)| {
            let from = tile * TILE;
            let height = band.len() / n;
            let mut band = ArrayViewMut2::from_shape((height, n), band).expect("whole rows");
            let left = x.slice(s![.., from..from + height]);
            arithmetic::product(1.0, &left.t(), &x.slice(s![.., from..]), 1.0, &mut band.slice_mut(s![.., from..]));
        });
    }

    /// `Σ x_i·x_j`.
    pub fn at(&self, i: usize, j: usize) -> f32 {
        let (i, j) = if i <= j { (i, j) } else { (j, i) };
        self.upper[i * self.n + j]
    }

    /// `Σ x_j²` of every channel.
    pub fn diagonal(&self) -> Vec<f32> {
        (0..self.n).map(|j| self.upper[j * self.n + j]).collect()
    }

    /// `e·G·eᵀ` for every row e of f32[m, n]: what the errors of a weight's row add to the squares of its outputs.
    pub fn squares(&self, rows: &[f32]) -> Vec<f64> {
        let n = self.n;
        let e = ArrayView2::from_shape((rows.len() / n, n), rows).expect("m·n floats");
        let mut sums = vec![0.0; e.nrows()];
        let mut product = vec![0.0; e.nrows() * TILE];
        for from in (0..n).step_by(TILE) {
            // Above the diagonal every pair counts twice; the tile on it holds both halves.
            let width = TILE.min(n - from);
            let upper = ArrayView2::from_shape((n, n), &self.upper).expect("n·n floats");
            let mut out = ArrayViewMut2::from_shape((e.nrows(), width), &mut product[..e.nrows() * width])
                .expect("as many floats");
            let columns = s![.., from..from + width];
            arithmetic::product(
                2.0,
                &e.slice(s![.., ..from]),
                &upper.slice(s![..from, from..from + width]),
                0.0,
                &mut out,
            );
            let diagonal = upper.slice(s![from..from + width, from..from + width]);
            arithmetic::product(1.0, &e.slice(columns), &diagonal, 1.0, &mut out);
            for ((sum, out), e) in sums.iter_mut().zip(out.rows()).zip(e.slice(columns).rows()) {
                *sum += out.iter().zip(e).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            }
        }
        sums
    }

    /// How an error at one channel is made good at later ones, channels taken in `order`.
    ///
    /// With `H = G + damping·mean(diag G)·I` in that order, `H = U·D·Uᵀ`, U unit upper triangular, D diagonal. Dead channels
    /// (always 0) take no part: their row and column of U are those of the identity. `None` when H is not positive definite
    /// in f64, as when channels are copies of each other and `damping` is too small.
    pub fn factor(&self, order: &[usize], damping: f64) -> Option<Factor> {
        let n = self.n;
        let alive = (0..n).filter(|&j| self.at(j, j) > 0.0).count().max(1);
        let mean = (0..n).map(|j| f64::from(self.at(j, j))).sum::<f64>() / alive as f64;
        // Both axes reversed, `U·D·Uᵀ` is the usual `L·Lᵀ`.
        let mut h = vec![0.0; n * n];
        h.par_chunks_mut(n).enumerate().for_each(|(a, row)| {
            let i = order[n - 1 - a];
            for (b, cell) in row.iter_mut().take(a + 1).enumerate() {
                let j = order[n - 1 - b];
                *cell = f64::from(self.at(i, j)) + if i == j { damping * mean } else { 0.0 };
            }
            if self.at(i, i) <= 0.0 {
                row[a] = if mean > 0.0 { mean } else { 1.0 };
            }
        });
        cholesky(&mut h, n)?;
        let mut upper = vec![0.0; n * n];
        upper.par_chunks_mut(n).enumerate().for_each(|(j, row)| {
            for (k, cell) in row.iter_mut().enumerate().skip(j) {
                let (a, b) = (n - 1 - j, n - 1 - k);
                *cell = (h[a * n + b] / h[b * n + b]) as f32;
            }
        });
        Some(Factor { n, upper })
    }
}

/// U of `U·D·Uᵀ`, see [`Gram::factor`].
#[derive(Clone, Debug)]
pub struct Factor {
    n: usize,
    /// f32[n, n], 0 below the diagonal.
    upper: Vec<f32>,
}

impl Factor {
    /// Row i of U.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.upper[i * self.n..][..self.n]
    }

    /// U: f32[n, n].
    pub fn upper(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.n, self.n), &self.upper).expect("n·n floats")
    }
}

/// `L` of `A = L·Lᵀ` in the lower triangle of `a`: f64[n, n]; what stands above the diagonal is neither read nor written.
///
/// By panels of [`TILE`] columns: factor the panel's top, solve for what is below it, subtract its product from the rest.
/// `None` when a pivot is not above the noise of f64.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    let largest = (0..n).map(|i| a[i * n + i]).fold(0.0, f64::max);
    let noise = largest * n as f64 * f64::EPSILON;
    for from in (0..n).step_by(TILE) {
        let width = TILE.min(n - from);
        let (done, below) = a.split_at_mut((from + width) * n);
        let mut top = vec![0.0; width * width];
        for i in 0..width {
            let row = &mut done[(from + i) * n + from..][..i + 1];
            solve(row, &top, i, width);
            let pivot = row[i] - row[..i].iter().map(|l| l * l).sum::<f64>();
            if pivot.is_nan() || pivot <= noise {
                return None;
            }
            row[i] = pivot.sqrt();
            top[i * width..][..i + 1].copy_from_slice(row);
        }
        let mut panel = vec![0.0; below.len() / n * width];
        below.par_chunks_mut(n).zip(panel.par_chunks_mut(width)).for_each(|(row, panel)| {
            solve(&mut row[from..from + width], &top, width, width);
            panel.copy_from_slice(&row[from..from + width]);
        });
        let rest = from + width;
        let panel = ArrayView2::from_shape((n - rest, width), &panel).expect("a row for each below");
        below.par_chunks_mut(TILE * n).enumerate().for_each(|(tile, band)| {
            let (at, height) = (tile * TILE, band.len() / n);
            let mut band = ArrayViewMut2::from_shape((height, n), band).expect("whole rows");
            let mut band = band.slice_mut(s![.., rest..rest + at + height]);
            arithmetic::product(
                -1.0,
                &panel.slice(s![at..at + height, ..]),
                &panel.slice(s![..at + height, ..]).t(),
                1.0,
                &mut band,
            );
        });
    }
    Some(())
}

/// `x` of `x·Lᵀ = row` for the first `count` places; L is f64[width, width].
fn solve(row: &mut [f64], lower: &[f64], count: usize, width: usize) {
    for k in 0..count {
        let l = &lower[k * width..][..k + 1];
        let sum: f64 = row[..k].iter().zip(l).map(|(x, l)| x * l).sum();
        row[k] = (row[k] - sum) / l[k];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::drawn;

    const SEED: u64 = 0x2545_f491_4f6c_dd1d;

    #[test]
    fn the_sums_are_those_of_the_definition() {
        let n = 2 * TILE + 7;
        let rows = drawn(50 * n, SEED);
        let mut gram = Gram::new(n);
        gram.add(&rows[..20 * n]);
        gram.add(&rows[20 * n..]);
        assert_eq!(gram.rows(), 50);
        for (i, j) in [(0, 0), (3, 200), (200, 3), (n - 1, n - 1), (TILE, TILE - 1)] {
            let sum: f64 = rows.chunks(n).map(|x| f64::from(x[i]) * f64::from(x[j])).sum();
            assert!((f64::from(gram.at(i, j)) - sum).abs() < 1e-4, "{i} {j}");
        }
        let e = drawn(3 * n, SEED);
        for (found, e) in gram.squares(&e).into_iter().zip(e.chunks(n)) {
            let outputs =
                rows.chunks(n).map(|x| x.iter().zip(e).map(|(x, e)| f64::from(*x) * f64::from(*e)).sum::<f64>());
            let expected: f64 = outputs.map(|y| y * y).sum();
            assert!((found - expected).abs() < 1e-4 * expected, "{found} {expected}");
        }
    }

    #[test]
    fn the_factor_gives_the_damped_matrix_back() {
        let n = TILE + 30;
        let mut gram = Gram::new(n);
        gram.add(&drawn(2 * n * n, SEED));
        let order: Vec<usize> = (0..n).map(|i| (i * 7 + 3) % n).collect();
        let factor = gram.factor(&order, 0.01).expect("positive definite");
        let u = factor.upper();
        let mean = gram.diagonal().iter().map(|d| f64::from(*d)).sum::<f64>() / n as f64;
        let h = |i: usize, j: usize| f64::from(gram.at(order[i], order[j])) + if i == j { 0.01 * mean } else { 0.0 };
        // D from the last row up: H_kk = Σ_{j≥k} U_kj² D_j.
        let mut d = vec![0.0; n];
        for k in (0..n).rev() {
            let later: f64 = (k + 1..n).map(|j| f64::from(u[[k, j]]).powi(2) * d[j]).sum();
            d[k] = h(k, k) - later;
        }
        for (i, j) in [(0, 0), (0, n - 1), (5, 100), (TILE, TILE + 1), (n - 1, n - 1)] {
            let found: f64 = (i.max(j)..n).map(|k| f64::from(u[[i, k]]) * f64::from(u[[j, k]]) * d[k]).sum();
            assert!((found - h(i, j)).abs() < 1e-4 * mean, "{i} {j}: {found} {}", h(i, j));
        }
    }

    #[test]
    fn two_channels_compensate_as_computed_by_hand() {
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 2.0, 3.0, 1.0]); // G = [[10, 5], [5, 5]]
        let u = gram.factor(&[0, 1], 0.0).expect("definite").upper().to_owned();
        assert_eq!((u[[0, 0]], u[[0, 1]], u[[1, 0]], u[[1, 1]]), (1.0, 1.0, 0.0, 1.0)); // G01 / G11
        let u = gram.factor(&[1, 0], 0.0).expect("definite").upper().to_owned();
        assert_eq!(u[[0, 1]], 0.5); // G01 / G00
    }

    #[test]
    fn a_singular_matrix_has_a_factor_only_when_damped_and_a_dead_channel_stands_alone() {
        let mut gram = Gram::new(3);
        gram.add(&[1.0, 1.0, 0.0, 2.0, 2.0, 0.0]);
        assert!(gram.factor(&[0, 1, 2], 0.0).is_none());
        let u = gram.factor(&[0, 1, 2], 0.01).expect("damped").upper().to_owned();
        assert!(u[[0, 1]] > 0.9 && u[[0, 2]] == 0.0 && u[[1, 2]] == 0.0, "{u}");
    }
}
