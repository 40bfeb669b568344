//! What is known of a model's activations when its weights are quantized.

use std::path::Path;

use graph::{Graph, WeightId};

use super::samples::Samples;
use super::statistics::Statistics;
use super::walk::Walk;
use crate::error::CalibrationError;
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
        Some(self.statistics.of_weight(graph, weight)?.mean_squares())
    }

    pub(crate) fn walk<'w>(&'w self, graph: &Graph) -> Result<Walk<'w>, CalibrationError> {
        Walk::new(graph, &self.samples, self.dir)
    }
}

#[cfg(test)]
mod tests {
    use graph::{Blob, Build, DEC, Dim, FloatType, Type, Weight, WeightData};

    use super::*;
    use crate::calibrate::statistics::Channels;

    #[test]
    fn a_weight_that_is_applied_to_two_activations_is_weighed_by_both() {
        let b = Build::new();
        let rows = || Type::f32([Dim::from(DEC), 2.into()]);
        let data = WeightData::Stored { blob: Blob::zeros(16), dtype: FloatType::F32 };
        let w = b.weight(Weight { name: "w".into(), shape: vec![2, 2], data });
        let [x, z] = ["x", "z"].map(|name| b.input(name, rows()));
        let y = x.linear(w, None) + z.linear(w, None);
        b.entry("full", &[("x", x), ("z", z)], &[("y", y)], Default::default());
        let graph = b.finish().expect("fits");
        let channels = |rows, squares: [f64; 2]| Channels {
            rows,
            max_abs: vec![1.0; 2],
            sums: vec![0.0; 2],
            squares: squares.to_vec(),
        };
        let mut statistics = Statistics::default();
        let name =
            |port: &str| graph.value(graph.entry("full").and_then(|e| e.input(port)).expect("there")).name.clone();
        statistics.inputs.insert(name("x"), channels(3, [3.0, 0.0]));
        statistics.inputs.insert(name("z"), channels(1, [1.0, 8.0]));
        let weight = graph.weights.find("w").expect("there");
        let found = statistics.of_weight(&graph, weight).expect("two Linears have it");
        assert_eq!(found.mean_squares(), [1.0, 2.0]); // (3 + 1) / 4 rows, (0 + 8) / 4
    }
}
