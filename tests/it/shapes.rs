//! Every value that is computed has the shape that inference gave it.

use std::collections::BTreeMap;

use converters::import;
use graph::eval::{Feeds, Interpreter};
use graph::{Graph, Op, Sym};

use crate::fixture::{fixtures, sample};
use crate::prepared::decoded_with;

/// The lengths that the feeds of an entry tell.
fn lengths(graph: &Graph, entry: &str, feeds: &Feeds) -> BTreeMap<Sym, usize> {
    let entry = graph.entry(entry).expect("the passes made it");
    let mut lengths = entry.fixed.clone();
    for port in &entry.inputs {
        let shape = &graph.value(port.value).ty.shape;
        let told = shape.iter().zip(feeds[&port.name].shape()).filter_map(|(dim, n)| Some((dim.symbol()?, *n)));
        lengths.extend(told);
    }
    lengths
}

#[test]
fn every_value_of_every_entry_has_its_inferred_shape_in_both_sets_of_kernels() {
    let mut seen = 0;
    for dir in fixtures() {
        let mut graph = import(&dir).unwrap_or_else(|e| panic!("{e}")).graph;
        graph::passes::run(&mut graph).expect("passes");
        let feeds = sample(&dir);
        for interpreter in [Interpreter::new(&graph), Interpreter::new(&graph).prepared().with_cache(1 << 24)] {
            let call = |entry: &str, feeds: &Feeds| {
                let mut lengths = lengths(&graph, entry, feeds);
                let mut tap = |id, tensor: &graph::Tensor| {
                    let value = graph.value(id);
                    if let (Some(Op::Conv { length: Some(sym), .. }), Some(n)) = (graph.op(id), tensor.shape().last()) {
                        lengths.entry(*sym).or_insert(*n);
                    }
                    let expected: Option<Vec<usize>> = value.ty.shape.iter().map(|dim| dim.resolve(&lengths)).collect();
                    assert_eq!(Some(tensor.shape()), expected.as_deref(), "{}: {entry}: {}", dir.display(), value.name);
                    seen += 1;
                };
                interpreter.call_with(entry, feeds, &mut tap)
            };
            decoded_with(&interpreter, &feeds, call).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
    }
    assert!(seen > 10_000, "only {seen} values");
}
