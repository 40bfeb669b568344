//! `trefoil bench`: how fast artifacts are in their engines, side by side, and in how much memory.

mod paper;
mod subject;
mod table;

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use converters::Artifact;
use graph::Progress;
use graph::progress::Unit;
use validate::bench::measure::{Measured, Ran, interleaved};
use validate::bench::traffic::Traffic;
use validate::bench::{Course, Spread, bandwidth, machine, picture};
use validate::paper::SizesError;
use validate::report::Engine;
use validate::runtime::{Fit, Options, RUNTIMES, Runtime, RuntimeError, Session};

use crate::build::folder::settle_around;
use crate::command::arguments::{Common, Verdict};
use crate::command::engines::Engines;
use crate::show::progress::Display;
use crate::show::terminal::{print, printable};
use subject::Subject;

/// Times that an engine is started and loaded.
const LOADS: usize = 3;
/// Where drawn sources begin.
const SEED: u64 = 1;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Bench {
    /// Folders of artifacts of one model; ONNX folders as Optimum writes them too
    #[arg(required_unless_present = "paper", value_name = "ARTIFACT")]
    artifacts: Vec<PathBuf>,
    /// Only this engine; may be given several times [default: every one that opens an artifact]. With --paper: onnxruntime, which
    /// is its default, or ggml
    #[arg(long, value_name = "NAME")]
    engine: Vec<String>,
    /// Lengths of the sources: tokens, or seconds of sound [default: 32,128,512, or what the model hears]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    source: Vec<usize>,
    /// Sequences side by side
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    batch: Vec<NonZeroUsize>,
    /// Tokens that are said, whatever they are
    #[arg(long, value_name = "N", default_value = "64")]
    tokens: NonZeroUsize,
    /// Runs of each, in turn with the others, after one that does not count
    #[arg(long, value_name = "N", default_value = "5")]
    runs: NonZeroUsize,
    /// Instead of artifacts: an encoder-decoder of the shape of Mu (330 million random weights) against a decoder-only of the same
    /// size, beside what "Return of the Encoder" published
    #[arg(long, conflicts_with_all = ["artifacts", "batch"])]
    paper: bool,
    /// With --paper: the sizes to compare instead of Mu's, of a config.json of any family that reads tokens
    #[arg(long, value_name = "FILE", requires = "paper")]
    config: Option<PathBuf>,
    /// With --paper: what both compute in [default: int8]
    #[arg(long, value_enum, requires = "paper", value_name = "WORD")]
    precision: Option<Precision>,
    /// Draws the figures into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    engines: Engines,
}

/// What the models of `--paper` compute in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Precision {
    /// Weights and the inputs of their products
    Int8,
    /// Single precision
    F32,
}

/// Nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What lies there cannot be measured.
    #[error("{}: {message}", .dir.display())]
    Artifact {
        /// Its folder.
        dir: PathBuf,
        /// Expected and found.
        message: String,
    },
    /// No engine opens any of the artifacts.
    #[error("no engine opens {}: {}", .artifacts.join(", "), .why.join("\n"))]
    NoEngine {
        /// As they were given.
        artifacts: Vec<String>,
        /// A sentence an engine.
        why: Vec<String>,
    },
    /// Artifacts have sizes and types of their own.
    #[error("{0}: expected --paper beside it, found artifacts; give --paper instead of them, or leave it out")]
    OfPaperAlone(String),
    /// `--paper` has no such models.
    #[error("--engine: expected onnxruntime or ggml with --paper, found {found}; give one of the two, or leave it out")]
    PaperEngine {
        /// As they were given.
        found: String,
    },
    /// The config gives no sizes.
    #[error(transparent)]
    Sizes(#[from] SizesError),
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BenchError {
    fn io(file: &Path) -> impl FnOnce(io::Error) -> BenchError {
        |source| BenchError::Io { file: file.to_owned(), source }
    }
}

/// An artifact in an engine.
struct Contender<'s> {
    subject: &'s Subject,
    runtime: &'static dyn Runtime,
    engine: Engine,
    load_ms: Vec<f64>,
    traffic: Option<Traffic>,
}

/// Contenders and, in their order, their sessions.
type Opened<'s> = (Vec<Contender<'s>>, Vec<Box<dyn Session>>);

/// What was measured of one contender with one kind of course.
struct Row<'c> {
    contender: &'c Contender<'c>,
    source: usize,
    batch: usize,
    /// Or why not.
    measured: Result<Measured, String>,
    bytes_per_token: Option<f64>,
    /// Processes that wanted to run, before and after.
    load: [Option<f64>; 2],
}

/// Everything that a table shows.
struct Found<'c> {
    rows: Vec<Row<'c>>,
    /// Bytes a second that all threads read.
    bandwidth: Option<Spread>,
    threads: usize,
    tokens: usize,
    runs: usize,
    /// Of the lengths.
    unit: &'static str,
}

