//! What each weight costs at each scheme, in accuracy and in bytes, and the plans that waste neither.
//!
//! [`sensitivity`] quantizes one weight at a time, leaves all others exact, and measures how far the model's output moves.
//! [`frontier`](super::frontier::frontier) takes these for independent, so that the distances of a plan's weights add up, as they do when each is
//! small (the first term of the expansion that Hessian-aware bit allocation uses: Dong et al., HAWQ-V2, arXiv 1911.03852);
//! whoever chooses a plan measures it as a whole.

use std::sync::Mutex;

use graph::progress::{Quiet, Unit};
use graph::{Graph, Progress, Scratch, Tensors, ValueId};
use serde::{Deserialize, Serialize};

use crate::calibrate::calibration::Calibration;
use crate::error::{CalibrationError, QuantError};
use crate::method::feedback::Compensation;
use crate::method::quantizer::{Known, Needs};
use crate::method::quantizer_for;
use crate::policy::decide::Policy;
use crate::policy::plan::{Plan, Planned};
use crate::policy::role::inputs;
use crate::report::stored_bytes;
use crate::scheme::Scheme;
use crate::settings::Method;

/// One weight at one scheme, all others exact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The weight.
    pub name: String,
    /// What it became.
    pub scheme: Scheme,
    /// Its size then.
    pub bytes: u64,
    /// Mean KL divergence of the next token's distribution from the float model's, in nats.
    pub kl: f64,
}

/// How far outputs are from the float model's.
pub struct Judge<'a> {
    /// Samples to run, from the first.
    pub samples: usize,
    /// The sum of KL divergences over the positions of a sample, and how many there are.
    pub distance: &'a (dyn Fn(usize, &Tensors) -> (f64, u64) + Sync),
}

impl Judge<'_> {
    /// The mean over all positions, summed in the order of the samples. `run` shows outputs to what it is given.
    pub fn mean<E>(&self, run: impl FnOnce(&(dyn Fn(usize, &Tensors) + Sync)) -> Result<(), E>) -> Result<f64, E> {
        let sums = Mutex::new(vec![(0.0, 0); self.samples]);
        run(&|sample, outputs| {
            let found = (self.distance)(sample, outputs);
            sums.lock().expect("no panic while holding the lock")[sample] = found;
        })?;
        let sums = sums.into_inner().expect("no panic while holding the lock");
        let (sum, positions) = sums.into_iter().fold((0.0, 0), |(sum, n), (kl, positions)| (sum + kl, n + positions));
        Ok(sum / positions.max(1) as f64)
    }
}

/// The weights of a plan that a search may change: those that get integers.
pub fn units(plan: &Plan) -> Vec<&Planned> {
    plan.weights.iter().filter(|planned| planned.scheme.is_quantized()).collect()
}

/// Measures every unit of the plan at every candidate that its rows fit.
///
/// `known` says what was measured before and is skipped; `found` is told each measurement as it is made, so that an
/// interrupted search goes on where it was. One walk through the float model serves all: each weight's samples start from
/// the activation that it is applied to.
#[expect(clippy::too_many_arguments, reason = "each is another kind of thing, and one caller names them all")]
pub fn sensitivity(
    graph: &Graph,
    policy: &Policy,
    plan: &Plan,
    candidates: &[Scheme],
    calibration: &Calibration,
    judge: &Judge,
    known: &dyn Fn(&str, Scheme) -> bool,
    found: &mut dyn FnMut(Measured) -> Result<(), QuantError>,
    progress: &dyn Progress,
) -> Result<(), QuantError> {
    let inputs = inputs(graph);
    let mut walk = calibration.walk(graph)?;
    let mut trials: Vec<(Option<ValueId>, Planned)> = Vec::new();
    for unit in units(plan) {
        let input = inputs.get(&unit.id).filter(|inputs| inputs.len() == 1).map(|inputs| inputs[0]);
        let schemes = candidates.iter().filter(|scheme| !known(&unit.name, **scheme));
        trials.extend(schemes.filter_map(|scheme| Some((input, policy.instead(graph, unit, *scheme)?))));
    }
    // What is applied to no activation of its own comes before the first value, where nothing has been computed.
    trials.sort_by_key(|(input, _)| input.and_then(|id| walk.place(id)));
    progress.stage("sensitivity", trials.len() as u64, Unit::Trials);
    for group in trials.chunk_by(|a, b| a.0 == b.0) {
        let input = group[0].0;
        let needs_gram = group.iter().any(|(_, planned)| quantizer_for(planned).needs() == Needs::Gram);
        let shared = match input {
            Some(input) if needs_gram => Some(Compensation::new(walk.gram(graph, input, &Quiet)?, policy.gptq)),
            Some(input) => {
                walk.until(graph, input, &Quiet, |_| {})?;
                None
            }
            None => None,
        };
        for (_, planned) in group {
            let importance = match planned.method {
                Method::Nearest => None,
                Method::Importance | Method::Gptq => calibration.importance_of(graph, planned.id),
            };
            let known = match (&shared, &importance) {
                (Some(shared), _) if planned.method == Method::Gptq => Known::Gram(shared),
                (_, Some(importance)) => Known::Importance(importance),
                (_, None) => Known::Nothing,
            };
            let scratch = Scratch::in_dir(calibration.dir).map_err(CalibrationError::Io)?;
            let weight = graph.weights.get(planned.id);
            let outcome = quantizer_for(planned).quantize(weight, planned, &known, &scratch, &Quiet)?;
            let mut trial = graph.clone();
            trial.weights.get_mut(planned.id).data = outcome.data;
            let bytes = stored_bytes(trial.weights.get(planned.id));
            let kl = judge.mean(|watch| walk.rest(&trial, judge.samples, watch))?;
            found(Measured { name: planned.name.clone(), scheme: planned.scheme, bytes, kl })?;
            progress.advance(1);
        }
    }
    Ok(())
}
