//! How far f32 noise carries in a graph that rounds its activations.

use graph::eval::Interpreter;
use rayon::prelude::*;

use super::error::ChainError;
use super::measure::{self, BATCH_ROWS, Call, Outputs, Plan, Way};
use crate::runtime::reference::{Reference, rows_are_alone};
use metrics::Meter;

/// Samples of the data, from the first.
const SAMPLES: usize = 12;
/// Runs, each with other noise.
const RUNS: usize = 2;
/// How much larger the noise is than that of sums in another order. Numbers that cross an edge are so many times as many: where they
/// are rare, on few short samples, some are seen all the same; where they are many, the distance is the root as large, four times.
const TIMES: f64 = 16.0;

/// The distance of a graph to itself with a few times the noise of f32 sums in another order, relative L2 of logits over all runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noise(pub f64);

impl Noise {
    /// Runs the graph of `interpreter` with noise, against its `outputs` without.
    pub fn measure(interpreter: &Interpreter, plan: &Plan, outputs: &Outputs) -> Result<Noise, ChainError> {
        let part = plan.part(SAMPLES, BATCH_ROWS);
        // A sequence that depends on the others of its batch says the same only among them.
        let calls: Vec<&Call> = match rows_are_alone(interpreter.graph()) {
            true => part.of(Way::Data).map(|(_, call)| call).collect(),
            false => {
                let whole: Vec<&Call> = plan.of(Way::Data).map(|(_, call)| call).collect();
                vec![whole[whole.len() / 2]]
            }
        };
        let runs: Vec<(u64, &Call)> = (0..).zip(calls.repeat(RUNS)).collect();
        let run = |(seed, call): (u64, &Call)| {
            let mut session = Reference::new(interpreter).with_noise(seed, TIMES);
            measure::distance(&mut session, plan, call, outputs)
        };
        let meters: Result<Vec<[Meter; 2]>, ChainError> = runs.into_par_iter().with_max_len(1).map(run).collect();
        let mut sum = Meter::ZERO;
        meters?.iter().flatten().for_each(|meter| sum.merge(meter));
        Ok(Noise(sum.distances().rel_l2.unwrap_or(0.0)))
    }
}
