//! What a model's activations look like when it really decodes.
//!
//! A sample is one sequence without padding: the encoder runs on an input, the decoder on the tokens of its target or of the
//! model's own greedy output, so cross-attention sees what the encoder says and the decoder sees its own prefixes. Each is
//! run alone, so no padded place can enter a statistic.
//!
//! [`gather`] runs the float model once and keeps, for each value that a Linear reads, sums by channel and a histogram, and
//! for every other value its extent: memory holds one accumulator per value whatever the number of samples. Gram matrices are
//! larger than all of that and depend on what was quantized before; see [`super::walk`] and [`crate::method::gptq`].

use std::collections::BTreeMap;

use graph::eval::Interpreter;
use graph::{FakeQuant, Graph, Progress, Tensor, Tensors, ValueId, WeightId};
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::ranges;
use super::samples::{Samples, summed};
use crate::error::CalibrationError;
use crate::policy::role::{inputs_of, linear_inputs};
use crate::settings::StaticActivations;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// Bytes of weights kept as f32 while samples run.
pub(crate) const CACHED_WEIGHTS_BYTES: usize = 512 << 20;

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

    /// Of what the columns of a weight are multiplied with, the sums of all its activations: T5Gemma 2 applies one matrix of keys to two.
    /// `None` when no Linear has the weight.
    pub fn of_weight(&self, graph: &Graph, weight: WeightId) -> Option<Channels> {
        let mut all = Channels::default();
        let seen = inputs_of(graph, weight);
        seen.iter().filter_map(|id| self.inputs.get(&graph.value(*id).name)).for_each(|channels| all.merge(channels));
        (!all.sums.is_empty()).then_some(all)
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
