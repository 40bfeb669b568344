//! `tune`: what each weight may lose, measured; then the smallest plan within a budget, as a recipe that `convert` takes.

mod picture;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use converters::Model;
use graph::eval::Interpreter;
use graph::{Blob, FloatType, Graph, Progress, Scratch, Tensors};
use quant::tune::{Judge, Measured, Point, frontier, sensitivity, units};
use quant::{Calibration, Equalize, Method, Plan, Policy, Scheme};
use serde::{Deserialize, Serialize};
use serde_json::json;
use validate::Greedy;
use validate::metrics::{Meter, Score};
use validate::task::{TaskMetric, Text};

use crate::build::edits;
use crate::build::error::PipelineError;
use crate::build::folder::OutFolder;
use crate::build::growth::refused;
use crate::build::inputs::Inputs;
use crate::build::manifest::{Origin, sha256};
use crate::build::observed::Observed;
use crate::build::room::room;
use crate::build::source::Source;
use crate::build::source::text_of;
use crate::build::{places, whole};
use crate::command::arguments::{Common, Verdict};
use crate::recipe::load::Loaded;
use crate::recipe::target::Target;
use crate::show::progress::{Display, Of};
use crate::show::terminal::print;

/// What is written, the one for machines first.
const FILES: [&str; 3] = ["tune.json", "tune.md", "tune.svg"];
/// Samples that judge a trial, unless told otherwise.
const SAMPLES: usize = 128;
/// Plans of the frontier that are measured as a whole, besides those that a budget asks about.
const MEASURED_POINTS: usize = 8;

/// Arguments of `tune`.
#[derive(clap::Args)]
pub struct Tune {
    /// The recipe
    recipe: PathBuf,
    /// Which artifact [default: the recipe's only one]
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Most bytes of its weights, as 2900000 or 2.9MB
    #[arg(long, value_name = "BYTES", value_parser = bytes, group = "budget")]
    max_size: Option<u64>,
    /// Most KL divergence from the float model, in nats
    #[arg(long, value_name = "KL", group = "budget")]
    max_kl: Option<f64>,
    /// Most points of the task's metric lost on the calibration data
    #[arg(long, value_name = "POINTS", group = "budget")]
    max_drop: Option<f64>,
    /// Schemes to choose from [default: those of the format]
    #[arg(long, value_name = "SCHEME", value_delimiter = ',')]
    candidates: Vec<Scheme>,
    /// Calibration samples that judge a trial, from the first
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(SAMPLES).expect("not 0"))]
    samples: NonZeroUsize,
    /// Another checkpoint than the recipe's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where the new recipe goes [default: beside the recipe, as NAME-tuned.yaml]
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Where tune.md, tune.json and tune.svg go [default: in the recipe's `out`]
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
}

/// `2900000`, `2.9MB`, `350kB`; in powers of 1000.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0), ("", 1.0)];
    let found = units.iter().find_map(|(unit, size)| Some((text.trim().strip_suffix(unit)?.trim(), size)));
    let number = found.and_then(|(number, size)| Some(number.parse::<f64>().ok()? * size));
    number
        .filter(|n| *n >= 1.0 && *n < 1e15)
        .map(|n| n as u64)
        .ok_or_else(|| "expected a size as 2900000 or 2.9MB".into())
}

/// What a search found, for `tune.json`.
#[derive(Serialize)]
pub(crate) struct Found {
    model: String,
    artifact: String,
    format: String,
    method: Method,
    calibration: String,
    /// Samples that judged.
    samples: usize,
    sensitivity: Vec<Row>,
    kinds: Vec<Group>,
    layers: Vec<Group>,
    /// The frontier, predicted from single weights.
    predicted: Vec<Size>,
    /// Plans measured as a whole.
    measured: Vec<Whole>,
    /// The plan within the budget, as its index in `measured`.
    chosen: Option<usize>,
}

/// One weight and its distances.
#[derive(Serialize)]
pub(crate) struct Row {
    name: String,
    kl: BTreeMap<String, f64>,
    chosen: Option<String>,
}

