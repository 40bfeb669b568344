//! The search itself: single weights, the frontier, plans measured as a whole.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use converters::Model;
use graph::{Graph, Scratch, Tensors};
use quant::tune::{Judge, Measured, Point, frontier, sensitivity, units};
use quant::{Calibration, Method, Plan, Policy, Scheme};
use validate::answers;
use validate::chain::Floats;
use validate::metrics::{Normalizer, Scoring, TaskMetric};
use validate::report::InputFile;
use validate::task::{Data, Text};
use validate::{Generated, Greedy};

use super::arguments::Tune;
use super::found::{Found, Row, Size, Whole, grouped, kind, layer};
use super::memory::{Line, Memory};
use super::singles::Singles;
use crate::build::error::PipelineError;
use crate::build::growth::{self, Grown};
use crate::build::observed::Observed;
use crate::build::source::Source;
use crate::command::shard::Shard;
use crate::recipe::target::Target;
use crate::show::progress::{Display, Of};

/// Plans of the frontier that are measured as a whole, besides those that a budget asks about.
const MEASURED_POINTS: usize = 8;

/// All that a search needs.
pub struct Search<'a> {
    /// The artifact, with the recipe's own policy.
    pub target: &'a Target,
    /// The float model, prepared for the artifact's format.
    pub model: &'a Model,
    /// The checkpoint.
    pub source: &'a Source,
    /// Decodes what is scored.
    pub text: &'a dyn Text,
    /// What `--max-drop` counts.
    pub metric: TaskMetric,
    /// How texts are put for it.
    pub normalizer: Normalizer,
    /// The calibration.
    pub observed: &'a Observed,
    /// For trials of one weight.
    pub singles: Singles,
    /// What plans are measured on as a whole: the first samples of the same data.
    pub judging: Data,
    /// The float model on them; measured for the first plan that nobody remembers.
    pub floats: OnceLock<Floats>,
    /// How many samples judge a trial of one weight.
    pub judged: usize,
    /// Plans are scored.
    pub with_task: bool,
    /// Where progress is shown.
    pub display: &'a Display,
    /// The checkpoint's files.
    pub inputs: &'a [InputFile],
}

