//! Integer codes by rounding to nearest.

use graph::weights::dequantize;
use graph::{AffineTensor, Block, Progress, Quantized, Scratch, Weight, WeightData};

use super::quantizer::{Known, Needs, Outcome, Quantizer};
use super::stream::{self, Chunk};
use crate::codebook::affine::{Extent, Grid, Step};
use crate::codebook::clip;
use crate::error::QuantError;
use crate::policy::plan::Planned;
use crate::scheme::{Clip, Method, Scheme};

/// Nearest codes under scales taken from the weights alone.
pub struct Nearest;

impl Quantizer for Nearest {
    fn name(&self) -> &'static str {
        "nearest"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn applies(&self, scheme: Scheme, method: Method) -> bool {
        matches!(scheme, Scheme::Affine { .. }) && method != Method::Gptq
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        let Scheme::Affine { bits, block, symmetric } = planned.scheme else {
            unreachable!("`applies` says so");
        };
        let shape = weight.matrix();
        let grid = Grid::new(bits, symmetric);
        let streamed = stream::encoded(weight, planned.scheme, shape[1], 1, scratch, progress, |values, chunk| {
            codes_of_rows(values, shape[1], block, grid, planned.clip, known.importance(), chunk);
        })?;
        let zeros = (!symmetric).then_some(streamed.zeros);
        let tensor = AffineTensor { shape, bits, block, codes: streamed.blob, scales: streamed.scales.clone(), zeros };
        let data = WeightData::Quantized(Quantized::Affine(tensor));
        Ok(Outcome::new(data, streamed.scales, streamed.errors))
    }
}

/// Nearest codes of some rows. `importance`: what a squared error in each column counts; all the same when absent.
pub(crate) fn codes_of_rows(
    values: &[f32],
    columns: usize,
    block: Block,
    grid: Grid,
    clip: Clip,
    importance: Option<&[f32]>,
    out: &mut Chunk,
) {
    let len = block.len(columns);
    let rows = values.chunks(columns).zip(out.bytes.chunks_mut(columns).zip(out.decoded.chunks_mut(columns)));
    for (values, (codes, decoded)) in rows {
        let blocks = values.chunks(len).zip(codes.chunks_mut(len).zip(decoded.chunks_mut(len)));
        for (index, (values, (codes, decoded))) in blocks.enumerate() {
            let step = match (clip, importance) {
                (Clip::None, _) => grid.step(Extent::of(values)),
                (Clip::Mse, None) => clip::least_squares(values, grid),
                (Clip::Mse, Some(all)) => {
                    clip::least_weighted_squares(values, &all[index * len..][..values.len()], grid)
                }
            };
            grid.encode(values, step, codes);
            dequantize_bytes(codes, step, decoded);
            out.scales.push(step.scale);
            if !grid.symmetric {
                out.zeros.push(step.zero);
            }
        }
    }
}

/// [`dequantize`] over codes that are bytes on their way to a file.
fn dequantize_bytes(codes: &[u8], step: Step, out: &mut [f32]) {
    const PIECE: usize = 64;
    let mut signed = [0; PIECE];
    for (codes, out) in codes.chunks(PIECE).zip(out.chunks_mut(PIECE)) {
        for (s, c) in signed.iter_mut().zip(codes) {
            *s = c.cast_signed();
        }
        dequantize(&signed[..codes.len()], step.scale, step.zero, out);
    }
}