/// Weights of one kind or layer, their distances added.
#[derive(Serialize)]
pub(crate) struct Group {
    name: String,
    weights: usize,
    kl: BTreeMap<String, f64>,
}

#[derive(Serialize)]
pub(crate) struct Size {
    bytes: u64,
    kl: f64,
}

/// A plan measured as a whole.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Whole {
    label: String,
    bytes: u64,
    kl: f64,
    points_lost: Option<f64>,
}

/// `tune`.
pub fn tune(arguments: &Tune, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(&arguments.recipe)?;
    loaded.replace(arguments.model.as_deref(), None);
    let Loaded { recipe, text: recipe_text } = &loaded;
    let wrong = |message: &str| PipelineError::Tune { recipe: arguments.recipe.clone(), message: message.to_owned() };
    let target = match (&arguments.only, &recipe.artifacts[..]) {
        (Some(name), all) => all.iter().find(|t| t.name() == name).ok_or_else(|| PipelineError::NoArtifact {
            found: name.clone(),
            known: all.iter().map(|t| t.name().to_owned()).collect(),
        })?,
        (None, [one]) => one,
        (None, _) => return Err(wrong("it has several artifacts; expected --only NAME")),
    };
    let wanted = recipe.calibrate.as_ref().ok_or_else(|| wrong("expected `calibrate: { data: FILE }`, found none"))?;
    if !target.policy().scheme.is_quantized() {
        return Err(wrong("expected a quantized scheme in the artifact's `quantize`, found a float one"));
    }

    let report_dir = arguments.report_dir.as_deref().unwrap_or(&recipe.out);
    if let Some(problem) = places::foreign_report(report_dir, &FILES, &["artifact", "measured"]) {
        return Err(PipelineError::Places(vec![problem]));
    }
    display.say(&format!("import {}", recipe.model.display()));
    let inputs = Inputs::of(&recipe.model).map_err(PipelineError::io(&recipe.model))?;
    let (text, of_languages) = text_of(&recipe.model, &[&recipe.languages])?;
    let source = Source::open(&recipe.model, &[&of_languages, &recipe.decode])?;
    let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
    let data = source.load(&wanted.data, wanted.samples, &*text)?;
    let folder = OutFolder::open(report_dir)?;
    // Whoever needs a temporary file in this process or below it gets it on the disk that takes the result.
    let _ = tempfile::env::override_temp_dir(folder.scratch());
    let need = refused(&source, target)?;
    room(report_dir, need.scratch + source.logits_bytes(&data), display)?;
    let observed =
        Observed::new(&source.exact.graph, &origin, &source.decoding, wanted, data, folder.scratch(), display)?;
    if arguments.max_drop.is_some() && !observed.has_targets() {
        return Err(wrong(
            "--max-drop scores the task; expected calibration data with targets that are fed, found none",
        ));
    }
    let mut model = source.exact.clone();
    let name = target.name().to_owned();
    target.format().prepare(&mut model).map_err(|source| PipelineError::Export { artifact: name.clone(), source })?;

    let memory = Memory::open(arguments, target, &origin, &source, &observed);
    let judged = arguments.samples.get().min(observed.samples());
    let search = Search {
        target,
        model: &model,
        source: &source,
        text: &*text,
        metric: recipe.validate.metric,
        observed: &observed,
        floats: Floats::new(&model.graph, &observed, judged)?,
        float_score: OnceLock::new(),
        judged,
        with_task: arguments.max_drop.is_some(),
        display,
    };
    let (found, policy) = search.run(arguments, memory)?;
    display.finish();
    inputs.unchanged(&origin.inputs)?;
    write_report(&found, folder)?;
    let saved = match &policy {
        Some(policy) => {
            let file = arguments.save.clone().unwrap_or_else(|| beside(&arguments.recipe));
            let mut value = tuned(recipe_text, &arguments.recipe, target.name(), policy)?;
            let folder = |file: &Path| file.parent().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
            if let Some(from) = folder(&arguments.recipe).filter(|from| Some(from) != folder(&file).as_ref()) {
                anchor(&mut value, &from);
            }
            let head = format!(
                "# Made by `trefoil tune {}`: the artifact {} {}.\n\n",
                arguments.recipe.file_name().unwrap_or_default().to_string_lossy(),
                target.name(),
                budget(arguments)
            );
            let text = head + &text::yaml(&value);
            whole::write(&file, text.as_bytes()).map_err(PipelineError::io(&file))?;
            Some(file)
        }
        None => None,
    };
    match common.json {
        true => print(&(serde_json::to_string_pretty(&found).expect("plain data") + "\n")),
        false => print(&text::summary(&found, &report_dir.join("tune.md"), saved.as_deref())),
    }
    .map_err(PipelineError::io(Path::new("stdout")))?;
    let missed = arguments.max_size.is_some() || arguments.max_kl.is_some() || arguments.max_drop.is_some();
    if missed && saved.is_none() {
        // A closed stderr leaves no place to say so.
        let _ = writeln!(io::stderr(), "failed: tune: no plan of these candidates {}", budget(arguments));
        return Ok(Verdict::Failed);
    }
    Ok(Verdict::Passed)
}