impl Search<'_> {
    /// The sensitivity of each weight, the frontier, and plans on it; and the policy of the plan within the budget.
    pub fn run(&self, arguments: &Tune, mut memory: Memory) -> Result<(Found, Option<Policy>), PipelineError> {
        let policy = self.target.policy();
        let plan = self.plan(policy)?;
        let candidates = self.candidates(arguments, &plan);
        self.measure_each(&plan, &candidates, None, &mut memory)?;
        let units = units(&plan);
        let mut choices: Vec<Vec<Measured>> = Vec::new();
        for unit in &units {
            let known = candidates.iter().filter_map(|scheme| memory.known(&unit.name, *scheme));
            let own: Vec<Measured> = known.cloned().collect();
            if own.is_empty() {
                let message = format!("{}: its rows fit none of the candidates", unit.name);
                return Err(PipelineError::Tune { recipe: arguments.recipe.clone(), message });
            }
            choices.push(own);
        }
        let costs: Vec<Vec<(u64, f64)>> =
            choices.iter().map(|own| own.iter().map(|m| (m.bytes, m.kl)).collect()).collect();
        let points = frontier(&costs);
        let common = most_common(&choices, &points);
        let policy_of = |point: &Point| -> Result<Policy, PipelineError> {
            let wanted = units.iter().zip(&choices).zip(&point.choices);
            let wanted = wanted.map(|((unit, own), choice)| (unit.name.clone(), own[*choice].scheme)).collect();
            policy.for_schemes(&self.model.graph, common, &wanted).map_err(|source| self.policy_error(source))
        };

        let mut measured: Vec<(Option<usize>, Whole)> = Vec::new();
        for scheme in candidates.iter().filter(|scheme| scheme.is_quantized()) {
            for method in [Method::Nearest, policy.method] {
                let uniform = Policy { method, activations: policy.activations, ..Policy::of(*scheme) };
                let label = format!("{scheme} {}, default rules", method.name());
                let fits = self.plan(&uniform).is_ok();
                if fits && !measured.iter().any(|(_, whole)| whole.label == label) {
                    measured.push((None, self.whole(label, &uniform, &mut memory)?));
                }
            }
        }
        measured.push((None, self.whole("the recipe as it is".to_owned(), policy, &mut memory)?));

        let mut at = |index: usize, measured: &mut Vec<(Option<usize>, Whole)>| -> Result<Whole, PipelineError> {
            if let Some((_, whole)) = measured.iter().find(|(known, _)| *known == Some(index)) {
                return Ok(whole.clone());
            }
            let whole = self.whole(format!("plan {index}"), &policy_of(&points[index])?, &mut memory)?;
            measured.push((Some(index), whole.clone()));
            Ok(whole)
        };
        let fits = |whole: &Whole| match (arguments.max_size, arguments.max_kl, arguments.max_drop) {
            (Some(bytes), _, _) => whole.bytes <= bytes,
            (_, Some(kl), _) => whole.kl <= kl,
            (_, _, Some(points)) => whole.points_lost.is_some_and(|lost| lost <= points),
            _ => false,
        };
        let last = points.len() - 1;
        let chosen = if arguments.max_size.is_some() {
            // Bytes grow along the frontier: the last that fits is the most accurate one.
            let (mut below, mut above) = (None, points.len());
            while below.map_or(0, |b: usize| b + 1) < above {
                let middle = (below.map_or(0, |b| b + 1) + above - 1) / 2;
                match fits(&at(middle, &mut measured)?) {
                    true => below = Some(middle),
                    false => above = middle,
                }
            }
            below
        } else if arguments.max_kl.is_some() || arguments.max_drop.is_some() {
            // Accuracy grows along the frontier but for noise: the first that fits, by halves, then what it found is measured.
            let (mut below, mut above) = (0, points.len());
            while below < above {
                let middle = (below + above) / 2;
                match fits(&at(middle, &mut measured)?) {
                    true => above = middle,
                    false => below = middle + 1,
                }
            }
            (above < points.len()).then_some(above)
        } else {
            None
        };
        for i in 0..MEASURED_POINTS {
            at(i * last / (MEASURED_POINTS - 1), &mut measured)?;
        }
        measured.sort_by(|a, b| a.0.is_some().cmp(&b.0.is_some()).then(a.1.bytes.cmp(&b.1.bytes)));

        let scheme_of = |unit: usize| chosen.map(|i| choices[unit][points[i].choices[unit]].scheme.name());
        let rows: Vec<Row> = (0..units.len())
            .map(|i| Row {
                name: units[i].name.clone(),
                kl: choices[i].iter().map(|m| (m.scheme.name(), m.kl)).collect(),
                bytes: choices[i].iter().map(|m| (m.scheme.name(), m.bytes)).collect(),
                chosen: scheme_of(i),
            })
            .collect();
        let found = Found {
            model: self.source.name(),
            inputs: self.inputs.to_vec(),
            artifact: self.target.name().to_owned(),
            format: self.target.format().name().to_owned(),
            method: policy.method,
            calibration: self.observed.report().source,
            samples: self.judged,
            kinds: grouped(&rows, kind),
            layers: grouped(&rows, layer),
            sensitivity: rows,
            predicted: points.iter().map(|p| Size { bytes: p.bytes, kl: p.kl }).collect(),
            chosen: chosen.and_then(|index| measured.iter().position(|(known, _)| *known == Some(index))),
            measured: measured.into_iter().map(|(_, whole)| whole).collect(),
        };
        let policy = chosen.map(|index| policy_of(&points[index])).transpose()?;
        Ok((found, policy))
    }

    /// The sensitivity of the weights that are a shard's, into the memory. Returns how many those are, and how many there are.
    ///
    /// Errors: what was measured cannot be kept.
    pub fn part(&self, arguments: &Tune, shard: Shard, mut memory: Memory) -> Result<[usize; 2], PipelineError> {
        let plan = self.plan(self.target.policy())?;
        self.measure_each(&plan, &self.candidates(arguments, &plan), Some(shard), &mut memory)?;
        memory.all_is_kept()?;
        let all = units(&plan).len();
        Ok([(0..all).filter(|place| shard.has(*place)).count(), all])
    }

    fn candidates(&self, arguments: &Tune, plan: &Plan) -> Vec<Scheme> {
        match &arguments.candidates[..] {
            [] => default_candidates(self.target, &self.model.graph, plan),
            given => given.to_vec(),
        }
    }

    fn policy_error(&self, source: quant::PolicyError) -> PipelineError {
        PipelineError::Policy { artifact: self.target.name().to_owned(), source }
    }

    fn plan(&self, policy: &Policy) -> Result<Plan, PipelineError> {
        growth::plan(&self.target.instead(policy), &self.model.graph)
    }

    fn quant_error(&self, source: quant::QuantError) -> PipelineError {
        PipelineError::Quant { artifact: self.target.name().to_owned(), source }
    }

    /// The weights one by one, those of a shard alone.
    fn measure_each(
        &self,
        plan: &Plan,
        candidates: &[Scheme],
        shard: Option<Shard>,
        memory: &mut Memory,
    ) -> Result<(), PipelineError> {
        let policy = self.target.policy();
        let graph = &self.model.graph;
        let known_before: Vec<(String, Scheme)> = memory.each.keys().cloned().collect();
        let units = units(plan);
        let is_mine = |name: &str| {
            let place = units.iter().position(|unit| unit.name == name);
            shard.is_none_or(|shard| place.is_some_and(|place| shard.has(place)))
        };
        let known =
            |name: &str, scheme: Scheme| !is_mine(name) || known_before.iter().any(|(n, s)| n == name && *s == scheme);
        let distance = |sample: usize, outputs: &Tensors| self.singles.distance(sample, outputs);
        let judge = Judge { samples: self.judged, distance: &distance };
        let mut found = |measured: Measured| {
            memory.remember(Line::Each(measured));
            Ok(())
        };
        let statistics = self.observed.statistics(graph, &[], self.display)?;
        self.observed
            .with(&statistics, policy.gptq, |calibration: &Calibration| {
                let progress = self.display;
                sensitivity(graph, policy, plan, candidates, calibration, &judge, &known, &mut found, progress)
            })
            .map_err(|source| self.quant_error(source))
    }

    /// All weights together, as `convert` makes them.
    fn whole(&self, label: String, policy: &Policy, memory: &mut Memory) -> Result<Whole, PipelineError> {
        let key = serde_json::to_string(policy).expect("plain data");
        if let Some(known) = memory.wholes.get(&key).filter(|w| w.points_lost.is_some() || !self.with_task) {
            return Ok(Whole { label, ..known.clone() });
        }
        let scratch = Scratch::new().map_err(PipelineError::io(&tempfile::env::temp_dir()))?;
        let target = self.target.instead(policy);
        let grown = Grown::new(self.source, &target, Some(self.observed), &scratch, self.display)?;
        let progress = Of { name: &label, display: self.display };
        let floats = self.floats()?;
        let (distances, generated) = floats.of(&grown.model.graph, &progress)?;
        // Whatever they become here: those that the recipe's own plan quantizes.
        let own = self.plan(self.target.policy())?;
        let counted: Vec<&str> = units(&own).into_iter().map(|unit| &unit.name[..]).collect();
        let bytes = grown.records.iter().filter(|r| counted.contains(&&r.name[..])).map(|r| r.bytes).sum();
        let kl = distances.kl.unwrap_or(f64::INFINITY);
        let whole = Whole { label, bytes, kl, points_lost: self.points_lost(floats, &generated) };
        memory.remember(Line::Whole { policy: key, whole: whole.clone() });
        Ok(whole)
    }

    fn floats(&self) -> Result<&Floats, PipelineError> {
        if let Some(known) = self.floats.get() {
            return Ok(known);
        }
        let (exact, greedy) = (&self.source.exact.graph, Greedy::from(&self.source.decoding));
        let measured = Floats::measure(exact, self.judging.clone(), &greedy, self.with_task, self.display)?;
        Ok(self.floats.get_or_init(|| measured))
    }

    /// `None` when nothing was decoded, or when a sample has no target.
    fn points_lost(&self, floats: &Floats, generated: &[Generated]) -> Option<f64> {
        if !self.with_task {
            return None;
        }
        let scoring = Scoring { metrics: vec![self.metric], normalizer: self.normalizer.clone() };
        let score = |generated: &[Generated]| answers::scored(&scoring, self.text, floats.samples(), generated);
        Some(score(generated)?.lost(&score(floats.generated())?, 0).points)
    }
}

