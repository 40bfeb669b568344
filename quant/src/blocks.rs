//! The block types of GGUF files, by the searches of [`crate::ggml`].

use graph::{Progress, Quantized, Scratch, Weight, WeightData};
use half::f16;

use crate::error::QuantError;
use crate::plan::Planned;
use crate::scheme::{Method, Scheme};
use crate::{Known, Needs, Outcome, Quantizer, ggml, stream};
use graph::GgmlType;

/// ggml's own choice of codes, without an importance matrix.
pub struct Blocks;

impl Quantizer for Blocks {
    fn name(&self) -> &'static str {
        "ggml"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn applies(&self, scheme: Scheme, _method: Method) -> bool {
        matches!(scheme, Scheme::Ggml(_))
    }

    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        _known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError> {
        let Scheme::Ggml(kind) = planned.scheme else {
            unreachable!("`applies` says so");
        };
        let row_bytes = weight.matrix()[1] / kind.block_len() * kind.block_bytes();
        let streamed = stream::encoded(weight, planned.scheme, row_bytes, scratch, progress, |values, chunk| {
            ggml::quantize(kind, values, &mut chunk.bytes);
            kind.dequantize(&chunk.bytes, &mut chunk.decoded);
            let at = scale_offset(kind);
            let scale = |block: &[u8]| f16::from_le_bytes([block[at], block[at + 1]]);
            chunk.scales.extend(chunk.bytes.chunks(kind.block_bytes()).map(scale));
        })?;
        let data = WeightData::Quantized(Quantized::Ggml { kind, blocks: streamed.blob });
        Ok(Outcome::new(data, streamed.scales, streamed.errors))
    }
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
