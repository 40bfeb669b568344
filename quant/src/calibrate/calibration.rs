//! What is known of a model's activations when its weights are quantized.

use std::path::Path;

use graph::{Graph, WeightId};

use super::samples::Samples;
use super::statistics::Statistics;
use super::walk::Walk;
use crate::error::CalibrationError;
use crate::policy::role::input_of;
use crate::settings::GptqSettings;

/// What quantizers are told of a model's activations.
pub struct Calibration<'a> {
    /// For what depends on the weights quantized so far.
    pub samples: Samples<'a>,
    /// Of the float model.
    pub statistics: &'a Statistics,
    /// For [`Method::Gptq`](crate::Method::Gptq).
    pub gptq: GptqSettings,
    /// Takes the scratch files of halted calls.
    pub dir: &'a Path,
}

impl Calibration<'_> {
    /// The mean square of what each column of a weight is multiplied with; `None` when no Linear has the weight.
    pub fn importance_of(&self, graph: &Graph, weight: WeightId) -> Option<Vec<f32>> {
        let input = input_of(graph, weight)?;
        Some(self.statistics.inputs.get(&graph.value(input).name)?.mean_squares())
    }

    pub(crate) fn walk<'w>(&'w self, graph: &Graph) -> Result<Walk<'w>, CalibrationError> {
        Walk::new(graph, &self.samples, self.dir)
    }
}
