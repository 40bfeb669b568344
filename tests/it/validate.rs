//! The chain finds a broken stage and names it: each test breaks one thing and looks at where the report says it broke.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use converters::{Artifact, ExportError, Format, Model};
use graph::eval::Interpreter;
use graph::passes::{QuantizeActivations, run_one};
use graph::progress::Quiet;
use graph::{Def, Derive, Feeds, Granularity, Graph, Op, PAST, Scratch, Tensor, WeightData, Weights};
use quant::Policy;
use validate::chain::{Floor, WordFloor, validate_in};
use validate::metrics::{Scoring, TaskMetric};
use validate::report::{
    ArtifactReport, Link, Made, Metric, ModelReport, Note, Outcome, OutputFile, TensorRow, markdown, worst,
};
use validate::runtime::hf::Transformers;
use validate::runtime::reference::Reference;
use validate::runtime::{Options, Present, Program};
use validate::task::Ids;
use validate::{
    Baseline, Check, Context, Data, Engine, Greedy, Limits, Report, Runtime, RuntimeError, Session, Subject,
};

use crate::fixture::{fixture, fixtures, repository};

/// A checkpoint after import and after the passes.
pub struct Grown {
    pub dir: PathBuf,
    pub imported: Graph,
    pub exact: Model,
}

pub fn grown(dir: &Path) -> Grown {
    let mut exact = converters::import(dir).expect("a sound checkpoint");
    let imported = exact.graph.clone();
    graph::passes::run(&mut exact.graph).expect("passes apply");
    Grown { dir: dir.to_owned(), imported, exact }
}

impl Grown {
    pub fn baseline<'a>(&'a self, recorded: &'a Path) -> Baseline<'a> {
        let greedy = Greedy::from(self.exact.checkpoint.generation()).at_most(9);
        let eos = greedy.settings.eos_token_ids.first().copied();
        let mut data = Data::drawn(11, &self.exact.graph, &greedy.settings).expect("a known encoder");
        let logits = self.exact.graph.entry("full").and_then(|full| full.output("logits")).expect("every graph has it");
        let vocabulary = self.exact.graph.value(logits).ty.shape[2].literal().expect("a number") as i64;
        for (i, sample) in data.samples.iter_mut().enumerate() {
            // A target of its own length for each, ending as targets do.
            let ids = match sample.source.ids() {
                Some(ids) => ids.iter().rev().skip(1).take(7).map(|id| id % vocabulary).collect(),
                None => (3..4 + i as i64 % 7).collect::<Vec<i64>>(),
            };
            sample.target_ids = ids.into_iter().chain(eos).collect();
            sample.target = Some(sample.input.clone());
        }
        let subject = Subject {
            imported: &self.imported,
            exact: &self.exact,
            recorded,
            data,
            text: &Ids,
            greedy,
            scoring: Scoring { metrics: vec![TaskMetric::ExactMatch], ..Scoring::default() },
        };
        Baseline::measure(subject, &Quiet).expect("the float model runs")
    }

    pub fn recorded(&self) -> PathBuf {
        self.dir.join("expected.safetensors")
    }
}

/// A format whose file is memory: what it reads back is what the test says.
pub struct Memory<F>(pub F);

impl<F: Fn() -> Result<Weights, ExportError> + Sync> Format for Memory<F> {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn prepare(&self, _: &mut Model) -> Result<Vec<String>, ExportError> {
        Ok(Vec::new())
    }

    fn check(&self, _: &Model) -> Result<(), ExportError> {
        Ok(())
    }

    fn write(&self, _: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        Ok(artifact(dir))
    }

    fn read_weights(&self, _: &Model, _: &Artifact) -> Result<Weights, ExportError> {
        (self.0)()
    }
}

pub fn artifact(dir: &Path) -> Artifact {
    Artifact { format: "memory", dir: dir.to_owned(), files: Vec::new() }
}

/// An engine made of the interpreter, under the name of one whose noise is known, and what it does wrong.
pub struct Fake {
    pub graph: Graph,
    pub fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    None,
    Missing,
    Refuses,
    NotANumber,
    Narrow,
    DiesAtTheSecondStep,
    IgnoresTheMask,
    ForgetsItsCache,
    HoldsThreeTokens,
    /// No fault: a simulator, which takes a sequence at a time and few of them.
    Slow,
}

