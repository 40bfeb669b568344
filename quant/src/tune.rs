//! What each weight costs at each scheme, in accuracy and in bytes, and the plans that waste neither.
//!
//! [`sensitivity`] quantizes one weight at a time, leaves all others exact, and measures how far the model's output moves.
//! [`frontier`] takes these for independent, so that the distances of a plan's weights add up, as they do when each is
//! small (the first term of the expansion that Hessian-aware bit allocation uses: Dong et al., HAWQ-V2, arXiv 1911.03852);
//! whoever chooses a plan measures it as a whole.

use std::sync::Mutex;

use graph::progress::{Quiet, Unit};
use graph::{Graph, Progress, Scratch, Tensors, ValueId};
use serde::{Deserialize, Serialize};

use crate::calibrate::{self, Calibration};
use crate::error::QuantError;
use crate::record::stored_bytes;
use crate::{Compensation, Known, Method, Needs, Plan, Planned, Policy, Scheme, quantizer};

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
    let inputs = calibrate::inputs(graph);
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
        let needs_gram = group.iter().any(|(_, planned)| quantizer(planned).needs() == Needs::Gram);
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
            let scratch = Scratch::in_dir(calibration.dir).map_err(crate::CalibrationError::Io)?;
            let weight = graph.weights.get(planned.id);
            let outcome = quantizer(planned).quantize(weight, planned, &known, &scratch, &Quiet)?;
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

/// A plan on the frontier, as its parts predict it.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// For each unit, the index of its choice.
    pub choices: Vec<usize>,
    /// Sum of the units' bytes.
    pub bytes: u64,
    /// Sum of the units' distances.
    pub kl: f64,
}

/// From the smallest plan to the most accurate one, each step one unit more precise: the one that gains most accuracy a
/// byte.
///
/// `units`: for each, its choices as `(bytes, kl)`, at least one. Choices above the lower convex hull of a unit are never
/// taken, as a mix of others is better. Ties go to the earlier unit.
pub fn frontier(units: &[Vec<(u64, f64)>]) -> Vec<Point> {
    let hulls: Vec<Vec<usize>> = units.iter().map(|choices| hull(choices)).collect();
    let gain = |unit: usize, step: usize| {
        let (from, to) = (units[unit][hulls[unit][step]], units[unit][hulls[unit][step + 1]]);
        (from.1 - to.1) / (to.0 - from.0) as f64
    };
    let mut steps: Vec<(f64, usize, usize)> = (0..units.len())
        .flat_map(|unit| (0..hulls[unit].len() - 1).map(move |step| (unit, step)))
        .map(|(unit, step)| (gain(unit, step), unit, step))
        .collect();
    // Gains fall along a hull, so the steps of one unit stay in their order.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let choices: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
    let sum = |choices: &[usize]| {
        let chosen = choices.iter().zip(units).map(|(choice, unit)| unit[*choice]);
        chosen.fold((0, 0.0), |(bytes, kl), choice| (bytes + choice.0, kl + choice.1))
    };
    let point = |choices: Vec<usize>| {
        let (bytes, kl) = sum(&choices);
        Point { choices, bytes, kl }
    };
    let mut points = vec![point(choices)];
    for (_, unit, step) in steps {
        let mut choices = points.last().expect("one was pushed").choices.clone();
        choices[unit] = hulls[unit][step + 1];
        points.push(point(choices));
    }
    points
}

/// The choices on the lower convex hull, from the smallest to the most accurate.
fn hull(choices: &[(u64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|a, b| choices[*a].0.cmp(&choices[*b].0).then(choices[*a].1.total_cmp(&choices[*b].1)));
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        let (bytes, kl) = choices[next];
        if hull.last().is_some_and(|last| choices[*last].1 <= kl) {
            continue; // larger, or as large, and no better
        }
        while let [.., a, b] = hull[..] {
            let slope = |from: usize, to: (u64, f64)| (to.1 - choices[from].1) / (to.0 - choices[from].0) as f64;
            if slope(a, choices[b]) < slope(a, (bytes, kl)) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_takes_the_largest_gain_a_byte_first() {
        // Unit 0 gains 0.3 for 10 bytes, then 0.1 for 10; unit 1 gains 0.2 for 10.
        let units = [vec![(10, 0.5), (20, 0.2), (30, 0.1)], vec![(10, 0.25), (20, 0.05)]];
        let points = frontier(&units);
        let found: Vec<(Vec<usize>, u64)> = points.iter().map(|p| (p.choices.clone(), p.bytes)).collect();
        assert_eq!(found, [(vec![0, 0], 20), (vec![1, 0], 30), (vec![1, 1], 40), (vec![2, 1], 50)]);
        let kl: Vec<f64> = points.iter().map(|p| (p.kl * 1e6).round() / 1e6).collect();
        assert_eq!(kl, [0.75, 0.45, 0.25, 0.15]);
    }

    #[test]
    fn choices_that_are_larger_and_no_better_or_above_the_hull_are_never_taken() {
        // (20, 0.45) lies above the line from (10, 0.5) to (30, 0.1); (40, 0.1) is larger and no better.
        assert_eq!(hull(&[(10, 0.5), (20, 0.45), (30, 0.1), (40, 0.1)]), [0, 2]);
        assert_eq!(hull(&[(30, 0.1), (10, 0.1)]), [1]);
        assert_eq!(hull(&[(10, 0.3), (10, 0.2)]), [1]);
    }

    #[test]
    fn no_plan_of_all_is_smaller_and_better_than_one_of_the_frontier() {
        let units: Vec<Vec<(u64, f64)>> = (0..4_u64)
            .map(|u| {
                (0..3_u64).map(|c| (10 + 7 * c * (u + 1) % 31 + 5 * c, 1.0 / ((c + 1) * (u + 2)) as f64)).collect()
            })
            .collect();
        let points = frontier(&units);
        for plan in 0..81_usize {
            let choices: Vec<usize> = (0..4).map(|u| plan / 3_usize.pow(u) % 3).collect();
            let (bytes, kl) = choices.iter().zip(&units).fold((0, 0.0), |(b, k), (c, u)| (b + u[*c].0, k + u[*c].1));
            assert!(!points.iter().any(|p| bytes < p.bytes && kl < p.kl - 1e-12), "{choices:?} beats the frontier");
        }
    }
}
