//! The report names where a wrong answer comes from: each test breaks one tensor and looks at which is named.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use converters::export::onnx::Onnx;
use converters::{Artifact, Format, Model};
use graph::passes::{QuantizeActivations, run_one};
use graph::progress::Quiet;
use graph::{Def, Feeds, Granularity, Graph, Interpreter, Op, Scratch, Tensor, Tensors};
use quant::{Policy, TensorRecord};
use validate::chain::validate_in;
use validate::report::{ArtifactReport, Link, Parting, TensorRow};
use validate::runtime::Options;
use validate::runtime::onnx::OnnxRuntime;
use validate::{Baseline, Context, Limits, Runtime};

use crate::fixture::{expected, fixture, sample};
use crate::onnx::FIXTURES;
use crate::validate::{Grown, Memory, Q, artifact, failed, grown, scaled, swapped};

/// An artifact that claims to be `quantized`.
fn context<'a>(baseline: &'a Baseline<'a>, quantized: &'a Model, artifact: &'a Artifact) -> Context<'a> {
    Context {
        baseline,
        name: "leaf",
        quantized,
        artifact,
        format: &Onnx::DEFAULT,
        limits: LIMITS.get_or_init(Limits::default),
        options: &OPTIONS,
        tensors: Vec::new(),
        substitutions: Vec::new(),
        files: Vec::new(),
        manifest: None,
    }
}

static LIMITS: OnceLock<Limits> = OnceLock::new();
static OPTIONS: Options = Options::DEFAULT;

/// The chain on a graph in memory, with what quantization said of its weights.
fn validated(baseline: &Baseline, quantized: &Model, records: &[TensorRecord]) -> ArtifactReport {
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = artifact(home.path());
    let context = Context {
        format: &Memory(|| Ok(quantized.graph.weights.clone())),
        tensors: records.iter().map(row).collect(),
        ..context(baseline, quantized, &artifact)
    };
    validate_in(&[], &[], context, &Quiet).expect("the chain runs to its end")
}

fn row(record: &TensorRecord) -> TensorRow {
    TensorRow {
        name: record.name.clone(),
        role: record.role.to_string(),
        type_name: record.stored.clone(),
        shape: record.shape.clone(),
        bytes: record.bytes,
        bits_per_weight: record.bits_per_weight,
        sqnr_db: record.sqnr_db,
        rel_l2: record.relative_l2_error,
        max_abs_error: record.max_abs_error,
        method: record.method.name().to_owned(),
        output_sqnr_db: None,
        nearest_output_sqnr_db: None,
        histogram: None,
        notes: Vec::new(),
    }
}

/// A checkpoint with quantized weights.
fn quantized(grown: &Grown, scheme: &str) -> (Model, Vec<TensorRecord>) {
    let mut model = grown.exact.clone();
    let plan = Policy::of(scheme.parse().expect("a scheme")).plan(&model.graph).expect("fits");
    let scratch = Scratch::new().expect("scratch");
    let records = quant::quantize(&mut model.graph, &plan, &scratch, &Quiet).expect("quantized");
    (model, records)
}

fn partings(artifact: &ArtifactReport, stage: Link) -> Vec<&Parting> {
    artifact.generations.iter().flat_map(|g| &g.partings).filter(|parting| parting.stage == stage).collect()
}

/// The tensors named at a stage, each once.
fn named(artifact: &ArtifactReport, stage: Link) -> Vec<String> {
    let tensors = partings(artifact, stage).into_iter().filter_map(|parting| parting.tensor.as_ref());
    let mut names: Vec<String> = tensors.map(|t| t.weight.clone().unwrap_or_else(|| t.value.clone())).collect();
    names.dedup();
    names
}