const SLOW_SAMPLES: usize = 5;

impl Program for Fake {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn runs(&self, format: &str) -> bool {
        matches!(format, "memory" | "npu")
    }

    fn probe(&self, _: &Options) -> Result<Present, RuntimeError> {
        Ok(Present { version: String::new(), place: String::new() })
    }
}

impl Runtime for Fake {
    fn runs_of(&self, options: &Options) -> Vec<(String, Options)> {
        let chips: &[&str] = if self.fault == Fault::Slow { &["a", "b"] } else { &[""] };
        chips.iter().map(|chip| (format!("chip {chip}"), options.clone())).collect()
    }

    fn samples(&self, options: &Options) -> Option<usize> {
        options.simulated_samples.filter(|_| self.fault == Fault::Slow)
    }

    fn open(&self, _: &Artifact, _: &Options) -> Result<Box<dyn Session>, RuntimeError> {
        let (runtime, why, install) = ("onnxruntime", "no library".to_owned(), "pip install it".to_owned());
        match self.fault {
            Fault::Missing => return Err(RuntimeError::Unavailable { runtime, why, install }),
            Fault::Refuses => return Err(RuntimeError::Failed { runtime, message: "node 7 is unknown".to_owned() }),
            _ => {}
        }
        let interpreter = Box::new(Interpreter::owning(self.graph.clone()).with_cache(1 << 20));
        Ok(Box::new(FakeSession { inner: Reference::new(interpreter), fault: self.fault, encoded: None, steps: 0 }))
    }
}

struct FakeSession {
    inner: Reference<Box<Interpreter<'static>>>,
    fault: Fault,
    encoded: Option<Feeds>,
    steps: usize,
}

impl Session for FakeSession {
    fn engine(&self) -> Engine {
        Engine { name: "onnxruntime".into(), version: "0.0".into(), settings: "in a test".into() }
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        self.steps = 0;
        let mut source = source.clone();
        if let (Fault::IgnoresTheMask, Some(mask)) = (self.fault, source.get_mut("attention_mask")) {
            *mask = Tensor::i64(mask.shape(), vec![1; mask.len()]);
        }
        self.inner.encode(&source)?;
        self.encoded = Some(source);
        Ok(())
    }

    fn decode(&mut self, ids: &Tensor) -> Result<Tensor, RuntimeError> {
        self.steps += 1;
        if self.fault == Fault::ForgetsItsCache
            && let Some(source) = &self.encoded
        {
            self.inner.encode(source)?;
        }
        if self.fault == Fault::DiesAtTheSecondStep && self.steps == 2 {
            return Err(RuntimeError::Failed { runtime: "onnxruntime", message: "broken pipe".to_owned() });
        }
        let logits = self.inner.decode(ids)?;
        let floats = logits.as_f32().expect("logits");
        match (self.fault, logits.shape()) {
            (Fault::NotANumber, shape) => Ok(Tensor::f32(shape, vec![f32::NAN; floats.len()])),
            (Fault::Narrow, [b, n, width]) => {
                Ok(Tensor::f32([*b, *n, width - 1], floats.chunks(*width).flat_map(|row| row[1..].to_vec()).collect()))
            }
            _ => Ok(logits),
        }
    }

    fn limit_tokens(&self) -> Option<usize> {
        (self.fault == Fault::HoldsThreeTokens).then_some(3)
    }

    fn rows_at_once(&self) -> Option<usize> {
        (self.fault == Fault::Slow).then_some(1)
    }

    fn checks(&mut self) -> Vec<Check> {
        let one = Check::passed(Link::Runtime, "every node on the NPU, 7 of 7", "");
        Vec::from_iter((self.fault == Fault::Slow).then_some(one))
    }
}

/// Runs the chain on an artifact that claims to be `quantized`.
fn validated(
    baseline: &Baseline,
    quantized: &Model,
    engine: &Fake,
    read: impl Fn() -> Result<Weights, ExportError> + Sync,
) -> ArtifactReport {
    let options = Options { offline: true, ..Options::DEFAULT };
    validated_as("memory", &of_few(), &options, (baseline, quantized, engine), read)
}