/// Measures and prints.
pub fn bench(arguments: &Bench, common: &Common, display: &Display) -> Result<Verdict, BenchError> {
    if arguments.paper {
        return paper::paper(arguments, common, display);
    }
    // clap asks for no flag that conflicts with what is there.
    if let Some(file) = &arguments.config {
        return Err(BenchError::OfPaperAlone(format!("--config {}", file.display())));
    }
    if arguments.precision.is_some() {
        return Err(BenchError::OfPaperAlone("--precision".to_owned()));
    }
    let subjects = arguments.artifacts.iter().map(|dir| {
        settle_around(dir);
        Subject::open(dir)
    });
    let subjects = subjects.collect::<Result<Vec<_>, _>>()?;
    let first = &subjects[0];
    for other in &subjects[1..] {
        other.same_work(first)?;
    }
    let options = Options { as_used: true, ..arguments.engines.options() };
    let mut missing = Vec::new();
    let (contenders, mut sessions) = opened(arguments, &subjects, &options, &mut missing, display)?;
    let lengths = if arguments.source.is_empty() { first.draws.lengths() } else { arguments.source.clone() };
    let (tokens, runs) = (arguments.tokens.get(), arguments.runs.get());

    let mut passes = bandwidth::passes(options.threads);
    let mut rows = Vec::new();
    for batch in arguments.batch.iter().map(|batch| batch.get()) {
        for &source in &lengths {
            let what = format!("source {source}, batch {batch}");
            display.stage(&what, (contenders.len() * (runs + 1)) as u64, Unit::Samples);
            let course = |round: usize| {
                let source = first.draws.batch(source, batch, SEED + round as u64);
                source.map(|source| Course { source, prompt: first.prompt.clone(), tokens })
            };
            course(0).map_err(|message| BenchError::Artifact { dir: first.dir.clone(), message })?;
            let before = machine::load();
            let course_of = |round, _| course(round).expect("one of this length was drawn before");
            let ran = interleaved(&mut sessions, runs, course_of, || display.advance(1));
            let load = [before, machine::load()];
            for (contender, ran) in contenders.iter().zip(ran) {
                let measured = match ran {
                    Ran::Done(rounds) => Measured::of(&rounds, batch).ok_or_else(|| "no round".to_owned()),
                    Ran::Failed(error) => Err(error.to_string()),
                };
                let bytes = |traffic: &Traffic| traffic.bytes_per_token(batch, first.draws.places(source), tokens);
                let bytes_per_token = contender.traffic.as_ref().map(bytes);
                rows.push(Row { contender, source, batch, measured, bytes_per_token, load });
            }
        }
    }
    drop(sessions);
    passes.extend(bandwidth::passes(options.threads));
    let bandwidth = Spread::of(passes);
    let found = Found { rows, bandwidth, threads: options.threads, tokens, runs, unit: first.draws.unit() };
    display.finish();

    if let Some(file) = &arguments.svg {
        fs::write(file, picture::svg(&table::panels(&found))).map_err(BenchError::io(file))?;
    }
    let text = if common.json { table::json(&found) } else { printable(&table::text(&found)).into_owned() };
    print(&text).map_err(BenchError::io(Path::new("stdout")))?;
    for sentence in &missing {
        display.say(sentence);
    }
    let lacks = arguments.engines.strict && !missing.is_empty();
    let is_whole = !lacks && found.rows.iter().all(|row| row.measured.is_ok());
    Ok(if is_whole { Verdict::Passed } else { Verdict::Failed })
}

/// Starts every engine that opens an artifact, some times in turn, and keeps what was opened last.
///
/// `missing`: takes a sentence for each engine that is not on this machine. Errors: an engine refuses an artifact, or there is
/// none.
fn opened<'s>(
    arguments: &Bench,
    subjects: &'s [Subject],
    options: &Options,
    missing: &mut Vec<String>,
    display: &Display,
) -> Result<Opened<'s>, BenchError> {
    let mut wanted: Vec<(&Subject, &'static dyn Runtime)> = Vec::new();
    for subject in subjects {
        for runtime in RUNTIMES {
            let asked = arguments.engine.is_empty() || arguments.engine.iter().any(|name| name == runtime.name());
            match runtime.fit(&subject.artifact) {
                Fit::Runs if asked => wanted.push((subject, *runtime)),
                Fit::CannotRun(why) if asked => {
                    missing.push(format!("{}: {}: {why}", subject.dir.display(), runtime.name()));
                }
                _ => {}
            }
        }
    }
    let loads = LOADS.min(arguments.runs.get());
    display.stage("load", (wanted.len() * loads) as u64, Unit::Samples);
    let mut open: Vec<(Contender, Option<Box<dyn Session>>)> = Vec::new();
    for (subject, runtime) in wanted {
        match timed(runtime, &subject.artifact, options) {
            Ok((ms, session)) => {
                let (engine, traffic) = (session.engine(), Traffic::of(&subject.artifact));
                open.push((Contender { subject, runtime, engine, load_ms: vec![ms], traffic }, Some(session)));
            }
            Err(error @ RuntimeError::Unavailable { .. }) => {
                missing.push(format!("{}: {error}", subject.dir.display()));
            }
            Err(error) => {
                return Err(BenchError::Artifact { dir: subject.dir.clone(), message: error.to_string() });
            }
        }
        display.advance(1);
    }
    for _ in 1..loads {
        for (contender, session) in &mut open {
            // Its memory goes first.
            *session = None;
            let again = timed(contender.runtime, &contender.subject.artifact, options);
            let (ms, reopened) = again.map_err(|error| BenchError::Artifact {
                dir: contender.subject.dir.clone(),
                message: error.to_string(),
            })?;
            contender.load_ms.push(ms);
            *session = Some(reopened);
            display.advance(1);
        }
    }
    if open.is_empty() {
        let artifacts = arguments.artifacts.iter().map(|dir| dir.display().to_string()).collect();
        return Err(BenchError::NoEngine { artifacts, why: missing.clone() });
    }
    Ok(open.into_iter().filter_map(|(contender, session)| Some((contender, session?))).unzip())
}

/// Until an engine is ready to encode, its process and its libraries included.
fn timed(
    runtime: &dyn Runtime,
    artifact: &Artifact,
    options: &Options,
) -> Result<(f64, Box<dyn Session>), RuntimeError> {
    let start = Instant::now();
    let session = runtime.open(artifact, options)?;
    Ok((start.elapsed().as_secs_f64() * 1e3, session))
}

/// The last parts of a path that tell artifacts apart.
fn called(dir: &Path) -> String {
    dir.display().to_string()
}