/// Leaves out the bias of the Linear with a weight.
fn drop_bias(graph: &mut Graph, weight: &str) {
    let weight = graph.weights.find(weight).expect("a weight of the fixture");
    let of = |value: &graph::Value| match &value.def {
        Def::Op(Op::Linear, args) => graph.weight_of(args[1]) == Some(weight),
        _ => false,
    };
    let place = graph.values.iter().position(of).expect("its Linear");
    match &mut graph.values[place].def {
        Def::Op(_, args) if args.len() == 3 => args.truncate(2),
        other => panic!("{other:?}: expected a bias"),
    }
}

#[test]
fn a_wrong_scale_swapped_tensors_and_a_dropped_bias_of_a_quantized_graph_are_named() {
    let t5 = "decoder.block.0.layer.1.EncDecAttention.o.weight";
    let bart = "model.decoder.layers.0.fc1.weight";
    for (name, expected, plant) in [
        ("t5-v1.1", t5, (&|graph: &mut Graph| scaled(graph, t5, 2.0)) as &dyn Fn(&mut Graph)),
        ("t5-v1.1", Q[0], &|graph| *graph = swapped(graph, Q[0], Q[1])),
        ("bart", bart, &|graph| drop_bias(graph, bart)),
    ] {
        let grown = grown(&fixture(name));
        let recorded = grown.recorded();
        let baseline = grown.baseline(&recorded);
        for scheme in ["int8", "int4-g32"] {
            let (mut model, records) = quantized(&grown, scheme);
            plant(&mut model.graph);
            let found = validated(&baseline, &model, &records);
            assert_eq!(named(&found, Link::Quantization), [expected], "{name}, {scheme}");
            let first = partings(&found, Link::Quantization)[0].clone();
            let tensor = first.tensor.expect("named");
            assert!(tensor.rel_l2 > tensor.expected_rel_l2, "{tensor:?}");
            assert!(first.expected != first.found && !first.candidates.is_empty() && first.kl > Some(0.0));
        }
    }
}

#[test]
fn honest_rounding_names_no_tensor_and_says_where_it_is_largest() {
    let mut parted = 0;
    for name in FIXTURES {
        let grown = grown(&fixture(name));
        let recorded = grown.recorded();
        let baseline = grown.baseline(&recorded);
        for scheme in ["int8", "int4", "int4-g32"] {
            let (model, records) = quantized(&grown, scheme);
            let found = validated(&baseline, &model, &records);
            assert_eq!(named(&found, Link::Quantization), [""; 0], "{name}, {scheme}");
            let sentences = partings(&found, Link::Quantization).into_iter().map(|parting| &parting.sentence);
            let sentences: Vec<&String> = sentences.filter(|sentence| !sentence.is_empty()).collect();
            parted += sentences.len();
            assert!(sentences.iter().all(|sentence| sentence.contains("the error is spread over")), "{sentences:?}");
        }
    }
    assert!(parted > 20, "{parted}");
}

/// Rounded activations, and factors that moved from one weight into another, are no faults either.
#[test]
fn a_wrong_scale_is_told_from_rounded_activations() {
    let weight = "encoder.block.1.layer.1.DenseReluDense.wo.weight";
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    for granularity in [Granularity::Tensor, Granularity::Block(32)] {
        let (mut model, records) = quantized(&grown, "int8");
        assert!(run_one(&mut model.graph, &QuantizeActivations::all(granularity)).expect("rounded").count > 30);
        let honest = validated(&baseline, &model, &records);
        assert_eq!(named(&honest, Link::Quantization), [""; 0], "{granularity:?}");
        scaled(&mut model.graph, weight, 2.0);
        let found = validated(&baseline, &model, &records);
        assert_eq!(named(&found, Link::Quantization), [weight], "{granularity:?}");
    }
}