fn budget(arguments: &Tune) -> String {
    match (arguments.max_size, arguments.max_kl, arguments.max_drop) {
        (Some(bytes), _, _) => format!("has at most {bytes} bytes of weights"),
        (_, Some(kl), _) => format!("has a KL of at most {kl}"),
        (_, _, Some(points)) => format!("loses at most {points} points"),
        _ => "has no budget".to_owned(),
    }
}

fn beside(recipe: &Path) -> PathBuf {
    let stem = recipe.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    recipe.with_file_name(format!("{stem}-tuned.yaml"))
}

/// The recipe with this artifact alone and this policy.
fn tuned(text: &str, file: &Path, name: &str, policy: &Policy) -> Result<serde_json::Value, PipelineError> {
    let mut value: serde_json::Value = crate::recipe::yaml::parse(text, &file.display().to_string())
        .map_err(|e| PipelineError::Recipe(crate::recipe::load::RecipeError::Yaml(e)))?;
    let policy = serde_json::to_value(policy).expect("plain data");
    if let Some(top) = value.as_object_mut() {
        top.remove("quantize");
        if let Some(artifacts) = top.get_mut("artifacts").and_then(|a| a.as_array_mut()) {
            artifacts.retain(|a| match a.get("name").and_then(|n| n.as_str()) {
                Some(own) => own == name,
                None => a.get(name).is_some(),
            });
            for artifact in artifacts.iter_mut().filter_map(|a| a.as_object_mut()) {
                artifact.insert("quantize".to_owned(), policy.clone());
            }
        }
    }
    Ok(value)
}

/// Lets the paths of a recipe begin at the folder that they were relative to.
fn anchor(value: &mut serde_json::Value, folder: &Path) {
    for pointer in ["/model", "/out", "/calibrate/data", "/validate/data"] {
        if let Some(path) = value.pointer_mut(pointer)
            && let Some(text) = path.as_str()
        {
            *path = json!(folder.join(text));
        }
    }
}

/// All that a search needs.
struct Search<'a> {
    target: &'a Target,
    model: &'a Model,
    source: &'a Source,
    text: &'a dyn Text,
    metric: TaskMetric,
    observed: &'a Observed,
    floats: Floats,
    /// Computed when the first plan is scored; absent inside when the data has no targets.
    float_score: OnceLock<Option<Score>>,
    judged: usize,
    with_task: bool,
    display: &'a Display,
}

