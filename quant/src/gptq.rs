//! Codes chosen one input channel after the other, each making good for the errors before it.
//!
//! Of a Linear's row w and its codes' meaning ŵ, what counts is the error of the outputs, `e·G·eᵀ` with `e = w - ŵ` and
//! `G = Σ x·xᵀ` over calibration. GPTQ (Frantar et al., arXiv 2210.17323) rounds channels in turn and moves each error into
//! the channels to come. Its update, written with the inverse of G, equals the one used here (Chee et al., QuIP, arXiv
//! 2307.13304, theorem 6), which needs no inverse: with `G + damping = U·D·Uᵀ`, U unit upper triangular,
//!
//! ```text
//! ŵ_k = nearest(w_k + Σ_{j<k} (w_j - ŵ_j) · U_jk)
//! ```
//!
//! Channels come in the order of falling `G_jj` (`act_order`): early ones are rounded freely and have the most channels after
//! them to compensate. Scales are those of the untouched weights, of the block to which a channel belongs in the file, so
//! any order of channels keeps neighbours under one scale and no index of groups has to be stored.
//!
//! Rows do not depend on each other, so results do not depend on threads or on how rows are cut into chunks.

use graph::{AffineTensor, Progress, Quantized, Scratch, Weight, WeightData};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::QuantError;
use crate::gram::{Factor, Gram};
use crate::plan::Planned;
use crate::record::OutputErrors;
use crate::round::{self, Grid, Step};
use crate::scheme::{Method, Scheme};
use crate::stream::{self, Chunk};
use crate::{Known, Needs, Outcome, Quantizer};

/// Channels between two updates of all later ones.
const LAZY: usize = 128;

/// Error feedback through the Gram matrix.
pub struct Gptq;

/// Settings of [`Gptq`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GptqSettings {
    /// Added to the diagonal of the Gram matrix, as a share of its mean; more is safer and compensates less.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub damping: f64,
    /// Whether channels with the largest activations come first, rather than in the order of the file.
    pub act_order: bool,
}

impl Default for GptqSettings {
    fn default() -> GptqSettings {
        GptqSettings { damping: 0.01, act_order: true }
    }
}

/// What the Linears that read one activation share.
pub struct Compensation {
    gram: Gram,
    importance: Vec<f32>,
    /// Channels in the order in which they are rounded.
    order: Vec<usize>,
    /// `None` when no damping up to 1 made the matrix definite: then codes are the nearest ones.
    factor: Option<Factor>,
    /// What was out of the ordinary, in words.
    pub notes: Vec<String>,
}

impl Compensation {
    /// Damping grows tenfold from the one asked for until the matrix has a factor.
    pub fn new(gram: Gram, settings: GptqSettings) -> Compensation {
        let importance = gram.diagonal();
        let mut order: Vec<usize> = (0..importance.len()).collect();
        if settings.act_order {
            order.sort_by(|a, b| importance[*b].total_cmp(&importance[*a]).then(a.cmp(b)));
        }
        let mut notes = Vec::new();
        let dead = importance.iter().filter(|x| **x == 0.0).count();
        if dead > 0 {
            notes.push(format!("{dead} of {} input channels were always 0; theirs are the nearest codes", order.len()));
        }
        let mut damping = settings.damping;
        let factor = loop {
            match gram.factor(&order, damping) {
                Some(factor) => break Some(factor),
                None if damping >= 1.0 => break None,
                None => damping = (10.0 * damping.max(1e-4)).min(1.0),
            }
        };
        let rows = gram.rows();
        if factor.is_none() {
            notes.push(format!("the Gram matrix of {rows} rows has no factor; nearest codes"));
        } else if damping > settings.damping {
            notes.push(format!(
                "the Gram matrix of {rows} rows is singular; damping {damping} instead of {}",
                settings.damping
            ));
        }
        Compensation { gram, importance, order, factor, notes }
    }

    /// `Σ x_j²` of each channel.
    pub fn importance(&self) -> &[f32] {
        &self.importance
    }
}

