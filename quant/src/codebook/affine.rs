//! Integer codes with one scale, and one zero point where they are asymmetric, per row or per group: the schemes `int4` and `int8`, and
//! `int8-inv`, whose scales files can hold as their inverses.

use graph::weights::dequantize;
use graph::{AffineTensor, Blob, Block, Quantized, Weight, WeightError};
use half::f16;

use super::clip;
use super::grid::{Extent, Grid, Step};
use super::rows::{Chunk, Codebook, Feedback, Rows};
use crate::settings::Clip;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// `int8` with scales that are inverses of an f32.
pub const INVERTED: Affine = Affine { bits: 8, block: Block::Row, symmetric: true, inverted: true };

/// `i4` or `i8` elements, f16 scales, rows or groups.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Affine {
    /// 4 or 8.
    pub bits: u8,
    /// What shares a scale.
    pub block: Block,
    /// Without zero points.
    pub symmetric: bool,
    /// Of the f16, only those that are the inverse of an f32.
    pub inverted: bool,
}

impl Codebook for Affine {
    fn name(&self) -> String {
        let group = match self.block {
            Block::Row => String::new(),
            Block::Group(n) => format!("-g{n}"),
        };
        let symmetry = if self.symmetric { "" } else { "-asym" };
        format!("int{}{group}{symmetry}{}", self.bits, if self.inverted { "-inv" } else { "" })
    }

    fn has_range(&self) -> bool {
        true
    }

    fn row_bytes(&self, columns: usize) -> usize {
        columns
    }

    fn tensor(&self, shape: [usize; 2], codes: Blob, scales: &[f32], zeros: Vec<i8>) -> Quantized {
        let Affine { bits, block, symmetric, .. } = *self;
        let scales = scales.iter().map(|scale| f16::from_f32(*scale)).collect();
        Quantized::Affine(AffineTensor { shape, bits, block, codes, scales, zeros: (!symmetric).then_some(zeros) })
    }

    fn rows<'a>(
        &'a self,
        weight: &Weight,
        clip: Clip,
        importance: Option<&'a [f32]>,
    ) -> Result<Box<dyn Rows + 'a>, WeightError> {
        let grid = Grid::new(self.bits, self.symmetric);
        let grid = if self.inverted { grid.inverted() } else { grid };
        Ok(Box::new(AffineRows { grid, block: self.block, columns: weight.matrix()[1], clip, importance }))
    }
}

struct AffineRows<'a> {
    grid: Grid,
    block: Block,
    columns: usize,
    clip: Clip,
    importance: Option<&'a [f32]>,
}

impl AffineRows<'_> {
    /// `values`: a block of a row, `at` its first column.
    fn step(&self, values: &[f32], at: usize) -> Step {
        match (self.clip, self.importance) {
            (Clip::None, _) => self.grid.step(Extent::of(values)),
            (Clip::Mse, None) => clip::least_squares(values, self.grid),
            (Clip::Mse, Some(all)) => clip::least_weighted_squares(values, &all[at..][..values.len()], self.grid),
        }
    }
}

impl Rows for AffineRows<'_> {
    fn encode(&self, values: &[f32], out: &mut Chunk) {
        let (columns, len) = (self.columns, self.block.len(self.columns));
        let rows = values.chunks(columns).zip(out.bytes.chunks_mut(columns).zip(out.decoded.chunks_mut(columns)));
        for (values, (codes, decoded)) in rows {
            let blocks = values.chunks(len).zip(codes.chunks_mut(len).zip(decoded.chunks_mut(len)));
            for (index, (values, (codes, decoded))) in blocks.enumerate() {
                let step = self.step(values, index * len);
                self.grid.encode(values, step, codes);
                dequantize_bytes(codes, step, decoded);
                out.scales.push(step.scale.to_f32());
                if !self.grid.symmetric {
                    out.zeros.push(step.zero);
                }
            }
        }
    }

    fn recode(&self, out: &mut Chunk, feedback: Feedback) {
        let Chunk { bytes, decoded, scales, zeros, .. } = out;
        let (len, per_row) = (self.block.len(self.columns), self.block.per_row(self.columns));
        feedback(decoded, &mut |row, column, w| {
            let at = row * per_row + column / len;
            let step = Step { scale: f16::from_f32(scales[at]), zero: zeros.get(at).copied().unwrap_or(0) };
            let (code, meant) = self.grid.nearest(w, step);
            bytes[row * self.columns + column] = code.cast_unsigned();
            meant
        });
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
