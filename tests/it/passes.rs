//! The passes on every fixture: switched on and off, counted, and printed.

use std::collections::BTreeMap;
use std::fs;

use converters::import;
use graph::passes::{
    AbsorbScales, DropLogitScale, Expand, FUSE_ATTENTION, Fold, FoldLogitScale, FuseAttention, Lengths, MakeStatic,
    Meaning, PASSES, Pass, QuantizeActivations, QuantizeActivationsInBlocks, QuantizeStatically, QuantizeValues,
    RescaleResidual, Split, TABLE, Tied, UntieEmbeddings, Update, Widths, logit_scale, residual_streams, run, run_each,
    run_one, tied_values, unrounded,
};
use graph::progress::Quiet;
use graph::{Def, FakeQuant, Feeds, Granularity, Graph, Interpreter, Op, Scratch, Tensors, Weight, text};
use quant::Policy;

use crate::fixture::{fixture, fixtures, repository, sample};

/// Fusing changes the order of one sum and one product.
const F32_NOISE: f32 = 1e-5; // 1.4e-6

fn logits(graph: &Graph, feeds: &Feeds) -> Vec<f32> {
    let out = Interpreter::new(graph).call("full", feeds).expect("evaluates");
    out["logits"].as_f32().expect("logits are floats").to_vec()
}

#[test]
fn every_pass_left_out_gives_the_same_logits() {
    for dir in fixtures() {
        let graph = import(&dir).expect("a supported checkpoint").graph;
        let feeds = sample(&dir);
        let expected = logits(&graph, &feeds);
        let scale = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for left_out in 0..=PASSES.len() {
            let mut passes = PASSES.to_vec();
            if left_out < PASSES.len() {
                passes.remove(left_out);
            }
            // split needs fused attention and says so; what then remains is the unfused graph.
            let mut graph = graph.clone();
            if run_each(&mut graph, &passes).is_err() {
                assert!(!passes.iter().any(|p| p.about().name == FUSE_ATTENTION.name), "{}", dir.display());
                continue;
            }
            let worst = logits(&graph, &feeds).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= F32_NOISE * scale, "{}, without pass {left_out}: {worst} at {scale}", dir.display());
        }
    }
}

fn whole(graph: &Graph, feeds: &Feeds) -> Tensors {
    Interpreter::new(graph).call("full", feeds).expect("evaluates")
}

/// By how much any output differs, relative to its largest number.
fn difference(a: &Tensors, b: &Tensors) -> f32 {
    assert!(a.keys().eq(b.keys()), "the outputs have other names");
    let of = |(name, x): (&String, &graph::Tensor)| {
        let (x, y) = (x.as_f32().expect("floats"), b[name].as_f32().expect("floats"));
        let scale = x.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
        x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / scale
    };
    a.iter().map(of).fold(0.0, f32::max)
}

/// Steps of 8 bits for every value of a graph, over what it holds.
fn steps(graph: &Graph, feeds: &Feeds) -> BTreeMap<String, FakeQuant> {
    let mut steps = BTreeMap::new();
    let mut tap = |id, tensor: &graph::Tensor| {
        let floats = tensor.as_f32().unwrap_or_default().iter().filter(|x| x.is_finite());
        let (low, high) = floats.fold((0.0f32, 0.0f32), |(low, high), x| (low.min(*x), high.max(*x)));
        steps.insert(graph.value(id).name.clone(), FakeQuant::over(low, high, 8));
    };
    graph::eval(graph, "full", feeds, &mut tap).expect("evaluates");
    steps
}

/// What a pass is tried on: the graph before it, the pass with settings, and whether this graph is one that it refuses.
struct Trial {
    before: Graph,
    pass: Box<dyn Fn(&mut Graph) -> usize>,
}

impl Trial {
    fn new(before: &Graph, pass: impl Pass + 'static) -> Option<Trial> {
        let run = move |graph: &mut Graph| run_one(graph, &pass).unwrap_or_else(|e| panic!("{e}")).count;
        Some(Trial { before: before.clone(), pass: Box::new(run) })
    }
}

