//! Exact edits of the float model on every fixture: what they reach, and that the model stays.

use std::collections::BTreeMap;
use std::path::Path;

use converters::export::gguf::Gguf;
use converters::export::npu::Npu;
use converters::export::onnx::Onnx;
use converters::export::safetensors::Safetensors;
use converters::{FORMATS, Format, Model, import};
use graph::passes::{RescaleResidual, run, run_one};
use graph::verify::verify;
use graph::{Binary, Feeds, FloatType, Graph, Interpreter, Op, Tensor, WeightData};
use quant::equalize::{self, Kind, Place};
use quant::rescale;
use validate::runtime::onnx::OnnxRuntime;
use validate::runtime::reference::Reference;
use validate::runtime::{Options, Runtime, Session};

use crate::fixture::{fixture, fixtures, lcg, sample};

/// Factors that are no powers of two round each weight once more.
const F32_NOISE: f32 = 2e-5; // 3.3e-6

fn passed(dir: &Path) -> Model {
    let mut model = import(dir).expect("a supported checkpoint");
    run(&mut model.graph).expect("passes");
    model
}

fn name(dir: &Path) -> String {
    dir.file_name().expect("a folder below the fixtures").to_string_lossy().into_owned()
}

/// Columns of i64[b, n].
fn columns(ids: &Tensor, from: usize, to: usize) -> Tensor {
    let (rows, width) = (ids.shape()[0], ids.shape()[1]);
    let all = ids.as_i64().expect("ids");
    let part = (0..rows).flat_map(|row| all[row * width..][from..to].iter().copied());
    Tensor::i64([rows, to - from], part.collect())
}

/// Logits of two target tokens at once, and then of one at a time: what encoder, decoder and decoder with past hand over.
fn decoded(session: &mut dyn Session, feeds: &Feeds) -> Vec<f32> {
    let mut source = feeds.clone();
    let target = source.remove("decoder_input_ids").expect("a target");
    session.encode(&source).expect("encodes");
    let steps = std::iter::once((0, 2)).chain((2..target.shape()[1]).map(|at| (at, at + 1)));
    let logits = steps.map(|(from, to)| session.decode(&columns(&target, from, to)).expect("decodes"));
    logits.flat_map(|logits| logits.as_f32().expect("floats").to_vec()).collect()
}

/// The whole pass, then [`decoded`].
fn logits(graph: &Graph, feeds: &Feeds) -> Vec<f32> {
    let interpreter = Interpreter::new(graph);
    let whole = interpreter.call("full", feeds).expect("evaluates");
    let mut logits = whole["logits"].as_f32().expect("floats").to_vec();
    logits.extend(decoded(&mut Reference::new(&interpreter), feeds));
    logits
}

