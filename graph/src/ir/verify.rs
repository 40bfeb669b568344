//! What must hold between passes.

use std::collections::{BTreeSet, HashSet};

use crate::ir::graph::{Def, Entry, Graph, ValueId};
use crate::ir::op::Op;
use crate::ir::ty::Sym;

/// A graph that breaks its own rules; all breaches are listed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the graph does not hold together:\n  {}", .0.join("\n  "))]
pub struct VerifyError(pub Vec<String>);

/// Checks types against inference, weights against their values, names, cycles and entries.
///
/// Errors: every breach, with the value's name, expected and found.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    let mut breaches = Vec::new();
    let mut names = HashSet::new();
    for value in &graph.values {
        if !names.insert(value.name.as_str()) {
            breaches.push(format!("{}: two values have this name", value.name));
        }
        match &value.def {
            Def::Op(op, args) if args.iter().all(|arg| arg.0 < graph.values.len()) => {
                let types: Vec<_> = args.iter().map(|arg| &graph.value(*arg).ty).collect();
                match op.infer(&types) {
                    Ok(ty) if ty == value.ty => {}
                    Ok(ty) => breaches.push(format!("{}: expected {ty}, found {}", value.name, value.ty)),
                    Err(message) => breaches.push(format!("{}: {op}: {message}", value.name)),
                }
            }
            Def::Op(op, _) => breaches.push(format!("{}: {op} reads a value that is not there", value.name)),
            Def::Weight(id) => {
                let shape = &graph.weights.get(*id).shape;
                if !value.ty.shape.iter().map(|d| d.literal()).eq(shape.iter().map(|n| Some(*n))) {
                    breaches.push(format!("{}: expected {}, found a weight of {shape:?}", value.name, value.ty));
                }
            }
            Def::Input | Def::Const(_) => {}
        }
    }
    if breaches.is_empty() {
        graph.entries.iter().for_each(|entry| check_entry(graph, entry, &mut breaches));
    }
    match breaches.is_empty() {
        true => Ok(()),
        false => Err(VerifyError(breaches)),
    }
}

fn check_entry(graph: &Graph, entry: &Entry, breaches: &mut Vec<String>) {
    for ports in [&entry.inputs, &entry.outputs] {
        let mut names = HashSet::new();
        for port in ports.iter().filter(|port| !names.insert(port.name.as_str())) {
            breaches.push(format!("{}: two ports are named {}", entry.name, port.name));
        }
    }
    let order = graph.order(entry);
    let place: std::collections::HashMap<ValueId, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let fed: HashSet<ValueId> = entry.inputs.iter().map(|p| p.value).collect();
    let mut known: BTreeSet<Sym> = entry
        .inputs
        .iter()
        .flat_map(|p| graph.value(p.value).ty.shape.iter().filter_map(|d| d.symbol()))
        .chain(entry.fixed.keys().copied())
        .collect();
    for id in &order {
        let value = graph.value(*id);
        if fed.contains(id) {
            continue;
        }
        if graph.args(*id).iter().any(|arg| place[arg] > place[id]) {
            breaches.push(format!("{}: {} depends on itself", entry.name, value.name));
        }
        let is_empty = value.ty.shape.iter().any(|dim| dim.fix(&entry.fixed).literal() == Some(0));
        if value.def == Def::Input && !is_empty {
            breaches.push(format!("{}: {} is needed and not among the inputs", entry.name, value.name));
        }
        if let Def::Op(Op::Conv { length: Some(sym), .. }, _) = &value.def {
            known.insert(*sym);
        }
        for sym in value.ty.shape.iter().flat_map(|d| d.symbols()).filter(|sym| !known.contains(sym)) {
            let message = "which neither an input nor a value before it tells";
            breaches.push(format!("{}: {} needs the length of {}, {message}", entry.name, value.name, sym.0));
        }
    }
}
