//! The passes on every fixture: switched on and off, counted, and printed.

use std::fs;

use converters::import;
use graph::passes::{FUSE_ATTENTION, PASSES, run, run_each};
use graph::{Def, Feeds, Graph, Interpreter, Op, text};

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
                assert!(!passes.iter().any(|p| p.name() == FUSE_ATTENTION.name), "{}", dir.display());
                continue;
            }
            let worst = logits(&graph, &feeds).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= F32_NOISE * scale, "{}, without pass {left_out}: {worst} at {scale}", dir.display());
        }
    }
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
        // Families with fewer key heads write the fused op themselves.
        let unfused = count(&model.graph, |op| matches!(op, Op::Softmax));
        let fired: Vec<(&str, usize)> =
            run(&mut model.graph).expect("passes").iter().map(|f| (f.pass, f.count)).collect();
        assert_eq!(fired, [("fold", 0), ("fuse_attention", unfused), ("split", 2 * decoder)], "{place}");
        // T5Gemma2 attends to its own and the encoder's keys at once.
        let a_layer = if model.checkpoint.config().model_type() == Some("t5gemma2") { 1 } else { 2 };
        assert_eq!(
            count(&model.graph, |op| matches!(op, Op::Attention { .. })),
            encoder + a_layer * decoder,
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
