//! Exact edits of the float model before it is quantized, each proven on a few samples.

use graph::passes::{RescaleResidual as Rescale, residual_streams, run_one};
use graph::{Graph, Tensors, ValueId};
use quant::equalize::{self, Chosen, Kind};
use quant::{Equalize, Plan, Policy, QuantError, rescale};
use validate::Greedy;
use validate::calibration::{Calibrated, Prefixes};
use validate::chain::{ChainError, F32_NOISE};
use validate::report::Note;
use validate::runtime::reference::caching;
use validate::task::Data;

use crate::build::error::PipelineError;
use crate::build::observed::Observed;
use crate::build::source::Source;
use crate::recipe::rescale::RescaleResidual;
use crate::show::progress::Display;

/// Samples on which an edit is proven.
const PROVEN_ON: usize = 4;

fn note(about: &str, text: String) -> Note {
    Note { about: about.to_owned(), text }
}

/// Scales the residual streams. Returns the factors of encoder and decoder, and what was done, or for `auto` why nothing.
///
/// Errors: factors for a model that has no such stream; `auto` without calibration is refused by the recipe.
pub fn rescale(
    graph: &mut Graph,
    wanted: RescaleResidual,
    observed: Option<&Observed>,
    display: &Display,
) -> Result<([f32; 2], Vec<Note>), PipelineError> {
    const ABOUT: &str = "rescale_residual";
    let mut notes = Vec::new();
    let factors = match (wanted, observed) {
        (RescaleResidual::By(factors), _) => [factors.encoder, factors.decoder],
        (RescaleResidual::Auto, None) => [1.0; 2],
        (RescaleResidual::Auto, Some(observed)) => {
            let streams: Vec<ValueId> = residual_streams(graph).into_iter().flatten().flatten().collect();
            let statistics = observed.statistics(graph, &streams, display)?;
            let found = rescale::extents(graph, &statistics);
            let stacks = ["encoder", "decoder"].into_iter().zip(found);
            let alphas = stacks.map(|(stack, found)| match found {
                Ok(extent) => {
                    let text = match extent.alpha < 1.0 {
                        true => format!("{stack}: calibration saw up to {} in the residual stream", extent.max_abs),
                        false => format!(
                            "{stack}: not needed; calibration saw up to {} in the residual stream, and half of f16 is {}",
                            extent.max_abs,
                            rescale::ROOM
                        ),
                    };
                    notes.push(note(ABOUT, text));
                    extent.alpha
                }
                Err(error) => {
                    notes.push(note(ABOUT, format!("{stack}: not possible; {error}")));
                    1.0
                }
            });
            let alphas: Vec<f32> = alphas.collect();
            [alphas[0], alphas[1]]
        }
    };
    let [encoder, decoder] = factors;
    let fired = run_one(graph, &Rescale { encoder, decoder })?;
    notes.extend(fired.notes.into_iter().map(|text| note(ABOUT, text)));
    Ok((factors, notes))
}

/// Moves the factors that a policy asks for. `plan`: of this graph, and after it still. Says where, in a line or two.
pub fn equalize(
    graph: &mut Graph,
    policy: &Policy,
    plan: &Plan,
    observed: Option<&Observed>,
    display: &Display,
) -> Result<Result<Vec<Note>, QuantError>, PipelineError> {
    const ABOUT: &str = "equalize";
    if policy.equalize == Equalize::None {
        return Ok(Ok(Vec::new()));
    }
    let chosen = match observed.filter(|_| policy.equalize.is_calibrated()) {
        None => equalize::choose(graph, policy.equalize, plan, None, display),
        Some(observed) => {
            let statistics = observed.statistics(graph, &[], display)?;
            observed.with(&statistics, policy.gptq, |known| {
                equalize::choose(graph, policy.equalize, plan, Some(known), display)
            })
        }
    };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) => return Ok(Err(error)),
    };
    let refused = equalize::refused(graph);
    let mut notes = vec![note(ABOUT, moved(policy.equalize, &chosen))];
    if let Some((name, why)) = refused.first() {
        let text = format!("no factor can move at {} other places, as at {name}: {why}", refused.len());
        notes.push(note(ABOUT, text));
    }
    chosen.iter().filter(|one| one.moves()).for_each(|one| equalize::apply(graph, &one.place, &one.factors));
    Ok(Ok(notes))
}

