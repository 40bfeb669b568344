//! Validation as a chain of comparisons, each of which tests one stage.
//!
//! | link | compares | limit |
//! | --- | --- | --- |
//! | import | outputs recorded by transformers with the imported graph | f32 noise |
//! | passes | the graph before the passes with the one after; the whole target with steps | f32 noise |
//! | quantization | the exact graph with the quantized one | the recipe's [`Limits`] |
//! | export | the graph's weights with those read back from the artifact; for NPUs, its graphs with the rules of [`crate::lint`] | equal bits; no error |
//! | runtime | the quantized graph with an engine that runs the artifact | that engine's [`Floor`] |
//!
//! [`Baseline::measure`] runs the first two links and the float model once; [`validate_artifact`] runs the others for each
//! artifact. Logits of the evaluation data are kept in a scratch file, so that memory holds one batch a thread.

pub mod limits;
mod links;
pub mod measure;
mod noise;
mod quantization;
mod ties;

use std::io;
use std::path::Path;

use converters::export::npu::HOST_FILE;
use converters::{Artifact, Format, Model};
use frontend::{Input, Text};
use graph::eval::Interpreter;
use graph::{DEC, ENC, Graph, Progress, Scratch, progress};

pub use limits::{Arithmetic, F32_NOISE, FLOORS, Floor, Limits};
use measure::{Measured, Outputs, Plan, Way};
pub use noise::Noise;
pub use quantization::Floats;

use crate::bench::Course;
use crate::generate::{Generated, Greedy};
use crate::runtime::reference::{self, Reference, caching};
use crate::runtime::{AllRows, Fit, Options, RUNTIMES, Runtime, RuntimeError, Session};
use crate::task::{Data, Sample, TaskMetric};
use metrics::{self, Agreement, Meter, Score};
use report::{ArtifactReport, Check, DataReport, Generation, Limit, Link, Metric, Note, OutputFile, Run, TensorRow};

/// Outputs that a report shows side by side.
const GENERATIONS_SHOWN: usize = 24;
/// Tokens that are said of a sample under a clock: fewer measure nothing, and more take long.
const TIMED_TOKENS: [usize; 2] = [8, 32];
/// Tensors that a sentence names as the worst.
const WORST_NAMED: usize = 3;

/// The float model and what it is measured on.
pub struct Subject<'a> {
    /// As the importer wrote it: the entry `full`.
    pub imported: &'a Graph,
    /// After the passes, and exact.
    pub exact: &'a Model,
    /// `expected.safetensors`, recorded by transformers; need not exist.
    pub recorded: &'a Path,
    /// Inputs and targets.
    pub data: Data,
    /// The model's tokenizer, or [`frontend::Ids`].
    pub text: &'a dyn Text,
    /// How it decodes.
    pub greedy: Greedy,
    /// The figure that has a limit.
    pub metric: TaskMetric,
}

/// The float model's outputs, computed once for all artifacts.
pub struct Baseline<'a> {
    subject: Subject<'a>,
    plan: Plan,
    outputs: Outputs,
    targets: &'static str,
    /// Of the float model in the interpreter; absent when the data has no targets.
    pub score: Option<Score>,
    /// The links import and passes.
    pub checks: Vec<Check>,
}

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

/// Validation could not be done; a stage that is broken is a failed [`Check`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The float model itself does not run.
    #[error("the float model cannot be evaluated: {0}")]
    Runtime(#[from] RuntimeError),
    /// The scratch file or the artifact's folder cannot be used.
    #[error("validation: {0}")]
    Io(#[from] io::Error),
    /// The samples do not fit each other.
    #[error("the evaluation data: {0}")]
    Data(String),
    /// Samples for which the model has no positions.
    #[error(
        "{about}: expected {what}s of at most {limit} tokens, for so many the model has positions; found {count} \
         longer ones, up to {found} tokens: {text:?}"
    )]
    TooLong {
        /// Which data.
        about: &'static str,
        /// `input` or `target`.
        what: &'static str,
        /// Tokens that fit.
        limit: usize,
        /// Tokens of the longest.
        found: usize,
        /// The beginning of its input.
        text: String,
        /// How many are too long.
        count: usize,
    },
    /// The graph lacks what a comparison needs.
    #[error("validation: expected {expected}, found none; run the passes first")]
    Lacks {
        /// As `an entry decoder with an output logits`.
        expected: &'static str,
    },
}