/// Every pass with settings that change something, on a graph of a fixture: `split` is the graph after the passes of every
/// conversion, `coded` the same in int8. `None`: this model is none for the pass.
fn trial(pass: &str, imported: &Graph, split: &Graph, coded: &Graph, feeds: &Feeds) -> Option<Trial> {
    const HIDDEN: f32 = -1e4;
    let expanded = || {
        let mut graph = split.clone();
        let expand = Expand { hidden: HIDDEN, split_bias: true, positions: 64 };
        run_each(&mut graph, &[&UntieEmbeddings, &AbsorbScales, &expand]).ok().map(|_| graph)
    };
    match pass {
        "fold" => Trial::new(imported, Fold),
        "fuse_attention" => Trial::new(imported, FuseAttention),
        "split" => {
            let mut fused = imported.clone();
            run_each(&mut fused, &PASSES[..2]).expect("passes");
            Trial::new(&fused, Split)
        }
        "fold_logit_scale" => Trial::new(split, FoldLogitScale),
        "drop_logit_scale" => {
            let c = logit_scale(split).ok().flatten()?;
            // The file holds the norm's weight times c.
            let mut before = split.clone();
            run_one(&mut before, &FoldLogitScale).expect("a scale");
            let weights = before.weights.clone();
            let drop = move |graph: &mut Graph| {
                let mut stored = graph.clone();
                stored.weights = weights.clone();
                let count = run_one(&mut stored, &DropLogitScale { c }).expect("the graph's own").count;
                *graph = stored;
                count
            };
            Some(Trial { before: split.clone(), pass: Box::new(drop) })
        }
        "untie_embeddings" => Trial::new(split, UntieEmbeddings),
        "absorb_scales" => Trial::new(split, AbsorbScales),
        "rescale_residual" => {
            let [encoder, decoder] = residual_streams(split).map(|stream| if stream.is_ok() { 0.25 } else { 1.0 });
            Trial::new(split, RescaleResidual { encoder, decoder })
        }
        "quantize_activations" => Trial::new(coded, QuantizeActivations::all(Granularity::Token)),
        "quantize_activations_in_blocks" => {
            Trial::new(coded, QuantizeActivationsInBlocks { block_of: &|tensor| (tensor.bits == 8).then_some(4) })
        }
        "quantize_statically" => {
            let steps = steps(coded, feeds);
            let run = move |graph: &mut Graph| {
                run_one(graph, &QuantizeStatically { steps: &steps }).unwrap_or_else(|e| panic!("{e}")).count
            };
            Some(Trial { before: coded.clone(), pass: Box::new(run) })
        }
        "expand" => {
            expanded()?;
            // A number in its place lets a query that sees no key, which is padding, mix all of them.
            Trial::new(split, Expand { hidden: f32::NEG_INFINITY, split_bias: false, positions: 64 })
        }
        "quantize_values" => {
            let before = expanded()?;
            let steps = steps(&before, feeds);
            let widths = Widths { activations: 8, keys: 8, scores: 8 };
            let known = |tied: &Tied| {
                let found = tied.values.iter().find_map(|id| steps.get(&before.value(*id).name));
                found.copied().unwrap_or(FakeQuant::over(-1.0, 1.0, 8))
            };
            let groups: Vec<(Tied, FakeQuant)> =
                tied_values(&before, widths).into_iter().map(|tied| (tied.clone(), known(&tied))).collect();
            let run = move |graph: &mut Graph| {
                run_one(graph, &QuantizeValues { groups: &groups }).unwrap_or_else(|e| panic!("{e}")).count
            };
            Some(Trial { before, pass: Box::new(run) })
        }
        "make_static" => {
            let lengths = Lengths { source: 24, target: 8, update: Update::Caller };
            Trial::new(&expanded()?, MakeStatic { lengths })
        }
        // Of a step with fixed lengths, which is no entry `full`: `graph/src/passes/tests/fixed.rs` tries it.
        "fold_heads" => None,
        other => panic!("{other}: a new pass needs settings here"),
    }
}