/// `awq: factors move at 20 of 26 places: 9 norms, 4 feed-forward layers, 7 attentions; the …`.
fn moved(how: Equalize, chosen: &[Chosen]) -> String {
    let method = match how {
        Equalize::None => "none".to_owned(),
        Equalize::Smoothquant(settings) => format!("smoothquant with alpha {}", settings.alpha),
        Equalize::Weights(_) => "weights".to_owned(),
        Equalize::Awq(_) => "awq".to_owned(),
    };
    let count = |kind: Kind| chosen.iter().filter(|one| one.place.kind == kind && one.moves()).count();
    let [norms, layers, attentions] = [Kind::Norm, Kind::FeedForward, Kind::Values].map(count);
    let factors = if how.is_exact() { "powers of two" } else { "factors" };
    let mut text = format!(
        "{method}: {factors} move at {} of {} places: {norms} norms, {layers} feed-forward layers, {attentions} attentions",
        norms + layers + attentions,
        chosen.len()
    );
    let ratios: Vec<f64> =
        chosen.iter().filter_map(|one| one.errors).filter(|[before, _]| *before > 0.0).map(|[a, b]| b / a).collect();
    if !ratios.is_empty() {
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        text += &format!("; nearest codes there leave {:.0} % of the squared error on average", 100.0 * mean);
    }
    text
}

/// Compares the logits of a graph before and after edits on a few samples: those of the calibration, or drawn ones.
///
/// Errors: they differ by more than f32 noise, relative to the largest logit.
pub fn prove(
    before: &Graph,
    after: &Graph,
    artifact: &str,
    source: &Source,
    observed: Option<&Observed>,
    display: &Display,
) -> Result<Note, PipelineError> {
    let drawn;
    let calibrated = match observed {
        Some(observed) => observed.calibrated(),
        None => {
            let data = Data::drawn(PROVEN_ON, before, &source.decoding).map_err(ChainError::Data)?;
            drawn = Calibrated::new(before, data, &Greedy::from(&source.decoding), Prefixes::Greedy, display)?;
            &drawn
        }
    };
    let count = PROVEN_ON.min(calibrated.data.samples.len());
    let logits = |graph: &Graph| -> Result<Vec<Vec<f32>>, PipelineError> {
        let interpreter = caching(graph);
        let one = |sample: usize| -> Result<Vec<f32>, PipelineError> {
            let outputs = interpreter.call("full", &calibrated.feeds(sample));
            let outputs: Tensors = outputs.map_err(|error| PipelineError::Calibration(error.into()))?;
            Ok(outputs["logits"].as_f32().expect("logits are floats").to_vec())
        };
        (0..count).map(one).collect()
    };
    let (expected, found) = (logits(before)?.concat(), logits(after)?.concat());
    let difference = distance(&expected, &found);
    if difference.is_nan() || difference > F32_NOISE {
        return Err(PipelineError::NotExact { artifact: artifact.to_owned(), difference, limit: F32_NOISE });
    }
    let text =
        format!("the edited float model's logits differ by {difference:.1e} of the largest one, on {count} samples");
    Ok(note("edits", text))
}

/// `max|a - b| / max|a|`, of finite numbers; what is not finite must be the same.
fn distance(expected: &[f32], found: &[f32]) -> f64 {
    let (mut difference, mut scale) = (0.0f64, 0.0f64);
    for (a, b) in expected.iter().zip(found) {
        if a.to_bits() != b.to_bits() {
            let apart = f64::from(*a) - f64::from(*b);
            difference = if apart.is_finite() { difference.max(apart.abs()) } else { f64::INFINITY };
        }
        scale = if a.is_finite() { scale.max(f64::from(a.abs())) } else { scale };
    }
    if difference == 0.0 { 0.0 } else { difference / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_to_the_largest_logit_and_infinite_where_one_is_no_number() {
        assert_eq!(distance(&[4.0, -8.0], &[4.0, -7.0]), 0.125);
        assert_eq!(distance(&[f32::NEG_INFINITY, 1.0], &[f32::NEG_INFINITY, 1.0]), 0.0);
        for broken in [f32::NAN, f32::INFINITY] {
            assert_eq!(distance(&[1.0], &[broken]), f64::INFINITY);
        }
    }
}
