//! Graph, value, entry.

use std::collections::{BTreeMap, HashMap};

use super::op::Op;
use super::ty::{Sym, Type};
use crate::weights::{WeightId, Weights};

/// Index of a value in [`Graph::values`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ValueId(pub usize);

/// How a value comes to be.
#[derive(Clone, PartialEq, Debug)]
pub enum Def {
    /// Fed by the caller.
    Input,
    /// A scalar, written into the graph.
    Const(f32),
    /// A tensor of the checkpoint.
    Weight(WeightId),
    /// One op applied to other values.
    Op(Op, Vec<ValueId>),
}

/// A value and, because every op has one result, the node that makes it.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    /// Unique in its graph; weights carry the checkpoint's name.
    pub name: String,
    /// Element type and shape.
    pub ty: Type,
    /// How it comes to be.
    pub def: Def,
}

/// A named input or output of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Name by which callers feed or read it; unique among the inputs and among the outputs of an entry.
    pub name: String,
    /// The value behind it.
    pub value: ValueId,
}

/// A cut: everything reachable from `outputs` without crossing `inputs`.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// `full`, `encoder`, `decoder`, `decoder_with_past`; of a model that sees and reads, `image_encoder`.
    pub name: String,
    /// Values given by the caller; any value can be one, not only a [`Def::Input`].
    pub inputs: Vec<Port>,
    /// Values returned to the caller.
    pub outputs: Vec<Port>,
    /// Symbols with one length in this entry, as `past = 0` in the first decoding step.
    pub fixed: BTreeMap<Sym, usize>,
}

impl Entry {
    /// The value behind the input named `name`.
    pub fn input(&self, name: &str) -> Option<ValueId> {
        self.inputs.iter().find(|p| p.name == name).map(|p| p.value)
    }

    /// The value behind the output named `name`.
    pub fn output(&self, name: &str) -> Option<ValueId> {
        self.outputs.iter().find(|p| p.name == name).map(|p| p.value)
    }
}

/// Values, their weights, and the entries that cut through them.
///
/// Cloning is cheap in memory: weights are handles to bytes on disk.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Every value; passes may leave dead ones until [`Graph::sweep`].
    pub values: Vec<Value>,
    /// Every weight, read on demand.
    pub weights: Weights,
    /// What can be called.
    pub entries: Vec<Entry>,
}