/// `int4-g32`: what most weights become on the plan in the middle of the frontier.
fn most_common(choices: &[Vec<Measured>], points: &[Point]) -> Scheme {
    let middle = &points[points.len() / 2];
    let mut counts: BTreeMap<String, (usize, Scheme)> = BTreeMap::new();
    for (own, choice) in choices.iter().zip(&middle.choices) {
        let scheme = own[*choice].scheme;
        counts.entry(scheme.name()).or_insert((0, scheme)).0 += 1;
    }
    counts.into_values().max_by_key(|(count, _)| *count).expect("a plan has units").1
}

/// What the formats of a scheme hold, from the smallest to the most accurate.
fn default_candidates(target: &Target, graph: &Graph, plan: &Plan) -> Vec<Scheme> {
    let long_rows = units(plan).iter().all(|unit| graph.weights.get(unit.id).matrix()[1].is_multiple_of(256));
    let names: &[&str] = match target.policy().scheme {
        // transformers reads codes of one width in a model.
        _ if target.format().name() == "safetensors" => &["int4-g128", "int4-g32", "f16"],
        Scheme::Ggml(_) if long_rows => &["q4_k", "q5_k", "q6_k", "q8_0", "f16"],
        Scheme::Ggml(_) => &["q4_0", "q5_0", "q5_1", "q8_0", "f16"],
        _ => &["int4", "int4-g128", "int4-g32", "int8", "f16"],
    };
    names.iter().map(|name| name.parse().expect("names of schemes")).collect()
}
