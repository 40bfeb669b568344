use std::collections::{HashMap, HashSet};

use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::Op;
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};

/// `embed(ids, t)`, `linear(x, t)  ->  embed(ids, t')`, `linear(x, t)`: an embedding whose table is a weight of a Linear too
/// gets a copy of it, so that each can be quantized in its own way. Counts the copies.
pub struct UntieEmbeddings;

impl UntieEmbeddings {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "untie_embeddings",
        formula: "embed(ids, t), linear(x, t) -> embed(ids, t'), linear(x, t)",
        caller: Caller::Format("npu"),
        meaning: Meaning::Kept(0.0),
    };
}

impl Pass for UntieEmbeddings {
    fn about(&self) -> &'static About {
        UntieEmbeddings::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        let why = "a copy of the table that is also the head, so that each has steps of its own";
        let notes: Vec<String> = untie(graph).into_iter().map(|copy| format!("{copy}: {why}")).collect();
        Ok(Changed { count: notes.len(), notes })
    }
}

/// Returns the names of the copies.
fn untie(graph: &mut Graph) -> Vec<String> {
    let reads = |graph: &Graph, op: fn(&Op) -> bool| -> Vec<(ValueId, ValueId)> {
        let all = (0..graph.values.len()).map(ValueId).filter(|id| graph.op(*id).is_some_and(op));
        all.map(|id| (id, graph.args(id)[1])).collect()
    };
    let multiplied: HashSet<ValueId> =
        reads(graph, |op| matches!(op, Op::Linear)).into_iter().map(|(_, table)| table).collect();
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let mut names = Vec::new();
    for (embed, table) in reads(graph, |op| matches!(op, Op::Embed)) {
        let (true, Some(weight)) = (multiplied.contains(&table), graph.weight_of(table)) else { continue };
        let copy = *copies.entry(table).or_insert_with(|| {
            let mut weight = graph.weights.get(weight).clone();
            weight.name = format!("{}.embedding", weight.name);
            names.push(weight.name.clone());
            let mut value = graph.value(table).clone();
            value.name = weight.name.clone();
            value.def = Def::Weight(graph.weights.push(weight));
            graph.values.push(value);
            ValueId(graph.values.len() - 1)
        });
        if let Def::Op(_, args) = &mut graph.values[embed.0].def {
            args[1] = copy;
        }
    }
    graph.sweep();
    names
}
