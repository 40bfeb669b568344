//! The NPU target: static graphs, equal to those of any length.

use std::collections::BTreeMap;
use std::path::Path;

use converters::import;
use graph::passes::{AbsorbScales, Expand, Lengths, MakeStatic, UntieEmbeddings, Update, run, run_each, run_one};
use graph::{Feeds, Graph, Interpreter, Tensor};
use validate::runtime::Session;
use validate::runtime::reference::Reference;

use crate::fixture::{expected, npu_fixtures, source};
use crate::import::relative_l2;

/// Folded products and sums in another order.
const F32_NOISE: f64 = 1e-5;
const HIDDEN: f32 = -100.0;

/// What a host does: the encoder once, then one token at a time with caches of fixed length.
struct Steps<'g> {
    interpreter: Interpreter<'g>,
    lengths: Lengths,
    caches: BTreeMap<String, Tensor>,
    at: usize,
}

impl<'g> Steps<'g> {
    /// Encodes one sequence; ids are padded to the length of the graph.
    fn encode(graph: &'g Graph, lengths: Lengths, sequence: &Feeds) -> Steps<'g> {
        let interpreter = Interpreter::new(graph);
        let entry = graph.entry("encoder").expect("made");
        let mut feeds = Feeds::new();
        for port in &entry.inputs {
            let tensor = &sequence[&port.name];
            feeds.insert(port.name.clone(), padded(tensor, lengths.source));
        }
        let mut caches = interpreter.call("encoder", &feeds).expect("evaluates");
        let decoder = graph.entry("decoder").expect("made");
        for port in &decoder.inputs {
            if port.name == "attention_mask" {
                caches.insert(port.name.clone(), feeds[&port.name].clone());
            }
            if port.name.starts_with("past.") {
                let shape: Vec<usize> =
                    graph.value(port.value).ty.shape.iter().map(|d| d.literal().expect("static")).collect();
                caches.insert(port.name.clone(), Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]));
            }
        }
        Steps { interpreter, lengths, caches, at: 0 }
    }

    fn decode(&mut self, token: i64) -> Vec<f32> {
        let mut feeds = self.caches.clone();
        feeds.insert("decoder_input_ids".into(), Tensor::i64([1, 1], vec![token]));
        let entry = self.interpreter.graph().entry("decoder").expect("made");
        if entry.input("position").is_some() {
            feeds.insert("position".into(), Tensor::i64([1], vec![self.at as i64]));
        }
        if entry.input("slot").is_some() {
            let mut slot = vec![0; self.lengths.target];
            slot[self.at] = 1;
            feeds.insert("slot".into(), Tensor::i64([1, 1, self.lengths.target, 1], slot));
        }
        feeds.retain(|name, _| entry.input(name).is_some());
        let out = self.interpreter.call("decoder", &feeds).expect("evaluates");
        for (name, new) in out.iter().filter(|(name, _)| name.starts_with("present.")) {
            if self.lengths.update == Update::Step {
                self.caches.insert(name.replacen("present", "past", 1), new.clone());
            } else if self.at + 1 < self.lengths.target {
                let past = self.caches.get_mut(&name.replacen("present", "past", 1)).expect("a cache");
                *past = written(past, new, self.at);
            }
        }
        self.at += 1;
        out["logits"].as_f32().expect("floats").to_vec()
    }
}

/// i64[1, n] with zeros up to `length`; floats as they are.
fn padded(tensor: &Tensor, length: usize) -> Tensor {
    match tensor.as_i64() {
        None => tensor.clone(),
        Some(ids) => {
            let mut ids = ids.to_vec();
            ids.resize(length, 0);
            Tensor::i64([1, length], ids)
        }
    }
}

/// `[1, h, n, d]` with `[1, h, 1, d]` at a place.
fn written(past: &Tensor, new: &Tensor, at: usize) -> Tensor {
    let &[_, heads, n, width] = past.shape() else { panic!("rank 4") };
    let mut floats = past.as_f32().expect("floats").to_vec();
    for head in 0..heads {
        let row = &new.as_f32().expect("floats")[head * width..][..width];
        floats[(head * n + at) * width..][..width].copy_from_slice(row);
    }
    Tensor::f32(past.shape(), floats)
}

/// Row `i` of a batch, without its padding.
fn row(source: &Feeds, i: usize) -> Feeds {
    let kept = source.get("attention_mask").map(|mask| {
        let width = mask.shape()[1];
        let row = &mask.as_i64().expect("a mask")[i * width..][..width];
        row.iter().filter(|m| **m != 0).count()
    });
    let of = |(name, tensor): (&String, &Tensor)| {
        let inner: usize = tensor.shape()[1..].iter().product();
        let one = match tensor.as_i64() {
            Some(ids) => {
                let kept = kept.expect("ids have a mask");
                Tensor::i64([1, kept], ids[i * inner..][..kept].to_vec())
            }
            None => {
                let shape = [&[1], &tensor.shape()[1..]].concat();
                Tensor::f32(shape, tensor.as_f32().expect("floats")[i * inner..][..inner].to_vec())
            }
        };
        (name.clone(), one)
    };
    source.iter().map(of).collect()
}

/// Prepared, split and expanded.
fn expanded(dir: &Path, positions: usize) -> Graph {
    let mut graph = import(dir).unwrap_or_else(|e| panic!("{e}")).graph;
    run(&mut graph).expect("passes");
    let expand = Expand { hidden: HIDDEN, split_bias: positions.is_multiple_of(2), positions };
    run_each(&mut graph, &[&UntieEmbeddings, &AbsorbScales, &expand])
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    graph
}

#[test]
fn a_step_with_a_cache_of_fixed_length_is_the_step_of_any_length() {
    for (name, dir) in npu_fixtures() {
        let (recorded, _) = expected(&dir);
        let (sources, target_ids) = (source(&recorded), &recorded["decoder_input_ids"]);
        let &[rows, tokens] = target_ids.shape() else { panic!("rank 2") };
        let target = tokens + 3;
        let longest = sources.get("input_ids").map_or(0, |ids| ids.shape()[1]);
        let mut model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        run(&mut model.graph).expect("passes");
        let exact = Interpreter::new(&model.graph);
        let open = expanded(&dir, longest + 5 + target);
        let mut worst = 0.0f64;
        for (source_length, update) in [(longest.max(1), Update::Caller), (longest + 5, Update::Step)] {
            let lengths = Lengths { source: source_length, target, update };
            let mut fixed = open.clone();
            run_one(&mut fixed, &MakeStatic { lengths }).unwrap_or_else(|e| panic!("{name}: {e}"));
            for i in 0..rows.min(2) {
                let sequence = row(&sources, i);
                let mut steps = Steps::encode(&fixed, lengths, &sequence);
                let mut session = Reference::new(&exact);
                session.encode(&sequence).expect("encoded");
                for token in &target_ids.as_i64().expect("ids")[i * tokens..][..tokens] {
                    let found = steps.decode(*token);
                    let expected = session.decode(&Tensor::i64([1, 1], vec![*token])).expect("decoded");
                    let expected = expected.as_f32().expect("floats").iter().copied();
                    worst = worst.max(relative_l2(found.into_iter(), expected));
                }
            }
        }
        println!("{name}: {worst:.1e}");
        assert!(worst <= F32_NOISE, "{name}: {worst:e}");
    }
}
