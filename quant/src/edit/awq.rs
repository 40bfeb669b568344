//! Columns that see large activations are rounded more finely (Lin et al., AWQ, arXiv 2306.00978).
//!
//! A column that is multiplied by s > 1 before rounding and divided after it has an error s times smaller, as long as the
//! range of its block is another's. The factors of a place are those of the paper's equation 5,
//!
//! ```text
//! s_j = rms(x_j)^a / √(max_k rms(x_k)^a · min_k rms(x_k)^a)
//! ```
//!
//! with the root of the mean square for the mean magnitude, and a from 0, 1/20, … 19/20: the one with the least
//! `Σ e·G·eᵀ` over the rows e of `W - Q(W·s) / s` of all Linears that read the place, `G = Σ x·xᵀ`. Each trial has the
//! factors that would be applied. a = 0 changes nothing, so no choice is worse than none on this measure. Q gives the
//! nearest codes also where the plan compensates errors afterwards.
//!
//! What is divided at the place, a norm's gain or rows of another weight, has no part in the measure: scales belong to
//! rows or parts of them, so codes of a row do not change when the row is divided, but for the rounding of scales to f16.
//! For the same reason one place does not depend on the factors of another, and all are chosen on the float model.

use graph::{Derive, Graph, Progress, arithmetic, progress::Unit};

use super::sites::{Chosen, LIMIT, Place, rounded};
use crate::calibrate::calibration::Calibration;
use crate::calibrate::gram::Gram;
use crate::error::QuantError;
use crate::method::stream;
use crate::policy::plan::{Plan, coded};
use crate::settings::{Equalize, Method};

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Values of a that are tried.
const TRIALS: u8 = 20;

/// Factors for each place, in the order in which the model computes their inputs.
pub(crate) fn choose(
    graph: &Graph,
    how: Equalize,
    mut places: Vec<Place>,
    plan: &Plan,
    calibration: &Calibration,
    progress: &dyn Progress,
) -> Result<Vec<Chosen>, QuantError> {
    let mut walk = calibration.walk(graph)?;
    places.retain(|place| walk.place(place.input).is_some());
    places.sort_by_key(|place| walk.place(place.input));
    progress.stage("awq", (places.len() * calibration.samples.count) as u64, Unit::Samples);
    let one = |place: Place| {
        let gram = walk.gram(graph, place.input, progress)?;
        search(graph, how, place, plan, &gram)
    };
    places.into_iter().map(one).collect()
}

/// The factors of one place. `gram`: of its input.
fn search(graph: &Graph, how: Equalize, place: Place, plan: &Plan, gram: &Gram) -> Result<Chosen, QuantError> {
    let rms: Vec<f32> = gram.diagonal().iter().map(|square| (square / gram.rows().max(1) as f32).sqrt()).collect();
    let rms = place.per_channel(&rms);
    let mut factors = vec![1.0; place.width];
    let before = error(graph, &place, plan, &factors, gram)?;
    let mut least = before;
    let mut last = factors.clone();
    for a in 1..TRIALS {
        let tried = rounded(how, normalized(&rms, f32::from(a) / f32::from(TRIALS)));
        if tried == last {
            continue;
        }
        let found = error(graph, &place, plan, &tried, gram)?;
        if found < least {
            (least, factors) = (found, tried.clone());
        }
        last = tried;
    }
    Ok(Chosen { place, factors, errors: Some([before, least]) })
}

/// `x^a` over the geometric mean of the largest and the smallest; 1 for a channel that is always 0.
fn normalized(x: &[f32], a: f32) -> Vec<f32> {
    let alive = || x.iter().filter(|x| **x > 0.0).map(|x| arithmetic::powf(*x, a));
    let (largest, smallest) = (alive().fold(0.0, f32::max), alive().fold(f32::INFINITY, f32::min));
    let middle = (largest * smallest).sqrt();
    let factor = |x: &f32| if *x > 0.0 { (arithmetic::powf(*x, a) / middle).clamp(1.0 / LIMIT, LIMIT) } else { 1.0 };
    x.iter().map(factor).collect()
}

/// What rounding adds to the squares of the outputs of all Linears that read a place, under factors `s`.
fn error(graph: &Graph, place: &Place, plan: &Plan, s: &[f32], gram: &Gram) -> Result<f64, QuantError> {
    let diagonal = gram.diagonal();
    let mut sum = 0.0;
    for (part, planned) in coded(place, plan) {
        let factors: Vec<f32> = part.channels.iter().map(|channel| channel.map_or(1.0, |c| s[c])).collect();
        let importance: Vec<f32> = diagonal.iter().zip(&factors).map(|(square, s)| square / (s * s)).collect();
        let weight = graph.weights.get(part.weight);
        let columns = weight.matrix()[1];
        let mut moved = weight.clone();
        moved.derive(Derive::Columns(factors.clone().into()));
        let codebook = planned.scheme.codebook().expect("`coded` says so");
        let row_bytes = codebook.row_bytes(columns);
        let trial = codebook.rows(&moved, planned.clip, (planned.method != Method::Nearest).then_some(&importance))?;
        let errors = stream::over_chunks(weight, 1, |rows, values, chunk| {
            let scaled: Vec<f32> =
                values.chunks(columns).flat_map(|w| w.iter().zip(&factors).map(|(w, s)| w * s)).collect();
            chunk.reset(rows.len(), columns, row_bytes);
            trial.encode(&scaled, chunk);
            let rows = values.chunks(columns).zip(chunk.decoded.chunks(columns));
            let e = |(w, v): (&[f32], &[f32])| -> Vec<f32> {
                w.iter().zip(v).zip(&factors).map(|((w, v), s)| w - v / s).collect()
            };
            let e: Vec<f32> = rows.flat_map(e).collect();
            Ok(Ok(gram.squares(&e).iter().sum::<f64>()))
        })?;
        sum += errors.iter().sum::<f64>();
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