/// The same in a format and with limits.
fn validated_as(
    format: &'static str,
    limits: &Limits,
    options: &Options,
    (baseline, quantized, engine): (&Baseline, &Model, &Fake),
    read: impl Fn() -> Result<Weights, ExportError> + Sync,
) -> ArtifactReport {
    let home = tempfile::tempdir().expect("temporary folder");
    let row = |name: &str, rel_l2| TensorRow {
        name: name.to_owned(),
        role: "attention".to_owned(),
        type_name: "int8 per row".to_owned(),
        shape: vec![2, 4],
        bytes: 10,
        bits_per_weight: 10.0,
        sqnr_db: None,
        rel_l2,
        max_abs_error: rel_l2,
        method: "nearest".to_owned(),
        output_sqnr_db: None,
        nearest_output_sqnr_db: None,
        histogram: None,
        notes: Vec::new(),
    };
    let context = Context {
        baseline,
        name: "leaf",
        quantized,
        artifact: &Artifact { format, ..artifact(home.path()) },
        format: &Memory(read),
        limits,
        options,
        tensors: vec![row("good", 0.001), row("bad", 0.5), row("exact", 0.0)],
        substitutions: vec![Note { about: "gguf".to_owned(), text: "folded".to_owned() }],
        files: files_of(&artifact(home.path())),
        manifest: None,
    };
    validate_in(&[engine], &[], context, &Quiet).expect("the chain runs to its end")
}

/// With sizes alone.
fn files_of(artifact: &Artifact) -> Vec<OutputFile> {
    let of = |path: &PathBuf| {
        let bytes = fs::metadata(artifact.dir.join(path)).expect("there").len();
        OutputFile { path: path.display().to_string(), bytes, sha256: String::new() }
    };
    artifact.files.iter().map(of).collect()
}

/// Limits that the eleven inputs of a fixture can decide: one that differs would break them.
fn of_few() -> Limits {
    Limits { max_points_lost: 10.0, max_endless_rise: 10.0, ..Limits::default() }
}

fn report(baseline: &Baseline, artifacts: Vec<ArtifactReport>) -> Report {
    Report {
        trefoil: "0".to_owned(),
        recipe: Note { about: "a.yaml".to_owned(), text: "model: m".to_owned() },
        model: ModelReport { name: "m".to_owned(), ..ModelReport::default() },
        data: baseline.data_report(),
        calibration: None,
        checks: baseline.checks.clone(),
        artifacts,
        others: Vec::new(),
        costs: Vec::new(),
        columns: Vec::new(),
        made: Made::default(),
    }
}

pub fn failed(checks: &[Check]) -> Vec<&Check> {
    checks.iter().filter(|c| c.outcome == Outcome::Failed).collect()
}

fn failed_links(checks: &[Check]) -> Vec<Link> {
    let mut links: Vec<Link> = failed(checks).into_iter().map(|c| c.link).collect();
    links.sort();
    links.dedup();
    links
}

/// The same graph with the rows of two weights exchanged.
pub fn swapped(graph: &Graph, a: &str, b: &str) -> Graph {
    let mut graph = graph.clone();
    let [a, b] = [a, b].map(|name| graph.weights.find(name).expect("a weight of the fixture"));
    let (first, second) = (graph.weights.get(a).data.clone(), graph.weights.get(b).data.clone());
    graph.weights.get_mut(a).data = second;
    graph.weights.get_mut(b).data = first;
    graph
}

pub fn scaled(graph: &mut Graph, weight: &str, by: f32) {
    let id = graph.weights.find(weight).expect("a weight of the fixture");
    let weight = graph.weights.get_mut(id);
    weight.data = WeightData::Derived(Derive::MulScalar(by), Box::new(weight.data.clone()));
}

pub const Q: [&str; 2] =
    ["encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.block.1.layer.0.SelfAttention.q.weight"];

#[test]
fn a_sound_chain_passes_on_every_fixture() {
    for dir in fixtures().into_iter().filter(|dir| !dir.ends_with("t5-aliases-differ")) {
        let grown = grown(&dir);
        let recorded = grown.recorded();
        let baseline = grown.baseline(&recorded);
        let engine = Fake { graph: grown.exact.graph.clone(), fault: Fault::None };
        let artifact = validated(&baseline, &grown.exact, &engine, || Ok(grown.exact.graph.weights.clone()));
        let report = report(&baseline, vec![artifact]);
        for (_, check) in report.all_checks() {
            assert_eq!(check.outcome, Outcome::Passed, "{}: {check:#?}", dir.display());
        }
        let links: Vec<Link> = report.all_checks().map(|(_, c)| c.link).collect();
        for link in [Link::Import, Link::Passes, Link::Quantization, Link::Export, Link::Runtime] {
            assert!(links.contains(&link), "{link}");
        }
        assert!(report.verdict().starts_with("passed: "), "{}", report.verdict());
    }
}

