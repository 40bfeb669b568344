//! `trefoil bench`: how fast artifacts are in their engines, side by side, and in how much memory.

mod arguments;
mod error;
mod found;
mod paper;
mod subject;
mod table;

use std::fs;
use std::path::Path;
use std::time::Instant;

use converters::Artifact;
use graph::Progress;
use graph::progress::Unit;
use validate::bench::measure::{Measured, Ran, interleaved};
use validate::bench::traffic::Traffic;
use validate::bench::{Course, Spread, bandwidth, machine, picture};
use validate::runtime::{Fit, Options, RUNTIMES, Runtime, RuntimeError, Session};

use crate::build::folder::settle_around;
use crate::command::arguments::{Common, Verdict};
use crate::show::progress::Display;
use crate::show::terminal::{print, printable};
use arguments::SEED;
use found::{Contender, Found, Row};
use subject::Subject;

pub use arguments::Bench;
pub use error::BenchError;

/// Times that an engine is started and loaded.
const LOADS: usize = 3;
/// Contenders and, in their order, their sessions.
type Opened<'s> = (Vec<Contender<'s>>, Vec<Box<dyn Session>>);

/// Sentences of engines that measure nothing.
#[derive(Default)]
struct NotRun {
    /// They are not on this machine.
    missing: Vec<String>,
    /// The model is none of theirs.
    unfit: Vec<String>,
}

impl NotRun {
    fn sentences(&self) -> impl Iterator<Item = &String> {
        self.missing.iter().chain(&self.unfit)
    }
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
    let mut not_run = NotRun::default();
    let (contenders, mut sessions) = opened(arguments, &subjects, &options, &mut not_run, display)?;
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
            let courses_of = |round, _| vec![course(round).expect("one of this length was drawn before")];
            let ran = interleaved(&mut sessions, runs, courses_of, || display.advance(1));
            let load = [before, machine::load()];
            for (contender, ran) in contenders.iter().zip(ran) {
                let measured = match ran {
                    Ran::Done(rounds) => Measured::of(&rounds.concat(), batch).ok_or_else(|| "no round".to_owned()),
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
    for sentence in not_run.sentences() {
        display.say(sentence);
    }
    let lacks = arguments.engines.strict && !not_run.missing.is_empty();
    let is_whole = !lacks && found.rows.iter().all(|row| row.measured.is_ok());
    Ok(if is_whole { Verdict::Passed } else { Verdict::Failed })
}

/// Starts every engine that opens an artifact, some times in turn, and keeps what was opened last.
///
/// `not_run`: takes a sentence for each engine that does not. Errors: an engine refuses an artifact, or there is none.
fn opened<'s>(
    arguments: &Bench,
    subjects: &'s [Subject],
    options: &Options,
    not_run: &mut NotRun,
    display: &Display,
) -> Result<Opened<'s>, BenchError> {
    let mut wanted: Vec<(&Subject, &'static dyn Runtime)> = Vec::new();
    for subject in subjects {
        for runtime in RUNTIMES {
            let asked = arguments.engine.is_empty() || arguments.engine.iter().any(|name| name == runtime.name());
            match runtime.fit(&subject.artifact) {
                Fit::Runs if asked => wanted.push((subject, *runtime)),
                Fit::CannotRun(why) if asked => {
                    not_run.unfit.push(format!("{}: {}: {why}", subject.dir.display(), runtime.name()));
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
                not_run.missing.push(format!("{}: {error}", subject.dir.display()));
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
        let is_missing = !not_run.missing.is_empty();
        return Err(BenchError::NoEngine { artifacts, is_missing, why: not_run.sentences().cloned().collect() });
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
