//! Fixed steps for every value of a graph, for engines that compute with codes throughout.
//!
//! [`Values::gather`] watches the float model decode, as [`crate::calibrate`] does; [`steps`] turns what was seen into the
//! steps of each group of [`graph::passes::tied_values`].

use std::collections::BTreeMap;

use graph::eval::Interpreter;
use graph::passes::{Kind, Tied};
use graph::{FakeQuant, Graph, Op, Progress, Tensor, ValueId, WeightError, WeightId};

use crate::calibrate::{CACHED_WEIGHTS_BYTES, CalibrationError, Samples, summed};
use crate::histogram::Histogram;
use crate::ranges::{self, RangeMethod};

/// How far below the largest score of a row a code of its own is of use, in nats: with 8 bits a probability below
/// `e^-10` = 4.5e-5 is rounded to 0 (below 1/510) even where 40 keys have it, and with 16 bits one below `e^-16`.
const DEPTH_OF_BYTES: f32 = 10.0;
const DEPTH_OF_WORDS: f32 = 16.0;

/// What calibration saw of values, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// Sequences run.
    pub samples: u64,
    /// Finite numbers.
    pub seen: BTreeMap<String, Histogram>,
    /// Of scores with their mask: the least of the largest numbers of each row.
    pub least_row_maxima: BTreeMap<String, f32>,
}

impl Values {
    /// Runs the float model over all samples and watches the sources of all groups. Masks of `graph` are -inf.
    ///
    /// The same at any number of threads. Errors: no sample, a sample that does not run, NaN or +inf.
    pub fn gather(
        graph: &Graph,
        tied: &[Tied],
        samples: &Samples,
        progress: &dyn Progress,
    ) -> Result<Values, CalibrationError> {
        if samples.count == 0 {
            return Err(CalibrationError::Empty);
        }
        let mut masked: Vec<Option<bool>> = vec![None; graph.values.len()];
        for group in tied {
            group.sources.iter().for_each(|id| masked[id.0] = Some(group.kind == Kind::Masked));
        }
        let interpreter = Interpreter::new(graph).with_cache(CACHED_WEIGHTS_BYTES);
        let add = |sample: usize, sum: &mut Values| {
            let mut broken = None;
            let mut tap = |id: ValueId, tensor: &Tensor| {
                let (Some(masked), Some(floats)) = (masked[id.0], tensor.as_f32()) else { return };
                let name = &graph.value(id).name;
                let bad = |x: &&f32| x.is_nan() || **x == f32::INFINITY;
                if let (Some(found), None) = (floats.iter().find(bad), &broken) {
                    broken = Some(CalibrationError::NotFinite { value: name.clone(), found: *found, sample });
                }
                let finite: Vec<f32> = floats.iter().copied().filter(|x| x.is_finite()).collect();
                sum.seen.entry(name.clone()).or_default().add(&finite);
                if masked {
                    let width = tensor.shape().last().copied().unwrap_or(1).max(1);
                    let largest = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let rows = floats.chunks(width).map(largest).filter(|x| x.is_finite());
                    let least = sum.least_row_maxima.entry(name.clone()).or_insert(f32::INFINITY);
                    *least = rows.fold(*least, f32::min);
                }
            };
            interpreter.call_with(samples.entry, &(samples.feeds)(sample), &mut tap)?;
            sum.samples += 1;
            broken.map_or(Ok(()), Err)
        };
        summed(samples, add, Values::merge, progress)
    }

    fn merge(&mut self, other: &Values) {
        self.samples += other.samples;
        for (name, histogram) in &other.seen {
            self.seen.entry(name.clone()).or_default().merge(histogram);
        }
        for (name, least) in &other.least_row_maxima {
            let known = self.least_row_maxima.entry(name.clone()).or_insert(f32::INFINITY);
            *known = known.min(*least);
        }
    }

    fn least_row_maximum(&self, name: &str) -> f32 {
        self.least_row_maxima.get(name).copied().unwrap_or(0.0)
    }

    /// Least and greatest number of a value.
    pub fn extent(&self, name: &str) -> Option<(f32, f32)> {
        let seen = self.seen.get(name)?;
        Some((seen.min()?, seen.max()?))
    }
}

