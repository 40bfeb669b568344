//! What the commands that read a checkpoint have in common: it and its passes, engines, errors, the end of a report.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use converters::audio::{AudioError, FrontEnd};
use converters::checkpoint::{Generation, Overrides};
use converters::tokenizer::TokenizerError;
use converters::{Artifact, ExportError, ImportError, Model};
use graph::passes::PassError;
use graph::{Graph, Progress};
use quant::{PolicyError, QuantError, TensorRecord};
use validate::Greedy;
use validate::calibration::CalibratedError;
use validate::chain::{Baseline, ChainError, Context, Limits, Subject, validate_artifact};
use validate::report::{ArtifactReport, ModelReport, Note, OutputFile, Report, TensorRow};
use validate::runtime::Options;
use validate::task::{Data, DataError, Speech, TaskMetric, Text};

use crate::build::folder::{FolderError, free_bytes};
use crate::build::growth::Grown;
use crate::build::inputs::Changed;
use crate::build::manifest::Origin;
use crate::calibration::Observed;
use crate::progress::Display;
use crate::recipe::{Loaded, Recipe, RecipeError, Target, Validation};
use crate::run::text_of;
use crate::table::size;
use crate::terminal::{print, printable};
use crate::{Common, Verdict, summary};

/// As errors call it.
const EVALUATION: &str = "the evaluation data";

/// Inputs drawn when a recipe names no data.
const DRAWN_SAMPLES: usize = 64;

/// Where engines come from.
#[derive(clap::Args)]
pub struct Engines {
    /// Never fetches an engine
    #[arg(long)]
    offline: bool,
    /// Python of an environment that has transformers [default: that of the active one]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Fails where an engine is missing that runs such artifacts, instead of showing it as "not run"
    #[arg(long)]
    pub strict: bool,
}

impl Engines {
    /// For opening an artifact.
    pub fn options(&self) -> Options {
        let threads = rayon::current_num_threads();
        // Without a path no engine starts, and each says so.
        let host = Some(std::env::current_exe().unwrap_or_default());
        Options { threads, offline: self.offline, python: self.python.clone(), host, ..Options::DEFAULT }
    }
}