/// Largest difference, relative to the largest number expected.
fn distance(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let scale = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    expected.iter().zip(found).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

/// Seeded factors from 1/8 to 8, even in their logarithms.
fn factors(place: &Place, seed: usize) -> Vec<f32> {
    lcg(seed as i64 + 1, place.width).iter().map(|x| (3.0 * x).exp2()).collect()
}

/// `graph` with a factor for every channel of every place.
fn equalized(graph: &Graph, is_power_of_two: bool) -> Graph {
    let mut graph = graph.clone();
    for (seed, place) in equalize::places(&graph).iter().enumerate() {
        let s = factors(place, seed);
        let s = if is_power_of_two { equalize::power_of_two(&s) } else { s };
        equalize::apply(&mut graph, place, &s);
    }
    verify(&graph).expect("holds together");
    graph
}

/// Norms, feed-forward layers, attentions. Of e encoder and d decoder layers in pre-norm models 2e + 3d + 1, one more if the
/// head is neither tied nor scaled; e + d with a gate or relu, else none; e + 2d.
const COUNTS: &[([usize; 3], &[&str])] = &[
    // After the residual: only the encoder's last norm is read by Linears alone.
    ([1, 0, 4], &["bart-rows-of-32", "marian-translated"]),
    ([1, 0, 7], &["bart", "bart-bare-names", "blenderbot-small", "marian", "plbart"]),
    ([2, 0, 7], &["bart-untied"]),
    ([1, 5, 7], &["marian-two-vocabularies"]),
    ([2, 5, 7], &["marian-untied"]),
    ([13, 0, 7], &["blenderbot", "mu", "mu-interleaved"]),
    ([8, 0, 4], &["mu-bare"]),
    ([12, 0, 6], &["whisper", "whisper-bare", "whisper-bin", "whisper-detects", "whisper-f16"]),
    ([14, 0, 8], &["whisper-english"]),
    ([13, 5, 7], &["m2m_100", "mbart", "nllb", "pegasus", "pegasus-positions-stored"]),
    ([13, 5, 7], &["mt5-tied", "t5-aliased", "t5-long", "t5-tied-unscaled", "t5-v1.0", "t5-v1.0-legacy"]),
    ([13, 5, 7], &["umt5", "umt5-untied"]),
    ([14, 5, 7], &["mt5", "t5-bf16", "t5-bin", "t5-bin-sharded", "t5-f16", "t5-sharded", "t5-v1.1", "t5-v1.1-resaved"]),
    ([9, 3, 4], &["t5-rows-of-32"]),
    ([8, 3, 4], &["m2m_100-translated"]),
    ([18, 7, 9], &["byt5"]),
    // Only the decoder has a gate.
    ([13, 2, 7], &["moonshine", "moonshine-bare", "moonshine-unpadded"]),
    ([9, 3, 5], &["moonshine-own-width"]),
    // The encoder's norms, and the last one of a decoder whose head has no embedding's weight; one of them has a ReLU.
    ([8, 0, 7], &["trocr-vit", "vit-bert"]),
    ([5, 3, 8], &["trocr-deit"]),
    // Queries, keys and values of the decoder are one matrix.
    ([13, 0, 3], &["vit-gpt2"]),
    // The text's and one of the image; one matrix makes what the image attends with.
    ([10, 0, 4], &["florence2", "florence2-microsoft"]),
    // Windows stand between a norm and its Linears. Where the encoder halves its grid, a norm is right before one.
    ([16, 0, 6], &["donut"]),
    ([11, 0, 4], &["nougat"]),
    // Gains are stored less 1.
    ([0, 5, 7], &["t5gemma", "t5gemma-untied"]),
    ([0, 5, 5], &["t5gemma2", "t5gemma2-untied"]),
];

#[test]
fn factors_at_every_place_leave_the_logits_and_powers_of_two_leave_each_bit() {
    let mut expected: BTreeMap<String, [usize; 3]> =
        COUNTS.iter().flat_map(|(counts, names)| names.iter().map(|name| ((*name).to_owned(), *counts))).collect();
    for dir in fixtures() {
        let (graph, feeds, name) = (passed(&dir).graph, sample(&dir), name(&dir));
        let places = equalize::places(&graph);
        let count = |kind| places.iter().filter(|place| place.kind == kind).count();
        let counts = [Kind::Norm, Kind::FeedForward, Kind::Values].map(count);
        assert_eq!(Some(counts), expected.remove(&name), "{name}: {:?}", equalize::refused(&graph));

        let before = logits(&graph, &feeds);
        let exact = logits(&equalized(&graph, true), &feeds);
        assert!(before == exact, "{name}: {}", distance(&before, &exact));
        let rounded = distance(&before, &logits(&equalized(&graph, false), &feeds));
        assert!(rounded > 0.0 && rounded <= F32_NOISE, "{name}: {rounded}");
    }
    assert!(expected.is_empty(), "fixtures are missing: {expected:?}");
}

#[test]
fn the_named_input_of_each_place_is_what_shrinks() {
    for name in ["t5-v1.1", "mu", "m2m_100", "moonshine", "t5gemma", "whisper"] {
        let (graph, feeds) = (passed(&fixture(name)).graph, sample(&fixture(name)));
        for (seed, place) in equalize::places(&graph).iter().enumerate() {
            let s = equalize::power_of_two(&factors(place, seed));
            let mut moved = graph.clone();
            equalize::apply(&mut moved, place, &s);
            let maxima = |graph: &Graph| {
                let mut max: Vec<f32> = Vec::new();
                let tap = &mut |id, value: &Tensor| {
                    if id == place.input {
                        let columns = *value.shape().last().expect("rows");
                        max = vec![0.0; columns];
                        for (i, x) in value.as_f32().expect("floats").iter().enumerate() {
                            max[i % columns] = max[i % columns].max(x.abs());
                        }
                    }
                };
                Interpreter::new(graph).call_with("full", &feeds, tap).expect("evaluates");
                place.per_channel(&max)
            };
            let expected: Vec<f32> = maxima(&graph).iter().zip(&s).map(|(max, s)| max / s).collect();
            assert!(expected.iter().any(|max| *max > 0.0));
            assert_eq!(maxima(&moved), expected, "{name}: {}", place.name);
            let weights = |graph: &Graph| place.consumer_max(graph).expect("mapped");
            let expected: Vec<f32> = weights(&graph).iter().zip(&s).map(|(max, s)| max * s).collect();
            assert_eq!(weights(&moved), expected, "{name}: {}", place.name);
        }
    }
}

#[test]
fn every_format_holds_the_factors() {
    // The fixtures have fewer positions than the lengths of a recipe that names none.
    let short = Npu { source: vec![16], target: 16, ..Npu::DEFAULT };
    for name in ["t5-f16", "mbart"] {
        // whisper.cpp's file holds Whisper alone.
        let formats = FORMATS.iter().filter(|format| format.name() != "whisper.cpp");
        for format in formats.map(|format| if format.name() == "npu" { &short } else { *format }) {
            let mut model = passed(&fixture(name));
            model.graph = equalized(&model.graph, false);
            let folder = tempfile::tempdir().expect("temporary folder");
            format.prepare(&mut model).expect("prepared");
            format.check(&model).unwrap_or_else(|e| panic!("{name}: {e}"));
            let artifact = format.write(&model, folder.path()).expect("written");
            let read = format.read_weights(&model, &artifact).expect("read");
            for (_, weight) in model.graph.weights.iter() {
                let found = read.get(read.find(&weight.name).expect("a weight of the graph")).read().expect("read");
                assert_eq!(found, weight.read().expect("mapped"), "{name}, {}: {}", format.name(), weight.name);
            }
        }
    }
}

/// Families that normalize after each sum.
const POST_NORM: &[&str] = &["bart", "blenderbot-small", "florence2", "marian", "plbart"];

/// Those whose decoder does, and whose encoder does not. Of BERT's decoder, its head's transform is a stream of its own.
const POST_NORM_DECODER: &[&str] = &["trocr-deit", "trocr-vit"];

const ENCODER: f32 = 0.0625;
const DECODER: f32 = 0.125;

#[test]
fn a_rescaled_residual_stream_leaves_each_bit_of_the_logits() {
    let mut refused = Vec::new();
    for dir in fixtures() {
        let (graph, feeds, name) = (passed(&dir).graph, sample(&dir), name(&dir));
        let mut scaled = graph.clone();
        let family = |family: &&&str| name == **family || name.starts_with(&format!("{family}-"));
        if let Some(family) = POST_NORM.iter().find(family) {
            let error =
                run_one(&mut scaled, &RescaleResidual { encoder: ENCODER, decoder: 1.0 }).expect_err(&name).to_string();
            assert!(
                error.ends_with(
                    "; a model that normalizes after each sum keeps its sums small and has no stream to scale"
                ),
                "{error}"
            );
            assert!(run_one(&mut scaled, &RescaleResidual { encoder: 1.0, decoder: DECODER }).is_err(), "{name}");
            assert_eq!(scaled.values, graph.values, "{name}: left as it was");
            refused.push(*family);
            continue;
        }
        let of_decoder = match POST_NORM_DECODER.contains(&name.as_str()) {
            false => DECODER,
            true => {
                let both = RescaleResidual { encoder: ENCODER, decoder: DECODER };
                let error = run_one(&mut scaled, &both).expect_err(&name).to_string();
                assert!(error.ends_with("and has no stream to scale"), "{error}");
                1.0
            }
        };
        let rescale = RescaleResidual { encoder: ENCODER, decoder: of_decoder };
        let notes = run_one(&mut scaled, &rescale).unwrap_or_else(|e| panic!("{name}: {e}")).notes;
        assert_eq!(notes.len(), if of_decoder == 1.0 { 1 } else { 2 }, "{name}");
        verify(&scaled).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (before, after) = (logits(&graph, &feeds), logits(&scaled, &feeds));
        assert!(before == after, "{name}: {}", distance(&before, &after));
    }
    refused.dedup();
    assert_eq!(refused, POST_NORM);
}

/// Every float that an op of the whole pass computes, by the name of its value.
fn computed(graph: &Graph, feeds: &Feeds) -> BTreeMap<String, Vec<f32>> {
    let mut values = BTreeMap::new();
    let tap = &mut |id, value: &Tensor| {
        if let Some(floats) = value.as_f32() {
            values.insert(graph.value(id).name.clone(), floats.to_vec());
        }
    };
    Interpreter::new(graph).call_with("full", feeds, tap).expect("evaluates");
    values
}

#[test]
fn sums_of_the_residual_stream_shrink_and_what_norms_make_of_them_does_not() {
    // Sums and the branches that are added to them: 2 a layer of the encoder, 3 of the decoder.
    for (name, layers) in
        [("t5-v1.1", [3, 2]), ("t5-v1.0", [3, 2]), ("mu", [3, 2]), ("t5gemma", [3, 2]), ("whisper", [4, 1])]
    {
        let (graph, feeds) = (passed(&fixture(name)).graph, sample(&fixture(name)));
        let mut scaled = graph.clone();
        run_one(&mut scaled, &RescaleResidual { encoder: ENCODER, decoder: DECODER }).expect("a pre-norm model");
        let (before, after) = (computed(&graph, &feeds), computed(&scaled, &feeds));
        for (stack, alpha, expected) in [("encoder.", ENCODER, 2 * layers[0]), ("decoder.", DECODER, 3 * layers[1])] {
            let mut sums = 0;
            for value in graph.values.iter().filter(|value| value.name.starts_with(stack) && value.ty.shape.len() == 3)
            {
                let (Some(was), Some(is)) = (before.get(&value.name), after.get(&value.name)) else { continue };
                let is_scaled = was.iter().zip(is).all(|(was, is)| was * alpha == *is);
                match &value.def {
                    graph::Def::Op(Op::Binary(Binary::Add), _) => {
                        assert!(is_scaled, "{name}: {}", value.name);
                        sums += 1;
                    }
                    _ => assert!(is_scaled || was == is, "{name}: {}", value.name),
                }
            }
            // Whisper adds positions too, to the frames of the encoder.
            assert_eq!(sums, expected + usize::from(name == "whisper" && stack == "encoder."), "{name}: {stack}");
        }
        let hidden = graph.entries[0].output("encoder_hidden").expect("an output");
        let hidden = &graph.value(hidden).name;
        assert_eq!(before[hidden], after[hidden], "{name}");
    }
}

#[test]
fn both_edits_go_together() {
    for name in ["t5-v1.0", "mu", "t5gemma", "mbart"] {
        let (graph, feeds) = (passed(&fixture(name)).graph, sample(&fixture(name)));
        let count = equalize::places(&graph).len();
        let mut both = equalized(&graph, true);
        run_one(&mut both, &RescaleResidual { encoder: ENCODER, decoder: DECODER }).expect("a pre-norm model");
        assert_eq!(equalize::places(&both).len(), count, "{name}: the nodes that multiply are at no place");
        assert!(logits(&graph, &feeds) == logits(&equalized(&both, true), &feeds), "{name}");
    }
}

#[test]
fn a_rescaled_model_is_written_as_onnx_and_refused_by_formats_that_hold_no_nodes() {
    for name in ["t5-v1.0", "t5gemma", "mu"] {
        let mut model = passed(&fixture(name));
        let feeds = sample(&fixture(name));
        let onnx = |model: &Model| {
            let folder = tempfile::tempdir().expect("temporary folder");
            Onnx::DEFAULT.check(model).expect("holds it");
            let artifact = Onnx::DEFAULT.write(model, folder.path()).expect("written");
            let options = Options::DEFAULT;
            let mut session = OnnxRuntime.open(&artifact, &options).unwrap_or_else(|e| panic!("{e}"));
            decoded(&mut *session, &feeds)
        };
        let before = onnx(&model);
        run_one(&mut model.graph, &RescaleResidual { encoder: ENCODER, decoder: DECODER }).expect("a pre-norm model");
        let found = distance(&before, &onnx(&model));
        assert!(found <= F32_NOISE, "{name}: {found}"); // 0 with onnxruntime 1.32
        for format in [&Gguf::DEFAULT as &dyn Format, &Safetensors::DEFAULT] {
            let error = format.check(&model).expect_err("eps is not the checkpoint's").to_string();
            let why = "readers of this format take eps and all nodes from the config, so that a rescaled residual stream \
                       can be written as onnx only";
            assert!(error.starts_with(&format!("{}: ", format.name())) && error.ends_with(why), "{error}");
        }
    }
}

/// A sample of [`sample`], each of its rows alone and as long as it is.
fn alone(feeds: &Feeds, row: usize) -> Feeds {
    let cut = |(name, tensor): (&String, &Tensor)| {
        let width = tensor.shape()[1];
        let ids = tensor.as_i64().expect("ids")[row * width..][..width].to_vec();
        (name.clone(), Tensor::i64([1, width], ids))
    };
    let mut one: Feeds = feeds.iter().map(cut).collect();
    let ones = vec![1; one["input_ids"].shape()[1]];
    one.insert("attention_mask".into(), Tensor::i64([1, ones.len()], ones));
    one
}

#[test]
fn the_factors_that_calibration_asks_for_bring_each_value_of_the_residual_streams_below_half_of_f16() {
    for name in ["t5-v1.1", "t5-v1.0", "mu", "t5gemma"] {
        let feeds = sample(&fixture(name));
        let mut large = passed(&fixture(name)).graph;
        run_one(&mut large, &RescaleResidual { encoder: 65536.0, decoder: 1048576.0 }).expect("a pre-norm model");
        let gathered = |graph: &Graph| {
            let rows = |row: usize| alone(&feeds, row);
            let samples = quant::Samples { entry: "full", count: 3, feeds: &rows };
            quant::calibrate::gather(graph, &samples, &|_, _| {}, &graph::progress::Quiet).expect("runs")
        };
        let found = rescale::extents(&large, &gathered(&large)).map(|extent| extent.expect("a stream"));
        assert!(found.iter().all(|extent| extent.alpha < 1.0 && extent.max_abs > 65504.0), "{name}: {found:?}");
        let mut scaled = large.clone();
        run_one(&mut scaled, &RescaleResidual { encoder: found[0].alpha, decoder: found[1].alpha })
            .expect("a pre-norm model");
        let after = rescale::extents(&scaled, &gathered(&scaled)).map(|extent| extent.expect("a stream"));
        for (before, after) in found.iter().zip(&after) {
            assert_eq!((after.max_abs, after.alpha), (before.max_abs * before.alpha, 1.0), "{name}");
            assert!(after.max_abs <= rescale::ROOM && after.max_abs > rescale::ROOM / 2.0, "{name}: {after:?}");
        }
        assert!(logits(&large, &feeds) == logits(&scaled, &feeds), "{name}");
    }
}

#[test]
fn a_kept_weight_whose_type_holds_its_factors_stays_in_it() {
    for (name, dtype) in [("t5-f16", FloatType::F16), ("t5-bf16", FloatType::BF16)] {
        for (is_power_of_two, expected) in [(true, dtype.name()), (false, "f32")] {
            let mut graph = equalized(&passed(&fixture(name)).graph, is_power_of_two);
            let before: Vec<Vec<f32>> =
                graph.weights.iter().map(|(_, weight)| weight.read().expect("mapped")).collect();
            let plan = quant::Policy::default().plan(&graph).expect("all kept");
            let scratch = graph::Scratch::new().expect("temporary folder");
            quant::quantize(&mut graph, &plan, &scratch, &graph::progress::Quiet).expect("finite");
            let place = equalize::places(&graph).remove(0);
            for part in place.divided.iter().chain(&place.multiplied) {
                let weight = graph.weights.get(part.weight);
                let stored = match &weight.data {
                    WeightData::Stored { dtype, .. } => dtype.name(),
                    _ => "f32",
                };
                assert_eq!(stored, expected, "{}", weight.name);
            }
            let after: Vec<Vec<f32>> =
                graph.weights.iter().map(|(_, weight)| weight.read().expect("written")).collect();
            assert!(before == after, "{name}");
        }
    }
}
