//! The pipeline: import, passes, then for each artifact prepare, quantize, check, write, validate; one line a stage.

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use converters::audio::{AudioError, FrontEnd};
use converters::checkpoint::{Generation, Overrides};
use converters::tokenizer::TokenizerError;
use converters::{Artifact, ExportError, ImportError, Model, Staging};
use graph::passes::PassError;
use graph::progress::Unit;
use graph::{Graph, Progress, Scratch};
use quant::{Activations, Calibration, Equalize, PolicyError, QuantError, TensorRecord};
use validate::Greedy;
use validate::calibration::CalibratedError;
use validate::chain::{Baseline, ChainError, Context, Limits, Subject, validate_artifact};
use validate::report::{ArtifactReport, ModelReport, Note, Report, TensorRow};
use validate::runtime::Options;
use validate::task::{Data, DataError, Speech, Text};

use crate::calibration::Observed;
use crate::edits;
use crate::manifest::{self, Manifest, Origin, RecipeText};
use crate::npu;
use crate::progress::{Display, Of};
use crate::recipe::{Loaded, Recipe, RecipeError, Target, Validation};
use crate::run::text_of;
use crate::{Common, Verdict, summary};

/// Inputs drawn when a recipe names no data.
const DRAWN_SAMPLES: usize = 64;

/// The importance matrix beside a GGUF.
const IMATRIX_FILE: &str = "imatrix.gguf";

/// Arguments of `convert`.
#[derive(clap::Args)]
pub struct Convert {
    /// The recipe
    recipe: PathBuf,
    /// Another checkpoint than the recipe's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Another folder for the artifacts than the recipe's
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only this artifact; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Writes the artifacts without testing them, and no report
    #[arg(long)]
    no_validate: bool,
    /// Puts report.json and report.md here instead of beside the artifacts
    #[arg(long, value_name = "DIR", conflicts_with = "no_validate")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    engines: Engines,
}

/// Arguments of `validate`.
#[derive(clap::Args)]
pub struct Validate {
    /// The artifact's folder, with its trefoil.json
    artifact: PathBuf,
    /// The checkpoint that it was made from
    #[arg(long, value_name = "DIR")]
    reference: PathBuf,
    /// Lines {"input": …, "target": …} or plain text [default: drawn inputs]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The data that the artifact was calibrated on, when it was
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// How many samples of --data, from the first [default: as the artifact's recipe says]
    #[arg(long, value_name = "N")]
    samples: Option<NonZeroUsize>,
    #[command(flatten)]
    engines: Engines,
}

/// Where engines come from.
#[derive(clap::Args)]
pub struct Engines {
    /// Never fetches an engine
    #[arg(long)]
    offline: bool,
    /// Python of an environment that has transformers [default: that of the active one]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
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
    fn observed(
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

    fn baseline<'a>(
        &'a self,
        wanted: &Validation,
        text: &'a dyn Text,
        recorded: &'a Path,
        display: &Display,
    ) -> Result<Baseline<'a>, PipelineError> {
        let greedy = Greedy::from(&self.decoding);
        let data = match &wanted.data {
            Some(file) => self.load(file, wanted.samples, text)?,
            None => {
                let count = wanted.samples.map_or(DRAWN_SAMPLES, NonZeroUsize::get);
                Data::drawn(count, &self.exact.graph, &self.decoding).map_err(ChainError::Data)?
            }
        };
        let metric = wanted.metric;
        let subject = Subject { imported: &self.imported, exact: &self.exact, recorded, data, text, greedy, metric };
        Ok(Baseline::measure(subject, display)?)
    }

    /// The name of the checkpoint's folder.
    pub fn name(&self) -> String {
        let dir = self.exact.checkpoint.dir();
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        dir.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
    }

    fn report(
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
        }
    }
}

/// What an artifact is meant to compute.
struct Grown {
    model: Model,
    records: Vec<TensorRecord>,
    substitutions: Vec<Note>,
}