/// The steps of each group, in their order.
///
/// `graph`: that of the groups, with the weights whose tables are rounded. Errors: a group that no sample reached, with its
/// name.
pub fn steps(
    graph: &Graph,
    tied: &[Tied],
    values: &Values,
    method: RangeMethod,
) -> Result<Vec<FakeQuant>, CalibrationError> {
    let mut of_tables: BTreeMap<WeightId, Histogram> = BTreeMap::new();
    for id in tied.iter().flat_map(|group| &group.tables) {
        if !of_tables.contains_key(id) {
            of_tables.insert(*id, numbers(graph, *id)?);
        }
    }
    tied.iter().map(|group| step(graph, group, values, &of_tables, method)).collect()
}

/// What masks must give to hidden keys so that no softmax sees them: at most `hidden`, and further down where a model's scores
/// lie far apart. A whole number.
pub fn hidden(graph: &Graph, tied: &[Tied], values: &Values, hidden: f32) -> f32 {
    let masked = tied.iter().filter(|group| group.kind == Kind::Masked);
    let needed = masked.flat_map(|group| {
        let low = depth(group.bits, group.sources.iter().map(|id| values.least_row_maximum(&graph.value(*id).name)));
        group.sources.iter().map(move |id| low - high(graph, *id, values))
    });
    needed.fold(hidden, f32::min).floor()
}

/// The end of a range of scores of which `least` are the least of the largest numbers of a row.
fn depth(bits: u8, least: impl Iterator<Item = f32>) -> f32 {
    least.fold(0.0, f32::min) - if bits == 8 { DEPTH_OF_BYTES } else { DEPTH_OF_WORDS }
}

/// The largest score that a mask is added to.
fn high(graph: &Graph, sum: ValueId, values: &Values) -> f32 {
    let is_mask = |id: &&ValueId| matches!(graph.op(**id), Some(Op::Mask { .. } | Op::PaddingMask { .. }));
    let scores = graph.args(sum).iter().filter(|id| !is_mask(id));
    scores.filter_map(|id| values.extent(&graph.value(*id).name)).fold(0.0, |high, (_, other)| high.max(other))
}

fn numbers(graph: &Graph, id: WeightId) -> Result<Histogram, WeightError> {
    let weight = graph.weights.get(id);
    let (mut histogram, mut floats) = (Histogram::new(), Vec::new());
    for row in 0..weight.matrix()[0] {
        weight.rows(row..row + 1, &mut floats)?;
        histogram.add(&floats);
    }
    Ok(histogram)
}

fn step(
    graph: &Graph,
    group: &Tied,
    values: &Values,
    of_tables: &BTreeMap<WeightId, Histogram>,
    method: RangeMethod,
) -> Result<FakeQuant, CalibrationError> {
    let bits = group.bits;
    let last = (1i32 << bits) - 1;
    let name = |id: &ValueId| graph.value(*id).name.as_str();
    let at = |source| CalibrationError::Range { value: group.values.first().map_or("", name).to_owned(), source };
    match group.kind {
        Kind::Probability => return Ok(FakeQuant { scale: 1.0 / last as f32, zero: 0, bits }),
        Kind::Mask(hidden) => return Ok(FakeQuant { scale: -hidden / last as f32, zero: last, bits }),
        Kind::Seen | Kind::Symmetric | Kind::Masked => {}
    }
    let (mut low, mut high) = (0.0f32, 0.0f32);
    let seen = group.sources.iter().map(|id| values.seen.get(name(id)));
    let empty = Histogram::new();
    for histogram in seen.map(|seen| seen.unwrap_or(&empty)).chain(group.tables.iter().map(|id| &of_tables[id])) {
        let range = ranges::range(histogram, method, bits).map_err(at)?;
        (low, high) = (low.min(range.0), high.max(range.1));
    }
    match group.kind {
        Kind::Symmetric => {
            let reach = f64::from(high.max(-low));
            let half = f64::from((last + 1) / 2);
            let scale = if reach == 0.0 { 1.0 } else { ((reach / (half - 1.0)) as f32).max(f32::MIN_POSITIVE) };
            Ok(FakeQuant { scale, zero: (last + 1) / 2, bits })
        }
        Kind::Masked => {
            let depth = depth(bits, group.sources.iter().map(|id| values.least_row_maximum(name(id))));
            let low = if bits == 8 { depth } else { low.min(depth) };
            ranges::step(low, high, bits).map_err(at)
        }
        _ => ranges::step(low, high, bits).map_err(at),
    }
}
