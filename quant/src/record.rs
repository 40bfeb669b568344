//! What quantizing did to one weight, as reports and `trefoil.json` show it.

use graph::{Derive, Quantized, Weight, WeightData};
use half::f16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::Planned;
use crate::{Method, Outcome, Role, Scheme};

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
    pub fn of(scales: &[f16]) -> Option<ScaleStats> {
        // Bits without the sign sort as magnitudes do.
        let mut bits: Vec<u16> = scales.iter().map(|scale| scale.to_bits() & 0x7fff).collect();
        let (min, max) = (*bits.iter().min()?, *bits.iter().max()?);
        let middle = bits.len() / 2;
        let median = *bits.select_nth_unstable(middle).1;
        let [min, median, max] = [min, median, max].map(|bits| f16::from_bits(bits).to_f32());
        Some(ScaleStats { min, median, max })
    }
}

/// Sums over weights `w` and what they became, `w'`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Errors {
    /// Largest `|w - w'|`.
    pub max_abs: f64,
    /// Sum of `(w - w')²`.
    pub error_squares: f64,
    /// Sum of `w²`.
    pub squares: f64,
}

impl Errors {
    /// Sums in eight lanes, element i in lane i mod 8, so that the order of additions is fixed and the loop vectorizes.
    ///
    /// NaN or infinity in `became` makes `error_squares` NaN or infinite.
    pub fn between(weights: &[f32], became: &[f32]) -> Errors {
        const LANES: usize = 8;
        assert_eq!(weights.len(), became.len(), "two versions of the same weights");
        let (mut max_abs, mut errors, mut squares) = ([0.0_f64; LANES], [0.0_f64; LANES], [0.0_f64; LANES]);
        let mut add = |w: &[f32; LANES], v: &[f32; LANES]| {
            for i in 0..LANES {
                let (w, v) = (f64::from(w[i]), f64::from(v[i]));
                let error = w - v;
                max_abs[i] = if error.abs() > max_abs[i] { error.abs() } else { max_abs[i] };
                errors[i] += error * error;
                squares[i] += w * w;
            }
        };
        let ((weights, weights_rest), (became, became_rest)) = (weights.as_chunks(), became.as_chunks());
        for (w, v) in weights.iter().zip(became) {
            add(w, v);
        }
        let (mut w, mut v) = ([0.0; LANES], [0.0; LANES]);
        w[..weights_rest.len()].copy_from_slice(weights_rest);
        v[..became_rest.len()].copy_from_slice(became_rest);
        add(&w, &v);
        Errors {
            max_abs: max_abs.into_iter().fold(0.0, f64::max),
            error_squares: errors.into_iter().sum(),
            squares: squares.into_iter().sum(),
        }
    }

    /// `‖w - w'‖ / ‖w‖`; 0 when both are 0.
    pub fn ratio(self) -> f64 {
        if self.error_squares == 0.0 { 0.0 } else { (self.error_squares / self.squares).sqrt() }
    }

    /// These sums and those of other weights.
    pub fn and(self, other: Errors) -> Errors {
        Errors {
            max_abs: self.max_abs.max(other.max_abs),
            error_squares: self.error_squares + other.error_squares,
            squares: self.squares + other.squares,
        }
    }
}

/// Sums of squares over the outputs of a Linear on the calibration samples.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct OutputErrors {
    /// Of the outputs themselves.
    pub signal: f64,
    /// Of what the chosen codes change.
    pub noise: f64,
    /// Of what the nearest codes under the same scales would change.
    pub nearest: f64,
}

impl OutputErrors {
    /// These sums and those of other rows.
    pub fn and(self, other: OutputErrors) -> OutputErrors {
        OutputErrors {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
            nearest: self.nearest + other.nearest,
        }
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
    record.sqnr_db = (record.relative_l2_error > 0.0).then(|| -20.0 * record.relative_l2_error.log10());
}

/// The record of a weight that has its final form.
pub(crate) fn record(planned: &Planned, weight: &Weight, outcome: Outcome) -> TensorRecord {
    let Outcome { scales, errors, outputs, notes, .. } = outcome;
    let decibels = |signal: f64, noise: f64| (noise > 0.0).then(|| 10.0 * (signal / noise).log10());
    let bytes = stored_bytes(weight);
    let ratio = errors.ratio();
    TensorRecord {
        name: weight.name.clone(),
        role: planned.role,
        scheme: planned.scheme,
        stored: weight.data.type_name(),
        method: planned.method,
        decided_by: planned.decided_by.to_string(),
        notes,
        outputs: outputs.map(|sums| OutputRecord {
            sqnr_db: decibels(sums.signal, sums.noise),
            nearest_sqnr_db: decibels(sums.signal, sums.nearest),
        }),
        shape: weight.shape.clone(),
        bytes,
        bits_per_weight: 8.0 * bytes as f64 / weight.len().max(1) as f64,
        scales: ScaleStats::of(&scales),
        max_abs_error: errors.max_abs,
        relative_l2_error: ratio,
        sqnr_db: (ratio > 0.0).then(|| -20.0 * ratio.log10()),
    }
}
