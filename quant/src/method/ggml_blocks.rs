//! The block types of GGUF files, by the searches of [`crate::codebook::ggml`].

use graph::{GgmlType, Progress, Quantized, Scratch, Weight, WeightData};
use half::f16;

use super::quantizer::{Known, Needs, Outcome, Quantizer};
use super::stream::{self, Chunk};
use crate::codebook::ggml;
use crate::error::QuantError;
use crate::policy::plan::Planned;
use crate::scheme::{Method, Scheme};

/// ggml's own choice of codes, with an importance matrix where the importance of channels is known.
pub struct Blocks;

impl Quantizer for Blocks {
    fn name(&self) -> &'static str {
        "ggml"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn applies(&self, scheme: Scheme, method: Method) -> bool {
        matches!(scheme, Scheme::Ggml(_)) && method != Method::Gptq
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        let Scheme::Ggml(kind) = planned.scheme else {
            unreachable!("`applies` says so");
        };
        let row_bytes = row_bytes(kind, weight.matrix()[1]);
        let importance = known.importance().and_then(ratios);
        let streamed = stream::encoded(weight, planned.scheme, row_bytes, 1, scratch, progress, |values, chunk| {
            blocks_of_rows(kind, values, importance.as_deref(), chunk);
        })?;
        let data = WeightData::Quantized(Quantized::Ggml { kind, blocks: streamed.blob });
        Ok(Outcome::new(data, streamed.scales, streamed.errors))
    }
}

/// Bytes of a row of so many weights.
pub(crate) fn row_bytes(kind: GgmlType, columns: usize) -> usize {
    columns / kind.block_len() * kind.block_bytes()
}

/// The blocks of some rows. `importance`: [`ratios`].
pub(crate) fn blocks_of_rows(kind: GgmlType, values: &[f32], importance: Option<&[f32]>, out: &mut Chunk) {
    match importance {
        Some(importance) => ggml::quantize_weighted(kind, values, importance, &mut out.bytes),
        None => ggml::quantize(kind, values, &mut out.bytes),
    }
    kind.dequantize(&out.bytes, &mut out.decoded);
    let at = scale_offset(kind);
    let scale = |block: &[u8]| f16::from_le_bytes([block[at], block[at + 1]]);
    out.scales.extend(out.bytes.chunks(kind.block_bytes()).map(scale));
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

/// Where a block holds `d`.
fn scale_offset(kind: GgmlType) -> usize {
    match kind {
        GgmlType::Q6K => 208,
        GgmlType::Q8_0
        | GgmlType::Q4_0
        | GgmlType::Q4_1
        | GgmlType::Q5_0
        | GgmlType::Q5_1
        | GgmlType::Q4K
        | GgmlType::Q5K => 0,
    }
}