impl Search<'_> {
    fn run(&self, arguments: &Tune, mut memory: Memory) -> Result<(Found, Option<Policy>), PipelineError> {
        let policy = self.target.policy();
        let plan = self.plan(policy)?;
        let candidates = match &arguments.candidates[..] {
            [] => default_candidates(self.target, &self.model.graph, &plan),
            given => given.to_vec(),
        };
        self.measure_each(&plan, &candidates, &mut memory)?;
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
                let uniform = Policy { method, ..Policy::of(*scheme) };
                let label = format!("{scheme} {}, default rules", method.name());
                let fits = uniform.plan_with_fallback(&self.model.graph, self.target.fallback()).is_ok();
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
                chosen: scheme_of(i),
            })
            .collect();
        let found = Found {
            model: self.source.name(),
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

    fn policy_error(&self, source: quant::PolicyError) -> PipelineError {
        PipelineError::Policy { artifact: self.target.name().to_owned(), source }
    }

    fn plan(&self, policy: &Policy) -> Result<Plan, PipelineError> {
        policy.plan_with_fallback(&self.model.graph, self.target.fallback()).map_err(|source| self.policy_error(source))
    }

    fn quant_error(&self, source: quant::QuantError) -> PipelineError {
        PipelineError::Quant { artifact: self.target.name().to_owned(), source }
    }

    /// The weights one by one.
    fn measure_each(&self, plan: &Plan, candidates: &[Scheme], memory: &mut Memory) -> Result<(), PipelineError> {
        let policy = self.target.policy();
        let graph = &self.model.graph;
        let known_before: Vec<(String, Scheme)> = memory.each.keys().cloned().collect();
        let known = |name: &str, scheme: Scheme| known_before.iter().any(|(n, s)| n == name && *s == scheme);
        let distance = |sample: usize, outputs: &Tensors| self.floats.distance(sample, outputs);
        let judge = Judge { samples: self.judged, distance: &distance };
        let mut found = |measured: Measured| {
            memory.remember(Line::Each(measured));
            Ok(())
        };
        let statistics = self.observed.statistics(graph, false, self.display)?;
        self.observed
            .with(&statistics, policy.gptq, |calibration: &Calibration| {
                let progress = self.display;
                sensitivity(graph, policy, plan, candidates, calibration, &judge, &known, &mut found, progress)
            })
            .map_err(|source| self.quant_error(source))
    }

    /// All weights together.
    fn whole(&self, label: String, policy: &Policy, memory: &mut Memory) -> Result<Whole, PipelineError> {
        let key = serde_json::to_string(policy).expect("plain data");
        if let Some(known) = memory.wholes.get(&key).filter(|w| w.points_lost.is_some() || !self.with_task) {
            return Ok(Whole { label, ..known.clone() });
        }
        let plan = self.plan(policy)?;
        let scratch = Scratch::new().map_err(PipelineError::io(&tempfile::env::temp_dir()))?;
        let mut graph = self.model.graph.clone();
        let progress = Of { name: &label, display: self.display };
        edits::equalize(&mut graph, policy, &plan, Some(self.observed), self.display)?
            .map_err(|source| self.quant_error(source))?;
        let statistics = self.observed.statistics(&graph, policy.equalize != Equalize::None, self.display)?;
        let records = self.observed.with(&statistics, policy.gptq, |calibration| {
            quant::quantize_calibrated(&mut graph, &plan, Some(calibration), &scratch, &progress)
        });
        let records = records.map_err(|source| self.quant_error(source))?;
        let distance = |sample: usize, outputs: &Tensors| self.floats.distance(sample, outputs);
        let judge = Judge { samples: self.judged, distance: &distance };
        let interpreter = validate::runtime::reference::caching(&graph);
        let kl = judge.mean(|watch| self.observed.run(&interpreter, self.judged, watch))?;
        let points_lost = match self.with_task {
            false => None,
            true => self.points_lost(&interpreter)?,
        };
        // Whatever they become here: those that the recipe's own plan quantizes.
        let own = self.plan(self.target.policy())?;
        let counted: Vec<&str> = units(&own).into_iter().map(|unit| &unit.name[..]).collect();
        let bytes = records.iter().filter(|r| counted.contains(&&r.name[..])).map(|r| r.bytes).sum();
        let whole = Whole { label, bytes, kl, points_lost };
        memory.remember(Line::Whole { policy: key, whole: whole.clone() });
        Ok(whole)
    }

    fn points_lost(&self, interpreter: &Interpreter) -> Result<Option<f64>, PipelineError> {
        let greedy = Greedy::from(&self.source.decoding);
        let score = |interpreter: &Interpreter| -> Result<Option<Score>, PipelineError> {
            self.observed.score(interpreter, &greedy, self.judged, self.text, self.display)
        };
        let float = match self.float_score.get() {
            Some(known) => *known,
            None => {
                let found = score(&validate::runtime::reference::caching(&self.model.graph))?;
                *self.float_score.get_or_init(|| found)
            }
        };
        Ok(float.zip(score(interpreter)?).map(|(float, found)| self.metric.points_lost(&float, &found)))
    }
}

