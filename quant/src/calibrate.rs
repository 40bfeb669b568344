//! What a model's activations look like when it really decodes.
//!
//! A sample is one sequence without padding: the encoder runs on an input, the decoder on the tokens of its target or of the
//! model's own greedy output, so cross-attention sees what the encoder says and the decoder sees its own prefixes. Each is
//! run alone, so no padded place can enter a statistic.
//!
//! [`gather`] runs the float model once and keeps, for each value that a Linear reads, sums by channel and a histogram, and
//! for every other value its extent: memory holds one accumulator a value whatever the number of samples. Gram matrices are
//! larger than all of that and depend on what was quantized before; see [`crate::walk`] and [`crate::gptq`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use graph::eval::{EvalError, Interpreter};
use graph::progress::Unit;
use graph::{FakeQuant, Feeds, Graph, Op, Progress, Tensor, Tensors, ValueId, WeightId};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::gptq::GptqSettings;
use crate::histogram::Histogram;
use crate::policy::StaticActivations;
use crate::ranges;
use crate::walk::Walk;

/// Samples that one task sums up before their sums are added in order; fixed, so that sums do not depend on the number of
/// threads.
const TOGETHER: usize = 8;

/// Bytes of weights kept as f32 while samples run.
pub(crate) const CACHED_WEIGHTS_BYTES: usize = 512 << 20;

/// Sequences to calibrate on.
pub struct Samples<'a> {
    /// Which entry takes them: `full`.
    pub entry: &'a str,
    /// How many; at least one.
    pub count: usize,
    /// The feeds of one, a batch of 1 without padding.
    pub feeds: &'a (dyn Fn(usize) -> Feeds + Sync),
}

/// The model cannot be calibrated on these samples.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// There is no sample.
    #[error("calibration: expected at least one sample, found none")]
    Empty,
    /// A sample does not run.
    #[error("calibration: {0}")]
    Eval(#[from] EvalError),
    /// An activation is NaN or infinite.
    #[error(
        "calibration: {value} holds {found} in sample {}; the float model itself does not stand this input",
        .sample + 1
    )]
    NotFinite {
        /// The value of the graph.
        value: String,
        /// NaN or ±inf.
        found: f32,
        /// From 0.
        sample: usize,
    },
    /// An activation has no range.
    #[error("calibration: {value}: {source}")]
    Range {
        /// The value of the graph.
        value: String,
        /// Why.
        source: ranges::RangeError,
    },
    /// A weight cannot be read.
    #[error("calibration: {0}")]
    Weight(#[from] graph::WeightError),
    /// A scratch file cannot be written or read.
    #[error("calibration: scratch file: {0}")]
    Io(#[from] io::Error),
}

/// What quantizers are told of a model's activations.
pub struct Calibration<'a> {
    /// For what depends on the weights quantized so far.
    pub samples: Samples<'a>,
    /// Of the float model.
    pub statistics: &'a Statistics,
    /// For [`crate::gptq`].
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

/// What calibration saw, by the names of values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Sequences run.
    pub samples: u64,
    /// Every value that a Linear reads.
    pub inputs: BTreeMap<String, Channels>,
    /// The numbers of each of them.
    pub histograms: BTreeMap<String, Histogram>,
    /// Every float value that an op computes.
    pub extents: BTreeMap<String, Observed>,
}

/// Sums over the rows of one activation, by channel, that is by place in its last axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Channels {
    /// Rows seen.
    pub rows: u64,
    /// Largest magnitude.
    pub max_abs: Vec<f32>,
    /// `Σ x`.
    pub sums: Vec<f64>,
    /// `Σ x²`.
    pub squares: Vec<f64>,
}

impl Channels {
    fn add(&mut self, x: &[f32], width: usize) {
        if self.sums.is_empty() {
            *self = Channels { rows: 0, max_abs: vec![0.0; width], sums: vec![0.0; width], squares: vec![0.0; width] };
        }
        for row in x.chunks_exact(width) {
            self.rows += 1;
            for (j, &x) in row.iter().enumerate() {
                self.max_abs[j] = self.max_abs[j].max(x.abs());
                self.sums[j] += f64::from(x);
                self.squares[j] += f64::from(x) * f64::from(x);
            }
        }
    }