impl Grown {
    /// Edits a copy of the exact model for the target's format and quantizes it.
    fn new(
        source: &Source,
        target: &Target,
        observed: Option<&Observed>,
        scratch: &Scratch,
        display: &Display,
    ) -> Result<Grown, PipelineError> {
        let artifact = || target.name().to_owned();
        let samples = observed;
        let observed = observed.filter(|_| target.is_calibrated());
        let mut model = source.exact.clone();
        let edits = target
            .format()
            .prepare(&mut model)
            .map_err(|source| PipelineError::Export { artifact: artifact(), source })?;
        let about = target.format().name();
        let mut substitutions: Vec<Note> =
            edits.into_iter().map(|text| Note { about: about.to_owned(), text }).collect();
        let (policy, unedited) = (target.policy(), model.graph.clone());
        let mut is_edited = policy.equalize != Equalize::None;
        if let Some(wanted) = target.rescale_residual {
            let (is_scaled, notes) = edits::rescale(&mut model.graph, wanted, observed, display)?;
            substitutions.extend(notes);
            is_edited |= is_scaled;
        }
        let plan = target.plan(&model.graph)?;
        substitutions.extend(plan.weights.iter().filter_map(|planned| match &planned.decided_by {
            quant::Decider::Fallback { .. } => {
                Some(Note { about: planned.name.clone(), text: format!("{}, {}", planned.scheme, planned.decided_by) })
            }
            _ => None,
        }));
        let quant_error = |source| PipelineError::Quant { artifact: artifact(), source };
        let moved = edits::equalize(&mut model.graph, policy, &plan, observed, display)?.map_err(quant_error)?;
        substitutions.extend(moved);
        if is_edited {
            let name = target.name();
            substitutions.push(edits::prove(&unedited, &model.graph, name, source, observed, display)?);
        }
        let progress = Of { name: target.name(), display };
        let exact = model.graph.clone();
        let mut quantize = |calibration: Option<&Calibration>| {
            quant::quantize_calibrated(&mut model.graph, &plan, calibration, scratch, &progress)
        };
        let statistics = observed.map(|observed| observed.statistics(&exact, is_edited, display)).transpose()?;
        let watched = observed.zip(statistics.as_deref());
        let records = match watched {
            None => quantize(None),
            Some((observed, statistics)) => observed.with(statistics, policy.gptq, |known| quantize(Some(known))),
        };
        let mut records = records.map_err(quant_error)?;
        if let (true, Some((_, statistics))) = (policy.bias_correction, watched) {
            let corrected = quant::bias::correct(&exact, &mut model.graph, statistics);
            let corrected = corrected.map_err(|source| quant_error(source.into()))?;
            let text = format!("{} biases take up the mean that rounding the weights adds", corrected.len());
            substitutions.push(Note { about: "bias_correction".to_owned(), text });
        }
        match (policy.activations, target.granularity(), watched) {
            (Activations::Dynamic, Some(granularity), _) => {
                graph::passes::quantize_activations(&mut model.graph, granularity)?;
            }
            (Activations::Static(wanted), _, Some((observed, _))) if target.npu().is_some() => {
                let npu = target.npu().expect("just asked");
                substitutions.extend(npu::round(&mut model, &exact, npu, wanted, observed, display)?);
                npu::renew(&mut records, &exact, &model.graph)?;
            }
            (Activations::Static(wanted), _, Some((_, statistics))) => {
                let steps = statistics.steps(wanted)?;
                graph::passes::quantize_statically(&mut model.graph, &steps)?;
            }
            _ => {}
        }
        if let (Some(npu), Some(samples), None) = (target.npu(), samples, &model.evidence) {
            npu::watch(&mut model, npu, samples, display)?;
        }
        Ok(Grown { model, records, substitutions })
    }
}

