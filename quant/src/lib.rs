//! Which weights are quantized, how, and with what error.
//!
//! A [`Scheme`] names a representation; a [`Policy`] (part of the recipe) chooses one for every weight by role and by
//! glob, which gives a [`Plan`]; a [`Quantizer`] turns the rows of one weight into that representation, streaming them
//! through a scratch file; [`quantize`] does so for a whole graph and records what it did to each weight.
//!
//! ```text
//! Policy --plan(graph)--> Plan --quantize(graph)--> the same graph, other recipes for its rows, [TensorRecord]
//! ```

pub mod blocks;
pub mod cast;
pub mod clip;
pub mod equalize;
pub mod error;
pub mod ggml;
pub mod plan;
pub mod policy;
pub mod record;
pub mod role;
pub mod round;
pub mod scheme;
pub mod stream;
#[cfg(test)]
mod tests;

use graph::progress::Unit;
use graph::{Graph, Progress, Scratch, Weight, WeightData};
use half::f16;

pub use error::{QuantError, Refusal};
pub use plan::{Decider, Plan, Planned};
pub use policy::{Activations, DefaultRule, Policy, PolicyError, PolicyFault, Rule};
pub use record::{ScaleStats, TensorRecord};
pub use role::{Role, roles};
pub use scheme::{Clip, Scheme};

/// Every quantizer; for each scheme one applies.
pub const QUANTIZERS: &[&dyn Quantizer] = &[&cast::Cast, &round::Nearest, &blocks::Blocks];

/// A way to choose the numbers of some schemes.
pub trait Quantizer: Sync {
    /// As lists show it.
    fn name(&self) -> &'static str;

    /// What it must know besides the weights.
    fn needs(&self) -> Needs;

    /// Whether it makes this scheme.
    fn applies(&self, scheme: Scheme) -> bool;

    /// New rows for one weight. `scheme` applies and fits the shape, as a [`Plan`] guarantees.
    ///
    /// The same result at any number of threads. Errors: a number that is not finite, in the weight or in what it
    /// becomes; a file that fails.
    fn quantize(
        &self,
        weight: &Weight,
        scheme: Scheme,
        clip: Clip,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError>;
}

/// What a quantizer must know besides the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing.
    Nothing,
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
}

/// Gives every planned weight its new rows, and tells what that did to each, in the order of the plan.
///
/// `plan` was made for this graph. Progress counts 4 bytes a weight. One weight is in work at a time, in chunks of rows
/// on all threads. Errors: all weights that hold NaN, infinity or a number out of range; the graph is then unchanged.
pub fn quantize(
    graph: &mut Graph,
    plan: &Plan,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<Vec<TensorRecord>, QuantError> {
    let total = plan.weights.iter().map(|planned| 4 * graph.weights.get(planned.id).len() as u64).sum();
    progress.stage("quantize", total, Unit::Bytes);
    let mut done = Vec::with_capacity(plan.weights.len());
    let mut refusals = Vec::new();
    for planned in &plan.weights {
        let weight = graph.weights.get(planned.id);
        let quantizer = QUANTIZERS.iter().find(|quantizer| quantizer.applies(planned.scheme));
        let quantizer = quantizer.expect("a test holds that one applies to each scheme");
        match quantizer.quantize(weight, planned.scheme, planned.clip, scratch, progress) {
            Ok(outcome) => done.push(outcome),
            Err(QuantError::Refused(more)) => refusals.extend(more),
            Err(other) => return Err(other),
        }
    }
    if !refusals.is_empty() {
        return Err(QuantError::Refused(refusals));
    }
    let records = plan.weights.iter().zip(done).map(|(planned, outcome)| {
        let weight = graph.weights.get_mut(planned.id);
        weight.data = outcome.data;
        record::record(planned, weight, &outcome.scales, outcome.errors)
    });
    Ok(records.collect())
}