#[test]
fn a_factor_that_moved_into_the_next_weight_is_no_fault_and_one_that_did_not_is() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let (mut model, records) = quantized(&grown, "int4-g32");
    let norm = "decoder.block.1.layer.2.layer_norm.weight";
    scaled(&mut model.graph, norm, 2.0);
    let gates = [0, 1].map(|i| format!("decoder.block.1.layer.2.DenseReluDense.wi_{i}.weight"));
    gates.iter().for_each(|gate| scaled(&mut model.graph, gate, 0.5));
    let moved = validated(&baseline, &model, &records);
    assert_eq!(named(&moved, Link::Quantization), [""; 0]);
    scaled(&mut model.graph, &gates[1], 2.0);
    let lost = validated(&baseline, &model, &records);
    assert_eq!(named(&lost, Link::Quantization), [norm], "what was moved there did not arrive");
}

#[test]
fn products_are_listed_in_order_with_stack_layer_and_role_and_a_fault_shows_from_its_layer_on() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let (mut model, records) = quantized(&grown, "int8");
    let honest = validated(&baseline, &model, &records);
    let weights: Vec<&str> = honest.values.iter().map(|value| value.weight.as_str()).collect();
    let place = |weight: &str| weights.iter().position(|found| *found == weight).expect("a product of each weight");
    let decoder = place("decoder.block.0.layer.0.SelfAttention.q.weight");
    assert!(place(Q[1]) < decoder, "{weights:?}");
    assert!(place("shared.weight") < place(Q[0]) && place(Q[0]) < place(Q[1]), "{weights:?}");
    let of = &honest.values[place(Q[1])];
    assert_eq!((of.stack.as_str(), of.layer, of.role.as_str()), ("encoder", Some(1), "linear"));
    assert!(honest.values.iter().all(|value| value.rel_l2 < 0.1 && value.range[0] < value.range[1]), "{honest:#?}");
    scaled(&mut model.graph, Q[1], 2.0);
    let found = validated(&baseline, &model, &records);
    let off = found.values.iter().position(|value| value.rel_l2 > 0.5).expect("the fault");
    assert_eq!((off, found.values[off].weight.as_str()), (place(Q[1]), Q[1]));
    let histograms: Vec<&TensorRow> = found.tensors.iter().filter(|row| row.histogram.is_some()).collect();
    assert_eq!(histograms.len(), 8);
    for row in histograms {
        let histogram = row.histogram.as_ref().expect("filtered");
        let elements = row.shape.iter().product::<usize>() as u64;
        let codes = histogram.codes.iter().map(|(_, count)| count).sum();
        let counts = [histogram.exact.iter().sum(), histogram.stored.iter().sum(), codes];
        assert_eq!((histogram.exact.len(), counts), (40, [elements; 3]), "{}", row.name);
    }
}

#[test]
fn an_import_with_swapped_tensors_is_told_by_recorded_tensor_sequence_and_token() {
    let decoder = [0, 1].map(|layer| format!("decoder.block.{layer}.layer.0.SelfAttention.q.weight"));
    let ids = expected(&fixture("t5-v1.1")).0;
    let token = |name: &str, place: usize| ids[name].as_i64().expect("ids")[place];
    for (tensors, expected) in [
        // Every row of the encoder differs.
        (
            Q.map(str::to_owned),
            format!("encoder_hidden differs first in sequence 0 at position 0 (token {})", token("input_ids", 0)),
        ),
        // The first token of the decoder sees itself alone, whatever its query.
        (
            decoder,
            format!("logits differs first in sequence 0 at position 1 (token {})", token("decoder_input_ids", 1)),
        ),
    ] {
        let mut grown = grown(&fixture("t5-v1.1"));
        for graph in [&mut grown.imported, &mut grown.exact.graph] {
            *graph = swapped(graph, &tensors[0], &tensors[1]);
        }
        let recorded = grown.recorded();
        let baseline = grown.baseline(&recorded);
        let failed = failed(&baseline.checks);
        assert!(failed[0].link == Link::Import && failed[0].sentence.contains(&expected), "{}", failed[0].sentence);
        let greedy = failed.iter().find(|check| check.what.contains("greedy")).expect("other tokens");
        assert!(greedy.sentence.contains(": expected token "), "{}", greedy.sentence);
    }
}