#[test]
fn every_pass_keeps_what_its_row_of_the_table_promises() {
    let mut fired = BTreeMap::<&str, usize>::new();
    for dir in fixtures() {
        let imported = import(&dir).expect("a supported checkpoint").graph;
        let mut split = imported.clone();
        run(&mut split).expect("passes");
        let mut coded = split.clone();
        let plan = Policy::of("int8".parse().expect("a scheme")).plan(&coded).expect("fits");
        quant::quantize(&mut coded, &plan, &Scratch::new().expect("scratch"), &Quiet).expect("quantized");
        let feeds = sample(&dir);
        for about in TABLE {
            let Some(Trial { before, pass }) = trial(about.name, &imported, &split, &coded, &feeds) else { continue };
            let mut after = before.clone();
            let count = pass(&mut after);
            *fired.entry(about.name).or_default() += count;
            let place = format!("{}: {}", dir.display(), about.name);
            match about.meaning {
                Meaning::Kept(bound) => {
                    let found = difference(&whole(&before, &feeds), &whole(&after, &feeds));
                    assert!(found <= bound, "{place}: {found:e}");
                }
                Meaning::Completed => {
                    let found = difference(&whole(&before, &feeds), &whole(&after, &feeds));
                    assert!(found <= F32_NOISE, "{place}: {found:e}");
                }
                Meaning::Rounded => {
                    let exact = whole(&before, &feeds);
                    assert_eq!(whole(&unrounded(&after), &feeds), exact, "{place}: more than rounding changed");
                    assert_eq!(count > 0, whole(&after, &feeds) != exact, "{place}: fired {count} times");
                }
                // `a_step_with_a_cache_of_fixed_length_is_the_step_of_any_length` compares the runs.
                Meaning::Recut => assert_eq!(count, after.entries.len(), "{place}"),
            }
        }
    }
    let idle: Vec<&str> = TABLE.iter().map(|about| about.name).filter(|name| fired.get(name) == Some(&0)).collect();
    assert_eq!(idle, ["fold"], "importers write no neutral elements; everything else is seen to do something");
}

/// Layers of a stack, by the numbers in the names of its weights.
fn depth(graph: &Graph, stacks: [&str; 2]) -> usize {
    let number = |name: &str| {
        let mut parts = name.split('.').skip_while(|part| !stacks.contains(part));
        parts.find_map(|part| part.parse::<usize>().ok())
    };
    graph.weights.iter().filter_map(|(_, weight)| number(&weight.name)).max().expect("numbered layers") + 1
}

fn count(graph: &Graph, fits: fn(&Op) -> bool) -> usize {
    graph.values.iter().filter(|value| matches!(&value.def, Def::Op(op, _) if fits(op))).count()
}

#[test]
fn each_attention_is_fused_and_each_of_the_decoder_is_cut() {
    for dir in fixtures() {
        let mut model = import(&dir).expect("a supported checkpoint");
        let place = dir.display();
        // Mu calls its stacks `e` and `h`.
        let [encoder, decoder] = [["encoder", "e"], ["decoder", "h"]].map(|stacks| depth(&model.graph, stacks));
        // Of windows none is fused: biases of heads and masks of windows are added while both have an axis of their own.
        let is_table = |weight: &Weight| weight.name.ends_with("relative_position_bias_table");
        let windows = model.graph.weights.iter().filter(|(_, weight)| is_table(weight)).count();
        let encoder = if windows > 0 { 0 } else { encoder };
        // Families with fewer key heads write the fused op themselves.
        let unfused = count(&model.graph, |op| matches!(op, Op::Softmax)) - windows;
        let fired: Vec<(&str, usize)> =
            run(&mut model.graph).expect("passes").iter().map(|f| (f.pass, f.count)).collect();
        assert_eq!(fired, [("fold", 0), ("fuse_attention", unfused), ("split", 2 * decoder)], "{place}");
        // Florence-2 attends to an image before its encoder does, with three matrices in one.
        let seen = model.graph.weights.iter().filter(|(_, weight)| weight.name.ends_with(".qkv.weight")).count();
        // T5Gemma2 attends to its own and the encoder's keys at once.
        let a_layer = if model.checkpoint.config().model_type() == Some("t5gemma2") { 1 } else { 2 };
        assert_eq!(
            count(&model.graph, |op| matches!(op, Op::Attention { .. })),
            seen + encoder + a_layer * decoder,
            "{place}"
        );
    }
}

/// `BLESS=1` rewrites the goldens; the difference is reviewed like code.
#[test]
fn printed_graphs_equal_the_goldens() {
    let goldens = repository("tests/golden");
    for name in ["bart", "marian", "moonshine", "mu", "t5-v1.0", "t5-v1.1", "t5gemma", "t5gemma2", "umt5", "whisper"] {
        let mut model = import(&fixture(name)).expect(name);
        run(&mut model.graph).expect("passes");
        let printed = text::print(&model.graph);
        let golden = goldens.join(format!("{name}.graph"));
        if std::env::var_os("BLESS").is_some() {
            fs::create_dir_all(&goldens).expect("a folder");
            fs::write(&golden, &printed).expect("written");
        }
        let expected = fs::read_to_string(&golden).expect("blessed once");
        assert!(printed == expected, "{}: the printed graph changed; look with BLESS=1", golden.display());
    }
}