/// A command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// `--only` names no artifact.
    #[error("--only {found}: the recipe has no such artifact; it has {}", .known.join(", "))]
    NoArtifact {
        /// What was asked for.
        found: String,
        /// Every artifact.
        known: Vec<String>,
    },
    /// Artifacts or a report would replace what is not theirs; a sentence each.
    #[error("{}\nhint: give the artifacts another folder with `out`, or another `name`", .0.join("\n"))]
    Places(Vec<String>),
    /// The folder of the artifacts.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The checkpoint was written to.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// Several artifacts are refused.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<PipelineError>),
    /// There is too little room.
    #[error("{}: expected room for about {}, found {} free", .place.display(), size(*.need), size(*.free))]
    Room {
        /// A folder on the disk.
        place: PathBuf,
        /// Bytes.
        need: u64,
        /// Bytes.
        free: u64,
    },
    /// The checkpoint.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Settings of decoding that do not fit the checkpoint.
    #[error("{}: {}", .dir.display(), .problems.join("\n  "))]
    Decode {
        /// The checkpoint.
        dir: PathBuf,
        /// One sentence a setting.
        problems: Vec<String>,
    },
    /// A pass refused the graph.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The policy does not fit the model.
    #[error("{artifact}: {source}")]
    Policy {
        /// The artifact.
        artifact: String,
        /// Every misfit.
        source: PolicyError,
    },
    /// A weight cannot be quantized.
    #[error("{artifact}: {source}")]
    Quant {
        /// The artifact.
        artifact: String,
        /// Which and why.
        source: QuantError,
    },
    /// The format cannot hold the model, or a file cannot be written.
    #[error("{artifact}: {source}")]
    Export {
        /// The artifact.
        artifact: String,
        /// What and why.
        source: ExportError,
    },
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The front end of a model that recognizes speech.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// An edit of the float model that should change nothing does.
    #[error(
        "{artifact}: the edits of the float model change its logits by {difference:.1e} of the largest one, above {limit:e}; \
         `exact: true` keeps the factors of `equalize` to powers of two, which round nothing"
    )]
    NotExact {
        /// The artifact.
        artifact: String,
        /// Relative to the largest logit.
        difference: f64,
        /// f32 noise.
        limit: f64,
    },
    /// The evaluation data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The recipe has nothing to tune.
    #[error("{}: {message}", .recipe.display())]
    Tune {
        /// The recipe.
        recipe: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// The calibration data.
    #[error(transparent)]
    Calibrated(#[from] CalibratedError),
    /// The model on the calibration data.
    #[error(transparent)]
    Calibration(#[from] quant::CalibrationError),
    /// Validation broke off.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An artifact without `trefoil.json`, or one that does not fit.
    #[error("{}: {message}", .dir.display())]
    Artifact {
        /// Its folder.
        dir: PathBuf,
        /// Expected and found.
        message: String,
    },
}

impl PipelineError {
    pub(crate) fn io(file: &Path) -> impl FnOnce(io::Error) -> PipelineError {
        |source| PipelineError::Io { file: file.to_owned(), source }
    }
}

/// A checkpoint as the importer wrote it and after the passes.
pub struct Source {
    imported: Graph,
    /// Exact, with all entries.
    pub exact: Model,
    /// How it decodes.
    pub decoding: Generation,
}

impl Source {
    /// Imports a checkpoint and runs the passes. `decode`: what takes the place of its own settings of decoding, the last
    /// of them counting.
    pub fn open(dir: &Path, decode: &[&Overrides]) -> Result<Source, PipelineError> {
        let mut exact = converters::import(dir)?;
        let own = exact.checkpoint.generation().clone();
        let decoding = decode.iter().try_fold(own, |decoding, overrides| decoding.with(overrides));
        let decoding = decoding.map_err(|problems| PipelineError::Decode { dir: dir.to_owned(), problems })?;
        let imported = exact.graph.clone();
        graph::passes::run(&mut exact.graph)?;
        Ok(Source { imported, exact, decoding })
    }

    /// The first samples of a file, all without a number.
    pub(crate) fn load(
        &self,
        file: &Path,
        samples: Option<NonZeroUsize>,
        text: &dyn Text,
    ) -> Result<Data, PipelineError> {
        let dir = self.exact.checkpoint.dir();
        let front_end = self.exact.architecture.hears().map(|features| FrontEnd::open(dir, features)).transpose()?;
        let eos = self.decoding.eos_token_ids.first().copied();
        let speech = front_end.map(|front_end| Speech { text, front_end, eos });
        let inputs = speech.as_ref().map_or(text, |speech| speech);
        Ok(Data::load(file, samples.map_or(usize::MAX, NonZeroUsize::get), inputs)?)
    }

    /// Watches the model decode, when one of the targets asks for it.
    pub fn observed(
        &self,
        recipe: &Recipe,
        targets: &[&Target],
        origin: &Origin,
        text: &dyn Text,
        scratch_dir: &Path,
        display: &Display,
    ) -> Result<Option<Observed>, PipelineError> {
        let Some(wanted) = recipe.calibrate.as_ref().filter(|_| targets.iter().any(|t| t.is_calibrated())) else {
            return Ok(None);
        };
        let data = self.load(&wanted.data, wanted.samples, text)?;
        Observed::new(&self.exact.graph, origin, &self.decoding, wanted, data, scratch_dir, display).map(Some)
    }

    /// What artifacts are measured on. Errors: data that the model cannot be fed.
    pub fn evaluation(&self, wanted: &Validation, text: &dyn Text) -> Result<Data, PipelineError> {
        let data = match &wanted.data {
            Some(file) => self.load(file, wanted.samples, text)?,
            None => {
                let count = wanted.samples.map_or(DRAWN_SAMPLES, NonZeroUsize::get);
                Data::drawn(count, &self.exact.graph, &self.decoding).map_err(ChainError::Data)?
            }
        };
        validate::chain::too_long(&self.exact.graph, &Greedy::from(&self.decoding), &data, EVALUATION)?;
        Ok(data)
    }

    /// Bytes of logits that validation keeps at a time, at most.
    pub fn logits_bytes(&self, data: &Data) -> u64 {
        validate::chain::logits_bytes(&self.exact.graph, &Greedy::from(&self.decoding), data)
    }

    /// Runs the float model on the data.
    pub fn baseline<'a>(
        &'a self,
        metric: TaskMetric,
        data: Data,
        text: &'a dyn Text,
        recorded: &'a Path,
        display: &Display,
    ) -> Result<Baseline<'a>, PipelineError> {
        let greedy = Greedy::from(&self.decoding);
        let subject = Subject { imported: &self.imported, exact: &self.exact, recorded, data, text, greedy, metric };
        Ok(Baseline::measure(subject, display)?)
    }

    /// The name of the checkpoint's folder.
    pub fn name(&self) -> String {
        let dir = self.exact.checkpoint.dir();
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        dir.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
    }

    /// What was found of all artifacts.
    pub fn report(
        &self,
        origin: Origin,
        observed: Option<&Observed>,
        baseline: &Baseline,
        artifacts: Vec<ArtifactReport>,
        recipe: Note,
    ) -> Report {
        let model = ModelReport {
            name: self.name(),
            model_type: origin.model_type,
            parameters: self.exact.graph.weights.iter().map(|(_, weight)| weight.len() as u64).sum(),
            reference: origin.reference,
            logit_scale: origin.logit_scale,
            decoding: self.decoding.to_string(),
            assumes: self.exact.architecture.assumes().iter().map(|assumed| (*assumed).to_owned()).collect(),
            inputs: origin.inputs,
            score: baseline.score,
        };
        Report {
            trefoil: env!("CARGO_PKG_VERSION").to_owned(),
            recipe,
            model,
            data: baseline.data_report(),
            calibration: observed.map(Observed::report),
            checks: baseline.checks.clone(),
            artifacts,
            others: Vec::new(),
        }
    }
}