#[test]
fn a_pass_that_changes_one_op_is_told_by_the_first_value_that_is_another() {
    let mut grown = grown(&fixture("t5-v1.1"));
    let values = &mut grown.exact.graph.values;
    let attention = |value: &graph::Value| match value.def {
        Def::Op(Op::Attention { scale, .. }, _) => Some(scale),
        _ => None,
    };
    let second = (0..values.len()).filter(|place| attention(&values[*place]).is_some()).nth(1).expect("two layers");
    if let Def::Op(Op::Attention { scale, .. }, _) = &mut values[second].def {
        *scale *= 0.9;
    }
    // What the pass made has no name from before: the first value behind it that has one.
    let (graph, mut off) = (&grown.exact.graph, graph::ValueId(second));
    while !grown.imported.values.iter().any(|value| value.name == graph.value(off).name) {
        off = graph.users()[off.0][0];
    }
    let name = graph.value(off).name.clone();
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let check = baseline.checks.iter().find(|check| check.what.contains("before and after")).expect("compared");
    assert!(check.sentence.contains(&format!("; {name} differs first, relative L2 ")), "{name}: {}", check.sentence);
}

#[test]
fn a_wrong_scale_and_swapped_tensors_in_a_file_are_named_first_in_the_order_of_the_graph() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let other = "decoder.block.0.layer.1.EncDecAttention.o.weight";
    let mut file = swapped(&grown.exact.graph, Q[0], Q[1]);
    scaled(&mut file, other, 2.0);
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = artifact(home.path());
    let context =
        Context { format: &Memory(|| Ok(file.weights.clone())), ..context(&baseline, &grown.exact, &artifact) };
    let found = validate_in(&[], &[], context, &Quiet).expect("the chain runs to its end");
    let failed = failed(&found.checks);
    assert_eq!((failed.len(), failed[0].link, failed[0].value), (1, Link::Export, Some(3.0)));
    let at = |name: &str| failed[0].sentence.find(&format!("{name}[0, 0]: expected ")).expect("named");
    assert!(at(Q[0]) < at(Q[1]) && at(Q[1]) < at(other), "{}", failed[0].sentence);
}

/// An ONNX artifact of a fixture, and the graph that it was written from.
fn written(model: &Model, home: &Path) -> Artifact {
    Onnx::DEFAULT.check(model).expect("fits");
    Onnx::DEFAULT.write(model, home).expect("written")
}

/// `f32::MIN / 2`, which the exporter adds to what is hidden.
const HIDDEN: [u8; 4] = [0xff, 0xff, 0xff, 0xfe];

#[test]
fn a_lost_mask_and_a_wrong_weight_of_an_engine_are_named() {
    let grown = grown(&fixture("t5-v1.1"));
    let recorded = grown.recorded();
    let baseline = grown.baseline(&recorded);
    let run = |artifact: &Artifact| {
        let context = context(&baseline, &grown.exact, artifact);
        validate_in(&[&OnnxRuntime], &[], context, &Quiet).expect("the chain runs to its end")
    };
    let home = tempfile::tempdir().expect("temporary folder");
    let artifact = written(&grown.exact, home.path());
    assert!(partings(&run(&artifact), Link::Runtime).is_empty(), "a sound engine");

    let file = home.path().join("decoder_model.onnx");
    let mut bytes = fs::read(&file).expect("just written");
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == HIDDEN).collect();
    assert!(!places.is_empty(), "a decoder hides");
    places.iter().for_each(|at| bytes[*at..at + 4].fill(0));
    fs::write(&file, bytes).expect("written");
    let found = run(&artifact);
    let tensor = partings(&found, Link::Runtime)[0].tensor.clone().expect("named");
    let graph = &grown.exact.graph;
    let off = graph.values.iter().position(|value| value.name == tensor.value).map(graph::ValueId).expect("a value");
    let masks = [off].into_iter().chain(graph.args(off).iter().copied());
    let is_mask = |id: graph::ValueId| matches!(graph.op(id), Some(Op::Mask { .. } | Op::PaddingMask { .. }));
    assert!(masks.into_iter().any(is_mask), "{tensor:?}");

    let wrong = "decoder.block.0.layer.2.DenseReluDense.wo.weight";
    let mut other = grown.exact.clone();
    scaled(&mut other.graph, wrong, 2.0);
    let home = tempfile::tempdir().expect("temporary folder");
    let found = run(&written(&other, home.path()));
    assert_eq!(named(&found, Link::Runtime), [wrong]);
    let parting = partings(&found, Link::Runtime)[0];
    assert!(parting.run == 1 && parting.kl > Some(0.0) && !parting.candidates.is_empty(), "{parting:?}");
}

