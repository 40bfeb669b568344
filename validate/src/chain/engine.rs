//! One engine against the quantized graph.

use converters::export::onnx::Folder;
use graph::Progress;
use metrics::{Distances, Meter};
use report::{Check, Limit, Link, Metric};

use super::beside::{self, Beside};
use super::error::ChainError;
use super::limits::{Arithmetic, Floor};
use super::measure::{self, Measured, Outputs, Plan, Way};
use super::ties;
use super::walk::{Context, Walk, in_engine};
use crate::answers::Said;
use crate::runtime::reference;
use crate::runtime::{AllRows, Options, Runtime, RuntimeError, Session};

impl Walk<'_> {
    /// One engine against the quantized graph. Returns whether the engine is on this machine.
    pub(super) fn runtime(
        &mut self,
        runtime: &dyn Runtime,
        called: &str,
        options: &Options,
        quantized: Option<&Outputs>,
        progress: &dyn Progress,
    ) -> Result<bool, ChainError> {
        let Context { baseline, artifact, .. } = *self.context;
        let bytes = artifact.bytes().unwrap_or(u64::MAX);
        let sessions = match runtime.samples(options) {
            None => beside::sessions(baseline.plan.calls.len(), bytes, options.threads),
            // A simulator is long in starting.
            Some(_) => 1,
        };
        let options = &Options { threads: if sessions > 1 { 1 } else { options.threads }, ..options.clone() };
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
        let rows_are_alone = reference::rows_are_alone(&self.context.quantized.graph);
        session = keeping(session, rows_are_alone);
        let another = || Some(keeping(runtime.open(artifact, options).ok()?, rows_are_alone));
        let beside = Beside { count: sessions - 1, open: &another };
        let Measured { outputs, distances } = match measure::engine(&mut *session, &beside, plan, &against, progress) {
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
        let said = Said::all(baseline.subject.text, &outputs.generated);
        let scored = baseline.subject.scored(&said);
        let mut engine = session.engine();
        if sessions > 1 {
            engine.settings = format!("{}, {sessions} side by side", engine.settings);
        }
        let run = self.run(engine, Some(to_float), &outputs.generated, limit, scored.as_ref());
        let broken = "the engine loses what the quantized graph does not: see its logits";
        let prefix = if plan.samples < baseline.plan.samples {
            format!("{called}: {}: ", self.samples(plan))
        } else {
            format!("{called}: ")
        };
        self.judge_task(Link::Runtime, &prefix, scored.as_ref(), broken);
        // A simulator takes seconds for a token.
        let is_slow = runtime.samples(options).is_some();
        self.trace_engine(&mut *session, [quantized, &outputs], limit, rel_l2, is_slow);
        self.runs.push(run);
        self.said.push(said);
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
    fn sqnr(&self, called: &str, plan: &Plan, to_float: Distances) -> Check {
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
        let check = self.within_noise(self.floor(runtime), what, found.rel_l2, broken);
        self.checks.push(check.with(found));
    }

    /// Relative L2 of what an engine computed to what its graph does (`None`: they are not numbers), at most as much as the
    /// recipe says, else as `floor`, the noise that the engine is known to add.
    pub(super) fn within_noise(&self, floor: Option<Floor>, what: String, rel_l2: Option<f64>, broken: &str) -> Check {
        let of_recipe = self.context.limits.runtime_rel_l2;
        let mut check = match of_recipe.or(floor.map(|floor| floor.rel_l2)) {
            Some(limit) => Check::judge(Link::Runtime, what, Metric::RelL2, rel_l2, Limit::AtMost(limit), broken),
            // Without a known floor, only what are no numbers can be called broken.
            None if rel_l2.is_none() => Check::failed(Link::Runtime, what, "they are not numbers"),
            None => Check::info(Link::Runtime, what, Metric::RelL2, rel_l2, UNKNOWN_FLOOR),
        };
        if check.sentence.is_empty() {
            check.sentence = match (of_recipe, floor) {
                (Some(_), _) => "limit of the recipe".to_owned(),
                (None, floor) => floor.map_or(String::new(), |floor| floor.sentence()),
            };
        }
        check
    }

    /// An ONNX folder has its decoder twice: as a pair and merged. The pair ran over the data, the merged one is probed; where
    /// it is alone, it ran.
    fn merged(&mut self, runtime: &dyn Runtime, quantized: &Outputs) -> Result<(), ChainError> {
        let Context { baseline, artifact, options, .. } = *self.context;
        let folder = Folder::find(&artifact.dir);
        if options.merged || folder.is_merged_alone() || !folder.merged().exists() {
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
}

/// A session that drops rows which have ended, where that leaves the others as they are.
fn keeping(session: Box<dyn Session>, rows_are_alone: bool) -> Box<dyn Session> {
    if rows_are_alone { session } else { Box::new(AllRows(session)) }
}

/// Stands for equal logits, where a check has decibels.
const EQUAL_DB: f64 = 300.0;
const UNKNOWN_FLOOR: &str = "nobody has measured this engine's noise with such weights; set `runtime_rel_l2` in the recipe's limits to judge it";

pub(super) fn not_opened(runtime: &str, error: &RuntimeError) -> Check {
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
