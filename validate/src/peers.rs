//! Artifacts of any tool against one of them or against a float model: the same questions, one decoding, each in its own engines.

use converters::Artifact;
use frontend::Input;
use graph::Progress;
use graph::progress::Unit;
use metrics::{Distances, Meter, Scored, Scoring};
use report::{ArtifactReport, Check, Engine, Generation, Link, Metric, OutputFile, Run};

use crate::answers::{self, AskError, Said, ask};
use crate::bench::Course;
use crate::generate::{Generated, Greedy, decode};
use crate::runtime::ctranslate2::{self, Translator};
use crate::runtime::{ANSWERERS, Answers, Fit, Options, RUNTIMES, Runtime, RuntimeError, Session};
use crate::task::{self, Batch, Data, Text};

/// Sequences side by side.
const ROWS: usize = 8;
/// Tokens that are said of a sample under a clock.
const TIMED_TOKENS: usize = 32;
/// It holds graphs against themselves, and is nobody's engine.
const NOBODYS: &str = "interpreter";

/// What is asked of all, and how answers are read.
pub struct Questions<'a> {
    /// Inputs and right answers.
    pub data: Data,
    /// The tokenizer of all.
    pub text: &'a dyn Text,
    /// The decoding of all.
    pub greedy: Greedy,
    /// What is scored.
    pub scoring: Scoring,
}

/// An artifact and what it is called.
pub struct Peer<'a> {
    /// Its name in the report.
    pub name: &'a str,
    /// The folder.
    pub artifact: &'a Artifact,
    /// Its files with their sizes and digests.
    pub files: Vec<OutputFile>,
    /// How it is opened.
    pub options: Options,
}

/// What all others are compared with.
pub struct Baseline<'s> {
    /// Asked again for each that it is compared with, so that no logits are kept.
    session: &'s mut dyn Session,
    /// What it said, by sample.
    generated: Vec<Generated>,
    /// Of what it said; none when the data has no right answers.
    pub scored: Option<Scored>,
}

/// What came of an artifact.
#[derive(Default)]
struct Found {
    checks: Vec<Check>,
    runs: Vec<Run>,
    /// By run and sample.
    said: Vec<Vec<Said>>,
}

impl Found {
    fn take(&mut self, what: String, done: Result<(Run, Vec<Said>), RuntimeError>) {
        match done {
            Ok((run, said)) => {
                self.runs.push(run);
                self.said.push(said);
            }
            Err(RuntimeError::Unavailable { why, install, .. }) => {
                self.checks.push(Check::missing(Link::Runtime, what, format!("{why}; to run it: {install}")));
            }
            Err(error) => self.checks.push(Check::failed(Link::Runtime, what, error.to_string())),
        }
    }
}

/// As checks name an engine.
fn called(engine: &Engine) -> String {
    format!("{} {}", engine.name, engine.version)
}

fn failed(message: String) -> RuntimeError {
    RuntimeError::Failed { runtime: "data", message }
}