#[test]
fn a_wrong_import_is_found_by_the_recording_and_by_nothing_else() {
    let mut grown = grown(&fixture("t5-v1.1"));
    for graph in [&mut grown.imported, &mut grown.exact.graph] {
        scaled(graph, "encoder.final_layer_norm.weight", 1.01);
    }
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    assert_eq!(failed_links(&baseline.checks), [Link::Import]);
    let report = report(&baseline, Vec::new());
    assert!(!report.passed() && report.verdict().starts_with("failed at import: "), "{}", report.verdict());
    assert!(markdown::page(&report).contains("importer computes something else than transformers"));
}

#[test]
fn a_pass_that_changes_the_meaning_is_found_at_passes() {
    let mut grown = grown(&fixture("t5-v1.1"));
    for value in &mut grown.exact.graph.values {
        if let Def::Op(Op::Attention { scale, .. }, _) = &mut value.def {
            *scale *= 0.9;
        }
    }
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    assert!(failed(&baseline.checks).iter().any(|c| c.link == Link::Passes && c.sentence.contains("a pass changes")));
    assert!(baseline.checks.iter().filter(|c| c.metric == Metric::RelL2 && c.link == Link::Import).all(|c| {
        // The imported graph is still the importer's.
        c.outcome == Outcome::Passed
    }));
}

#[test]
fn positions_that_do_not_move_with_the_cache_are_found_by_steps_alone() {
    let mut grown = grown(&fixture("t5-v1.1"));
    let mut broken = 0;
    for value in &mut grown.exact.graph.values {
        if let Def::Op(Op::RelativeBias { start, .. }, _) = &mut value.def
            && start.symbols().contains(&PAST)
        {
            *start = 0.into();
            broken += 1;
        }
    }
    assert_eq!(broken, 1, "one bias serves all decoder layers of T5");
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let failed: Vec<&str> =
        failed(&baseline.checks).into_iter().filter(|c| c.link == Link::Passes).map(|c| c.what.as_str()).collect();
    assert_eq!(failed, ["the whole target and one token at a time, with cache"]);
}

#[test]
fn a_model_without_a_recording_is_not_run_and_never_passed() {
    let grown = grown(&fixture("t5-v1.1"));
    let baseline = grown.baseline(Path::new("nowhere/expected.safetensors"));
    let import: Vec<&Check> = baseline.checks.iter().filter(|c| c.link == Link::Import).collect();
    assert_eq!(import.iter().map(|c| c.outcome).collect::<Vec<_>>(), [Outcome::NotRun]);
    let report = report(&baseline, Vec::new());
    assert!(report.verdict().ends_with("; 1 not run"), "{}", report.verdict());
    let text = markdown::page(&report);
    assert!(text.contains("## Not run") && text.contains("is not in the model's folder"), "{text}");
}

#[test]
fn a_recording_that_is_not_one_fails_with_its_reason() {
    let grown = grown(&fixture("t5-v1.1"));
    let home = tempfile::tempdir().expect("temporary folder");
    let file = home.path().join("expected.safetensors");
    let whole = std::fs::read(grown.recorded()).expect("recorded");
    for (bytes, expected) in
        [(&whole[..whole.len() / 2], "expected.safetensors: "), (&[][..], "expected.safetensors: ")]
    {
        std::fs::write(&file, bytes).expect("written");
        let baseline = grown.baseline(&file);
        let failed = failed(&baseline.checks);
        assert!(failed.len() == 1 && failed[0].link == Link::Import, "{failed:?}");
        assert!(failed[0].sentence.contains(expected), "{}", failed[0].sentence);
    }
}

