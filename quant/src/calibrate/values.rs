//! Fixed steps for every value of a graph, for engines that compute with codes throughout.
//!
//! [`Values::gather`] watches the float model decode, as [`crate::calibrate`] does; [`steps`] turns what was seen into the
//! steps of each group of [`graph::passes::tied_values`].

use std::collections::BTreeMap;

use graph::eval::Interpreter;
use graph::passes::{Kind, Tied};
use graph::{FakeQuant, Graph, Op, Progress, Tensor, ValueId, WeightError, WeightId};

use super::histogram::Histogram;
use super::ranges;
use super::samples::{Samples, summed};
use super::statistics::CACHED_WEIGHTS_BYTES;
use crate::error::CalibrationError;
use crate::settings::RangeMethod;

/// Raised when the same input gives other results ([`crate::RESULTS`]).
pub const RESULTS: u32 = 1;

/// How far below the largest score of a row a code of its own is of use, in nats: with 8 bits a probability below
/// `e^-10` = 4.5e-5 is rounded to 0 (below 1/510) even where 40 keys have it, and with 16 bits one below `e^-16`.
const DEPTH_OF_BYTES: f32 = 10.0;
const DEPTH_OF_WORDS: f32 = 16.0;

/// What calibration saw of values, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// Sequences run.
    pub samples: u64,
    /// Finite numbers of the sources of groups.
    pub seen: BTreeMap<String, Histogram>,
    /// The least and the greatest finite number of each float value.
    pub extents: BTreeMap<String, (f32, f32)>,
    /// Of scores with their mask: the least of the largest numbers of each row.
    pub least_row_maxima: BTreeMap<String, f32>,
}

