//! Which factors move at the places of [`super::sites`] before weights are quantized.
//!
//! | `equalize` | s of a channel | helps |
//! | --- | --- | --- |
//! | `smoothquant` | [`smoothquant`]: `max|x|^α / max|w|^(1-α)` | activations that are rounded |
//! | `weights` | [`equalized`]: `√(max|producer| / max|consumer|)` | weights, without calibration |
//! | `awq` | [`awq`]: `rms(x)^a`, a by trial | weights of few bits |
//!
//! Places none of whose Linears get codes are left alone.
//!
//! Any factors move logits by f32 noise, and a kept weight of f16 with such factors becomes f32. With `exact` they are
//! rounded to powers of two: the float model stays bit-equal, and the codes are somewhat worse. On `models/g2p-t5` with
//! static int8 activations SmoothQuant leaves 0.00053 of a KL of 0.00153 nats, with powers of two 0.00068; the factors of
//! `awq` there lie mostly between 1/√2 and √2, so that few of them are left.

use graph::{Graph, Progress};

use super::awq;
use super::sites::rounded;
pub use super::sites::{
    Axis, Chosen, Kind, LIMIT, Part, Place, apply, equalized, places, power_of_two, refused, smoothquant,
};
use crate::calibrate::calibration::Calibration;
use crate::error::QuantError;
use crate::policy::plan::{Plan, coded};
use crate::settings::{Equalize, Smoothquant};

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Factors for each place of a graph that is not quantized yet.
///
/// `plan`: of this graph. `progress` counts the samples of `awq`. Errors: no calibration where the method needs it; samples
/// or weights that cannot be read.
pub fn choose(
    graph: &Graph,
    how: Equalize,
    plan: &Plan,
    calibration: Option<&Calibration>,
    progress: &dyn Progress,
) -> Result<Vec<Chosen>, QuantError> {
    let mut places = if how == Equalize::None { Vec::new() } else { places(graph) };
    places.retain(|place| !coded(place, plan).is_empty());
    let calibration = || calibration.ok_or(QuantError::UncalibratedFactors { setting: how.setting() });
    let chosen = |place: Place, s: Vec<f32>| Chosen { place, factors: rounded(how, s), errors: None };
    match how {
        Equalize::None => Ok(Vec::new()),
        Equalize::Smoothquant(Smoothquant { alpha, .. }) => {
            let statistics = calibration()?.statistics;
            let one = |place: Place| {
                let seen = statistics.inputs.get(&graph.value(place.input).name);
                let max = seen.map_or(vec![0.0; place.width], |seen| place.per_channel(&seen.max_abs));
                let s = smoothquant(&max, &place.consumer_max(graph)?, alpha);
                Ok(chosen(place, s))
            };
            places.into_iter().map(one).collect()
        }
        Equalize::Weights(_) => {
            let one = |place: Place| {
                let s = equalized(&place.producer_max(graph)?, &place.consumer_max(graph)?);
                Ok(chosen(place, s))
            };
            places.into_iter().map(one).collect()
        }
        Equalize::Awq(_) => awq::choose(graph, how, places, plan, calibration()?, progress),
    }
}
