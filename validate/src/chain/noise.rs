//! How far f32 noise carries in a graph that rounds its activations.

use graph::eval::Interpreter;
use rayon::prelude::*;

use super::measure::{self, BATCH_ROWS, Outputs, Plan, Way};
use super::{ChainError, agreement};
use crate::runtime::reference::Reference;

/// Samples of the data, from the first.
const SAMPLES: usize = 16;
/// Runs, each with other noise: on few short samples a number may cross an edge in one and not in another.
const RUNS: u64 = 3;

/// The distance of a graph to itself with noise as large as that of f32 sums in another order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noise {
    /// Relative L2 of logits, of the run and the way of asking that is farthest off.
    pub rel_l2: f64,
    /// Share of equal greedy tokens, of the run that has fewest.
    pub tokens: f64,
}

impl Noise {
    /// Runs the graph of `interpreter` with noise, against its `outputs` without.
    pub fn measure(interpreter: &Interpreter, plan: &Plan, outputs: &Outputs) -> Result<Noise, ChainError> {
        let part = plan.part(SAMPLES, BATCH_ROWS);
        let run = |seed| {
            let mut session = Reference::new(interpreter).with_noise(seed);
            let found = measure::engine(&mut session, &part, &[outputs], &graph::progress::Quiet)?;
            let ways = [Way::Data, Way::Alone, Way::Padded, Way::Steps];
            let distances = ways.map(|way| found.distances[0].of(&part, way).distances().rel_l2.unwrap_or(0.0));
            let kept = outputs.generated.len().min(part.samples);
            let tokens = agreement(&outputs.generated[..kept], &found.outputs.generated, usize::MAX);
            Ok(Noise { rel_l2: distances.into_iter().fold(0.0, f64::max), tokens: tokens.map_or(1.0, |a| a.tokens) })
        };
        let runs: Result<Vec<Noise>, ChainError> = (0..RUNS).into_par_iter().map(run).collect();
        let worst = |a: Noise, b: &Noise| Noise { rel_l2: a.rel_l2.max(b.rel_l2), tokens: a.tokens.min(b.tokens) };
        Ok(runs?.iter().fold(Noise { rel_l2: 0.0, tokens: 1.0 }, worst))
    }
}
