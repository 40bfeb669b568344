//! What quantizing did to one weight, as reports and `trefoil.json` show it.

use graph::arithmetic::log10;
use graph::{Derive, Quantized, Weight, WeightData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::Errors;
use crate::policy::role::Role;
use crate::scheme::Scheme;
use crate::settings::Method;

/// One weight: its type, size, scales and error.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorRecord {
    /// As in the checkpoint.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What was asked for.
    pub scheme: Scheme,
    /// What it is now, as `int8 per row` or `Q4_K`.
    pub stored: String,
    /// How its codes were chosen.
    #[serde(default)]
    pub method: Method,
    /// Which rule of the policy decided, in words.
    pub decided_by: String,
    /// What calibration found out of the ordinary, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// For methods that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputRecord>,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Size of codes (packed), scales and zeros, or of the floats.
    pub bytes: u64,
    /// `8 · bytes` over the number of weights.
    pub bits_per_weight: f64,
    /// Of integer codes and ggml blocks.
    pub scales: Option<ScaleStats>,
    /// Largest `|w - w'|`, w' being what the stored form means.
    pub max_abs_error: f64,
    /// `‖w - w'‖ / ‖w‖`; 0 when both are 0.
    pub relative_l2_error: f64,
    /// `20 · log10(‖w‖ / ‖w - w'‖)`; absent when nothing changed.
    pub sqnr_db: Option<f64>,
}

/// Magnitudes of the scales; for K-quants, of the super-blocks' `d`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleStats {
    /// Smallest.
    pub min: f32,
    /// The upper one of the middle two when their number is even.
    pub median: f32,
    /// Largest.
    pub max: f32,
}

impl ScaleStats {
    /// `None` when there are no scales.
    pub fn of(scales: &[f32]) -> Option<ScaleStats> {
        // Bits without the sign sort as magnitudes do.
        let mut bits: Vec<u32> = scales.iter().map(|scale| scale.to_bits() & 0x7fff_ffff).collect();
        let (min, max) = (*bits.iter().min()?, *bits.iter().max()?);
        let middle = bits.len() / 2;
        let median = *bits.select_nth_unstable(middle).1;
        let [min, median, max] = [min, median, max].map(f32::from_bits);
        Some(ScaleStats { min, median, max })
    }
}

/// How far the outputs of a Linear are from those of the float weight, on what the quantized layers before it say.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputRecord {
    /// `10 · log10(‖y‖² / ‖y - y'‖²)`; absent when nothing changed.
    pub sqnr_db: Option<f64>,
    /// The same with the nearest codes under the same scales.
    pub nearest_sqnr_db: Option<f64>,
}

/// Bytes that hold a weight: codes packed, scales in f16, zeros packed like codes; another derived weight as f32.
pub fn stored_bytes(weight: &Weight) -> u64 {
    let len = weight.len() as u64;
    match &weight.data {
        WeightData::Stored { dtype, .. } => len * dtype.bytes() as u64,
        WeightData::Derived(Derive::Steps(steps), _) => len * u64::from(steps.bits) / 8,
        WeightData::Derived(..) | WeightData::Computed(_) => len * 4,
        WeightData::Quantized(Quantized::Ggml { blocks, .. }) => blocks.len(),
        WeightData::Quantized(Quantized::Float8(tensor)) => len + 4 * tensor.scales.len() as u64,
        WeightData::Quantized(Quantized::Affine(tensor)) => {
            let packed = |count: u64| (count * u64::from(tensor.bits)).div_ceil(8);
            let zeros = tensor.zeros.as_ref().map_or(0, |zeros| packed(zeros.len() as u64));
            packed(len) + 2 * tensor.scales.len() as u64 + zeros
        }
    }
}

/// A record whose weight got another form after it was made. `errors`: of that form.
pub fn restored(record: &mut TensorRecord, weight: &Weight, errors: Errors) {
    record.stored = weight.data.type_name();
    record.bytes = stored_bytes(weight);
    record.bits_per_weight = 8.0 * record.bytes as f64 / weight.len().max(1) as f64;
    (record.max_abs_error, record.relative_l2_error) = (errors.max_abs, errors.ratio());
    record.sqnr_db = (record.relative_l2_error > 0.0).then(|| -20.0 * log10(record.relative_l2_error));
}
