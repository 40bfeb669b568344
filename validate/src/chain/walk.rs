//! An artifact on its way along the chain: what is known of it so far, and its quantized graph against the float model.

use converters::{Artifact, Format, Model};
use graph::{Progress, Scratch};
use metrics::{Distances, Scored, TaskMetric};
use report::{Check, Engine, Limit, Link, Metric, Note, OutputFile, Run, TensorRow, ValueError};

use super::baseline::Baseline;
use super::error::ChainError;
use super::limits::{Arithmetic, F32_NOISE, Limits};
use super::links;
use super::measure::{self, Measured, Outputs, Way};
use super::noise::Noise;
use super::partings::Parted;
use crate::answers::{Said, agreement};
use crate::generate::Generated;
use crate::runtime::reference::{Reference, caching};
use crate::runtime::{Options, Session};

/// Tensors that a sentence names as the worst.
const WORST_NAMED: usize = 3;

/// One artifact to be validated.
pub struct Context<'a> {
    /// The float model.
    pub baseline: &'a Baseline<'a>,
    /// The artifact's name in the recipe.
    pub name: &'a str,
    /// What the artifact is meant to compute: prepared, quantized, with all entries.
    pub quantized: &'a Model,
    /// Its files.
    pub artifact: &'a Artifact,
    /// Reads them back.
    pub format: &'a dyn Format,
    /// What counts as broken.
    pub limits: &'a Limits,
    /// For the engines.
    pub options: &'a Options,
    /// One row a weight.
    pub tensors: Vec<TensorRow>,
    /// Exact edits and recipe-allowed replacements.
    pub substitutions: Vec<Note>,
    /// Its files as they are, but for the manifest.
    pub files: Vec<OutputFile>,
    /// Its files as the manifest has them, when the weights of `quantized` are the artifact's own: that they are what was
    /// written then follows from the digests.
    pub manifest: Option<&'a [OutputFile]>,
}

/// The checks of one artifact as they come in.
pub(super) struct Walk<'w> {
    pub(super) context: &'w Context<'w>,
    pub(super) checks: Vec<Check>,
    pub(super) runs: Vec<Run>,
    /// Of each run, in its order.
    pub(super) said: Vec<Vec<Said>>,
    /// What each of the quantized graph's outputs is worth; absent when the data has no targets.
    scored: Option<Scored>,
    /// What f32 noise does to the quantized graph, where it rounds activations.
    pub(super) noise: Option<Noise>,
    /// Where runs leave what they are judged against, by run.
    pub(super) partings: Vec<Parted>,
    /// How far off the quantized graph's values are.
    pub(super) values: Vec<ValueError>,
}