    fn merge(&mut self, other: &Channels) {
        if self.sums.is_empty() {
            *self = other.clone();
            return;
        }
        self.rows += other.rows;
        for j in 0..self.sums.len() {
            self.max_abs[j] = self.max_abs[j].max(other.max_abs[j]);
            self.sums[j] += other.sums[j];
            self.squares[j] += other.squares[j];
        }
    }

    /// `mean(x²)` of each channel: how much an error of a weight that multiplies it counts.
    pub fn mean_squares(&self) -> Vec<f32> {
        self.squares.iter().map(|s| (s / self.rows.max(1) as f64) as f32).collect()
    }

    /// `mean(x)` of each channel.
    pub fn means(&self) -> Vec<f32> {
        self.sums.iter().map(|s| (s / self.rows.max(1) as f64) as f32).collect()
    }

    /// Channels that were 0 in every row.
    pub fn dead(&self) -> usize {
        self.max_abs.iter().filter(|x| **x == 0.0).count()
    }
}

/// The extent of a value over all samples; masks aside, which are -inf on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Smallest finite number; at most 0.
    pub min: f32,
    /// Largest; at least 0.
    pub max: f32,
}

impl Observed {
    /// Largest magnitude.
    pub fn max_abs(self) -> f32 {
        self.max.max(-self.min)
    }
}

impl Statistics {
    fn merge(&mut self, other: &Statistics) {
        self.samples += other.samples;
        for (name, channels) in &other.inputs {
            self.inputs.entry(name.clone()).or_default().merge(channels);
        }
        for (name, histogram) in &other.histograms {
            self.histograms.entry(name.clone()).or_default().merge(histogram);
        }
        for (name, seen) in &other.extents {
            let known = self.extents.entry(name.clone()).or_insert(*seen);
            *known = Observed { min: known.min.min(seen.min), max: known.max.max(seen.max) };
        }
    }

    /// For each value that a Linear reads, the steps of its codes. Errors: a value that gives no range, with its name.
    pub fn steps(&self, wanted: StaticActivations) -> Result<BTreeMap<String, FakeQuant>, CalibrationError> {
        let step = |(name, histogram): (&String, &Histogram)| {
            let range = ranges::range(histogram, wanted.range, wanted.bits);
            let step = range.and_then(|(low, high)| ranges::step(low, high, wanted.bits));
            let step = step.map_err(|source| CalibrationError::Range { value: name.clone(), source })?;
            Ok((name.clone(), step))
        };
        self.histograms.iter().map(step).collect()
    }

    /// Whether every value that a Linear of the graph reads was watched.
    pub fn covers(&self, graph: &Graph) -> bool {
        linear_inputs(graph).into_iter().all(|id| self.inputs.contains_key(&graph.value(id).name))
    }

    /// The value with the largest magnitude.
    pub fn largest(&self) -> Option<(&str, f32)> {
        let seen = self.extents.iter().map(|(name, seen)| (&name[..], seen.max_abs()));
        seen.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(a.0)))
    }

    /// The values above half of what f16 holds (65504): where an engine that computes in f16 is near to overflow.
    /// Largest first.
    pub fn near_f16_overflow(&self) -> Vec<(&str, f32)> {
        let mut found: Vec<(&str, f32)> = self.extents.iter().map(|(name, seen)| (&name[..], seen.max_abs())).collect();
        found.retain(|(_, max)| *max > 65504.0 / 2.0);
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        found
    }
}

/// Where weights of Linears read their activation: for each weight that nothing but Linears use, the values it is applied
/// to, in the order of the graph.
pub fn inputs(graph: &Graph) -> BTreeMap<WeightId, Vec<ValueId>> {
    let mut found: BTreeMap<WeightId, Vec<ValueId>> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for index in 0..graph.values.len() {
        let id = ValueId(index);
        let Some(op) = graph.op(id) else { continue };
        for (place, arg) in graph.args(id).iter().enumerate() {
            let Some(weight) = graph.weight_of(*arg) else { continue };
            match (op, place) {
                (Op::Linear, 1) => {
                    let x = graph.args(id)[0];
                    let known = found.entry(weight).or_default();
                    if !known.contains(&x) {
                        known.push(x);
                    }
                }
                _ => drop(others.insert(weight)),
            }
        }
    }
    found.retain(|weight, _| !others.contains(weight));
    found
}

