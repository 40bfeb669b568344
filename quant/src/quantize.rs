//! A plan carried out: every weight of a graph gets its new rows.

use graph::arithmetic::log10;
use graph::progress::{Quiet, Unit};
use graph::{Graph, Progress, Scratch, ValueId, Weight};

use crate::calibrate::calibration::Calibration;
use crate::calibrate::walk::Walk;
use crate::error::{QuantError, Refusal};
use crate::method::feedback::Compensation;
use crate::method::quantizer::{Known, Needs, Outcome};
use crate::method::quantizer_for;
use crate::policy::plan::{Plan, Planned};
use crate::policy::role::inputs;
use crate::report::{OutputRecord, ScaleStats, TensorRecord, stored_bytes};
use crate::settings::Method;

/// [`quantize_calibrated`] for a plan of nearest codes.
pub fn quantize(
    graph: &mut Graph,
    plan: &Plan,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<Vec<TensorRecord>, QuantError> {
    quantize_calibrated(graph, plan, None, scratch, progress)
}

/// Gives every planned weight its new rows, and tells what that did to each, in the order of the plan.
///
/// `plan` was made for this graph. First come the weights that need no Gram matrix. The others follow in the order in which
/// the model computes their inputs, each calibrated on what the weights quantized before it say. One weight is in work at a time, in chunks of rows on all threads.
///
/// Errors: all weights that hold NaN, infinity or a number out of range; a plan that needs calibration, without; samples
/// that do not run. The graph is then unchanged.
pub fn quantize_calibrated(
    graph: &mut Graph,
    plan: &Plan,
    calibration: Option<&Calibration>,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<Vec<TensorRecord>, QuantError> {
    if let (None, Some(planned)) = (calibration, plan.weights.iter().find(|w| w.method != Method::Nearest)) {
        return Err(QuantError::Uncalibrated { weight: planned.name.clone(), method: planned.method });
    }
    let mut work = graph.clone();
    let mut outcomes: Vec<Option<Outcome>> = plan.weights.iter().map(|_| None).collect();
    let mut refusals = Vec::new();
    let needs_gram = |planned: &Planned| quantizer_for(planned).needs() == Needs::Gram;
    let total = plan.weights.iter().filter(|w| !needs_gram(w)).map(|w| 4 * graph.weights.get(w.id).len() as u64).sum();
    progress.stage("quantize", total, Unit::Bytes);
    for (planned, outcome) in plan.weights.iter().zip(&mut outcomes).filter(|(planned, _)| !needs_gram(planned)) {
        let importance = match (planned.method, calibration) {
            (Method::Nearest, _) | (_, None) => None,
            (_, Some(known)) => known.importance_of(&work, planned.id),
        };
        let known = importance.as_deref().map_or(Known::Nothing, Known::Importance);
        let made = quantizer_for(planned).quantize(work.weights.get(planned.id), planned, &known, scratch, progress);
        *outcome = kept(made, &mut refusals)?;
    }
    let replace = |graph: &mut Graph, outcomes: &[Option<Outcome>]| {
        for (planned, outcome) in plan.weights.iter().zip(outcomes) {
            if let Some(outcome) = outcome {
                graph.weights.get_mut(planned.id).data = outcome.data.clone();
            }
        }
    };
    replace(&mut work, &outcomes);
    if let Some(calibration) = calibration.filter(|_| refusals.is_empty()) {
        let mut walk = calibration.walk(&work)?;
        let stages = stages(&work, plan, &walk, needs_gram);
        progress.stage("quantize by decoding", (stages.len() * calibration.samples.count) as u64, Unit::Samples);
        for (input, members) in stages {
            let gram = walk.gram(&work, input, progress)?;
            let shared = Compensation::new(gram, calibration.gptq);
            for index in members {
                let planned = &plan.weights[index];
                let weight = work.weights.get(planned.id);
                let known = Known::Gram(&shared);
                let made = quantizer_for(planned).quantize(weight, planned, &known, scratch, &Quiet);
                outcomes[index] = kept(made, &mut refusals)?;
                if let Some(outcome) = &outcomes[index] {
                    work.weights.get_mut(planned.id).data = outcome.data.clone();
                }
            }
        }
    }
    if !refusals.is_empty() {
        return Err(QuantError::Refused(refusals));
    }
    *graph = work;
    let records = plan.weights.iter().zip(outcomes).map(|(planned, outcome)| {
        let outcome = outcome.expect("each was made or refused");
        record(planned, graph.weights.get(planned.id), outcome)
    });
    Ok(records.collect())
}

/// Refusals are gathered so that all are told at once.
fn kept(made: Result<Outcome, QuantError>, refusals: &mut Vec<Refusal>) -> Result<Option<Outcome>, QuantError> {
    match made {
        Ok(outcome) => Ok(Some(outcome)),
        Err(QuantError::Refused(more)) => {
            refusals.extend(more);
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

/// The activations to halt at, in order, and for each the places in the plan of the weights that are applied to it.
fn stages(
    graph: &Graph,
    plan: &Plan,
    walk: &Walk,
    needs_gram: impl Fn(&Planned) -> bool,
) -> Vec<(ValueId, Vec<usize>)> {
    let inputs = inputs(graph);
    let mut stages: Vec<(ValueId, Vec<usize>)> = Vec::new();
    for (index, planned) in plan.weights.iter().enumerate().filter(|(_, planned)| needs_gram(planned)) {
        let input = inputs[&planned.id][0]; // one: `Policy::plan`
        match stages.iter_mut().find(|(known, _)| *known == input) {
            Some((_, members)) => members.push(index),
            None => stages.push((input, vec![index])),
        }
    }
    stages.sort_by_key(|(input, _)| walk.place(*input));
    stages
}

/// The record of a weight that has its final form.
fn record(planned: &Planned, weight: &Weight, outcome: Outcome) -> TensorRecord {
    let Outcome { scales, errors, outputs, notes, .. } = outcome;
    let decibels = |signal: f64, noise: f64| (noise > 0.0).then(|| 10.0 * log10(signal / noise));
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
        sqnr_db: (ratio > 0.0).then(|| -20.0 * log10(ratio)),
    }
}