impl<'a> Baseline<'a> {
    /// Runs the float model over the data, and tests the links import and passes.
    ///
    /// Errors: the float model cannot be evaluated, or the scratch file cannot be written.
    pub fn measure(mut subject: Subject<'a>, progress: &dyn Progress) -> Result<Baseline<'a>, ChainError> {
        let limit = subject.exact.graph.longest(DEC);
        subject.greedy = subject.greedy.at_most(subject.greedy.new_tokens(limit));
        too_long(&subject.exact.graph, &subject.greedy, &subject.data, "the evaluation data")?;
        let interpreter = interpreter(&subject.exact.graph);
        let samples = subject.data.samples.len() as u64;
        let targets = match quantization::fill_targets(&mut subject.data, &interpreter, &subject.greedy, progress)? {
            true => "the float model's own greedy output, where the data has none",
            false => "the data",
        };
        let plan = Plan::new(&subject.data, subject.greedy.clone(), vocabulary(&subject.exact.graph)?)?;
        let scratch = Scratch::new()?;
        progress.stage("float model", samples, progress::Unit::Samples);
        let outputs = measure::graph(&interpreter, &plan, &[], &scratch, progress)?.outputs;
        let mut checks = links::import(&subject);
        checks.extend(links::passes(&subject, &interpreter, &plan, &outputs)?);
        let mut baseline = Baseline { subject, plan, outputs, targets, score: None, checks };
        baseline.score = baseline.scored(&baseline.outputs.generated);
        Ok(baseline)
    }

    /// What was measured on, for the report.
    pub fn data_report(&self) -> DataReport {
        DataReport {
            source: self.subject.data.source.clone(),
            sha256: self.subject.data.sha256.clone(),
            samples: self.subject.data.samples.len() as u64,
            positions: self.plan.positions(),
            targets: self.targets.to_owned(),
            metric: self.subject.metric.name().to_owned(),
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

    fn text_of(&self, generated: &Generated) -> String {
        self.subject.text.decode(&generated.tokens)
    }

    fn scored(&self, generated: &[Generated]) -> Option<Score> {
        if !self.subject.data.has_targets() {
            return None;
        }
        let found: Vec<String> = generated.iter().map(|g| self.text_of(g)).collect();
        let targets = self.subject.data.samples.iter().filter_map(|s| s.target.as_deref());
        metrics::score(found.iter().map(String::as_str).zip(targets))
    }
}

/// Compares generations; a reference is cut where an engine with a shorter limit had to stop.
fn agreement(reference: &[Generated], found: &[Generated], limit: usize) -> Option<Agreement> {
    metrics::agreement(reference.iter().zip(found).map(|(a, b)| {
        let kept = a.tokens.len().min(limit);
        [(&a.tokens[..kept], a.ended && kept == a.tokens.len()), (&b.tokens[..], b.ended)]
    }))
}

/// Errors: inputs and targets that the model has no positions for; the worst of them, and how many there are.
pub fn too_long(graph: &Graph, greedy: &Greedy, data: &Data, about: &'static str) -> Result<(), ChainError> {
    let prompt = greedy.prompt().len();
    let of_input = |sample: &Sample| sample.source.positions();
    // The last token of a target is not fed.
    let of_target = |sample: &Sample| (prompt + sample.target_ids.len()).saturating_sub(1);
    let samples = &data.samples;
    let [inputs, targets] =
        [samples.iter().map(of_input).collect::<Vec<usize>>(), samples.iter().map(of_target).collect()];
    for (what, limit, lengths) in [("input", graph.longest(ENC), inputs), ("target", graph.longest(DEC), targets)] {
        let longer = lengths.iter().zip(samples).filter(|(length, _)| limit.is_some_and(|limit| **length > limit));
        let count = longer.clone().count();
        if let (Some((&found, sample)), Some(limit)) = (longer.max_by_key(|(length, _)| **length), limit) {
            let text = sample.input.chars().take(60).collect();
            return Err(ChainError::TooLong { about, what, limit, found, text, count });
        }
    }
    Ok(())
}

/// Bytes of logits that validation keeps at a time: the float model's and those of one quantized graph, in scratch files. At
/// most: targets that the data lacks are taken to be as long as the model may speak.
pub fn logits_bytes(graph: &Graph, greedy: &Greedy, data: &Data) -> u64 {
    let Ok(width) = vocabulary(graph) else { return 0 };
    let longest = (greedy.prompt().len() + greedy.new_tokens(graph.longest(DEC))) as u64;
    let of = |sample: &Sample| match sample.target_ids.len() {
        0 => longest,
        n => (greedy.prompt().len() + n) as u64,
    };
    let positions: u64 = data.samples.iter().map(of).sum();
    // Probes are a few samples more, each of them put in three ways.
    let probes = (3 * measure::PROBES) as u64 * data.samples.iter().map(of).max().unwrap_or(0);
    2 * 4 * width as u64 * (positions + probes)
}

fn interpreter(graph: &Graph) -> Interpreter<'_> {
    caching(graph)
}

fn vocabulary(graph: &Graph) -> Result<usize, ChainError> {
    let logits = graph.entry("decoder").and_then(|entry| entry.output("logits"));
    let width = logits.and_then(|id| graph.value(id).ty.shape.last()?.literal());
    width.ok_or(ChainError::Lacks { expected: "an entry decoder with an output logits of a literal width" })
}

/// Tests the links quantization, export and runtime of one artifact, in every engine that opens its format.
///
/// A broken stage is a failed check that names it. Errors: the scratch file or the artifact's folder cannot be read.
pub fn validate_artifact(context: Context, progress: &dyn Progress) -> Result<ArtifactReport, ChainError> {
    validate_in(RUNTIMES, context, progress)
}

/// The same in the given engines.
pub fn validate_in(
    runtimes: &[&dyn Runtime],
    context: Context,
    progress: &dyn Progress,
) -> Result<ArtifactReport, ChainError> {
    let Context { baseline, name, artifact, .. } = context;
    let mut walk = Walk { context: &context, checks: Vec::new(), runs: Vec::new(), generated: Vec::new(), noise: None };
    progress.stage(&format!("{name}: quantized graph"), baseline.plan.samples as u64, progress::Unit::Samples);
    let quantized = walk.quantization(progress)?;
    walk.checks.push(links::export(&context.quantized.graph, context.format.read_weights(context.quantized, artifact)));
    walk.checks.extend(context.manifest.map(|manifest| links::digests(manifest, &context.files)));
    // Engines of the host take much that toolchains refuse, so this comes before them.
    if artifact.files.iter().any(|file| file == Path::new(HOST_FILE)) {
        walk.checks.push(links::lint(&artifact.dir));
    }
    let mut foreign = true;
    for runtime in runtimes {
        match runtime.fit(artifact) {
            Fit::Foreign => continue,
            Fit::CannotRun(why) => walk.checks.push(Check::not_run(Link::Runtime, in_engine(runtime.name()), why)),
            Fit::Runs => {
                for (called, options) in runtime.runs_of(context.options) {
                    let samples = runtime.samples(&options).unwrap_or(usize::MAX).min(baseline.plan.samples);
                    progress.stage(&format!("{name}: {called}"), samples as u64, progress::Unit::Samples);
                    if !walk.runtime(*runtime, &called, &options, quantized.as_ref(), progress)? {
                        break;
                    }
                }
            }
        }
        foreign = false;
    }
    if foreign {
        let why = format!("no engine of trefoil opens {} artifacts", artifact.format);
        walk.checks.push(Check::not_run(Link::Runtime, "the artifact in an engine", why));
    }

    let Walk { checks, runs, generated, .. } = walk;
    let weights: u64 = context.tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum();
    let weight_bytes: u64 = context.tensors.iter().map(|t| t.bytes).sum();
    Ok(ArtifactReport {
        name: name.to_owned(),
        folder: name.to_owned(),
        format: artifact.format.to_owned(),
        bytes: context.files.iter().map(|f| f.bytes).sum(),
        files: context.files,
        bits_per_weight: 8.0 * weight_bytes as f64 / weights.max(1) as f64,
        checks,
        runs,
        speed: Vec::new(),
        generations: side_by_side(baseline, &generated),
        tensors: context.tensors,
        substitutions: context.substitutions,
    })
}

/// The checks of one artifact as they come in.
struct Walk<'w> {
    context: &'w Context<'w>,
    checks: Vec<Check>,
    runs: Vec<Run>,
    /// Of each run, in its order.
    generated: Vec<Vec<Generated>>,
    /// What f32 noise does to the quantized graph, where it rounds activations.
    noise: Option<Noise>,
}

impl Walk<'_> {
    /// The quantized graph against the exact one. `None` when it cannot be evaluated, which is a failed check.
    fn quantization(&mut self, progress: &dyn Progress) -> Result<Option<Outputs>, ChainError> {
        let Context { baseline, quantized, limits, .. } = *self.context;
        let plan = &baseline.plan;
        let interpreter = interpreter(&quantized.graph);
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
            self.checks.extend([kl.with(found), top1]);
        }
        let run = self.run(&Reference::new(&interpreter), found, &outputs.generated);
        let broken = format!("quantization costs the task too much: {}", self.cure());
        self.checks.push(self.points_lost(Link::Quantization, "", plan.samples, run.score, &broken));
        self.runs.push(run);
        self.generated.push(outputs.generated.clone());
        if Arithmetic::of(&quantized.graph).rounds() {
            self.noise = Some(Noise::measure(&interpreter, plan, &outputs)?);
        }
        Ok(Some(outputs))
    }

    /// One engine against the quantized graph. Returns whether the engine is on this machine.
    fn runtime(
        &mut self,
        runtime: &dyn Runtime,
        called: &str,
        options: &Options,
        quantized: Option<&Outputs>,
        progress: &dyn Progress,
    ) -> Result<bool, ChainError> {
        let Context { baseline, artifact, .. } = *self.context;
        let opened = runtime.open(artifact, options);
        let mut session = match opened {
            Ok(session) => session,
            Err(error @ RuntimeError::Unavailable { .. }) => {
                self.checks.push(not_opened(runtime.name(), &error));
                return Ok(false);
            }
            Err(error) => {
                self.checks.push(not_opened(called, &error));
                return Ok(true);
            }
        };
        let engine = session.engine();
        let called = format!("{} {}", engine.name, engine.version);
        let Some(quantized) = quantized else {
            let why = "the quantized graph could not be evaluated, so there is nothing to compare with";
            self.checks.push(Check::not_run(Link::Runtime, called, why));
            return Ok(true);
        };
        let part = match (runtime.samples(options), session.rows_at_once()) {
            (None, None) => None,
            (samples, rows) => {
                Some(baseline.plan.part(samples.unwrap_or(usize::MAX), rows.unwrap_or(measure::BATCH_ROWS)))
            }
        };
        let plan = part.as_ref().unwrap_or(&baseline.plan);
        let against = [quantized, &baseline.outputs];
        if !reference::rows_are_alone(&self.context.quantized.graph) {
            session = Box::new(AllRows(session));
        }
        let Measured { outputs, distances } = match measure::engine(&mut *session, plan, &against, progress) {
            Ok(measured) => measured,
            Err(ChainError::Runtime(error)) => {
                self.checks.push(Check::failed(
                    Link::Runtime,
                    called,
                    format!("the engine opened the artifact, but: {error}"),
                ));
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.logits(runtime, &called, plan, &distances[0]);
        let to_float = distances[1].of(plan, Way::Data).distances();
        if artifact.format == "npu" {
            self.checks.push(self.sqnr(&called, plan, to_float));
        }

        let limit = plan.greedy.new_tokens(session.limit_tokens());
        let rel_l2 = self.limit(runtime).unwrap_or(0.0);
        let tokens = ties::agreement(&quantized.generated, &quantized.choices, &outputs.generated, rel_l2, limit);
        let what = format!("{called}: greedy tokens of {}, up to a tie", self.samples(plan));
        self.checks.push(match self.floor(runtime) {
            Some(floor) => {
                let broken = "the engine says something else than the quantized graph: see its logits";
                let limit = Limit::AtLeast(floor.token_agreement);
                Check::judge(Link::Runtime, what, Metric::TokenAgreement, tokens, limit, broken)
            }
            None => Check::info(Link::Runtime, what, Metric::TokenAgreement, tokens, UNKNOWN_FLOOR),
        });
        let run = self.run(&*session, to_float, &outputs.generated);
        let broken = "the engine loses what the quantized graph does not: see its logits";
        let prefix = if plan.samples < baseline.plan.samples {
            format!("{called}: {}: ", self.samples(plan))
        } else {
            format!("{called}: ")
        };
        self.checks.push(self.points_lost(Link::Runtime, &prefix, plan.samples, run.score, broken));
        self.runs.push(run);
        self.generated.push(outputs.generated);
        self.checks.extend(session.checks());
        self.merged(runtime, quantized)?;
        Ok(true)
    }

    /// As `200 samples`, and of how many when a plan is a part of the whole.
    fn samples(&self, plan: &Plan) -> String {
        match self.context.baseline.plan.samples {
            all if all == plan.samples => format!("{all} samples"),
            all => format!("the first {} of {all} samples", plan.samples),
        }
    }

    /// Logits of an artifact for NPUs against the float model's.
    fn sqnr(&self, called: &str, plan: &Plan, to_float: metrics::Distances) -> Check {
        // Equal logits have no figure of their own.
        let db = to_float.sqnr_db.or(to_float.rel_l2.filter(|rel| *rel == 0.0).map(|_| EQUAL_DB));
        let db = db.map(|db| db.min(EQUAL_DB));
        let what = format!("{called}: logits of {} against the float model", self.samples(plan));
        let check = match self.context.limits.npu_sqnr_db {
            Some(limit) => {
                let broken = "the engine's logits are too far from the float model's: where the quantized graph's are \
                              near, the engine computes in less than the graph says";
                Check::judge(Link::Runtime, what, Metric::Sqnr, db, Limit::AtLeast(limit), broken)
            }
            None => Check::info(
                Link::Runtime,
                what,
                Metric::Sqnr,
                db,
                "set `npu_sqnr_db` in the recipe's limits to judge it",
            ),
        };
        check.with(to_float)
    }

    /// The ways in which logits were asked for, each judged by the engine's noise.
    fn logits(&mut self, runtime: &dyn Runtime, called: &str, plan: &Plan, distance: &measure::Distance) {
        let probes = plan.of(Way::Alone).count();
        let alone = distance.of(plan, Way::Alone);
        let [first, later] = distance.split(plan, Way::Steps);
        let broken = "the artifact computes something else than the graph that it was written from, or the engine adds \
                      more noise than is known of it: run it with the engine's optimizations off, then look at how the \
                      format writes each op";
        // A sentence about one feature is fair only where the case without it is sound.
        let limit = self.limit(runtime);
        let sound = |meter: &Meter| limit.is_none_or(|l| Limit::AtMost(l).holds(meter.distances().rel_l2));
        let padding = "padding changes the result: the attention mask does not reach every attention of the artifact";
        let cache = "later steps differ where the first does not: the key and value caches, or the positions that move \
                     with them, are fed or returned wrongly";
        let padding = if sound(&alone) { padding } else { broken };
        let cache = if sound(&first) { cache } else { broken };
        for (what, meter, broken) in [
            (format!("logits of {}", self.samples(plan)), distance.of(plan, Way::Data), broken),
            (format!("{probes} lengths, one at a time"), alone, broken),
            (format!("the same {probes} as a padded batch"), distance.of(plan, Way::Padded), padding),
            ("the first step of that batch".to_owned(), first, broken),
            ("its later steps, with cache".to_owned(), later, cache),
        ] {
            self.judged(runtime, format!("{called}: {what}"), &meter, broken);
        }
    }

    /// How far an engine's logits may be from the quantized graph's: as the recipe says, else its known noise.
    fn limit(&self, runtime: &dyn Runtime) -> Option<f64> {
        self.context.limits.runtime_rel_l2.or(self.floor(runtime).map(|f| f.rel_l2))
    }

    /// The noise that an engine is known to add, and where it rounds activations the noise that this model makes of it.
    fn floor(&self, runtime: &dyn Runtime) -> Option<Floor> {
        let floor = Floor::of(runtime.name(), Arithmetic::of(&self.context.quantized.graph))?;
        Some(self.noise.map_or(*floor, |noise| floor.carried(noise)))
    }

    /// Judges logits against the quantized graph's.
    fn judged(&mut self, runtime: &dyn Runtime, what: String, meter: &Meter, broken: &str) {
        let found = meter.distances();
        if found.positions == 0 {
            self.checks.push(Check::not_run(Link::Runtime, what, "no target is that long"));
            return;
        }
        let floor = self.floor(runtime);
        let mut check = match self.limit(runtime) {
            Some(limit) => Check::judge(Link::Runtime, what, Metric::RelL2, found.rel_l2, Limit::AtMost(limit), broken),
            // Without a known floor, only logits that are not numbers can be called broken.
            None if found.rel_l2.is_none() => Check::failed(Link::Runtime, what, "the logits are not numbers"),
            None => Check::info(Link::Runtime, what, Metric::RelL2, found.rel_l2, UNKNOWN_FLOOR),
        };
        if check.sentence.is_empty() {
            check.sentence = match (self.context.limits.runtime_rel_l2, floor) {
                (Some(_), _) => "limit of the recipe".to_owned(),
                (None, floor) => floor.map_or(String::new(), |floor| floor.sentence()),
            };
        }
        self.checks.push(check.with(found));
    }

    /// An ONNX folder has its decoder twice: as a pair and merged. The pair ran over the data, the merged one is probed.
    fn merged(&mut self, runtime: &dyn Runtime, quantized: &Outputs) -> Result<(), ChainError> {
        let Context { baseline, artifact, options, .. } = *self.context;
        if options.merged || !artifact.files.iter().any(|f| f.ends_with("decoder_model_merged.onnx")) {
            return Ok(());
        }
        let what = format!("{}: the merged decoder, the padded batch", runtime.name());
        let options = Options { merged: true, ..options.clone() };
        let ways = [Way::Padded, Way::Steps];
        let found = runtime
            .open(artifact, &options)
            .map_err(ChainError::from)
            .and_then(|mut session| measure::probe(&mut *session, &baseline.plan, &ways, quantized));
        match found {
            Ok(distance) => {
                let whole = distance.of(&baseline.plan, Way::Padded);
                let steps = distance.of(&baseline.plan, Way::Steps);
                let broken =
                    "the merged decoder differs from the graph where the pair does not: look at how it joins the two";
                self.judged(runtime, format!("{what} at once"), &whole, broken);
                self.judged(runtime, format!("{what} step by step"), &steps, broken);
                Ok(())
            }
            Err(ChainError::Runtime(error)) => {
                self.checks.push(Check::failed(Link::Runtime, what, error.to_string()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn run(&self, session: &dyn Session, to_float: metrics::Distances, generated: &[Generated]) -> Run {
        let baseline = self.context.baseline;
        let limit = baseline.plan.greedy.new_tokens(session.limit_tokens());
        let agreement = agreement(&baseline.outputs.generated, generated, limit);
        Run { engine: session.engine(), to_float: Some(to_float), agreement, score: baseline.scored(generated) }
    }

    /// Quantization is judged against the float model, and an engine against the quantized graph: what quantization lost is told once.
    ///
    /// `samples`: of how many the score is.
    fn points_lost(&self, link: Link, prefix: &str, samples: usize, found: Option<Score>, broken: &str) -> Check {
        let Context { baseline, limits, .. } = *self.context;
        let metric = baseline.subject.metric;
        let (reference, of) = match (link, self.generated.first()) {
            (Link::Runtime, Some(quantized)) => (quantized, "the quantized graph"),
            _ => (&baseline.outputs.generated, "the float model"),
        };
        let what = format!("{prefix}{} against {of}", metric.name());
        let reference = baseline.scored(&reference[..samples.min(reference.len())]);
        match (&reference, found) {
            (Some(reference), Some(found)) => {
                let lost = metric.points_lost(reference, &found);
                let (limit, of_one) = (limits.max_points_lost, 100.0 / samples as f64);
                if samples < baseline.plan.samples && of_one > limit {
                    let sentence = format!("not judged: one sample is {of_one:.1} points, and the limit is {limit}");
                    return Check::info(link, what, Metric::MetricDrop, Some(lost), &sentence);
                }
                Check::judge(link, what, Metric::MetricDrop, Some(lost), Limit::AtMost(limit), broken)
            }
            _ => Check::not_run(link, what, "the data has no targets; give `validate: data:` a .jsonl file with both"),
        }
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

/// Stands for equal logits, where a check has decibels.
const EQUAL_DB: f64 = 300.0;
const UNKNOWN_FLOOR: &str = "nobody has measured this engine's noise with such weights; set `runtime_rel_l2` in the recipe's limits to judge it";

fn in_engine(runtime: &str) -> String {
    format!("the artifact in {runtime}")
}

fn not_opened(runtime: &str, error: &RuntimeError) -> Check {
    let what = in_engine(runtime);
    match error {
        RuntimeError::Unavailable { why, install, .. } => {
            Check::missing(Link::Runtime, what, format!("{why}; to run it: {install}"))
        }
        RuntimeError::Failed { message, .. } => {
            Check::failed(Link::Runtime, what, format!("the engine refuses the artifact: {message}"))
        }
    }
}

/// Outputs beside each other: samples on which runs differ first, then the others, each in the data's order.
fn side_by_side(baseline: &Baseline, runs: &[Vec<Generated>]) -> Vec<Generation> {
    let float = &baseline.outputs.generated;
    let differs = |i: &usize| runs.iter().filter_map(|run| run.get(*i)).any(|found| *found != float[*i]);
    let mut order: Vec<usize> = (0..float.len()).collect();
    order.sort_by_key(|i| !differs(i));
    order
        .into_iter()
        .take(GENERATIONS_SHOWN)
        .map(|i| Generation {
            input: baseline.subject.data.samples[i].input.clone(),
            target: baseline.subject.data.samples[i].target.clone(),
            float: baseline.text_of(&float[i]),
            outputs: runs.iter().map(|run| run.get(i).map(|found| baseline.text_of(found))).collect(),
        })
        .collect()
}