fn linear_inputs(graph: &Graph) -> BTreeSet<ValueId> {
    let linears = (0..graph.values.len()).map(ValueId).filter(|id| matches!(graph.op(*id), Some(Op::Linear)));
    linears.map(|id| graph.args(id)[0]).collect()
}

/// The value whose channels the columns of a weight multiply: that of its first Linear, also where the weight is an
/// embedding too.
pub fn input_of(graph: &Graph, weight: WeightId) -> Option<ValueId> {
    let reads = |id: &ValueId| {
        let args = graph.args(*id);
        matches!(graph.op(*id), Some(Op::Linear)) && graph.weight_of(args[1]) == Some(weight)
    };
    (0..graph.values.len()).map(ValueId).find(reads).map(|id| graph.args(id)[0])
}

/// Runs the float model over all samples. `watch` sees the outputs of each, in any order.
///
/// The same at any number of threads. Errors: no sample, a sample that does not run, NaN or +inf in any value, any
/// infinity in one that a Linear reads.
pub fn gather(
    graph: &Graph,
    samples: &Samples,
    watch: &(dyn Fn(usize, &Tensors) + Sync),
    progress: &dyn Progress,
) -> Result<Statistics, CalibrationError> {
    if samples.count == 0 {
        return Err(CalibrationError::Empty);
    }
    let read = linear_inputs(graph);
    let interpreter = Interpreter::new(graph).prepared().with_cache(CACHED_WEIGHTS_BYTES);
    let add = |sample: usize, statistics: &mut Statistics| -> Result<(), CalibrationError> {
        let mut broken = None;
        let mut tap = |id: ValueId, tensor: &Tensor| {
            let Some(floats) = tensor.as_f32() else { return };
            let value = graph.value(id);
            let is_read = read.contains(&id);
            let bad = |x: &&f32| x.is_nan() || **x == f32::INFINITY || (is_read && !x.is_finite());
            if let (Some(found), None) = (floats.iter().find(bad), &broken) {
                broken = Some(CalibrationError::NotFinite { value: value.name.clone(), found: *found, sample });
            }
            let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
            let extent = floats.iter().fold(Observed { min: 0.0, max: 0.0 }, |seen, x| Observed {
                min: seen.min.min(finite(*x)),
                max: seen.max.max(finite(*x)),
            });
            let known = statistics.extents.entry(value.name.clone()).or_insert(extent);
            *known = Observed { min: known.min.min(extent.min), max: known.max.max(extent.max) };
            if is_read {
                let width = tensor.shape().last().copied().unwrap_or(1);
                statistics.inputs.entry(value.name.clone()).or_default().add(floats, width);
                statistics.histograms.entry(value.name.clone()).or_default().add(floats);
            }
        };
        let outputs = interpreter.call_with(samples.entry, &(samples.feeds)(sample), &mut tap)?;
        if let Some(error) = broken {
            return Err(error);
        }
        watch(sample, &outputs);
        statistics.samples += 1;
        Ok(())
    };
    summed(samples, add, Statistics::merge, progress)
}

/// What `add` makes of all samples, in sums of [`TOGETHER`] that `merge` joins in order: the same at any number of threads.
pub(crate) fn summed<S: Default + Send>(
    samples: &Samples,
    add: impl Fn(usize, &mut S) -> Result<(), CalibrationError> + Sync,
    merge: impl Fn(&mut S, &S),
    progress: &dyn Progress,
) -> Result<S, CalibrationError> {
    progress.stage("calibrate", samples.count as u64, Unit::Samples);
    let task = |from: usize| -> Result<S, CalibrationError> {
        let mut sum = S::default();
        let until = samples.count.min(from + TOGETHER);
        (from..until).try_for_each(|sample| add(sample, &mut sum))?;
        progress.advance((until - from) as u64);
        Ok(sum)
    };
    let tasks: Vec<usize> = (0..samples.count).step_by(TOGETHER).collect();
    // Some tasks at a time, so that memory does not grow with the samples.
    let mut sum = S::default();
    for tasks in tasks.chunks(2 * rayon::current_num_threads()) {
        let done: Result<Vec<S>, CalibrationError> = tasks.par_iter().map(|from| task(*from)).collect();
        done?.iter().for_each(|part| merge(&mut sum, part));
    }
    Ok(sum)
}