/// Runs the chain on an artifact. `files`: as they are, and as its manifest has them where that is to be checked.
#[expect(clippy::too_many_arguments, reason = "each is one thing that the chain is about")]
pub fn validated(
    baseline: &Baseline,
    grown: &Grown,
    target: &Target,
    artifact: &Artifact,
    (files, manifest): (Vec<OutputFile>, Option<&[OutputFile]>),
    limits: &Limits,
    options: &Options,
    display: &Display,
) -> Result<ArtifactReport, PipelineError> {
    let context = Context {
        baseline,
        name: target.name(),
        quantized: &grown.model,
        artifact,
        format: target.format(),
        limits,
        options,
        tensors: grown.records.iter().map(row).collect(),
        substitutions: grown.substitutions.clone(),
        files,
        manifest,
    };
    Ok(validate_artifact(context, display)?)
}

fn row(record: &TensorRecord) -> TensorRow {
    TensorRow {
        name: record.name.clone(),
        role: record.role.to_string(),
        type_name: record.stored.clone(),
        shape: record.shape.clone(),
        bytes: record.bytes,
        bits_per_weight: record.bits_per_weight,
        sqnr_db: record.sqnr_db,
        rel_l2: record.relative_l2_error,
        max_abs_error: record.max_abs_error,
        method: record.method.name().to_owned(),
        output_sqnr_db: record.outputs.and_then(|outputs| outputs.sqnr_db),
        nearest_output_sqnr_db: record.outputs.and_then(|outputs| outputs.nearest_sqnr_db),
        notes: record.notes.clone(),
    }
}

/// `recipe check`: what becomes of every weight, without writing anything.
pub fn check(path: &Path, model: Option<&Path>, common: &Common) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(path)?;
    loaded.replace(model, None);
    let (_, of_languages) = text_of(&loaded.recipe.model, &[&loaded.recipe.languages])?;
    let source = Source::open(&loaded.recipe.model, &[&of_languages, &loaded.recipe.decode])?;
    let mut plans = Vec::new();
    for target in &loaded.recipe.artifacts {
        let artifact = || target.name().to_owned();
        let mut model = source.exact.clone();
        target.format().prepare(&mut model).map_err(|source| PipelineError::Export { artifact: artifact(), source })?;
        let plan = target.plan(&model.graph)?;
        plans.push((target.name(), plan));
    }
    print(&printable(&summary::planned(&plans, common.json))).map_err(PipelineError::io(Path::new("stdout")))?;
    Ok(Verdict::Passed)
}

/// Says how many bytes the work takes on a disk, and that there are as many. A system that does not tell is believed.
///
/// Errors: there is less room.
pub fn room(place: &Path, need: u64, display: &Display) -> Result<(), PipelineError> {
    display.say(&format!("room for {} in {}", size(need), place.display()));
    match free_bytes(place) {
        Some(free) if free < need => Err(PipelineError::Room { place: place.to_owned(), need, free }),
        _ => Ok(()),
    }
}

/// Prints the report or its summary, and failed checks on stderr. `is_good`: no check of this run failed.
pub fn told(
    report: &Report,
    is_good: bool,
    dir: Option<&Path>,
    strict: bool,
    common: &Common,
) -> Result<Verdict, PipelineError> {
    let text = match common.json {
        true => report.to_json(),
        false => printable(&summary::report(report, dir)).into_owned(),
    };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))?;
    if is_good {
        return Ok(Verdict::Passed);
    }
    // A closed stderr leaves no place to say so.
    let _ = io::stderr().write_all(summary::failures(report, strict).as_bytes());
    Ok(Verdict::Failed)
}