/// The float model's logits on the samples that judge, in a scratch file.
struct Floats {
    logits: Vec<Blob>,
    width: usize,
}

impl Floats {
    fn new(graph: &Graph, observed: &Observed, count: usize) -> Result<Floats, PipelineError> {
        let scratch = Scratch::new().map_err(PipelineError::io(&tempfile::env::temp_dir()))?;
        let kept = std::sync::Mutex::new((0..count).map(|_| None).collect::<Vec<_>>());
        let keep = |sample: usize, outputs: &Tensors| {
            let logits = outputs["logits"].as_f32().expect("logits are floats");
            let mut bytes = vec![0; 4 * logits.len()];
            FloatType::F32.encode(logits, &mut bytes);
            let written = scratch.reserve(bytes.len() as u64).and_then(|room| {
                room.write_at(0, &bytes)?;
                Ok(room.into_blob())
            });
            let width = outputs["logits"].shape()[2];
            kept.lock().expect("no panic while holding the lock")[sample] = Some((written, width));
        };
        observed.run(&validate::runtime::reference::caching(graph), count, &keep)?;
        let kept = kept.into_inner().expect("no panic while holding the lock");
        let (mut logits, mut widths) = (Vec::new(), 0);
        for one in kept {
            let (blob, width) = one.expect("every sample was run");
            logits.push(blob.map_err(PipelineError::io(&tempfile::env::temp_dir()))?);
            widths = width;
        }
        Ok(Floats { logits, width: widths })
    }