impl<'w> Walk<'w> {
    pub(super) fn new(context: &'w Context<'w>) -> Walk<'w> {
        Walk {
            context,
            checks: Vec::new(),
            runs: Vec::new(),
            said: Vec::new(),
            scored: None,
            noise: None,
            partings: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The quantized graph against the exact one. `None` when it cannot be evaluated, which is a failed check.
    pub(super) fn quantization(&mut self, progress: &dyn Progress) -> Result<Option<Outputs>, ChainError> {
        let Context { baseline, quantized, limits, .. } = *self.context;
        let plan = &baseline.plan;
        let interpreter = caching(&quantized.graph);
        let against = [&baseline.outputs];
        let scratch = Scratch::new()?;
        let Measured { outputs, distances } = match measure::graph(&interpreter, plan, &against, &scratch, progress) {
            Ok(measured) => measured,
            Err(ChainError::Runtime(error)) => {
                let sentence = format!("the quantized graph cannot be evaluated: {error}");
                self.checks.push(Check::failed(Link::Quantization, "the quantized graph", sentence));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let found = distances[0].of(plan, Way::Data).distances();
        let clusters = distances[0].clusters(plan);
        let what = format!("logits of {} samples", plan.samples);
        if links::lossless(&baseline.subject.exact.graph, &quantized.graph) {
            let broken = "no weight was quantized, so the edits that the format asked for changed the result: \
                          look at the substitutions";
            let limit = Limit::AtMost(F32_NOISE);
            let check = Check::judge(Link::Quantization, what, Metric::RelL2, found.rel_l2, limit, broken);
            self.checks.push(check.with(found));
        } else {
            let broken = format!("quantization changes the result too much: {}", self.cure());
            let limit = Limit::AtMost(limits.max_kl);
            let kl = Check::judge(Link::Quantization, &what, Metric::Kl, found.kl, limit, &broken);
            let limit = Limit::AtLeast(limits.min_top1);
            let top1 = Check::judge(Link::Quantization, &what, Metric::Top1, found.top1, limit, &broken);
            let of = |check: Check, interval| check.of(plan.samples, interval);
            self.checks.extend([of(kl.with(found), clusters.kl()), of(top1, clusters.top1())]);
        }
        let said = Said::all(baseline.subject.text, &outputs.generated);
        let scored = baseline.subject.scored(&said);
        let engine = Reference::new(&interpreter).engine();
        let run = self.run(engine, Some(found), &outputs.generated, plan.greedy.new_tokens(None), scored.as_ref());
        let broken = format!("quantization costs the task too much: {}", self.cure());
        self.judge_task(Link::Quantization, "", scored.as_ref(), &broken);
        self.scored = scored;
        self.runs.push(run);
        self.said.push(said);
        if Arithmetic::of(&quantized.graph).rounds() {
            self.noise = Some(Noise::measure(&interpreter, plan, &outputs)?);
        }
        Ok(Some(outputs))
    }

    /// `limit`: the most tokens that it can say. `scored`: what each of `generated` is worth.
    pub(super) fn run(
        &self,
        engine: Engine,
        to_float: Option<Distances>,
        generated: &[Generated],
        limit: usize,
        scored: Option<&Scored>,
    ) -> Run {
        let agreement = agreement(&self.context.baseline.outputs.generated, generated, limit);
        Run { engine, to_float, agreement, score: scored.map(Scored::score) }
    }

    /// Quantization is judged against the float model, and an engine against the quantized graph: what quantization lost is told once.
    ///
    /// `found`: of the first samples, or of all.
    pub(super) fn judge_task(&mut self, link: Link, prefix: &str, found: Option<&Scored>, broken: &str) {
        let Context { baseline, limits, .. } = *self.context;
        let metrics = &baseline.subject.scoring.metrics;
        let (reference, of) = match link {
            Link::Runtime => (&self.scored, "the quantized graph"),
            _ => (&baseline.scored, "the float model"),
        };
        let what = |metric: TaskMetric| format!("{prefix}{} against {of}", metric.name());
        let Some((reference, found)) = reference.as_ref().zip(found) else {
            let why = "the data has no targets; give `validate: data:` a .jsonl file with both";
            self.checks.push(Check::not_run(link, what(metrics[0]), why));
            return;
        };
        let reference = reference.first(found.texts());
        for (place, metric) in metrics.iter().enumerate() {
            let lost = found.lost(&reference, place);
            let check = Check::lost(link, what(*metric), Metric::MetricDrop, &lost, limits.max_points_lost, broken);
            // A limit is one metric's, since a point of another is something else.
            self.checks.push(if place == 0 { check } else { check.without_limit() });
        }
        let endless = found.endless_lost(&reference);
        let what = format!("{prefix}outputs that run to the limit of their length, against {of}");
        let broken = "more outputs go on without an end, most of them in a loop: see them in the report";
        self.checks.push(Check::lost(link, what, Metric::EndlessRise, &endless, limits.max_endless_rise, broken));
    }

    /// What to try when the quantized graph is too far away.
    fn cure(&self) -> String {
        let worst = report::worst(&self.context.tensors, WORST_NAMED);
        let names: Vec<&str> = worst.iter().map(|t| t.name.as_str()).collect();
        match names.is_empty() {
            true => "try more bits or smaller groups".to_owned(),
            false => {
                format!("try more bits, smaller groups or `clip: mse` for the worst tensors: {}", names.join(", "))
            }
        }
    }
}

/// What a check is about when an engine is asked for the whole artifact.
pub(super) fn in_engine(runtime: &str) -> String {
    format!("the artifact in {runtime}")
}
