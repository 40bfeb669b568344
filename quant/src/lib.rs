//! Which weights are quantized, how, and with what error.
//!
//! A [`Scheme`] names a representation; a [`Policy`] (part of the recipe) chooses one for every weight by role and by
//! glob, which gives a [`Plan`]; a [`Quantizer`] turns the rows of one weight into that representation, streaming them
//! through a scratch file; [`quantize`] does so for a whole graph and records what it did to each weight. A [`Calibration`]
//! tells quantizers what the weights are multiplied with when the model really decodes.
//!
//! ```text
//! samples --gather(float graph)--> Statistics
//! Policy --plan(graph)--> Plan --quantize(graph, Calibration)--> the same graph, other recipes for its rows, [TensorRecord]
//! ```

pub mod awq;
pub mod bias;
pub mod blocks;
pub mod calibrate;
pub mod cast;
pub mod clip;
pub mod equalize;
pub mod error;
pub mod ggml;
pub mod gptq;
pub mod gram;
pub mod histogram;
pub mod plan;
pub mod policy;
pub mod ranges;
pub mod record;
pub mod rescale;
pub mod role;
pub mod round;
pub mod scheme;
pub mod smooth;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tune;
pub mod values;
pub mod walk;

use graph::progress::Unit;
use graph::{Graph, Progress, Scratch, ValueId, Weight, WeightData};
use half::f16;

pub use calibrate::{Calibration, CalibrationError, Samples, Statistics};
pub use error::{QuantError, Refusal};
pub use gptq::{Compensation, GptqSettings};
pub use plan::{Decider, Plan, Planned};
pub use policy::{Activations, DefaultRule, Fallback, Policy, PolicyError, PolicyFault, Rule, StaticActivations};
pub use record::{OutputErrors, OutputRecord, ScaleStats, TensorRecord};
pub use role::{Role, roles};
pub use scheme::{Clip, Method, Scheme};
pub use smooth::{Equalize, Factors, Smoothquant};

/// Every quantizer; for each scheme and method one applies.
pub const QUANTIZERS: &[&dyn Quantizer] = &[&cast::Cast, &round::Nearest, &gptq::Gptq, &blocks::Blocks];

/// A way to choose the numbers of some schemes.
pub trait Quantizer: Sync {
    /// As lists show it.
    fn name(&self) -> &'static str;

    /// What it must know besides the weights.
    fn needs(&self) -> Needs;

    /// Whether it makes this scheme by this method.
    fn applies(&self, scheme: Scheme, method: Method) -> bool;

    /// New rows for one weight. `planned.scheme` applies and fits the shape, as a [`Plan`] guarantees; `known` holds what
    /// [`Quantizer::needs`] asks for.
    ///
    /// The same result at any number of threads. Errors: a number that is not finite, in the weight or in what it
    /// becomes; a file that fails.
    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError>;
}

/// What a quantizer must know besides the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing; it uses the importance of input channels where it is known.
    Nothing,
    /// The second moments of the activation that the quantized layers before the weight make.
    Gram,
}

/// What is known of the activation that a weight is applied to.
pub enum Known<'a> {
    /// Nothing.
    Nothing,
    /// The mean square of each channel; f32[columns].
    Importance(&'a [f32]),
    /// All second moments, and what follows from them.
    Gram(&'a Compensation),
}

impl Known<'_> {
    /// What a squared error in each column counts.
    pub fn importance(&self) -> Option<&[f32]> {
        match self {
            Known::Nothing => None,
            Known::Importance(importance) => Some(importance),
            Known::Gram(shared) => Some(shared.importance()),
        }
    }
}

/// What became of one weight.
#[derive(Debug)]
pub struct Outcome {
    /// Where its rows come from now.
    pub data: WeightData,
    /// The scales of the new form, for statistics; empty when it has none.
    pub scales: Vec<f16>,
    /// Original against new form.
    pub errors: record::Errors,
    /// The outputs of its Linear, when they were measured.
    pub outputs: Option<OutputErrors>,
    /// What was out of the ordinary, in words.
    pub notes: Vec<String>,
}

impl Outcome {
    fn new(data: WeightData, scales: Vec<f16>, errors: record::Errors) -> Outcome {
        Outcome { data, scales, errors, outputs: None, notes: Vec::new() }
    }
}

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
    let needs_gram = |planned: &Planned| quantizer(planned).needs() == Needs::Gram;
    let total = plan.weights.iter().filter(|w| !needs_gram(w)).map(|w| 4 * graph.weights.get(w.id).len() as u64).sum();
    progress.stage("quantize", total, Unit::Bytes);
    for (planned, outcome) in plan.weights.iter().zip(&mut outcomes).filter(|(planned, _)| !needs_gram(planned)) {
        let importance = match (planned.method, calibration) {
            (Method::Nearest, _) | (_, None) => None,
            (_, Some(known)) => known.importance_of(&work, planned.id),
        };
        let known = importance.as_deref().map_or(Known::Nothing, Known::Importance);
        let made = quantizer(planned).quantize(work.weights.get(planned.id), planned, &known, scratch, progress);
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
                let made = quantizer(planned).quantize(weight, planned, &known, scratch, &graph::progress::Quiet);
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
        record::record(planned, graph.weights.get(planned.id), outcome)
    });
    Ok(records.collect())
}

pub(crate) fn quantizer(planned: &Planned) -> &'static dyn Quantizer {
    let found = QUANTIZERS.iter().find(|quantizer| quantizer.applies(planned.scheme, planned.method));
    *found.expect("a test holds that one applies to each scheme and method")
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
    walk: &walk::Walk,
    needs_gram: impl Fn(&Planned) -> bool,
) -> Vec<(ValueId, Vec<usize>)> {
    let inputs = calibrate::inputs(graph);
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