    fn distance(&self, sample: usize, outputs: &Tensors) -> (f64, u64) {
        let found = outputs["logits"].as_f32().expect("logits are floats");
        let mut expected = vec![0.0; found.len()];
        let read = self.logits[sample].read().map(|bytes| FloatType::F32.decode(&bytes, &mut expected));
        let mut meter = Meter::default();
        meter.add(&expected, found, self.width);
        let distances = meter.distances();
        let kl = if read.is_ok() { distances.kl.unwrap_or(f64::INFINITY) } else { f64::INFINITY };
        (kl * distances.positions as f64, distances.positions)
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

/// The name with its numbers left out: weights that do the same in every layer.
fn kind(name: &str) -> String {
    let parts = name.trim_end_matches(".weight").split('.');
    parts.map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

/// The name up to its first number: a layer of a stack. What stands outside of layers is its own.
fn layer(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.iter().position(|part| part.bytes().all(|b| b.is_ascii_digit())) {
        Some(number) => parts[..=number].join("."),
        None => name.to_owned(),
    }
}

fn grouped(rows: &[Row], by: impl Fn(&str) -> String) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let name = by(&row.name);
        if !groups.iter().any(|group| group.name == name) {
            groups.push(Group { name: name.clone(), weights: 0, kl: BTreeMap::new() });
        }
        let group = groups.iter_mut().find(|group| group.name == name).expect("it was just pushed");
        group.weights += 1;
        for (scheme, kl) in &row.kl {
            *group.kl.entry(scheme.clone()).or_default() += kl;
        }
    }
    groups
}

/// tune.json, tune.md and tune.svg, all or none of them anew.
fn write_report(found: &Found, folder: OutFolder) -> Result<(), PipelineError> {
    let json = serde_json::to_string_pretty(found).expect("plain data") + "\n";
    for (name, text) in FILES.into_iter().zip([json, text::markdown(found), picture::svg(found)]) {
        fs::write(folder.staged(name), text).map_err(PipelineError::io(&folder.staged(name)))?;
    }
    Ok(folder.commit(&FILES, &[])?)
}

/// Measurements of earlier runs on the same checkpoint, data and settings, so that an interrupted search goes on and another
/// budget costs little. One JSON object a line; the last line may be cut short.
struct Memory {
    file: Option<fs::File>,
    each: HashMap<(String, Scheme), Measured>,
    /// By policy.
    wholes: BTreeMap<String, Whole>,
}

#[derive(Serialize, Deserialize)]
enum Line {
    Each(Measured),
    Whole { policy: String, whole: Whole },
}

impl Memory {
    /// Without a cache folder nothing is remembered, and that is all.
    fn open(arguments: &Tune, target: &Target, origin: &Origin, source: &Source, observed: &Observed) -> Memory {
        let policy = target.policy();
        let data = observed.report();
        let key = json!([
            env!("CARGO_PKG_VERSION"),
            origin,
            source.decoding,
            target.format().name(),
            [json!(policy.method), json!(policy.clip), json!(policy.gptq)],
            [json!(data.sha256), json!(data.samples), json!(data.positions), json!(data.prefixes)],
            arguments.samples,
        ]);
        let name = sha256(&key.to_string());
        let mut memory = Memory { file: None, each: HashMap::new(), wholes: BTreeMap::new() };
        let Some(folder) = validate::cache_folder().map(|cache| cache.join("tune")) else { return memory };
        let path = folder.join(format!("{name}.jsonl"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|line| memory.keep(line));
        let opened =
            fs::create_dir_all(&folder).and_then(|()| fs::File::options().create(true).append(true).open(&path));
        memory.file = opened.ok();
        if let (Some(file), false) = (&mut memory.file, text.is_empty() || text.ends_with('\n')) {
            // After a line that was cut short.
            let _ = file.write_all(b"\n");
        }
        memory
    }

    fn known(&self, name: &str, scheme: Scheme) -> Option<&Measured> {
        self.each.get(&(name.to_owned(), scheme))
    }

    fn keep(&mut self, line: Line) {
        match line {
            Line::Each(measured) => drop(self.each.insert((measured.name.clone(), measured.scheme), measured)),
            Line::Whole { policy, whole } => drop(self.wholes.insert(policy, whole)),
        }
    }

    fn remember(&mut self, line: Line) {
        let mut text = serde_json::to_string(&line).expect("plain data");
        text.push('\n');
        if let Some(file) = &mut self.file {
            // A full disk costs the next run its time, not this one its result.
            let _ = file.write_all(text.as_bytes());
        }
        self.keep(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_a_thousand() {
        assert_eq!(
            [bytes("2900000"), bytes("2.9MB"), bytes("350 kB"), bytes("1GB")].map(|b| b.ok()),
            [Some(2_900_000), Some(2_900_000), Some(350_000), Some(1_000_000_000)]
        );
        assert!(["", "MB", "-3", "2 TB", "NaN", "0"].iter().all(|text| bytes(text).is_err()));
    }

    #[test]
    fn a_recipe_saved_elsewhere_finds_what_it_names() {
        let mut value = json!({ "model": "../m", "out": "/o", "calibrate": { "data": "a.txt" }, "artifacts": [] });
        anchor(&mut value, Path::new("/r/s"));
        let expected =
            json!({ "model": "/r/s/../m", "out": "/o", "calibrate": { "data": "/r/s/a.txt" }, "artifacts": [] });
        assert_eq!(value, expected);
    }

    #[test]
    fn weights_are_grouped_by_what_they_do_and_by_where_they_stand() {
        let name = "encoder.block.3.layer.0.SelfAttention.q.weight";
        assert_eq!(kind(name), "encoder.block.*.layer.*.SelfAttention.q");
        assert_eq!(layer(name), "encoder.block.3");
        assert_eq!(layer("shared.weight"), "shared.weight");
    }
}