#[test]
fn a_quantized_graph_with_swapped_layers_is_found_at_quantization() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let mut quantized = grown.exact.clone();
    quantized.graph = swapped(&grown.exact.graph, Q[0], Q[1]);
    // Stored otherwise than in the checkpoint, so that the recipe's limits apply and not those of an exact copy.
    scaled(&mut quantized.graph, "shared.weight", 1.0);
    let engine = Fake { graph: quantized.graph.clone(), fault: Fault::None };
    let artifact = validated(&baseline, &quantized, &engine, || Ok(quantized.graph.weights.clone()));
    assert_eq!(failed_links(&artifact.checks)[0], Link::Quantization);
    assert!(!failed_links(&artifact.checks).contains(&Link::Export));
    let logits = artifact.checks.iter().filter(|c| c.link == Link::Runtime && c.metric == Metric::RelL2);
    assert!(logits.clone().count() == 5 && logits.into_iter().all(|c| c.outcome == Outcome::Passed));
    assert!(report(&baseline, vec![artifact]).verdict().starts_with("failed at quantization of leaf: "));
}

#[test]
fn an_edit_for_a_format_that_is_not_exact_is_found_though_nothing_was_quantized() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let mut prepared = grown.exact.clone();
    scaled(&mut prepared.graph, "decoder.final_layer_norm.weight", 1.001);
    let engine = Fake { graph: prepared.graph.clone(), fault: Fault::None };
    let artifact = validated(&baseline, &prepared, &engine, || Ok(prepared.graph.weights.clone()));
    let failed = failed(&artifact.checks);
    assert_eq!((failed.len(), failed[0].link, failed[0].metric), (1, Link::Quantization, Metric::RelL2));
    assert!(failed[0].sentence.contains("no weight was quantized"), "{}", failed[0].sentence);
}

#[test]
fn a_file_that_holds_other_weights_is_found_at_export() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let engine = Fake { graph: grown.exact.graph.clone(), fault: Fault::None };

    let other = swapped(&grown.exact.graph, Q[0], Q[1]).weights;
    let artifact = validated(&baseline, &grown.exact, &engine, || Ok(other.clone()));
    assert_eq!(failed_links(&artifact.checks), [Link::Export]);
    let failed = failed(&artifact.checks);
    assert_eq!(failed[0].value, Some(2.0));
    assert!(Q.iter().all(|name| failed[0].sentence.contains(name)), "{}", failed[0].sentence);

    let file = PathBuf::from("model.bin");
    let cut = || Err(ExportError::Malformed { file: file.clone(), message: "expected 9 bytes, found 3".to_owned() });
    let artifact = validated(&baseline, &grown.exact, &engine, cut);
    assert_eq!(failed_links(&artifact.checks), [Link::Export]);
    let text = markdown::page(&report(&baseline, vec![artifact]));
    assert!(text.contains("Failed at export of leaf") && text.contains("expected 9 bytes, found 3"), "{text}");
}

#[test]
fn an_engine_that_computes_something_else_is_found_at_runtime() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let engine = Fake { graph: swapped(&grown.exact.graph, Q[0], Q[1]), fault: Fault::None };
    let artifact = validated(&baseline, &grown.exact, &engine, || Ok(grown.exact.graph.weights.clone()));
    assert_eq!(failed_links(&artifact.checks), [Link::Runtime]);
    let logits = failed(&artifact.checks).into_iter().filter(|c| c.metric == Metric::RelL2).count();
    assert_eq!(logits, 5, "every way of asking shows it");
}

/// Where activations are rounded, the limit is what f32 noise makes of the model, which is far more than f32 noise.
#[test]
fn what_noise_makes_of_a_rounding_graph_hides_no_wrong_scale_layer_or_mask() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    for granularity in [Granularity::Tensor, Granularity::Block(32)] {
        let mut quantized = grown.exact.clone();
        let plan = Policy::of("int8".parse().expect("a scheme")).plan(&quantized.graph).expect("fits");
        quant::quantize(&mut quantized.graph, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
        let linears = run_one(&mut quantized.graph, &QuantizeActivations::all(granularity)).expect("rounded").count;
        assert!(linears > 30, "{linears}");
        let run = |graph: Graph, fault| {
            let engine = Fake { graph, fault };
            let artifact = validated(&baseline, &quantized, &engine, || Ok(quantized.graph.weights.clone()));
            let at_runtime = artifact.checks.into_iter().filter(|check| check.link == Link::Runtime);
            at_runtime.filter(|check| check.metric == Metric::RelL2).collect::<Vec<Check>>()
        };
        let sound = run(quantized.graph.clone(), Fault::None);
        assert!(sound.len() == 5 && sound.iter().all(|check| check.outcome == Outcome::Passed), "{sound:#?}");
        let mut other = quantized.graph.clone();
        scaled(&mut other, "decoder.block.1.layer.2.DenseReluDense.wo.weight", 2.0);
        for (graph, fault) in [
            (other, Fault::None),
            (swapped(&quantized.graph, Q[0], Q[1]), Fault::None),
            (quantized.graph.clone(), Fault::IgnoresTheMask),
            (quantized.graph.clone(), Fault::ForgetsItsCache),
        ] {
            let found = run(graph, fault);
            assert!(
                found.iter().any(|check| check.outcome == Outcome::Failed),
                "{granularity:?}, {fault:?}: {found:#?}"
            );
        }
    }
}