impl Quantizer for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn needs(&self) -> Needs {
        Needs::Gram
    }

    fn applies(&self, scheme: Scheme, method: Method) -> bool {
        matches!(scheme, Scheme::Affine { .. }) && method == Method::Gptq
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        let (Scheme::Affine { bits, block, symmetric }, Known::Gram(shared)) = (planned.scheme, known) else {
            unreachable!("`applies` and `needs` say so");
        };
        let shape = weight.matrix();
        let grid = Grid::new(bits, symmetric);
        let rows = Rows { columns: shape[1], block_len: block.len(shape[1]), grid };
        let streamed = stream::encoded(weight, planned.scheme, shape[1], scratch, progress, |values, chunk| {
            let importance = Some(shared.importance());
            round::codes_of_rows(values, shape[1], block, grid, planned.clip, importance, chunk);
            let Some(factor) = &shared.factor else { return };
            // Before its codes are replaced: what rounding to nearest under the same scales would do.
            let signal = shared.gram.squares(values);
            let error = |decoded: &[f32]| -> Vec<f32> { values.iter().zip(decoded).map(|(w, v)| w - v).collect() };
            let nearest = shared.gram.squares(&error(&chunk.decoded));
            rows.encode(values, &shared.order, factor, chunk);
            let noise = shared.gram.squares(&error(&chunk.decoded));
            chunk.outputs = Some(OutputErrors {
                signal: signal.iter().sum(),
                noise: noise.iter().sum(),
                nearest: nearest.iter().sum(),
            });
        })?;
        let zeros = (!symmetric).then_some(streamed.zeros);
        let tensor = AffineTensor { shape, bits, block, codes: streamed.blob, scales: streamed.scales.clone(), zeros };
        Ok(Outcome {
            data: WeightData::Quantized(Quantized::Affine(tensor)),
            scales: streamed.scales,
            errors: streamed.errors,
            outputs: streamed.outputs,
            notes: shared.notes.clone(),
        })
    }
}

struct Rows {
    columns: usize,
    block_len: usize,
    grid: Grid,
}

