//! How far a quantized graph is from the float one: the figures of the link quantization, without the rest of the chain.

use graph::eval::Interpreter;
use graph::progress::Unit;
use graph::{DEC, Graph, Progress, Scratch};

use super::error::ChainError;
use super::measure::{self, BATCH_ROWS, Measured, Outputs, Plan, Way};
use super::subject::{too_long, vocabulary};
use crate::generate::{Generated, Greedy};
use crate::runtime::reference::caching;
use crate::task::{Data, Sample};
use metrics::Distances;

/// The float model's logits on some samples. What it says of a quantized graph equals what the chain reports of the same graph on
/// the same samples, to the bit: calls, batches and the order of sums are those of [`super::Baseline`].
pub struct Floats {
    plan: Plan,
    outputs: Outputs,
    /// With the targets that the data lacks.
    data: Data,
}

impl Floats {
    /// Runs the float model. `generates`: it and its candidates also decode greedily, so that they can be scored.
    ///
    /// Errors: the float model cannot be evaluated; samples for which it has no positions.
    pub fn measure(
        exact: &Graph,
        mut data: Data,
        greedy: &Greedy,
        generates: bool,
        progress: &dyn Progress,
    ) -> Result<Floats, ChainError> {
        let greedy = greedy.at_most(greedy.new_tokens(exact.longest(DEC)));
        too_long(exact, &greedy, &data, "the evaluation data")?;
        let interpreter = caching(exact);
        fill_targets(&mut data, &interpreter, &greedy, progress)?;
        let plan = Plan::of_data(&data, greedy, vocabulary(exact)?, generates)?;
        progress.stage("float model", data.samples.len() as u64, Unit::Samples);
        let outputs = measure::graph(&interpreter, &plan, &[], &Scratch::new()?, progress)?.outputs;
        Ok(Floats { plan, outputs, data })
    }

    /// Runs a quantized graph. Returns its distances, and what it says of each sample where it was to decode.
    ///
    /// Errors: it cannot be evaluated.
    pub fn of(&self, quantized: &Graph, progress: &dyn Progress) -> Result<(Distances, Vec<Generated>), ChainError> {
        let interpreter = caching(quantized);
        let Measured { outputs, distances } =
            measure::graph(&interpreter, &self.plan, &[&self.outputs], &Scratch::new()?, progress)?;
        Ok((distances[0].of(&self.plan, Way::Data).distances(), outputs.generated))
    }

    /// What the float model says of each sample.
    pub fn generated(&self) -> &[Generated] {
        &self.outputs.generated
    }

    /// The samples, those without a target with the float model's own answer as tokens.
    pub fn samples(&self) -> &[Sample] {
        &self.data.samples
    }
}

/// Gives samples without a target the float model's own greedy output. Returns whether there were any.
pub(super) fn fill_targets(
    data: &mut Data,
    exact: &Interpreter,
    greedy: &Greedy,
    progress: &dyn Progress,
) -> Result<bool, ChainError> {
    if data.samples.iter().all(|sample| !sample.target_ids.is_empty()) {
        return Ok(false);
    }
    progress.stage("targets", data.samples.len() as u64, Unit::Samples);
    let found = measure::generate(BATCH_ROWS, exact, data, greedy, progress)?;
    for (sample, found) in data.samples.iter_mut().zip(found) {
        if sample.target_ids.is_empty() {
            sample.target_ids = found.tokens;
        }
    }
    Ok(true)
}