#[test]
fn the_way_in_which_an_engine_is_wrong_shows_in_which_checks_fail() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let run = |fault| {
        let engine = Fake { graph: grown.exact.graph.clone(), fault };
        let artifact = validated(&baseline, &grown.exact, &engine, || Ok(grown.exact.graph.weights.clone()));
        assert!(failed_links(&artifact.checks).iter().all(|link| *link == Link::Runtime), "{fault:?}");
        artifact
    };
    let failing = |artifact: &ArtifactReport, metric: Metric| -> Vec<String> {
        let found = failed(&artifact.checks).into_iter().filter(|c| c.metric == metric);
        found.map(|c| c.what.trim_start_matches("onnxruntime 0.0: ").to_owned()).collect()
    };

    assert_eq!(
        failing(&run(Fault::ForgetsItsCache), Metric::RelL2),
        ["its later steps, with cache"],
        "whole targets and first steps need no cache"
    );
    let masked = failing(&run(Fault::IgnoresTheMask), Metric::RelL2);
    assert!(masked.iter().any(|what| what.contains("as a padded batch")), "{masked:?}");
    assert!(!masked.iter().any(|what| what.contains("one at a time")), "{masked:?}");

    let lost = run(Fault::NotANumber);
    assert_eq!(failing(&lost, Metric::RelL2).len(), 5);
    assert!(failed(&lost.checks).iter().any(|c| c.value.is_none() && c.sentence.contains("is not a number")));
    assert_eq!(failing(&lost, Metric::TokenAgreement).len(), 1);

    let short = run(Fault::HoldsThreeTokens);
    assert!(failed(&short.checks).is_empty(), "what it can hold is right: {:#?}", failed(&short.checks));
    let [graph, engine] = [&short.runs[0], &short.runs[1]].map(|run| run.to_float.expect("compared").positions);
    assert!(engine < graph && engine > 0, "{engine} of {graph} positions");

    for (fault, expected) in [
        (Fault::Narrow, "expected 66 logits a position, found 65"),
        (Fault::DiesAtTheSecondStep, "broken pipe"),
        (Fault::Refuses, "node 7 is unknown"),
    ] {
        let artifact = run(fault);
        let failed = failed(&artifact.checks);
        assert!(failed.len() == 1 && failed[0].sentence.contains(expected), "{fault:?}: {failed:?}");
        // Only the quantized graph ran.
        assert_eq!(artifact.runs.len(), 1, "{fault:?}");
    }
}

