//! Rows of each kind of codes, as error feedback meets them.

use graph::{AffineTensor, Blob, Block, GgmlType, Quantized};
use half::f16;

use super::feedback::Feedback;
use super::ggml_blocks;
use super::nearest::codes_of_rows;
use super::stream::Chunk;
use crate::codebook::affine::{Grid, Step};
use crate::codebook::ggml::codes::Codes;
use crate::scheme::Clip;

/// How the rows of a weight get codes without feedback, and then with it.
pub(super) trait Rows: Sync {
    /// Bytes that a row becomes.
    fn row_bytes(&self) -> usize;

    /// Scales, and codes without feedback.
    fn start(&self, values: &[f32], out: &mut Chunk);

    /// Codes anew under these scales, by `feedback`.
    fn finish(&self, values: &[f32], feedback: &Feedback, out: &mut Chunk);

    /// All rows.
    fn tensor(&self, bytes: Blob, scales: &[f16], zeros: Vec<i8>) -> Quantized;
}

/// Integer codes.
pub(super) struct AffineRows<'a> {
    pub shape: [usize; 2],
    pub bits: u8,
    pub block: Block,
    pub symmetric: bool,
    pub clip: Clip,
    pub importance: &'a [f32],
}

impl Rows for AffineRows<'_> {
    fn row_bytes(&self) -> usize {
        self.shape[1]
    }

    fn start(&self, values: &[f32], out: &mut Chunk) {
        let grid = Grid::new(self.bits, self.symmetric);
        codes_of_rows(values, self.shape[1], self.block, grid, self.clip, Some(self.importance), out);
    }

    fn finish(&self, values: &[f32], feedback: &Feedback, out: &mut Chunk) {
        let Chunk { bytes, decoded, scales, zeros, .. } = out;
        let (grid, columns) = (Grid::new(self.bits, self.symmetric), self.shape[1]);
        let len = self.block.len(columns);
        let blocks = columns.div_ceil(len);
        feedback.encode(values, decoded, |row, column, w| {
            let at = row * blocks + column / len;
            let step = Step { scale: scales[at], zero: zeros.get(at).copied().unwrap_or(0) };
            let (code, meant) = grid.nearest(w, step);
            bytes[row * columns + column] = code.cast_unsigned();
            meant
        });
    }

    fn tensor(&self, bytes: Blob, scales: &[f16], zeros: Vec<i8>) -> Quantized {
        let AffineRows { shape, bits, block, symmetric, .. } = *self;
        let zeros = (!symmetric).then_some(zeros);
        Quantized::Affine(AffineTensor { shape, bits, block, codes: bytes, scales: scales.to_vec(), zeros })
    }
}

/// Blocks of ggml.
pub(super) struct BlockRows {
    pub columns: usize,
    pub kind: GgmlType,
    /// [`ggml_blocks::ratios`].
    pub importance: Option<Vec<f32>>,
}

impl Rows for BlockRows {
    fn row_bytes(&self) -> usize {
        ggml_blocks::row_bytes(self.kind, self.columns)
    }

    fn start(&self, values: &[f32], out: &mut Chunk) {
        ggml_blocks::blocks_of_rows(self.kind, values, self.importance.as_deref(), out);
    }

    fn finish(&self, values: &[f32], feedback: &Feedback, out: &mut Chunk) {
        let mut codes = Codes::of(self.kind, &out.bytes);
        feedback.encode(values, &mut out.decoded, |row, column, w| codes.choose(row * self.columns + column, w));
        codes.write(&mut out.bytes);
    }

    fn tensor(&self, bytes: Blob, _scales: &[f16], _zeros: Vec<i8>) -> Quantized {
        Quantized::Ggml { kind: self.kind, blocks: bytes }
    }
}
