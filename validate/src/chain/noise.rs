//! How far f32 noise carries in a graph that rounds its activations.

use graph::eval::Interpreter;
use rayon::prelude::*;

use super::measure::{self, BATCH_ROWS, Outputs, Plan, Way};
use super::{ChainError, agreement};
use crate::metrics::Meter;
use crate::runtime::reference::Reference;

/// Samples of the data, from the first.
const SAMPLES: usize = 16;
/// Runs, each with other noise.
const RUNS: u64 = 3;
/// How much larger the noise is than that of sums in another order. Numbers that cross an edge are so many times as many: where they
/// are rare, on few short samples, some are seen all the same; where they are many, the distance is the root as large, four times.
const TIMES: f64 = 16.0;

/// The distance of a graph to itself with a few times the noise of f32 sums in another order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noise {
    /// Relative L2 of logits, over all runs.
    pub rel_l2: f64,
    /// Share of equal greedy tokens, the mean of all runs.
    pub tokens: f64,
}

impl Noise {
    /// Runs the graph of `interpreter` with noise, against its `outputs` without.
    pub fn measure(interpreter: &Interpreter, plan: &Plan, outputs: &Outputs) -> Result<Noise, ChainError> {
        let part = plan.part(SAMPLES, BATCH_ROWS);
        let run = |seed| {
            let mut session = Reference::new(interpreter).with_noise(seed, TIMES);
            let found = measure::engine(&mut session, &part, &[outputs], &graph::progress::Quiet)?;
            let mut meter = Meter::ZERO;
            for way in [Way::Data, Way::Alone, Way::Padded, Way::Steps] {
                meter.merge(&found.distances[0].of(&part, way));
            }
            let kept = outputs.generated.len().min(part.samples);
            let tokens = agreement(&outputs.generated[..kept], &found.outputs.generated, usize::MAX);
            Ok((meter, tokens.map_or(1.0, |a| a.tokens)))
        };
        let runs: Result<Vec<(Meter, f64)>, ChainError> = (0..RUNS).into_par_iter().map(run).collect();
        let (mut meter, mut tokens) = (Meter::ZERO, 0.0);
        for (one, share) in runs? {
            meter.merge(&one);
            tokens += share / RUNS as f64;
        }
        Ok(Noise { rel_l2: meter.distances().rel_l2.unwrap_or(0.0), tokens })
    }
}
