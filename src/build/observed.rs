//! The calibration data of a recipe, run through the float model once for all artifacts, and kept by what it depends on.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use converters::Model;
use converters::checkpoint::Generation;
use converters::export::gguf::Gguf;
use converters::export::imatrix::{self, Entry};
use graph::eval::{EvalError, Interpreter};
use graph::passes::Tied;
use graph::{Feeds, Graph, Tensors, ValueId, same_values};
use quant::values::Values;
use quant::{Calibration, GptqSettings, Samples, Statistics};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use validate::Greedy;
use validate::calibration::Calibrated;
use validate::report::{CalibrationReport, Overflow};
use validate::task::Data;

use crate::build::cache::{self, Key, Kind};
use crate::build::error::PipelineError;
use crate::build::manifest::{self, Origin};
use crate::recipe::samples::CalibrationData;
use crate::show::progress::Display;

/// Values that a report lists as near the end of f16.
const OVERFLOWS_SHOWN: usize = 32;

/// What quantizers may ask of the float model.
pub struct Observed {
    calibrated: Calibrated,
    prefixes: &'static str,
    seen: Seen,
    /// The graph that was watched.
    exact: Graph,
    key: Key,
    scratch_dir: PathBuf,
}

/// What is kept between runs.
#[derive(Serialize, Deserialize)]
struct Seen {
    loss: Option<f64>,
    statistics: Statistics,
}

impl Observed {
    /// Runs the float model over the data, or takes what an earlier run found on the same checkpoint, data and settings.
    pub fn new(
        graph: &Graph,
        origin: &Origin,
        decoding: &Generation,
        wanted: &CalibrationData,
        data: Data,
        scratch_dir: &Path,
        display: &Display,
    ) -> Result<Observed, PipelineError> {
        let greedy = Greedy::from(decoding);
        let mut calibrated = Calibrated::new(graph, data, &greedy, wanted.decode, display)?;
        let fed = cache::fed(&calibrated);
        let key = Key::of(&json!([origin, decoding, wanted.decode, calibrated.data.sha256, fed]));
        let seen = match cache::read(Kind::Calibration, &key) {
            Some(seen) => seen,
            None => {
                let statistics = calibrated.gather(graph, display)?;
                let seen = Seen { loss: calibrated.loss, statistics };
                cache::write(Kind::Calibration, &key, &seen);
                seen
            }
        };
        let (prefixes, exact) = (wanted.decode.name(), graph.clone());
        Ok(Observed { calibrated, prefixes, seen, exact, key, scratch_dir: scratch_dir.to_owned() })
    }

    /// The name of what was observed: of the model, the samples and the code that watched.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What the values of a graph hold. Taken anew when an input of a Linear, or one of `others`, is not computed from the same
    /// numbers as the value of its name in the exact graph: an edit moved factors, or a format asked for another graph.
    pub fn statistics(
        &self,
        graph: &Graph,
        others: &[ValueId],
        display: &Display,
    ) -> Result<Cow<'_, Statistics>, PipelineError> {
        let same = same_values(&self.exact, graph);
        let wanted = quant::policy::role::linear_inputs(graph).into_iter().chain(others.iter().copied());
        if wanted.into_iter().all(|id| same[id.0]) {
            return Ok(Cow::Borrowed(&self.seen.statistics));
        }
        let feeds = |sample: usize| self.calibrated.feeds(sample);
        Ok(Cow::Owned(quant::calibrate::gather(graph, &self.with_feeds(&feeds), &|_, _| {}, display)?))
    }

    /// What every value of a graph holds that decides the steps of a group.
    pub fn values(&self, graph: &Graph, tied: &[Tied], display: &Display) -> Result<Values, PipelineError> {
        let feeds = |sample: usize| self.calibrated.feeds(sample);
        Ok(Values::gather(graph, tied, &self.with_feeds(&feeds), display)?)
    }

    /// Calls `use_it` with the calibration that statistics belong to.
    pub fn with<T>(&self, statistics: &Statistics, gptq: GptqSettings, use_it: impl FnOnce(&Calibration) -> T) -> T {
        let feeds = |sample: usize| self.calibrated.feeds(sample);
        use_it(&Calibration { samples: self.with_feeds(&feeds), statistics, gptq, dir: &self.scratch_dir })
    }

    fn with_feeds<'a>(&self, feeds: &'a (dyn Fn(usize) -> Feeds + Sync)) -> Samples<'a> {
        Samples { entry: "full", count: self.calibrated.data.samples.len(), feeds }
    }

    /// The samples, each with what its decoder is fed.
    pub fn calibrated(&self) -> &Calibrated {
        &self.calibrated
    }

    /// The importance of input channels under the names that a GGUF of the model gives its matrices.
    pub fn write_imatrix(&self, model: &Model, gguf: &Gguf, file: &Path) -> io::Result<()> {
        let (graph, statistics) = (&model.graph, &self.seen.statistics);
        let mut found: Vec<(String, Vec<f32>, u64)> = Vec::new();
        for (id, weight) in graph.weights.iter().filter(|(_, weight)| weight.shape.len() == 2) {
            let channels = statistics.of_weight(graph, id);
            let name = gguf.tensor_name(model, &weight.name);
            if let (Some(channels), Some(name)) = (channels, name) {
                found.push((name, channels.mean_squares(), channels.rows));
            }
        }
        let entries = found.iter().map(|(name, mean_square, rows)| Entry { name, mean_square, rows: *rows });
        let entries: Vec<Entry> = entries.collect();
        imatrix::write(file, &entries, &self.calibrated.data.source)
    }

    /// The file of the samples, for a manifest.
    pub fn samples(&self) -> manifest::Samples {
        let Data { source, sha256, .. } = &self.calibrated.data;
        manifest::Samples { file: source.clone(), sha256: sha256.clone() }
    }

    /// Whether every sample has a target that its decoder is fed.
    pub fn has_targets(&self) -> bool {
        self.calibrated.data.has_targets()
    }

    /// Runs the first `count` samples through a graph and shows their outputs to `watch`, in any order.
    pub fn run(
        &self,
        interpreter: &Interpreter,
        count: usize,
        watch: &(dyn Fn(usize, &Tensors) + Sync),
    ) -> Result<(), PipelineError> {
        let one =
            |sample: usize| interpreter.call("full", &self.calibrated.feeds(sample)).map(|out| watch(sample, &out));
        let done: Result<Vec<()>, EvalError> = (0..count).into_par_iter().map(one).collect();
        done.map(drop).map_err(|error| PipelineError::Calibration(error.into()))
    }

    /// For the report.
    pub fn report(&self) -> CalibrationReport {
        let overflows = self.seen.statistics.near_f16_overflow();
        CalibrationReport {
            source: self.calibrated.data.source.clone(),
            sha256: self.calibrated.data.sha256.clone(),
            samples: self.calibrated.data.samples.len() as u64,
            positions: self.calibrated.positions(),
            prefixes: self.prefixes.to_owned(),
            loss: self.seen.loss,
            largest: self
                .seen
                .statistics
                .largest()
                .map(|(value, max_abs)| Overflow { value: value.to_owned(), max_abs }),
            near_overflow_count: overflows.len() as u64,
            near_overflow: overflows
                .into_iter()
                .take(OVERFLOWS_SHOWN)
                .map(|(value, max_abs)| Overflow { value: value.to_owned(), max_abs })
                .collect(),
        }
    }
}