/// `convert`: from a recipe to artifacts and their report.
pub fn convert(arguments: &Convert, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(&arguments.recipe)?;
    loaded.replace(arguments.model.as_deref(), arguments.out.as_deref());
    let Loaded { recipe, text: recipe_text, .. } = &loaded;
    let targets = chosen(&recipe.artifacts, &arguments.only)?;

    display.say(&format!("import {}", recipe.model.display()));
    let (text, of_languages) = text_of(&recipe.model, &[&recipe.languages])?;
    let source = Source::open(&recipe.model, &[&of_languages, &recipe.decode])?;
    let recipe_text = RecipeText::new(&arguments.recipe, recipe_text);
    let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
    let folder = OutFolder::at(&recipe.out).map_err(PipelineError::io(&recipe.out))?;

    let observed = source.observed(recipe, &targets, &origin, &*text, &recipe.out, display)?;
    let recorded = recipe.model.join("expected.safetensors");
    // All are written before the first is validated: what a format refuses is known early.
    let mut staged = Vec::new();
    for target in targets {
        let name = target.name();
        let scratch = Scratch::in_dir(&recipe.out).map_err(PipelineError::io(&recipe.out))?;
        let grown = Grown::new(&source, target, observed.as_ref(), &scratch, display)?;
        display.stage(&format!("{name}: write"), 0, Unit::Bytes);
        let staging = Staging::beside(&recipe.out.join(name)).map_err(PipelineError::io(&recipe.out.join(name)))?;
        if let (true, Some(observed)) = (target.writes_imatrix(), &observed) {
            let file = staging.dir().join(IMATRIX_FILE);
            observed.write_imatrix(&source.exact, &file).map_err(PipelineError::io(&recipe.out.join(name)))?;
        }
        let artifact = write(&grown, target, &staging, &source.decoding, &origin, &recipe_text)?;
        staged.push((target, grown, staging, artifact));
    }
    let baseline = match arguments.no_validate {
        true => None,
        false => Some(source.baseline(&recipe.validate, &*text, &recorded, display)?),
    };
    let options = recipe.validate.options(arguments.engines.options());
    let mut reports = Vec::new();
    for (target, grown, _, artifact) in &staged {
        if let Some(baseline) = &baseline {
            let limits = target.limits(&recipe.validate);
            reports.push(validated(baseline, grown, target, artifact, limits, &options, display)?);
        }
    }
    let mut written = Vec::new();
    for (target, grown, staging, _) in staged {
        let dir = staging.commit().map_err(PipelineError::io(&recipe.out.join(target.name())))?;
        written.push((dir, grown.records));
    }
    folder.keep();
    display.finish();
    let Some(baseline) = baseline else {
        print(&summary::written(&written, common.json))?;
        return Ok(Verdict::Passed);
    };
    let note = Note { about: recipe_text.file, text: recipe_text.text };
    let report = source.report(origin, observed.as_ref(), &baseline, reports, note);
    let report_dir = arguments.report_dir.as_deref().unwrap_or(&recipe.out);
    write_report(&report, report_dir)?;
    told(&report, Some(report_dir), common)
}

/// Writes an artifact and its manifest into a staging folder.
fn write(
    grown: &Grown,
    target: &Target,
    staging: &Staging,
    decoding: &Generation,
    origin: &Origin,
    recipe: &RecipeText,
) -> Result<Artifact, PipelineError> {
    let format = target.format();
    let export = |source| PipelineError::Export { artifact: target.name().to_owned(), source };
    format.check(&grown.model).map_err(export)?;
    let artifact = format.write(&grown.model, staging.dir()).map_err(export)?;
    let manifest = Manifest {
        trefoil: env!("CARGO_PKG_VERSION").to_owned(),
        name: target.name().to_owned(),
        format: format.name().to_owned(),
        model: origin.clone(),
        decoding: decoding.clone(),
        recipe: recipe.clone(),
        files: manifest::outputs(&artifact).map_err(PipelineError::io(staging.dir()))?,
        substitutions: grown.substitutions.clone(),
        tensors: grown.records.clone(),
    };
    manifest.write(staging.dir()).map_err(PipelineError::io(&staging.dir().join(manifest::FILE)))?;
    Artifact::list(format.name(), staging.dir()).map_err(PipelineError::io(staging.dir()))
}

fn validated(
    baseline: &Baseline,
    grown: &Grown,
    target: &Target,
    artifact: &Artifact,
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

/// The artifacts of a recipe that `--only` asks for; all without it.
fn chosen<'r>(targets: &'r [Target], only: &[String]) -> Result<Vec<&'r Target>, PipelineError> {
    let known: Vec<String> = targets.iter().map(|t| t.name().to_owned()).collect();
    if let Some(found) = only.iter().find(|name| !known.contains(name)) {
        return Err(PipelineError::NoArtifact { found: found.clone(), known });
    }
    Ok(targets.iter().filter(|t| only.is_empty() || only.iter().any(|name| name == t.name())).collect())
}

