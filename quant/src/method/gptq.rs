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
//! `nearest` is to the codebook of the scheme ([`Rows::recode`]), under scales that are first found by importance, the diagonal
//! of G, and then stay.
//!
//! Channels come in the order of falling `G_jj` (`act_order`): early ones are rounded freely and have the most channels after
//! them to compensate. Scales are those of the untouched weights, of the block to which a channel belongs in the file, so
//! any order of channels keeps neighbours under one scale and no index of groups has to be stored.
//!
//! Rows do not depend on each other, so results do not depend on threads or on how rows are cut into chunks.

use graph::{Progress, Scratch, Weight};

use super::feedback::{Compensation, Feedback};
use super::quantizer::{Known, Needs, Outcome, Quantizer};
use super::stream;
use crate::calibrate::gram::Factor;
use crate::codebook::rows::{Chunk, Rows};
use crate::error::QuantError;
use crate::measure::OutputErrors;
use crate::policy::plan::Planned;
use crate::scheme::Scheme;
use crate::settings::Method;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Rows that are rounded together: products with the Gram matrix and its factor read, and pack, all of these for each chunk.
const ROWS: usize = 128;

/// Error feedback through the Gram matrix.
pub struct Gptq;

impl Quantizer for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn needs(&self) -> Needs {
        Needs::Gram
    }

    fn applies(&self, scheme: Scheme, method: Method) -> bool {
        scheme.is_quantized() && method == Method::Gptq
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        let Known::Gram(shared) = known else {
            unreachable!("`needs` says so");
        };
        let codebook = planned.scheme.codebook().expect("`applies` says so");
        let shape = weight.matrix();
        let rows = codebook.rows(weight, planned.clip, Some(shared.importance()))?;
        let row_bytes = codebook.row_bytes(shape[1]);
        let streamed = stream::encoded(weight, planned.scheme, row_bytes, ROWS, scratch, progress, |values, chunk| {
            rows.encode(values, chunk);
            if let Some(factor) = &shared.factor {
                compensate(&*rows, values, shared, factor, chunk);
            }
        })?;
        Ok(Outcome { notes: shared.notes.clone(), ..Outcome::coded(&*codebook, shape, streamed) })
    }
}

/// Chooses the codes of some rows anew, and measures the outputs before and after.
fn compensate(rows: &dyn Rows, values: &[f32], shared: &Compensation, factor: &Factor, chunk: &mut Chunk) {
    let error = |decoded: &[f32]| -> Vec<f32> { values.iter().zip(decoded).map(|(w, v)| w - v).collect() };
    let signal = shared.gram.squares(values);
    // Before its codes are replaced: what those without feedback would do under the same scales.
    let nearest = shared.gram.squares(&error(&chunk.decoded));
    let feedback = Feedback { order: &shared.order, factor };
    rows.recode(chunk, &mut |decoded, choose| feedback.encode(values, decoded, choose));
    let noise = shared.gram.squares(&error(&chunk.decoded));
    chunk.outputs =
        Some(OutputErrors { signal: signal.iter().sum(), noise: noise.iter().sum(), nearest: nearest.iter().sum() });
}

#[cfg(test)]
mod tests {
    use graph::progress::Quiet;
    use graph::{Blob, Block, FloatType, GgmlType, Quantized, WeightData};
    use half::f16;

    use super::*;
    use crate::calibrate::gram::Gram;
    use crate::codebook::ggml;
    use crate::codebook::ggml::codes::Codes;
    use crate::codebook::grid::{Grid, Step};
    use crate::codebook::rows::Codebook;
    use crate::error::Refusal;
    use crate::method::nearest::Nearest;
    use crate::policy::plan::Decider;
    use crate::tests::drawn;
    use crate::{Clip, GptqSettings, Role};