/// The floor of onnxruntime with f32 and integer weights.
const VALUES_NOISE: f64 = 2e-5; // 1.4e-6 for t5-f16

/// What an engine shows is the graph's, within the floor of its logits.
#[test]
fn values_of_sound_onnx_artifacts_are_those_of_the_graph() {
    let mut worst: (f64, String) = (0.0, String::new());
    for name in FIXTURES {
        for scheme in ["keep", "int8"] {
            let grown = grown(&fixture(name));
            let (model, _) = quantized(&grown, scheme);
            let home = tempfile::tempdir().expect("temporary folder");
            let artifact = written(&model, home.path());
            let mut session = OnnxRuntime.open(&artifact, &Options::DEFAULT).expect("opens");
            let mut feeds = sample(&grown.dir);
            let target = feeds.remove("decoder_input_ids").expect("recorded");
            let shown = session.between(&feeds, &target).expect("runs").expect("onnxruntime shows values");
            let (mut seen, mut apart) = (0, 0.0f64);
            let mut compare = |shown: &Tensors, id, expected: &Tensor, is_output: bool| {
                let found = shown.get(&model.graph.value(id).name).filter(|found| found.shape() == expected.shape());
                if let (Some(found), false, Some(a)) = (found, is_output, expected.as_f32()) {
                    let rel = rel_l2(a, found.as_f32().expect("floats"));
                    seen += 1;
                    if rel > worst.0 {
                        worst = (rel, format!("{name}, {scheme}: {}", model.graph.value(id).name));
                    }
                    apart = apart.max(rel);
                }
            };
            let interpreter = Interpreter::new(&model.graph);
            let outputs = |entry: &str| -> Vec<_> {
                model.graph.entry(entry).expect("split").outputs.iter().map(|port| port.value).collect()
            };
            let mut of = |entry: &str, feeds: &Feeds, shown: &Tensors| {
                let outputs = outputs(entry);
                let takes = |name: &str| model.graph.entry(entry).is_some_and(|entry| entry.input(name).is_some());
                let feeds = feeds.iter().filter(|(name, _)| takes(name)).map(|(n, t)| (n.clone(), t.clone())).collect();
                let mut tap = |id, tensor: &Tensor| compare(shown, id, tensor, outputs.contains(&id));
                interpreter.call_with(entry, &feeds, &mut tap).expect("evaluates")
            };
            let encoder = model.graph.entry("encoder").expect("split");
            for entry in model.graph.before(encoder).into_iter().chain([encoder]) {
                let encoded = of(&entry.name, &feeds, &shown.encoder);
                feeds.extend(encoded);
            }
            feeds.insert("decoder_input_ids".to_owned(), target);
            of("decoder", &feeds, &shown.decoder);
            assert!(seen > 20, "{name}, {scheme}: {seen}");
            assert!(apart <= VALUES_NOISE, "{name}, {scheme}: {worst:?}");
        }
    }
}

/// Places that both hide are equal, however they are written.
fn rel_l2(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b).filter(|(a, b)| **a > -1e30 || **b > -1e30);
    let square = |x: f64| x * x;
    let apart: f64 = pairs.clone().map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = pairs.map(|(a, _)| square(f64::from(*a))).sum();
    if apart == 0.0 { 0.0 } else { (apart / size).sqrt() }
}