/// `validate`: grows the artifact's model anew from the checkpoint and the recipe in its manifest, and runs the chain on
/// the artifact as it lies there.
pub fn validate(arguments: &Validate, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let dir = &arguments.artifact;
    let wrong = |message: String| PipelineError::Artifact { dir: dir.clone(), message };
    let manifest = Manifest::read(dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?.ok_or_else(|| {
        wrong(format!("expected a {}, found none; only artifacts of trefoil have one", manifest::FILE))
    })?;
    let Manifest { name, recipe, .. } = manifest;
    let mut loaded = Loaded::of_artifact(dir, &recipe.text)?;
    if let (Some(calibrate), Some(file)) = (&mut loaded.recipe.calibrate, &arguments.calibration) {
        calibrate.data = file.clone();
    }
    let target = loaded.recipe.artifacts.iter().find(|t| t.name() == name);
    let target = target.ok_or_else(|| wrong(format!("{}: no artifact named {name} in its recipe", manifest::FILE)))?;
    if target.is_calibrated() && arguments.calibration.is_none() {
        let message = "its weights were chosen on calibration data; expected --calibration FILE, found none";
        return Err(wrong(message.to_owned()));
    }
    let wanted = Validation {
        data: arguments.data.clone(),
        samples: arguments.samples.or(loaded.recipe.validate.samples),
        ..loaded.recipe.validate.clone()
    };

    display.say(&format!("import {}", arguments.reference.display()));
    let (text, of_languages) = text_of(&arguments.reference, &[&loaded.recipe.languages])?;
    let source = Source::open(&arguments.reference, &[&of_languages, &loaded.recipe.decode])?;
    let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
    if let Some(other) = different_input(&manifest.model, &origin) {
        return Err(wrong(format!("made from another checkpoint than {}: {other}", arguments.reference.display())));
    }
    let recorded = arguments.reference.join("expected.safetensors");
    let baseline = source.baseline(&wanted, &*text, &recorded, display)?;
    let scratch = Scratch::new().map_err(PipelineError::io(&std::env::temp_dir()))?;
    let observed = source.observed(&loaded.recipe, &[target], &origin, &*text, &std::env::temp_dir(), display)?;
    let grown = Grown::new(&source, target, observed.as_ref(), &scratch, display)?;
    let artifact = Artifact::list(target.format().name(), dir).map_err(PipelineError::io(dir))?;
    let options = wanted.options(arguments.engines.options());
    let report = validated(&baseline, &grown, target, &artifact, target.limits(&wanted), &options, display)?;
    display.finish();
    let note = Note { about: recipe.file, text: recipe.text };
    told(&source.report(origin, observed.as_ref(), &baseline, vec![report], note), None, common)
}

/// The first weight file that differs between the checkpoint of an artifact and the one at hand.
fn different_input(then: &Origin, now: &Origin) -> Option<String> {
    let of = |origin: &Origin, path: &str| origin.inputs.iter().find(|f| f.path == path).map(|f| f.sha256.clone());
    let changed = |f: &&validate::report::InputFile| of(now, &f.path).as_ref() != Some(&f.sha256);
    then.inputs.iter().find(changed).map(|f| format!("{} has another SHA-256", f.path))
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
    print(&summary::planned(&plans, common.json))?;
    Ok(Verdict::Passed)
}

/// Prints the report or its summary, and failed checks on stderr.
fn told(report: &Report, dir: Option<&Path>, common: &Common) -> Result<Verdict, PipelineError> {
    match common.json {
        true => print(&report.to_json())?,
        false => print(&summary::report(report, dir))?,
    }
    if report.passed() {
        return Ok(Verdict::Passed);
    }
    // A closed stderr leaves no place to say so.
    let _ = io::stderr().write_all(summary::failures(report).as_bytes());
    Ok(Verdict::Failed)
}

pub(crate) fn print(text: &str) -> Result<(), PipelineError> {
    io::stdout().write_all(text.as_bytes()).map_err(PipelineError::io(Path::new("stdout")))
}

/// Writes report.json and report.md, both or none of them anew.
fn write_report(report: &Report, dir: &Path) -> Result<(), PipelineError> {
    let staging = Staging::beside(&dir.join("report")).map_err(PipelineError::io(dir))?;
    let files = [("report.json", report.to_json()), ("report.md", report.to_markdown())];
    for (name, text) in &files {
        fs::write(staging.dir().join(name), text).map_err(PipelineError::io(&dir.join(name)))?;
    }
    for (name, _) in &files {
        fs::rename(staging.dir().join(name), dir.join(name)).map_err(PipelineError::io(&dir.join(name)))?;
    }
    Ok(())
}

// Folders that this program made for artifacts and that hold nothing finished yet, innermost first.
static NEW_FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The folder of artifacts; what is made anew disappears unless it is kept.
struct OutFolder;

impl OutFolder {
    fn at(dir: &Path) -> io::Result<OutFolder> {
        let missing = dir.ancestors().take_while(|a| !a.as_os_str().is_empty() && !a.exists());
        *NEW_FOLDERS.lock().expect("no panic while holding the lock") = missing.map(Path::to_owned).collect();
        fs::create_dir_all(dir)?;
        Ok(OutFolder)
    }

    fn keep(self) {
        NEW_FOLDERS.lock().expect("no panic while holding the lock").clear();
    }
}

impl Drop for OutFolder {
    fn drop(&mut self) {
        remove_new_folders();
    }
}

fn remove_new_folders() {
    let mut made = NEW_FOLDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for dir in made.drain(..) {
        // Only an empty folder goes; what someone else put there stays.
        let _ = fs::remove_dir(dir);
    }
}

/// Removes what an interrupted conversion would leave.
pub fn remove_unfinished() {
    Staging::remove_unfinished();
    remove_new_folders();
}
