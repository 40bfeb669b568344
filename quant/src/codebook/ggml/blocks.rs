//! The block types as codebooks, and ggml's own choice of codes.

use graph::ggml::GgmlType;
use graph::{Blob, Quantized, Weight, WeightError};

use super::codes::Codes;
use super::types;
use crate::codebook::rows::{Chunk, Codebook, Feedback, Rows};
use crate::settings::Clip;

/// The largest importance that [`quantize_weighted`] takes. Up to here no sum over a block overflows f32 as long as f16
/// can hold the scales, so that none becomes NaN.
pub const IMPORTANCE_LIMIT: f32 = 1e18;

/// The blocks of one row (or of several, one after the other).
///
/// `row`: f32[k·block_len], finite; `out`: u8[k·block_bytes]. Panics when the lengths do not fit.
pub fn quantize(kind: GgmlType, row: &[f32], out: &mut [u8]) {
    let (len, bytes) = (kind.block_len(), kind.block_bytes());
    assert!(
        row.len().is_multiple_of(len) && out.len() == row.len() / len * bytes,
        "{kind}: {} bytes for {} weights, at {bytes} bytes for {len}",
        out.len(),
        row.len()
    );
    (types::of(kind).encode)(row, out);
}

/// The blocks of some rows, chosen for the least error in what a layer computes from inputs like those of a calibration.
///
/// `row`: f32[rows·columns], finite, `columns` a multiple of block_len; `importance`: `f32[columns]`, the mean square of
/// each input channel; `out`: u8[k·block_bytes]. Byte for byte `ggml_quantize_chunk(…, imatrix)`, but for `MXFP4`, where ggml ignores importance. Panics when the lengths
/// do not fit, and when an importance is negative, NaN or above [`IMPORTANCE_LIMIT`]. ggml tests none of this: a
/// NaN gives it a NaN scale in `Q4_0` and `Q5_0`, the plain fit in `Q4_1` and `Q5_1`, and zeros in the K types.
///
/// | type | how much a squared error counts |
/// | --- | --- |
/// | `Q8_0` | without `importance`, which is not used |
/// | `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` | `importance·√(mean w² + w²)`, mean over the row |
/// | `Q4_K`, `Q5_K` | `importance·√(2·mean w² + w²)`, mean over the block |
/// | `Q6_K`, `MXFP4` | `importance` |
///
/// Only ratios matter while products of three sums over a block stay inside f32: for weights around 0.1, from 1e-15 to
/// 1e10. Beyond, `Q4_K` and `Q5_K` skip the last refinement of their scales.
///
/// **Zeros.** A channel of importance 0 has no say. Where all channels of a block have none, the block of `Q4_0` and
/// `Q5_0`, the super-block of `Q4_K` and `Q5_K` and the 16 weights of `Q6_K` get the scale 0 and mean zeros, whatever the
/// weights; `Q4_1`, `Q5_1` and `MXFP4` fall back to the plain fit. That costs nothing on the calibration and may
/// cost much elsewhere: whoever wants such channels kept gives them a small positive importance.
pub fn quantize_weighted(kind: GgmlType, row: &[f32], importance: &[f32], out: &mut [u8]) {
    let (len, bytes, columns) = (kind.block_len(), kind.block_bytes(), importance.len());
    assert!(
        columns > 0
            && columns.is_multiple_of(len)
            && row.len().is_multiple_of(columns)
            && out.len() == row.len() / len * bytes,
        "{kind}: {} bytes for {} weights in rows of {columns}, at {bytes} bytes for {len}",
        out.len(),
        row.len()
    );
    if let Some(at) = importance.iter().position(|v| !(0.0..=IMPORTANCE_LIMIT).contains(v)) {
        panic!("{kind}: importance of column {at}: expected 0 to {IMPORTANCE_LIMIT:e}, found {}", importance[at]);
    }
    for (row, out) in row.chunks_exact(columns).zip(out.chunks_exact_mut(columns / len * bytes)) {
        (types::of(kind).encode_by_importance)(row, importance, out);
    }
}

impl Codebook for GgmlType {
    fn name(&self) -> String {
        GgmlType::name(*self).to_lowercase()
    }

    fn misfit(&self, columns: usize) -> Option<String> {
        let len = self.block_len();
        (!columns.is_multiple_of(len)).then(|| format!("rows of {columns} are not a multiple of {len}"))
    }

    fn row_bytes(&self, columns: usize) -> usize {
        columns / self.block_len() * self.block_bytes()
    }

    fn tensor(&self, _shape: [usize; 2], codes: Blob, _scales: &[f32], _zeros: Vec<i8>) -> Quantized {
        Quantized::Ggml { kind: *self, blocks: codes }
    }

    fn rows<'a>(
        &'a self,
        weight: &Weight,
        _clip: Clip,
        importance: Option<&'a [f32]>,
    ) -> Result<Box<dyn Rows + 'a>, WeightError> {
        let importance = importance.and_then(ratios);
        Ok(Box::new(BlockRows { kind: *self, columns: weight.matrix()[1], importance }))
    }
}

struct BlockRows {
    kind: GgmlType,
    columns: usize,
    /// [`ratios`].
    importance: Option<Vec<f32>>,
}

impl Rows for BlockRows {
    fn encode(&self, values: &[f32], out: &mut Chunk) {
        match &self.importance {
            Some(importance) => quantize_weighted(self.kind, values, importance, &mut out.bytes),
            None => quantize(self.kind, values, &mut out.bytes),
        }
        self.kind.dequantize(&out.bytes, &mut out.decoded);
        out.scales.extend(out.bytes.chunks(self.kind.block_bytes()).map(types::of(self.kind).scale));
    }

    fn recode(&self, out: &mut Chunk, feedback: Feedback) {
        let mut codes = Codes::of(self.kind, &out.bytes);
        feedback(&mut out.decoded, &mut |row, column, w| codes.choose(row * self.columns + column, w));
        codes.write(&mut out.bytes);
    }
}

/// Importance over its mean, as only ratios count; `None` when no channel ever was anything but 0.
///
/// A channel counts at least a millionth of the mean: at 0 a block would lose its weights without having measured that it
/// can.
pub(crate) fn ratios(importance: &[f32]) -> Option<Vec<f32>> {
    const LEAST: f64 = 1e-6;
    let mean = importance.iter().map(|x| f64::from(*x)).sum::<f64>() / importance.len() as f64;
    (mean > 0.0).then(|| importance.iter().map(|x| (f64::from(*x) / mean).max(LEAST) as f32).collect())
}