#[test]
fn a_simulator_runs_some_samples_for_each_chip_and_the_report_says_how_many() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let options = Options { simulated_samples: Some(SLOW_SAMPLES), ..Options::DEFAULT };
    let limits = Limits { npu_sqnr_db: Some(60.0), ..of_few() };
    let run = |graph: &Graph, limits: &Limits, options: &Options| {
        let engine = Fake { graph: graph.clone(), fault: Fault::Slow };
        let read = || Ok(grown.exact.graph.weights.clone());
        validated_as("npu", limits, options, (&baseline, &grown.exact, &engine), read)
    };
    let found = run(&grown.exact.graph, &limits, &options);
    let others: Vec<&Check> = found.checks.iter().filter(|c| c.outcome != Outcome::Passed).collect();
    let points = "undecided at this size: 0.00 to 0.00 points with a limit of 10; about 10 samples would decide it; 0 of 5 pairs worse, 0 better (no pair differs)";
    let of_five = others.iter().filter(|c| c.samples == Some(5) && c.sentence == points);
    assert_eq!(of_five.count(), 4, "points and endless outputs on two chips: {others:#?}");
    let told = markdown::page(&report(&baseline, vec![found.clone()]));
    let line = format!(
        "onnxruntime 0.0: the first 5 of 11 samples: exact_match against the quantized graph and 3 more (points lost 0.0, limit ≤ 10.0): {points}"
    );
    assert_eq!(told.matches(points).count(), 1, "{told}");
    assert!(told.contains(&line), "{told}");
    let coarse = Limits { max_points_lost: 20.0, max_endless_rise: 20.0, ..limits.clone() };
    let judged = run(&grown.exact.graph, &coarse, &options);
    assert!(judged.checks.iter().all(|c| c.outcome == Outcome::Passed), "{:#?}", failed(&judged.checks));
    let whats: Vec<&str> = found.checks.iter().map(|c| c.what.as_str()).collect();
    for what in ["onnxruntime 0.0: logits of the first 5 of 11 samples", "every node on the NPU, 7 of 7"] {
        assert_eq!(whats.iter().filter(|w| **w == what).count(), 2, "for each chip: {whats:#?}");
    }
    // The graph ran over all samples, each chip over some, and both are compared over what both ran.
    let [whole, a, b] = &found.runs[..] else { panic!("{} runs", found.runs.len()) };
    let counts = |run: &validate::report::Run| {
        let (agreement, score) = (run.agreement.expect("compared"), run.score.as_ref().expect("targets"));
        (run.to_float.expect("compared").positions, agreement.sequences, score.texts)
    };
    assert_eq!((counts(whole).1, counts(whole).2), (11, 11));
    assert_eq!((counts(a).1, counts(a).2, counts(a)), (5, 5, counts(b)));
    assert!(counts(a).0 > 0 && counts(a).0 < counts(whole).0, "{:?} of {:?}", counts(a), counts(whole));
    // What a chip has not decoded is left open.
    let decoded: Vec<usize> = found.generations.iter().map(|g| g.outputs.iter().flatten().count()).collect();
    assert_eq!(decoded, [[3; SLOW_SAMPLES].as_slice(), &[1; 6]].concat());

    // One row that is compared with another's shows, and so does an engine that computes something else.
    let other = run(&swapped(&grown.exact.graph, Q[0], Q[1]), &limits, &options);
    let sqnr: Vec<&Check> = failed(&other.checks).into_iter().filter(|c| c.metric == Metric::Sqnr).collect();
    assert!(sqnr.len() == 2 && sqnr[0].value.is_some_and(|db| db < 60.0), "{sqnr:#?}");
    let unjudged = run(&grown.exact.graph, &Limits::default(), &Options::DEFAULT);
    let sqnr: Vec<Outcome> = unjudged.checks.iter().filter(|c| c.metric == Metric::Sqnr).map(|c| c.outcome).collect();
    assert_eq!(sqnr, [Outcome::Info; 2]);
    let [whole, a, _] = &unjudged.runs[..] else { panic!("{} runs", unjudged.runs.len()) };
    assert_eq!(counts(whole), counts(a), "without a count, all samples");
}

#[test]
fn an_engine_that_is_not_here_is_shown_as_not_run_with_the_command_that_brings_it() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let engine = Fake { graph: grown.exact.graph.clone(), fault: Fault::Missing };
    let artifact = validated(&baseline, &grown.exact, &engine, || Ok(grown.exact.graph.weights.clone()));
    assert!(artifact.checks.iter().filter(|c| c.link == Link::Runtime).all(|c| c.outcome == Outcome::NotRun));
    let report = report(&baseline, vec![artifact]);
    assert!(report.passed() && report.verdict().ends_with("; 1 not run"), "{}", report.verdict());
    let text = markdown::page(&report);
    assert!(text.contains("no library; to run it: pip install it") && text.contains("passed, 1 not run"), "{text}");
}

