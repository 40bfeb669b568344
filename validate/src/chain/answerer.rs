//! One engine that answers against the quantized graph: its words, and what they are worth.

use graph::{Progress, progress};
use metrics::edit_distance;
use report::{Check, Limit, Link, Metric};

use super::engine::not_opened;
use super::limits::Arithmetic;
use super::measure::Outputs;
use super::partings::Runs;
use super::walk::{Context, Walk, in_engine};
use super::words::WordFloor;
use crate::answers::{AskError, Said, ask};
use crate::runtime::{Answerer, Answers};

impl Walk<'_> {
    /// One engine that answers.
    pub(super) fn answerer(&mut self, answerer: &dyn Answerer, quantized: Option<&Outputs>, progress: &dyn Progress) {
        let Context { baseline, artifact, options, .. } = *self.context;
        let decoding = &baseline.plan.greedy.settings;
        let mut engine = match answerer.open(artifact, options, decoding) {
            Ok(engine) => engine,
            Err(error) => return self.checks.push(not_opened(answerer.name(), &error)),
        };
        let called = format!("{} {}", engine.engine().name, engine.engine().version);
        let Some(quantized) = quantized else {
            let why = "the quantized graph could not be evaluated, so there is nothing to compare with";
            return self.checks.push(Check::not_run(Link::Runtime, called, why));
        };
        match self.asked(&mut *engine, quantized, progress) {
            Ok(said) => self.answered(answerer, &*engine, &called, quantized, said),
            Err(AskError::Unasked(why)) => self.checks.push(Check::not_run(Link::Runtime, in_engine(&called), why)),
            Err(AskError::Runtime(error)) => self.checks.push(Check::failed(
                Link::Runtime,
                called,
                format!("the engine opened the artifact, but: {error}"),
            )),
        }
    }

    fn asked(
        &self,
        engine: &mut dyn Answers,
        quantized: &Outputs,
        progress: &dyn Progress,
    ) -> Result<Vec<Said>, AskError> {
        let baseline = self.context.baseline;
        let samples = &baseline.subject.data.samples;
        progress.stage(
            &format!("{}: {}", self.context.name, engine.engine().name),
            samples.len() as u64,
            progress::Unit::Samples,
        );
        ask(engine, samples, (baseline.subject.text, &baseline.plan.greedy), &quantized.generated, progress)
    }

    fn answered(
        &mut self,
        answerer: &dyn Answerer,
        engine: &dyn Answers,
        called: &str,
        quantized: &Outputs,
        said: Vec<Said>,
    ) {
        let baseline = self.context.baseline;
        let subject = &baseline.subject;
        let floor = WordFloor::of(answerer.name(), Arithmetic::of(&self.context.quantized.graph));
        let found: Vec<_> = said.iter().map(|said| said.generated.clone()).collect();
        let runs = Runs {
            stage: Link::Runtime,
            run: self.runs.len(),
            reference: &quantized.generated,
            choices: &quantized.choices,
            found: &found,
            limit: usize::MAX,
        };
        let mut parted =
            runs.partings(subject, &|choice, token| floor.is_some_and(|floor| choice.is_tie(token, floor.rel_l2)));
        for parted in &mut parted {
            parted.parting.sentence = "the engine shows no logits".to_owned();
        }
        let is_tie = |sample: usize| parted.iter().any(|one| one.sample == sample && one.parting.is_tie);
        let expected = Said::all(subject.text, &quantized.generated);
        let words = Differing::of(&expected, &said, is_tie);
        self.checks.extend(words.checks(called, floor));
        let scored = subject.scored(&said);
        let run = self.run(engine.engine(), None, &found, usize::MAX, scored.as_ref());
        let broken = "the engine loses what the quantized graph does not: see where its answers part";
        self.judge_task(Link::Runtime, &format!("{called}: "), scored.as_ref(), broken);
        self.partings.extend(parted);
        self.runs.push(run);
        self.said.push(said);
    }
}

/// How far answers are from those of a graph.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Differing {
    answers: usize,
    /// Answers with other words, those that part at a tie included.
    differ: usize,
    at_ties: usize,
    /// Of the graph's answers.
    words: usize,
    /// Edits to them, without answers that part at a tie: what is said from there on is another sentence.
    edits: usize,
}

impl Differing {
    fn of(expected: &[Said], found: &[Said], is_tie: impl Fn(usize) -> bool) -> Differing {
        let mut sum = Differing { answers: found.len(), ..Differing::default() };
        for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
            let [expected, found] = [expected, found].map(|said| said.text.split_whitespace().collect::<Vec<_>>());
            let edits = edit_distance(&expected, &found);
            let is_tie = edits > 0 && is_tie(place);
            sum.words += expected.len();
            sum.differ += usize::from(edits > 0);
            sum.at_ties += usize::from(is_tie);
            sum.edits += if is_tie { 0 } else { edits };
        }
        sum
    }

    fn checks(self, called: &str, floor: Option<&WordFloor>) -> [Check; 2] {
        let Differing { answers, differ, at_ties, words, edits } = self;
        let same = (answers > 0).then(|| (answers - differ) as f64 / answers as f64);
        let told = format!("{differ} of {answers} answers differ, {at_ties} of them from a tie on");
        let what = format!("{called}: answers to {answers} samples that are the quantized graph's");
        let same = Check::info(Link::Runtime, what, Metric::SameAnswers, same, &told).of(answers, None);
        let share = (words > 0).then(|| edits as f64 / words as f64);
        let what = format!("{called}: words that are not the quantized graph's, but for ties");
        let told = format!("{edits} of {words} words");
        let broken =
            format!("the engine says something else than the quantized graph: see where its answers part; {told}");
        let words = match floor {
            Some(floor) => {
                let mut check = Check::judge(
                    Link::Runtime,
                    what,
                    Metric::DifferingWords,
                    share,
                    Limit::AtMost(floor.words),
                    &broken,
                );
                if check.sentence.is_empty() {
                    check.sentence = format!("{told}; {}", floor.sentence());
                }
                check
            }
            None => {
                Check::info(Link::Runtime, what, Metric::DifferingWords, share, &format!("{told}; {UNKNOWN_FLOOR}"))
            }
        };
        [same, words.of(answers, None)]
    }
}

const UNKNOWN_FLOOR: &str = "nobody has measured how far this engine's words are from a graph's with such weights";
