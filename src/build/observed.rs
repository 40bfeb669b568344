//! The calibration data of a recipe, run through the float model once for all artifacts, and kept by what it depends on.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use converters::Model;
use converters::checkpoint::Generation;
use converters::export::gguf::gguf_name;
use converters::export::imatrix::{self, Entry};
use graph::eval::{EvalError, Interpreter};
use graph::passes::Tied;
use graph::{Feeds, Graph, Tensors};
use quant::values::Values;
use quant::{Calibration, GptqSettings, Samples, Statistics};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use validate::Greedy;
use validate::calibration::Calibrated;
use validate::chain::measure;
use validate::metrics::{self, Score};
use validate::report::{CalibrationReport, Overflow};
use validate::task::{Data, Text};

use crate::build::error::PipelineError;
use crate::build::manifest::{Origin, sha256};
use crate::build::whole;
use crate::recipe::schema::CalibrationData;
use crate::show::progress::Display;

/// Values that a report lists as near the end of f16.
const OVERFLOWS_SHOWN: usize = 32;

/// What quantizers may ask of the float model.
pub struct Observed {
    calibrated: Calibrated,
    prefixes: &'static str,
    seen: Seen,
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
        let file = cache_file(origin, decoding, wanted, &calibrated);
        let seen = match file.as_deref().and_then(read) {
            Some(seen) => seen,
            None => {
                let statistics = calibrated.gather(graph, display)?;
                let seen = Seen { loss: calibrated.loss, statistics };
                // Without a cache the next run takes longer, and that is all.
                let _ = file.as_deref().map(|file| write(file, &seen));
                seen
            }
        };
        let prefixes = wanted.decode.name();
        Ok(Observed { calibrated, prefixes, seen, scratch_dir: scratch_dir.to_owned() })
    }

    /// What the values of a graph hold. Taken anew when its weights were edited, or when a value is read there that the
    /// exact graph does not have, as after an edit that a format asked for.
    pub fn statistics(
        &self,
        graph: &Graph,
        is_edited: bool,
        display: &Display,
    ) -> Result<Cow<'_, Statistics>, PipelineError> {
        if !is_edited && self.seen.statistics.covers(graph) {
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
    pub fn write_imatrix(&self, model: &Model, file: &Path) -> io::Result<()> {
        let (graph, statistics) = (&model.graph, &self.seen.statistics);
        let mut found: Vec<(String, Vec<f32>, u64)> = Vec::new();
        for (id, weight) in graph.weights.iter().filter(|(_, weight)| weight.shape.len() == 2) {
            let channels = statistics.of_weight(graph, id);
            let name = gguf_name(&weight.name, model.architecture.gguf_names());
            if let (Some(channels), Some(name)) = (channels, name) {
                found.push((name, channels.mean_squares(), channels.rows));
            }
        }
        let entries = found.iter().map(|(name, mean_square, rows)| Entry { name, mean_square, rows: *rows });
        let entries: Vec<Entry> = entries.collect();
        imatrix::write(file, &entries, &self.calibrated.data.source)
    }

    /// Whether every sample has a target that its decoder is fed.
    pub fn has_targets(&self) -> bool {
        self.calibrated.data.has_targets()
    }

    /// How many there are.
    pub fn samples(&self) -> usize {
        self.calibrated.data.samples.len()
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

    /// How well a graph does the task on the first `count` samples; `None` when they have no targets.
    pub fn score(
        &self,
        interpreter: &Interpreter,
        greedy: &Greedy,
        count: usize,
        text: &dyn Text,
        display: &Display,
    ) -> Result<Option<Score>, PipelineError> {
        let samples = self.calibrated.data.samples[..count].to_vec();
        let data = Data { samples, ..self.calibrated.data.clone() };
        let found = measure::generate(measure::BATCH_ROWS, interpreter, &data, greedy, display)?;
        let found: Vec<String> = found.iter().map(|generated| text.decode(&generated.tokens)).collect();
        let targets = data.samples.iter().map(|sample| sample.target.as_deref());
        let pairs: Option<Vec<(&str, &str)>> =
            found.iter().zip(targets).map(|(found, target)| Some((&found[..], target?))).collect();
        Ok(pairs.and_then(metrics::score))
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

/// Named by a hash of all that the statistics depend on. `None`: no home folder, or data without a hash.
fn cache_file(
    origin: &Origin,
    decoding: &Generation,
    wanted: &CalibrationData,
    calibrated: &Calibrated,
) -> Option<PathBuf> {
    let data = &calibrated.data;
    let key = serde_json::json!([
        env!("CARGO_PKG_VERSION"),
        graph::eval::kernel(),
        origin,
        decoding,
        wanted.decode,
        data.sha256,
        data.samples.len(),
        calibrated.positions(),
    ]);
    let name = sha256(&key.to_string());
    Some(validate::cache_folder()?.join("calibration").join(format!("{name}.json")))
}

/// `None` also when the file is damaged: it is then made anew.
fn read(file: &Path) -> Option<Seen> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn write(file: &Path, seen: &Seen) -> io::Result<()> {
    file.parent().inspect(|dir| whole::tidy(dir));
    whole::write(file, &serde_json::to_vec(seen)?)
}