impl Graph {
    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The entry named `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// The entries that make some of what another takes, each after those that it needs itself.
    pub fn before<'g>(&'g self, entry: &Entry) -> Vec<&'g Entry> {
        let makes = |other: &&Entry| other.outputs.iter().any(|made| entry.inputs.contains(made));
        let mut found: Vec<&Entry> = Vec::new();
        for other in self.entries.iter().filter(makes) {
            for needed in self.before(other).into_iter().chain([other]) {
                if !found.iter().any(|known| known.name == needed.name) {
                    found.push(needed);
                }
            }
        }
        found
    }

    /// What a caller feeds an entry and those [before](Graph::before) it, but for what these hand on; each port once.
    pub fn sources<'g>(&'g self, entry: &'g Entry) -> Vec<&'g Port> {
        let before = self.before(entry);
        let is_made = |port: &Port| before.iter().any(|other| other.outputs.contains(port));
        let mut found: Vec<&Port> = Vec::new();
        for port in before.iter().copied().chain([entry]).flat_map(|entry| &entry.inputs) {
            if !is_made(port) && !found.contains(&port) {
                found.push(port);
            }
        }
        found
    }

    /// The values an op reads; empty for inputs, constants and weights.
    pub fn args(&self, id: ValueId) -> &[ValueId] {
        match &self.value(id).def {
            Def::Op(_, args) => args,
            Def::Input | Def::Const(_) | Def::Weight(_) => &[],
        }
    }

    /// The op that makes a value, if one does.
    pub fn op(&self, id: ValueId) -> Option<&Op> {
        match &self.value(id).def {
            Def::Op(op, _) => Some(op),
            Def::Input | Def::Const(_) | Def::Weight(_) => None,
        }
    }

    /// The weight behind a value, if it is one.
    pub fn weight_of(&self, id: ValueId) -> Option<WeightId> {
        match self.value(id).def {
            Def::Weight(weight) => Some(weight),
            Def::Input | Def::Const(_) | Def::Op(..) => None,
        }
    }

    /// Values of an entry in an order in which each comes after its arguments; the entry's inputs come first.
    ///
    /// Iterative, because a real model is thousands of values deep.
    pub fn order(&self, entry: &Entry) -> Vec<ValueId> {
        let mut order: Vec<ValueId> = Vec::new();
        let mut seen = vec![false; self.values.len()];
        for port in &entry.inputs {
            if !std::mem::replace(&mut seen[port.value.0], true) {
                order.push(port.value);
            }
        }
        for port in &entry.outputs {
            let mut stack = vec![(port.value, 0)];
            while let Some((id, next)) = stack.pop() {
                if next == 0 && std::mem::replace(&mut seen[id.0], true) {
                    continue;
                }
                match self.args(id).get(next) {
                    Some(&arg) => {
                        stack.push((id, next + 1));
                        if !seen[arg.0] {
                            stack.push((arg, 0));
                        }
                    }
                    None => order.push(id),
                }
            }
        }
        order
    }

    /// The most places of `sym` for which every table of positions has a row; `None` without such tables.
    pub fn longest(&self, sym: Sym) -> Option<usize> {
        let rows = |index: usize| match (self.op(ValueId(index))?, self.args(ValueId(index))) {
            (Op::Embed, [ids, table]) => match self.op(*ids)? {
                Op::Positions { start, len } if len.symbols() == [sym] => {
                    Some(self.value(*table).ty.shape[0].literal()?.saturating_sub(start.known() + len.known()))
                }
                _ => None,
            },
            _ => None,
        };
        (0..self.values.len()).filter_map(rows).min()
    }

    /// For each value, the values that read it.
    pub fn users(&self) -> Vec<Vec<ValueId>> {
        let mut users = vec![Vec::new(); self.values.len()];
        for index in 0..self.values.len() {
            for arg in self.args(ValueId(index)) {
                users[arg.0].push(ValueId(index));
            }
        }
        users
    }

    /// Drops values and weights that no entry reaches, and renumbers the rest in evaluation order.
    pub fn sweep(&mut self) {
        let mut kept: Vec<ValueId> = Vec::new();
        let mut new_id: HashMap<ValueId, ValueId> = HashMap::new();
        // Every entry is walked to its roots: what is an input for one is computed by another.
        for entry in &self.entries {
            let whole = Entry {
                inputs: Vec::new(),
                outputs: [&entry.inputs[..], &entry.outputs[..]].concat(),
                ..entry.clone()
            };
            for id in self.order(&whole) {
                new_id.entry(id).or_insert_with(|| {
                    kept.push(id);
                    ValueId(kept.len() - 1)
                });
            }
        }
        let mut weights = Weights::default();
        let mut new_weight: HashMap<WeightId, WeightId> = HashMap::new();
        let values = kept.iter().map(|id| {
            let mut value = self.values[id.0].clone();
            match &mut value.def {
                Def::Op(_, args) => args.iter_mut().for_each(|arg| *arg = new_id[arg]),
                Def::Weight(id) => {
                    *id = *new_weight.entry(*id).or_insert_with(|| weights.push(self.weights.get(*id).clone()))
                }
                Def::Input | Def::Const(_) => {}
            }
            value
        });
        self.values = values.collect();
        self.weights = weights;
        for entry in &mut self.entries {
            for port in entry.inputs.iter_mut().chain(&mut entry.outputs) {
                port.value = new_id[&port.value];
            }
        }
    }
}
