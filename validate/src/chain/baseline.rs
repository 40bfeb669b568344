//! The float model's outputs, computed once for all artifacts.

use frontend::Input;
use graph::{DEC, Progress, Scratch, progress};
use metrics::{Score, Scored};
use report::{Check, DataReport};

use super::error::ChainError;
use super::measure::{self, Outputs, Plan};
use super::subject::{Subject, too_long, vocabulary};
use super::{import, links, quantization};
use crate::answers::Said;
use crate::bench::Course;
use crate::runtime::reference::caching;
use crate::task::Sample;

/// Tokens that are said of a sample under a clock: fewer measure nothing, and more take long.
const TIMED_TOKENS: [usize; 2] = [8, 32];

/// The float model's outputs, computed once for all artifacts.
pub struct Baseline<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) plan: Plan,
    pub(super) outputs: Outputs,
    targets: &'static str,
    /// What each of the float model's outputs is worth; absent when the data has no targets.
    pub(super) scored: Option<Scored>,
    /// The links import and passes.
    pub checks: Vec<Check>,
}

impl<'a> Baseline<'a> {
    /// Runs the float model over the data, and tests the links import and passes.
    ///
    /// Errors: the float model cannot be evaluated, or the scratch file cannot be written.
    pub fn measure(mut subject: Subject<'a>, progress: &dyn Progress) -> Result<Baseline<'a>, ChainError> {
        let limit = subject.exact.graph.longest(DEC);
        subject.greedy = subject.greedy.at_most(subject.greedy.new_tokens(limit));
        too_long(&subject.exact.graph, &subject.greedy, &subject.data, "the evaluation data")?;
        let interpreter = caching(&subject.exact.graph);
        let samples = subject.data.samples.len() as u64;
        let targets = match quantization::fill_targets(&mut subject.data, &interpreter, &subject.greedy, progress)? {
            true => "the float model's own greedy output, where the data has none",
            false => "the data",
        };
        let plan = Plan::new(&subject.data, subject.greedy.clone(), vocabulary(&subject.exact.graph)?)?;
        let scratch = Scratch::new()?;
        progress.stage("float model", samples, progress::Unit::Samples);
        let outputs = measure::graph(&interpreter, &plan, &[], &scratch, progress)?.outputs;
        let mut checks = import::checks(&subject);
        checks.extend(links::passes(&subject, &interpreter, &plan, &outputs)?);
        let scored = subject.scored(&Said::all(subject.text, &outputs.generated));
        Ok(Baseline { subject, plan, outputs, targets, scored, checks })
    }

    /// What was measured on, for the report.
    pub fn data_report(&self) -> DataReport {
        DataReport {
            source: self.subject.data.source.clone(),
            sha256: self.subject.data.sha256.clone(),
            samples: self.subject.data.samples.len() as u64,
            positions: self.plan.positions(),
            targets: self.targets.to_owned(),
            metrics: self.subject.scoring.metrics.clone(),
        }
    }

    /// The first samples as an engine is timed on them: one at a time, as many tokens as the target has within bounds.
    ///
    /// Errors: those of [`Input::batch`].
    pub fn courses(&self, samples: usize) -> Result<Vec<Course>, ChainError> {
        let greedy = &self.subject.greedy;
        let most = greedy.new_tokens(self.subject.exact.graph.longest(DEC)).max(1);
        let course = |sample: &Sample| {
            let source = Input::batch(&[&sample.source], greedy.settings.pad_token_id).map_err(ChainError::Data)?;
            let tokens = sample.target_ids.len().clamp(TIMED_TOKENS[0], TIMED_TOKENS[1]).min(most);
            Ok(Course { source, prompt: greedy.prompt(), tokens })
        };
        self.subject.data.samples.iter().take(samples).map(course).collect()
    }

    /// The score of the float model in the interpreter; `None` when the data has no targets.
    pub fn score(&self) -> Option<Score> {
        self.scored.as_ref().map(Scored::score)
    }
}
