//! `trefoil compare`: any two artifacts, of this tool or of others, asked the same questions in their own engines.

mod side;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use validate::bench::compare::{self, Float};
use validate::metrics::{Scoring, TaskMetric};
use validate::peers::{Baseline, Peer, Questions};
use validate::report::{ArtifactReport, DataReport, ModelReport, Note, Report, markdown};
use validate::runtime::reference::{Reference, caching};
use validate::task::Data;
use validate::{Greedy, RuntimeError, Session};

use crate::build::error::PipelineError;
use crate::build::folder::settle_around;
use crate::build::made::made;
use crate::build::manifest::{self, Origin};
use crate::build::paged;
use crate::build::places;
use crate::build::source::Source;
use crate::command::arguments::{Common, Verdict};
use crate::command::engines::Engines;
use crate::show::progress::{Display, Of};
use crate::show::terminal::{print, printable};
use side::{Asked, Side};

/// Arguments of `compare`.
#[derive(clap::Args)]
pub struct Compare {
    /// The folder of an artifact, which B is compared with: ONNX, GGUF, safetensors, or with --reference CTranslate2
    a: PathBuf,
    /// The folder of another artifact of the same model: ONNX, GGUF, safetensors or CTranslate2
    b: PathBuf,
    /// Lines {"input": …, "target": …} or plain text
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// A float checkpoint, which both are compared with instead of B with A
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// How many samples of --data, from the first
    #[arg(long, value_name = "N", default_value = "200")]
    samples: NonZeroUsize,
    /// What is scored, as a recipe names it; may be given several times [default: exact_match]
    #[arg(long, value_name = "METRIC", value_parser = metric)]
    metric: Vec<TaskMetric>,
    /// Puts report.json and its pages into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Does not time the artifacts
    #[arg(long)]
    no_bench: bool,
    #[command(flatten)]
    pub engines: Engines,
}

fn metric(text: &str) -> Result<TaskMetric, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// These metrics, of texts as they are.
fn scoring(metrics: Vec<TaskMetric>) -> Scoring {
    let mut scoring = Scoring::default();
    scoring.metrics.extend(metrics);
    scoring
}

/// Asks both and tells what is found.
pub fn compare(arguments: &Compare, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let out = arguments.out.as_deref();
    if let Some(problem) = out.and_then(places::report_problem) {
        return Err(PipelineError::Places(vec![problem]));
    }
    [&arguments.a, &arguments.b].into_iter().for_each(|dir| settle_around(dir));
    let options = arguments.engines.options();
    let sides = [Side::open(&arguments.a, &options)?, Side::open(&arguments.b, &options)?];
    sides[1].speaks_as(&sides[0])?;
    let asked = Asked::of(arguments.reference.as_deref(), [&arguments.a, &arguments.b])?;
    let eos = asked.decoding.eos_token_ids.first().copied();
    let front_end = asked.kind.open(&asked.files, &*asked.text, eos, asked.images)?;
    let data =
        Data::load(&arguments.data, arguments.samples.into(), &*front_end).map_err(|source| asked.unread(source))?;
    let metrics = if arguments.metric.is_empty() { vec![TaskMetric::default()] } else { arguments.metric.clone() };
    let greedy = Greedy::from(&asked.decoding);
    let scoring = scoring(metrics);
    let mut questions = Questions { data, text: &*asked.text, greedy, scoring };

    let float = arguments.reference.as_ref().map(|dir| Source::open(dir, &[])).transpose()?;
    let (model, artifacts) = match &float {
        Some(source) => {
            let interpreter = caching(&source.exact.graph);
            let mut session = Reference::new(&interpreter);
            let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
            let (artifacts, baseline) = told(&mut questions, &mut session, &sides, arguments, display)?;
            (of_float(source, origin, &baseline), artifacts)
        }
        None => {
            let mut session = sides[0].first_engine()?;
            let (artifacts, _) = told(&mut questions, &mut *session, &sides, arguments, display)?;
            let model = ModelReport {
                name: sides[0].name(&sides),
                model_type: asked.model_type.clone(),
                reference: Report::NO_FLOAT.to_owned(),
                decoding: asked.decoding.to_string(),
                ..ModelReport::default()
            };
            (model, artifacts)
        }
    };
    display.finish();
    let report = Report {
        trefoil: env!("CARGO_PKG_VERSION").to_owned(),
        recipe: Note::default(),
        model,
        data: of_data(&questions),
        calibration: None,
        checks: Vec::new(),
        artifacts,
        others: Vec::new(),
        costs: Vec::new(),
        columns: Vec::new(),
        made: made(),
    };
    if let Some(dir) = out {
        paged::put(&report, dir)?;
    }
    let text = if common.json { report.to_json() } else { printable(&markdown::page(&report)).into_owned() };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))?;
    let is_missing = arguments.engines.strict && report.all_checks().any(|(_, check)| check.engine_is_missing);
    Ok(if report.passed() && !is_missing { Verdict::Passed } else { Verdict::Failed })
}

/// Both artifacts against a session, and how fast they are.
fn told<'s>(
    questions: &mut Questions,
    session: &'s mut dyn Session,
    sides: &[Side; 2],
    arguments: &Compare,
    display: &Display,
) -> Result<(Vec<ArtifactReport>, Baseline<'s>), PipelineError> {
    let mut baseline = questions.baseline(session, display)?;
    let mut artifacts = Vec::new();
    for side in sides {
        let name = side.name(sides);
        let files = manifest::outputs(&side.artifact)?;
        let peer = Peer { name: &name, artifact: &side.artifact, files, options: side.options.clone() };
        let mut found = questions.compare(&peer, &mut baseline, display);
        if !arguments.no_bench {
            let courses = questions.courses(compare::SAMPLES).map_err(failed)?;
            let is_same = side.artifact.format == sides[0].artifact.format;
            let float = match () {
                () if arguments.reference.is_some() => Float::None("the float model was not timed".to_owned()),
                () if side.artifact.dir == sides[0].artifact.dir => Float::Itself,
                () if is_same => Float::Artifact(&sides[0].artifact),
                () => Float::None(format!("{} is of another format", sides[0].name(sides))),
            };
            let progress = Of { name: &name, display };
            found.speed = compare::compare(&side.artifact, &float, &courses, None, &side.options, &progress).speeds;
        }
        artifacts.push(found);
    }
    Ok((artifacts, baseline))
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: "data", message }
}

fn of_float(source: &Source, origin: Origin, baseline: &Baseline) -> ModelReport {
    ModelReport {
        name: source.name(),
        model_type: origin.model_type,
        parameters: source.exact.graph.weights.iter().map(|(_, weight)| weight.len() as u64).sum(),
        reference: origin.reference,
        logit_scale: origin.logit_scale,
        decoding: source.decoding.to_string(),
        assumes: source.exact.architecture.assumes().iter().map(|assumed| (*assumed).to_owned()).collect(),
        inputs: origin.inputs,
        score: baseline.scored.as_ref().map(|scored| scored.score()),
    }
}

fn of_data(questions: &Questions) -> DataReport {
    let data = &questions.data;
    DataReport {
        source: data.source.clone(),
        sha256: data.sha256.clone(),
        samples: data.samples.len() as u64,
        positions: data.samples.iter().map(|sample| sample.target_ids.len() as u64).sum(),
        targets: "the data, else what is compared with".to_owned(),
        metrics: questions.scoring.metrics.clone(),
    }
}