impl Rows {
    /// Replaces the codes of some rows, under the scales and zeros that `out` holds.
    fn encode(&self, values: &[f32], order: &[usize], factor: &Factor, out: &mut Chunk) {
        let n = self.columns;
        let rows = values.len() / n;
        let blocks = n.div_ceil(self.block_len);
        let step = |row: usize, column: usize| {
            let at = row * blocks + column / self.block_len;
            Step { scale: out.scales[at], zero: out.zeros.get(at).copied().unwrap_or(0) }
        };
        let upper = factor.upper();
        let mut errors = vec![0.0; rows * n];
        let mut moved = vec![0.0; rows * LAZY];
        for from in (0..n).step_by(LAZY) {
            let width = LAZY.min(n - from);
            let moved = &mut moved[..rows * width];
            {
                let before = ArrayView2::from_shape((rows, n), &errors).expect("rows·n floats");
                let mut moved = ArrayViewMut2::from_shape((rows, width), moved).expect("rows·width floats");
                let tile = upper.slice(s![..from, from..from + width]);
                general_mat_mul(1.0, &before.slice(s![.., ..from]), &tile, 0.0, &mut moved);
            }
            for row in 0..rows {
                let moved = &mut moved[row * width..][..width];
                for k in 0..width {
                    let column = order[from + k];
                    let at = row * n + column;
                    let (code, meant) = self.grid.nearest(values[at] + moved[k], step(row, column));
                    out.bytes[at] = code.cast_unsigned();
                    out.decoded[at] = meant;
                    let error = values[at] - meant;
                    errors[row * n + from + k] = error;
                    let later = upper.slice(s![from + k, from + k + 1..from + width]);
                    for (moved, u) in moved[k + 1..].iter_mut().zip(later) {
                        *moved += error * u;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use graph::progress::Quiet;
    use graph::{Blob, Block, FloatType};

    use super::*;
    use crate::plan::Decider;
    use crate::scheme::Clip;
    use crate::{Role, round::Nearest};

    fn weight(shape: [usize; 2], values: &[f32]) -> Weight {
        let mut bytes = vec![0; 4 * values.len()];
        FloatType::F32.encode(values, &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        Weight { name: "w".into(), shape: shape.to_vec(), data }
    }

    fn planned(bits: u8, block: Block, symmetric: bool, method: Method) -> Planned {
        Planned {
            id: graph::WeightId(0),
            name: "w".into(),
            role: Role::Linear,
            scheme: Scheme::Affine { bits, block, symmetric },
            clip: Clip::None,
            method,
            decided_by: Decider::Scheme,
        }
    }

    fn gptq(w: &Weight, planned: &Planned, shared: &Compensation) -> Vec<f32> {
        let scratch = Scratch::new().expect("temporary folder");
        let outcome = Gptq.quantize(w, planned, &Known::Gram(shared), &scratch, &Quiet).expect("finite");
        Weight { data: outcome.data, ..w.clone() }.read().expect("just written")
    }

    fn drawn(count: usize, mut state: u64) -> Vec<f32> {
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// The update as the paper writes it: `H⁻¹ = CᵀC`, C upper triangular, `w_j -= (w_k - ŵ_k) / C_kk · C_kj`.
    fn by_the_paper(w: &[f32], gram: &Gram, damping: f64, steps: impl Fn(usize) -> Step, grid: Grid) -> Vec<f32> {
        let n = gram.channels();
        let mean = gram.diagonal().iter().map(|d| f64::from(*d)).sum::<f64>() / n as f64;
        let mut inverse: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..n).map(|j| f64::from(gram.at(i, j)) + if i == j { damping * mean } else { 0.0 }).collect())
            .collect();
        // Gauss-Jordan.
        let mut right: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        for k in 0..n {
            let pivot = inverse[k][k];
            for j in 0..n {
                inverse[k][j] /= pivot;
                right[k][j] /= pivot;
            }
            for i in (0..n).filter(|i| *i != k) {
                let f = inverse[i][k];
                for j in 0..n {
                    let (a, b) = (inverse[k][j], right[k][j]);
                    inverse[i][j] -= f * a;
                    right[i][j] -= f * b;
                }
            }
        }
        let mut w: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
        let mut out = vec![0.0; n];
        for k in 0..n {
            let (_, meant) = grid.nearest(w[k] as f32, steps(k));
            out[k] = meant;
            let error = (w[k] - f64::from(meant)) / right[k][k];
            for j in k + 1..n {
                w[j] -= error * right[k][j];
            }
            // Removing channel k from the inverse: the next row of the Cholesky factor, unscaled.
            let row = right[k].clone();
            for i in k + 1..n {
                let f = row[i] / row[k];
                for j in k + 1..n {
                    right[i][j] -= f * row[j];
                }
            }
        }
        out
    }

    #[test]
    fn an_error_moves_into_the_next_channel_as_computed_by_hand() {
        // Both channels always carry the same number, so only the sum of the two weights counts: 0.6 + 7 = 7.6, scale 1.
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 1.0, 3.0, 3.0]);
        let shared = Compensation::new(gram, GptqSettings { damping: 1e-6, act_order: false });
        let w = weight([1, 2], &[0.6, 7.0]);
        let how = planned(4, Block::Row, true, Method::Gptq);
        assert_eq!(gptq(&w, &how, &shared), [1.0, 7.0]); // 7 - 0.4 = 6.6 is nearest to 7
        let w = weight([1, 2], &[7.0, 0.4]);
        assert_eq!(gptq(&w, &how, &shared), [7.0, 0.0]);
        let w = weight([1, 3], &[7.0, 2.4, 1.3]);
        let mut gram = Gram::new(3);
        gram.add(&[0.0, 1.0, 1.0, 0.0, 2.0, 2.0, 5.0, 0.0, 0.0]);
        let shared = Compensation::new(gram, GptqSettings { damping: 1e-6, act_order: false });
        assert_eq!(gptq(&w, &how, &shared), [7.0, 2.0, 2.0]); // 1.3 + 0.4 = 1.7; nearest alone would say 1
    }

    #[test]
    fn the_codes_are_those_of_the_papers_own_update() {
        let (n, rows) = (150, 5); // more than one lazy block
        let mut mixed = drawn(400 * n, 3);
        for row in mixed.chunks_mut(n) {
            for j in 1..n {
                row[j] = 0.7 * row[j - 1] + 0.5 * row[j];
            }
        }
        let mut gram = Gram::new(n);
        gram.add(&mixed);
        let values = drawn(rows * n, 11);
        let w = weight([rows, n], &values);
        let how = planned(4, Block::Group(32), true, Method::Gptq);
        let shared = Compensation::new(gram.clone(), GptqSettings { damping: 0.01, act_order: false });
        let found = gptq(&w, &how, &shared);
        let scratch = Scratch::new().expect("temporary folder");
        let plain = Nearest.quantize(&w, &how, &Known::Nothing, &scratch, &Quiet).expect("finite");
        let grid = Grid::new(4, true);
        let mut differing = 0;
        for (row, (values, found)) in values.chunks(n).zip(found.chunks(n)).enumerate() {
            let step = |column: usize| Step { scale: plain.scales[row * 5 + column / 32], zero: 0 };
            let expected = by_the_paper(values, &gram, 0.01, step, grid);
            differing += found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        }
        // f32 against f64: a number may fall to the other side of a tie, and what follows with it.
        assert!(differing <= 2, "{differing} of {}", rows * n);
    }

    #[test]
    fn outputs_are_nearer_than_with_nearest_codes_in_either_order_and_on_every_grid() {
        let (n, rows) = (96, 40);
        let mut x = drawn(300 * n, 5);
        for row in x.chunks_mut(n) {
            for j in 1..n {
                row[j] = (0.8 * row[j - 1] + row[j]) * if j % 9 == 0 { 4.0 } else { 1.0 };
            }
        }
        let mut gram = Gram::new(n);
        gram.add(&x);
        let w = weight([rows, n], &drawn(rows * n, 17));
        for (bits, block, symmetric) in
            [(4, Block::Row, true), (4, Block::Group(32), true), (4, Block::Group(40), false), (8, Block::Row, false)]
        {
            for act_order in [false, true] {
                let shared = Compensation::new(gram.clone(), GptqSettings { damping: 0.01, act_order });
                let scratch = Scratch::new().expect("temporary folder");
                let how = planned(bits, block, symmetric, Method::Gptq);
                let outcome = Gptq.quantize(&w, &how, &Known::Gram(&shared), &scratch, &Quiet).expect("finite");
                let outputs = outcome.outputs.expect("measured");
                assert!(outputs.noise < 0.6 * outputs.nearest, "{bits} {block:?} {act_order}: {outputs:?}");
            }
        }
    }

    #[test]
    fn dead_channels_and_singular_matrices_are_told_and_leave_no_bad_code() {
        let n = 8;
        let mut gram = Gram::new(n);
        // One row only, three channels dead: rank 1.
        gram.add(&[1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 1.0, 3.0]);
        let shared = Compensation::new(gram, GptqSettings { damping: 0.0, act_order: true });
        assert_eq!(shared.notes.len(), 2, "{:?}", shared.notes);
        assert!(shared.notes[0].starts_with("3 of 8 input channels were always 0"), "{:?}", shared.notes);
        assert!(
            shared.notes[1].starts_with("the Gram matrix of 1 rows is singular; damping 0.001"),
            "{:?}",
            shared.notes
        );
        let values = drawn(2 * n, 23);
        let found = gptq(&weight([2, n], &values), &planned(8, Block::Row, true, Method::Gptq), &shared);
        for (w, v) in values.iter().zip(&found) {
            assert!((w - v).abs() < 0.1, "{w} became {v}");
        }
    }

    #[test]
    fn without_activations_the_codes_are_the_nearest_ones() {
        let shared = Compensation::new(
            {
                let mut gram = Gram::new(4);
                gram.add(&[0.0; 4]);
                gram
            },
            GptqSettings::default(),
        );
        let w = weight([1, 4], &[0.3, -0.9, 0.5, 0.1]);
        let how = planned(4, Block::Row, true, Method::Gptq);
        let scratch = Scratch::new().expect("temporary folder");
        let plain = Nearest.quantize(&w, &how, &Known::Nothing, &scratch, &Quiet).expect("finite");
        assert_eq!(gptq(&w, &how, &shared), Weight { data: plain.data, ..w.clone() }.read().expect("just written"));
    }
}