impl Values {
    /// Runs the float model over all samples and watches all values, the sources of groups closely. Masks of `graph` are -inf.
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
        let interpreter = Interpreter::new(graph).prepared().with_cache(CACHED_WEIGHTS_BYTES);
        let add = |sample: usize, sum: &mut Values| {
            let mut broken = None;
            let mut tap = |id: ValueId, tensor: &Tensor| {
                let Some(floats) = tensor.as_f32() else { return };
                let name = &graph.value(id).name;
                let finite = || floats.iter().copied().filter(|x| x.is_finite());
                if let Some(first) = finite().next() {
                    let extent = finite().fold((first, first), |(low, high), x| (low.min(x), high.max(x)));
                    widen(&mut sum.extents, name, extent);
                }
                let Some(masked) = masked[id.0] else { return };
                let bad = |x: &&f32| x.is_nan() || **x == f32::INFINITY;
                if let (Some(found), None) = (floats.iter().find(bad), &broken) {
                    broken = Some(CalibrationError::NotFinite { value: name.clone(), found: *found, sample });
                }
                sum.seen.entry(name.clone()).or_default().add(&finite().collect::<Vec<f32>>());
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
        other.extents.iter().for_each(|(name, extent)| widen(&mut self.extents, name, *extent));
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
        self.extents.get(name).copied()
    }
}

fn widen(extents: &mut BTreeMap<String, (f32, f32)>, name: &str, (low, high): (f32, f32)) {
    match extents.get_mut(name) {
        Some(known) => *known = (known.0.min(low), known.1.max(high)),
        None => drop(extents.insert(name.to_owned(), (low, high))),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use graph::passes::{Expand, Widths, run_one, tied_values};
    use graph::progress::Quiet;
    use graph::{BATCH, Blob, Build, Dim, ENC, Feeds, FloatType, Type, Weight, WeightData};

    use super::*;

    const WORDS: Widths = Widths { activations: 16, keys: 8, scores: 16 };
    const BYTES: Widths = Widths { activations: 8, keys: 8, scores: 8 };

    /// Queries are rows of a table; scores are `8 · q · kᵀ` with a mask.
    fn graph(hidden: f32) -> Graph {
        let b = Build::new();
        let ids = b.input("input_ids", Type::i64([Dim::from(BATCH), ENC.into()]));
        let mask = b.input("attention_mask", Type::i64([Dim::from(BATCH), ENC.into()]));
        let mut bytes = vec![0; 24];
        FloatType::F32.encode(&[1.0, 0.0, -2.0, 0.5, 9.0, -9.0], &mut bytes);
        let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
        let table = b.weight(Weight { name: "table".into(), shape: vec![3, 2], data });
        let x = ids.embed(table).heads(1);
        let keys = x + x;
        let y = x.attention(keys, keys, Some(b.padding_mask(mask)), 8.0, None).merge_heads();
        b.entry("full", &[("input_ids", ids), ("attention_mask", mask)], &[("y", y)], BTreeMap::new());
        let mut graph = b.finish().expect("fits");
        run_one(&mut graph, &Expand { hidden, split_bias: true, positions: 4 }).expect("attention alone");
        graph
    }

    fn gathered(widths: Widths) -> (Graph, Vec<Tied>, Values) {
        let open = graph(f32::NEG_INFINITY);
        let feeds = |sample: usize| {
            let ids = [[0, 1, 0], [1, 0, 0]][sample].to_vec();
            Feeds::from([
                ("input_ids".into(), Tensor::i64([1, 3], ids)),
                ("attention_mask".into(), Tensor::i64([1, 3], vec![1, 1, 0])),
            ])
        };
        let tied = tied_values(&open, widths);
        let samples = Samples { entry: "full", count: 2, feeds: &feeds };
        let values = Values::gather(&open, &tied, &samples, &Quiet).expect("runs");
        (graph(-100.0), tied_values(&graph(-100.0), widths), values)
    }

    fn of<'t>(graph: &Graph, tied: &'t [Tied], found: &[FakeQuant], name: &str) -> Vec<(&'t Tied, FakeQuant)> {
        let has = |group: &&Tied| group.values.iter().any(|id| graph.value(*id).name == name);
        tied.iter().zip(found).filter(|(group, _)| has(group)).map(|(group, steps)| (group, *steps)).collect()
    }

    #[test]
    fn a_masked_row_ends_where_softmax_gives_nothing_whatever_the_mask() {
        // Scores of rows (1, 0) and (-2, 1/2) of the table: 16·(1, -2; -2, 4.25), the third key hidden.
        let (graph, tied, values) = gathered(WORDS);
        assert_eq!(values.extent("attention.add"), Some((-32.0, 68.0)));
        assert_eq!(values.least_row_maxima["attention.add"], 16.0);
        // All scores; 16 nats below the least of the largest, or below 0, would not reach further.
        let found = steps(&graph, &tied, &values, RangeMethod::Minmax).expect("ranges");
        let [(_, masked)] = of(&graph, &tied, &found, "attention.add")[..] else { panic!("one group") };
        assert_eq!(masked, FakeQuant::over(-32.0, 68.0, 16));
        // A mask must bring 68 to 16 nats below 0.
        assert_eq!([-50.0, -120.0].map(|least| hidden(&graph, &tied, &values, least)), [-84.0, -120.0]);

        let (graph, tied, values) = gathered(BYTES);
        let found = steps(&graph, &tied, &values, RangeMethod::Minmax).expect("ranges");
        let [(_, masked)] = of(&graph, &tied, &found, "attention.add")[..] else { panic!("one group") };
        assert_eq!(masked, FakeQuant::over(-10.0, 68.0, 8), "ten nats below 0, which every range holds");
        assert_eq!(hidden(&graph, &tied, &values, -50.0), -78.0);
        let [(_, mask)] = of(&graph, &tied, &found, "padding_mask")[..] else { panic!("one group") };
        assert_eq!([mask.apply(0.0), mask.apply(-100.0)], [0.0, -100.0]);
    }

    #[test]
    fn tables_count_with_rows_that_no_sample_showed_and_keys_are_symmetric() {
        let (graph, tied, values) = gathered(WORDS);
        let found = steps(&graph, &tied, &values, RangeMethod::Minmax).expect("ranges");
        let [(_, table)] = of(&graph, &tied, &found, "embed")[..] else { panic!("one group") };
        assert_eq!(table, FakeQuant::over(-9.0, 9.0, 16));
        let [(wide, first), (keys, second)] = of(&graph, &tied, &found, "add")[..] else { panic!("two groups") };
        assert_eq!((wide.kind, first), (Kind::Seen, FakeQuant::over(-4.0, 2.0, 16)));
        assert_eq!((keys.kind, second.zero, second.bits), (Kind::Symmetric, 128, 8));
        assert_eq!(second.apply(-4.0), -4.0);
        let probabilities = tied.iter().zip(&found).find(|(group, _)| group.kind == Kind::Probability);
        assert_eq!(probabilities.map(|(_, steps)| steps.apply(1.0)), Some(1.0));
    }

    #[test]
    fn a_value_that_no_sample_reaches_is_named() {
        let (graph, tied, mut values) = gathered(WORDS);
        values.seen.remove("add");
        let error = steps(&graph, &tied, &values, RangeMethod::Minmax).expect_err("nothing seen").to_string();
        assert!(error.starts_with("calibration: add: expected numbers to take a range from, found none"), "{error}");
        let none = Samples { entry: "full", count: 0, feeds: &|_| Feeds::new() };
        assert!(matches!(Values::gather(&graph, &tied, &none, &Quiet), Err(CalibrationError::Empty)));
    }
}