#[test]
fn the_report_reads_back_and_shows_what_matters() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let engine = Fake { graph: swapped(&grown.exact.graph, Q[0], Q[1]), fault: Fault::None };
    let artifact = validated(&baseline, &grown.exact, &engine, || Ok(grown.exact.graph.weights.clone()));
    let report = report(&baseline, vec![artifact]);
    let read: Report = serde_json::from_str(&report.to_json()).expect("its own JSON");
    // The text, because a reader of JSON may be off by the last bit of a float.
    assert_eq!(markdown::page(&read), markdown::page(&report));

    let differs = validate::report::Generation::differs;
    let order: Vec<bool> = report.artifacts[0].generations.iter().map(differs).collect();
    assert!(order[0] && order.windows(2).all(|w| w[0] || !w[1]), "differing ones first: {order:?}");

    let text = markdown::page(&report);
    let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no {needle} in\n{text}"));
    assert!(at("**Failed at runtime of leaf") < at("| artifact | engine | size"));
    let worst: Vec<&str> = worst(&read.artifacts[0].tensors, 10).into_iter().map(|t| t.name.as_str()).collect();
    assert_eq!(worst, ["bad", "good"], "worst tensors first, and an exact one is not among them");
    let json = report.to_json();
    assert!(json.contains("in a test") && json.contains("folded") && json.contains("\"logit_scale\": \""));
}

#[test]
fn validation_gives_the_same_report_at_any_number_of_threads() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let reports = Mutex::new(Vec::new());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let baseline = grown.baseline(&recorded);
            let engine = Fake { graph: swapped(&grown.exact.graph, Q[0], Q[1]), fault: Fault::None };
            let artifact = validated(&baseline, &grown.exact, &engine, || Ok(grown.exact.graph.weights.clone()));
            reports.lock().expect("not poisoned").push(report(&baseline, vec![artifact]).to_json());
        });
    }
    let reports = reports.into_inner().expect("not poisoned");
    assert!(reports[0] == reports[1]);
}

#[test]
fn transformers_runs_a_checkpoint_within_its_known_noise_where_a_python_has_it() {
    let grown = grown(&fixture("t5-v1.1"));
    let artifact = Artifact::list("safetensors", &grown.dir).expect("a folder");
    let options = Options { offline: true, ..Options::DEFAULT };
    match Transformers.open(&artifact, &options) {
        Ok(_) => {}
        Err(error @ RuntimeError::Unavailable { .. }) => return eprintln!("not run: {error}"),
        Err(error) => panic!("{error}"),
    }
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let context = Context {
        baseline: &baseline,
        name: "checkpoint",
        quantized: &grown.exact,
        artifact: &artifact,
        format: &Memory(|| Ok(grown.exact.graph.weights.clone())),
        limits: &of_few(),
        options: &options,
        tensors: Vec::new(),
        substitutions: Vec::new(),
        files: Vec::new(),
        manifest: None,
    };
    let found = validate_in(&[&Transformers], &[], context, &Quiet).expect("the chain runs to its end");
    let runtime: Vec<&Check> = found.checks.iter().filter(|c| c.link == Link::Runtime).collect();
    assert!(runtime.len() >= 6 && runtime.iter().all(|c| c.outcome == Outcome::Passed), "{runtime:#?}");
}

#[test]
fn every_floor_is_of_an_engine_and_above_what_was_measured() {
    let names: Vec<&str> = validate::RUNTIMES.iter().map(|r| r.name()).collect();
    for Floor { runtime, arithmetic, measured_rel_l2, rel_l2, .. } in validate::chain::FLOORS {
        assert!(names.contains(runtime), "{runtime}");
        // Nothing to leave room for, or room for another machine; at a hundredfold it would no longer find anything.
        let exact = (*measured_rel_l2, *rel_l2) == (0.0, 0.0);
        assert!(exact || (2.0..100.0).contains(&(rel_l2 / measured_rel_l2)), "{runtime}, {arithmetic:?}");
    }
}

#[test]
fn every_floor_of_words_is_of_an_engine_that_answers_and_above_what_was_measured() {
    let names: Vec<&str> = validate::runtime::ANSWERERS.iter().map(|answerer| answerer.name()).collect();
    for WordFloor { answerer, arithmetic, measured, words, .. } in validate::chain::WORD_FLOORS {
        assert!(names.contains(answerer), "{answerer}");
        // What is broken says other sentences.
        assert!(measured < words && *words <= 0.1, "{answerer}, {arithmetic:?}");
    }
}

#[test]
fn the_schema_of_the_report_is_current() {
    let file = repository("docs/report.schema.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().expect("docs")).expect("made");
        std::fs::write(&file, Report::schema()).expect("written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == Report::schema(), "run the tests once with BLESS=1 and look at the difference");
}