impl Questions<'_> {
    /// Asks what all others are compared with. What it says takes the place of right answers where the data has none.
    ///
    /// Errors: those of the session.
    pub fn baseline<'s>(
        &mut self,
        session: &'s mut dyn Session,
        progress: &dyn Progress,
    ) -> Result<Baseline<'s>, RuntimeError> {
        progress.stage("what is compared with", self.data.samples.len() as u64, Unit::Samples);
        let generated = self.ask(session, progress)?;
        let scored = self.scored(&Said::all(self.text, &generated));
        for (sample, said) in self.data.samples.iter_mut().zip(&generated) {
            if sample.target_ids.is_empty() {
                sample.target_ids = said.tokens.clone();
            }
        }
        Ok(Baseline { session, generated, scored })
    }

    /// An artifact in every engine that opens it.
    pub fn compare(&self, peer: &Peer, baseline: &mut Baseline, progress: &dyn Progress) -> ArtifactReport {
        let found = match peer.artifact.format {
            // Of what it hears it shows logits, like any other engine.
            ctranslate2::FORMAT if !ctranslate2::hears(&peer.artifact.dir) => {
                self.in_ctranslate2(peer, baseline, progress)
            }
            _ => self.in_engines(peer, baseline, progress),
        };
        ArtifactReport {
            name: peer.name.to_owned(),
            folder: String::new(),
            format: peer.artifact.format.to_owned(),
            bytes: peer.files.iter().map(|file| file.bytes).sum(),
            files: peer.files.clone(),
            bits_per_weight: 0.0,
            checks: found.checks,
            runs: found.runs,
            speed: Vec::new(),
            tensors: Vec::new(),
            values: Vec::new(),
            generations: self.side_by_side(baseline, &found.said),
            substitutions: Vec::new(),
        }
    }

    /// The first samples under a clock, one at a time. Errors: those of [`Input::batch`].
    pub fn courses(&self, samples: usize) -> Result<Vec<Course>, String> {
        let tokens = self.greedy.new_tokens(None).clamp(1, TIMED_TOKENS);
        let course = |sample: &task::Sample| {
            let source = Input::batch(&[&sample.source], self.greedy.settings.pad_token_id)?;
            Ok(Course { source, prompt: self.greedy.prompt(), tokens })
        };
        self.data.samples.iter().take(samples).map(course).collect()
    }

    fn in_engines(&self, peer: &Peer, baseline: &mut Baseline, progress: &dyn Progress) -> Found {
        let mut found = Found::default();
        let fits = |runtime: &&&dyn Runtime| runtime.name() != NOBODYS && runtime.fit(peer.artifact) != Fit::Foreign;
        for runtime in RUNTIMES.iter().filter(fits) {
            self.begin(peer, runtime.name(), progress);
            let what = format!("{} in {}", peer.name, runtime.name());
            if let Fit::CannotRun(why) = runtime.fit(peer.artifact) {
                found.checks.push(Check::not_run(Link::Runtime, what, why));
                continue;
            }
            let done = runtime.open(peer.artifact, &peer.options).and_then(|mut session| {
                let (said, distances) = self.run(&mut *session, baseline, &mut found.checks, progress)?;
                Ok((self.ran(session.engine(), &said, distances, baseline), said))
            });
            found.take(what, done);
        }
        for answerer in ANSWERERS {
            let what = format!("{} in {}", peer.name, answerer.name());
            match answerer.fit(peer.artifact) {
                Fit::Foreign => continue,
                Fit::CannotRun(why) => found.checks.push(Check::not_run(Link::Runtime, what, why)),
                Fit::Runs => {
                    let open = || answerer.open(peer.artifact, &peer.options, &self.greedy.settings);
                    self.in_answers(peer, answerer.name(), &open, baseline, &mut found, progress);
                }
            }
        }
        if found.runs.is_empty() && found.checks.is_empty() {
            let why = format!("no engine here opens {}", peer.artifact.format);
            found.checks.push(Check::not_run(Link::Runtime, peer.name, why));
        }
        found
    }

    /// In the engine that says tokens alone.
    fn in_ctranslate2(&self, peer: &Peer, baseline: &Baseline, progress: &dyn Progress) -> Found {
        let mut found = Found::default();
        let opened = || {
            let translator = Translator::open(peer.artifact, &peer.options, &self.greedy.settings)?;
            Ok(Box::new(translator) as Box<dyn Answers>)
        };
        self.in_answers(peer, ctranslate2::FORMAT, &opened, baseline, &mut found, progress);
        found
    }

    /// In an engine that shows no logits.
    fn in_answers(
        &self,
        peer: &Peer,
        name: &str,
        open: &dyn Fn() -> Result<Box<dyn Answers>, RuntimeError>,
        baseline: &Baseline,
        found: &mut Found,
        progress: &dyn Progress,
    ) {
        self.begin(peer, name, progress);
        let done = open().map_err(AskError::from).and_then(|mut engine| {
            let (samples, read) = (&self.data.samples, (self.text, &self.greedy));
            let said = ask(&mut *engine, samples, read, &baseline.generated, progress)?;
            let engine = engine.engine();
            let called = called(&engine);
            let no_logits = "the engine gives no logits over the vocabulary: answers alone are compared";
            found.checks.push(Check::seen(Link::Runtime, format!("{called}: logits"), no_logits));
            let not_timed = "not timed: the engine is asked for whole answers, and its clock is not ours";
            found.checks.push(Check::not_run(Link::Runtime, format!("{called}: speed"), not_timed));
            self.answered(&called, &said, baseline, &mut found.checks);
            Ok((self.ran(engine, &said, None, baseline), said))
        });
        let what = format!("{} in {name}", peer.name);
        match done {
            Ok(done) => found.take(what, Ok(done)),
            Err(AskError::Runtime(error)) => found.take(what, Err(error)),
            Err(AskError::Unasked(why)) => found.checks.push(Check::not_run(Link::Runtime, what, why)),
        }
    }

    fn begin(&self, peer: &Peer, engine: &str, progress: &dyn Progress) {
        progress.stage(&format!("{}: {engine}", peer.name), self.data.samples.len() as u64, Unit::Samples);
    }

    fn run(
        &self,
        session: &mut dyn Session,
        baseline: &mut Baseline,
        checks: &mut Vec<Check>,
        progress: &dyn Progress,
    ) -> Result<(Vec<Said>, Option<Distances>), RuntimeError> {
        let called = called(&session.engine());
        let what = format!("{called}: logits of {} samples", self.data.samples.len());
        let distances = match self.distances(&mut *baseline.session, session)? {
            Ok(distances) => {
                checks.push(Check::info(Link::Runtime, what, Metric::Kl, distances.kl, "").with(distances));
                Some(distances)
            }
            Err(why) => {
                checks.push(Check::failed(Link::Runtime, what, why));
                None
            }
        };
        let said = Said::all(self.text, &self.ask(session, progress)?);
        self.answered(&called, &said, baseline, checks);
        Ok((said, distances))
    }

    /// That there are answers, and how much worse they are.
    fn answered(&self, called: &str, said: &[Said], baseline: &Baseline, checks: &mut Vec<Check>) {
        let answered = format!("{called}: answers to {} samples", said.len());
        checks.push(Check::passed(Link::Runtime, answered, ""));
        if let (Some(ours), Some(theirs)) = (self.scored(said), &baseline.scored) {
            for (place, metric) in self.scoring.metrics.iter().enumerate() {
                let lost = ours.lost(theirs, place);
                let what = format!("{called}: {}", metric.name());
                let check = Check::info(Link::Runtime, what, Metric::MetricDrop, Some(lost.points), "");
                checks.push(check.of(self.data.samples.len(), None));
            }
        }
    }

    /// What an engine said, held against the baseline.
    fn ran(&self, engine: Engine, said: &[Said], to_float: Option<Distances>, baseline: &Baseline) -> Run {
        let agreement = answers::agreement(&baseline.generated, said.iter().map(|said| &said.generated), usize::MAX);
        Run { engine, to_float, agreement, score: self.scored(said).map(|scored| scored.score()) }
    }

    /// What a session says, by sample.
    fn ask(&self, session: &mut dyn Session, progress: &dyn Progress) -> Result<Vec<Generated>, RuntimeError> {
        let mut all = vec![Generated::default(); self.data.samples.len()];
        for batch in self.batches()? {
            let said = self.greedy.run(session, &batch.source)?;
            batch.samples.iter().zip(said).for_each(|(sample, said)| all[*sample] = said);
            progress.advance(batch.len() as u64);
        }
        Ok(all)
    }

    /// Logits of two sessions after the same tokens. The inner error: they are not of one vocabulary.
    fn distances(
        &self,
        reference: &mut dyn Session,
        candidate: &mut dyn Session,
    ) -> Result<Result<Distances, String>, RuntimeError> {
        let mut meter = Meter::default();
        let limits = [reference.limit_tokens(), candidate.limit_tokens()];
        let most = limits.into_iter().flatten().min().unwrap_or(usize::MAX);
        for batch in self.batches()? {
            let ids = batch.decoder_columns(0, batch.decoder_tokens().min(most));
            reference.encode(&batch.source)?;
            let a = decode(reference, &ids)?;
            candidate.encode(&batch.source)?;
            let b = decode(candidate, &ids)?;
            let [width, other] = [&a, &b].map(|logits| logits.shape()[2]);
            if width != other {
                return Ok(Err(format!("different vocabularies: expected logits of {width} tokens, found {other}")));
            }
            let (a, b) = (a.as_f32().expect("decode() checked"), b.as_f32().expect("decode() checked"));
            let tokens = ids.shape()[1];
            for (row, counted) in batch.target_tokens.iter().enumerate() {
                let rows = row * tokens * width..(row * tokens + tokens.min(*counted)) * width;
                meter.add(&a[rows.clone()], &b[rows], width);
            }
        }
        Ok(Ok(meter.distances()))
    }

    fn batches(&self) -> Result<Vec<Batch>, RuntimeError> {
        let pad = self.greedy.settings.pad_token_id;
        task::batches(&self.data, ROWS, &self.greedy.prompt(), pad).map_err(failed)
    }

    fn scored(&self, said: &[Said]) -> Option<Scored> {
        answers::scored_texts(&self.scoring, &self.data.samples, said)
    }

    /// All outputs beside each other: samples on which runs differ first, each in the data's order.
    fn side_by_side(&self, baseline: &Baseline, runs: &[Vec<Said>]) -> Vec<Generation> {
        let said = self.data.samples.iter().enumerate().zip(&baseline.generated);
        let of = |(sample, reference)| answers::beside(self.text, sample, reference, runs, Vec::new());
        let mut all: Vec<Generation> = said.map(of).collect();
        all.sort_by_key(|one| !one.differs());
        all
    }
}