    fn weight(shape: [usize; 2], values: &[f32]) -> Weight {
        let mut bytes = vec![0; 4 * values.len()];
        FloatType::F32.encode(values, &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        Weight { name: "w".into(), shape: shape.to_vec(), data }
    }

    fn planned(bits: u8, block: Block, symmetric: bool) -> Planned {
        planned_as(Scheme::Affine { bits, block, symmetric })
    }

    fn planned_as(scheme: Scheme) -> Planned {
        Planned {
            id: graph::WeightId(0),
            name: "w".into(),
            role: Role::Linear,
            scheme,
            clip: Clip::None,
            method: Method::Gptq,
            decided_by: Decider::Scheme,
        }
    }

    fn outcome(w: &Weight, planned: &Planned, shared: &Compensation) -> Outcome {
        let scratch = Scratch::new().expect("temporary folder");
        Gptq.quantize(w, planned, &Known::Gram(shared), &scratch, &Quiet).expect("finite")
    }

    fn gptq(w: &Weight, planned: &Planned, shared: &Compensation) -> Vec<f32> {
        Weight { data: outcome(w, planned, shared).data, ..w.clone() }.read().expect("just written")
    }

    /// The blocks of a weight of this type, with feedback.
    fn gptq_blocks(w: &Weight, kind: GgmlType, shared: &Compensation) -> Vec<u8> {
        match outcome(w, &planned_as(Scheme::Ggml(kind)), shared).data {
            WeightData::Quantized(Quantized::Ggml { blocks, .. }) => blocks.read().expect("just written"),
            other => panic!("{kind} became {other:?}"),
        }
    }

    /// Those of [`ggml::quantize_weighted`], by the diagonal of the Gram matrix.
    fn weighted_blocks(values: &[f32], kind: GgmlType, shared: &Compensation) -> Vec<u8> {
        let mut bytes = vec![0; kind.row_bytes(values.len())];
        let importance = ggml::ratios(shared.importance()).expect("some channel is alive");
        ggml::quantize_weighted(kind, values, &importance, &mut bytes);
        bytes
    }

    /// The Gram matrix of rows whose neighbouring channels are alike, every ninth four times as wide.
    fn correlated(n: usize, rows: usize) -> Gram {
        let mut x = drawn(rows * n, 5);
        for row in x.chunks_mut(n) {
            for j in 1..n {
                row[j] = (0.8 * row[j - 1] + row[j]) * if j % 9 == 0 { 4.0 } else { 1.0 };
            }
        }
        let mut gram = Gram::new(n);
        gram.add(&x);
        gram
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
        let how = planned(4, Block::Row, true);
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
        let how = planned(4, Block::Group(32), true);
        let shared = Compensation::new(gram.clone(), GptqSettings { damping: 0.01, act_order: false });
        let found = gptq(&w, &how, &shared);
        let scratch = Scratch::new().expect("temporary folder");
        let plain = Nearest.quantize(&w, &how, &Known::Nothing, &scratch, &Quiet).expect("finite");
        let grid = Grid::new(4, true);
        let mut differing = 0;
        for (row, (values, found)) in values.chunks(n).zip(found.chunks(n)).enumerate() {
            let step = |column: usize| Step { scale: f16::from_f32(plain.scales[row * 5 + column / 32]), zero: 0 };
            let expected = by_the_paper(values, &gram, 0.01, step, grid);
            differing += found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        }
        // f32 against f64: a number may fall to the other side of a tie, and what follows with it.
        assert!(differing <= 2, "{differing} of {}", rows * n);
    }

    #[test]
    fn outputs_are_nearer_than_with_nearest_codes_in_either_order_and_on_every_grid() {
        let (n, rows) = (96, 40);
        let gram = correlated(n, 300);
        let w = weight([rows, n], &drawn(rows * n, 17));
        for (bits, block, symmetric) in
            [(4, Block::Row, true), (4, Block::Group(32), true), (4, Block::Group(40), false), (8, Block::Row, false)]
        {
            for act_order in [false, true] {
                let shared = Compensation::new(gram.clone(), GptqSettings { damping: 0.01, act_order });
                let outputs = outcome(&w, &planned(bits, block, symmetric), &shared).outputs.expect("measured");
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
        let found = gptq(&weight([2, n], &values), &planned(8, Block::Row, true), &shared);
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
        let how = planned(4, Block::Row, true);
        let scratch = Scratch::new().expect("temporary folder");
        let plain = Nearest.quantize(&w, &how, &Known::Nothing, &scratch, &Quiet).expect("finite");
        assert_eq!(gptq(&w, &how, &shared), Weight { data: plain.data, ..w.clone() }.read().expect("just written"));
    }

    #[test]
    fn outputs_are_nearer_than_those_of_the_weighted_blocks_for_every_type() {
        let (n, rows) = (512, 24);
        let gram = correlated(n, 1500);
        let w = weight([rows, n], &drawn(rows * n, 17));
        for &kind in GgmlType::ALL {
            for act_order in [false, true] {
                let shared = Compensation::new(gram.clone(), GptqSettings { damping: 0.01, act_order });
                let outputs = outcome(&w, &planned_as(Scheme::Ggml(kind)), &shared).outputs.expect("measured");
                // 0.06 to 0.18
                assert!(outputs.noise < 0.2 * outputs.nearest, "{kind} {act_order}: {outputs:?}");
            }
        }
    }

    #[test]
    fn outputs_are_nearer_than_with_nearest_codes_of_small_floats() {
        let (n, rows) = (96, 40);
        let gram = correlated(n, 300);
        let w = weight([rows, n], &drawn(rows * n, 17));
        for scheme in ["fp8", "fp8-tensor", "mxfp4"] {
            for act_order in [false, true] {
                let shared = Compensation::new(gram.clone(), GptqSettings { damping: 0.01, act_order });
                let made = outcome(&w, &planned_as(scheme.parse().expect("a scheme")), &shared);
                let outputs = made.outputs.expect("measured");
                assert!(outputs.noise < 0.6 * outputs.nearest, "{scheme} {act_order}: {outputs:?}");
            }
        }
    }

    #[test]
    fn blocks_keep_their_scales_and_some_codes_move() {
        let n = 256;
        let shared = Compensation::new(correlated(n, 600), GptqSettings::default());
        let values = drawn(n, 29);
        let w = weight([1, n], &values);
        for &kind in GgmlType::ALL {
            let (mut found, mut plain) = (gptq_blocks(&w, kind, &shared), weighted_blocks(&values, kind, &shared));
            assert!(found != plain, "{kind}");
            // Other codes in both, and what is left is equal.
            let other = Codes::of(kind, &vec![0; found.len()]);
            other.write(&mut found);
            other.write(&mut plain);
            assert!(found == plain, "{kind}");
        }
    }

    #[test]
    fn the_errors_and_outputs_of_blocks_are_those_of_what_a_reader_decodes() {
        let (n, rows) = (256, 6);
        let gram = correlated(n, 600);
        let shared = Compensation::new(gram.clone(), GptqSettings::default());
        let values = drawn(rows * n, 31);
        let w = weight([rows, n], &values);
        for &kind in GgmlType::ALL {
            let made = outcome(&w, &planned_as(Scheme::Ggml(kind)), &shared);
            let mut decoded = vec![0.0; values.len()];
            kind.dequantize(&gptq_blocks(&w, kind, &shared), &mut decoded);
            assert_eq!(made.errors, crate::measure::Errors::between(&values, &decoded), "{kind}");
            let error: Vec<f32> = values.iter().zip(&decoded).map(|(w, v)| w - v).collect();
            assert_eq!(made.outputs.expect("measured").noise, gram.squares(&error).iter().sum::<f64>(), "{kind}");
            assert_eq!(made.scales.len(), values.len() / kind.block_len(), "{kind}");
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let (n, rows) = (256, 600); // three chunks
        let shared = Compensation::new(correlated(n, 600), GptqSettings::default());
        let w = weight([rows, n], &drawn(rows * n, 37));
        for &kind in GgmlType::ALL {
            let runs = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                pool.install(|| gptq_blocks(&w, kind, &shared))
            });
            assert!(runs[0] == runs[1] && runs[1] == runs[2], "{kind}");
        }
    }

    #[test]
    fn blocks_of_dead_channels_and_of_zeros_keep_their_codes() {
        let n = 512;
        let mut x = drawn(100 * n, 41); // rank 100 of 256
        x.chunks_mut(n).for_each(|row| row[256..].fill(0.0));
        let mut gram = Gram::new(n);
        gram.add(&x);
        let shared = Compensation::new(gram, GptqSettings { damping: 0.0, act_order: true });
        assert_eq!(shared.notes.len(), 2, "{:?}", shared.notes);
        assert!(shared.notes[0].starts_with("256 of 512 input channels were always 0"), "{:?}", shared.notes);
        assert!(shared.notes[1].starts_with("the Gram matrix of 100 rows is singular"), "{:?}", shared.notes);
        let mut values = drawn(n, 43);
        values[..32].fill(0.0);
        for &kind in GgmlType::ALL {
            let found = gptq_blocks(&weight([1, n], &values), kind, &shared);
            let mut decoded = vec![0.0; n];
            kind.dequantize(&found, &mut decoded);
            assert!(decoded[..32].iter().all(|v| *v == 0.0), "{kind}: {:?}", &decoded[..32]);
            let worst = values.iter().zip(&decoded).map(|(w, v)| (w - v).abs()).fold(0.0, f32::max);
            assert!(worst < 1.0, "{kind}: {worst}");
            let far = |from: usize| {
                values[from..].iter().zip(&decoded[from..]).map(|(w, v)| (w - v).abs()).fold(0.0, f32::max)
            };
            assert!(far(256) < 0.15, "{kind}: {}", far(256));
        }
    }

    #[test]
    fn without_activations_no_block_is_farther_from_its_weights_than_that_of_the_plain_search() {
        let mut gram = Gram::new(256);
        gram.add(&[0.0; 256]);
        let shared = Compensation::new(gram, GptqSettings::default());
        let values = drawn(256, 47);
        for &kind in GgmlType::ALL {
            let mut plain = vec![0; kind.row_bytes(256)];
            ggml::quantize(kind, &values, &mut plain);
            let mut expected = vec![0.0; 256];
            kind.dequantize(&plain, &mut expected);
            let found = gptq(&weight([1, 256], &values), &planned_as(Scheme::Ggml(kind)), &shared);
            let off = |v: &[f32]| values.iter().zip(v).map(|(w, v)| f64::from(w - v).powi(2)).sum::<f64>();
            assert!(off(&found) <= off(&expected), "{kind}");
        }
    }

    #[test]
    fn a_scale_beyond_f16_is_refused() {
        let shared = Compensation::new(correlated(256, 600), GptqSettings::default());
        let mut values = drawn(256, 53);
        values[77] = 1e12;
        let scratch = Scratch::new().expect("temporary folder");
        // The scales of MXFP4 reach as far as f32.
        for &kind in GgmlType::ALL.iter().filter(|kind| **kind != GgmlType::Mxfp4) {
            let planned = planned_as(Scheme::Ggml(kind));
            let made = Gptq.quantize(&weight([1, 256], &values), &planned, &Known::Gram(&shared), &scratch, &Quiet);
            let Err(QuantError::Refused(refusals)) = made else { panic!("{kind}: {made:?}") };
            assert!(matches!(refusals[..], [Refusal::Overflow { row: 0, .. }]), "{kind}: {refusals:?}");
        }
    }
}
