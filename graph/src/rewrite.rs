//! Rules whose pattern is itself a small graph.

use std::collections::HashMap;

use crate::build::{Build, BuildError, Val};
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op};

/// A graph with holes; a [`Def::Input`] of it stands for any one value.
pub struct Pattern {
    graph: Graph,
    root: ValueId,
}

impl Pattern {
    /// A pattern written as an expression.
    pub fn new(write: impl for<'b> FnOnce(&'b Build) -> Val<'b>) -> Pattern {
        let b = Build::pattern();
        let root = write(&b).id().expect("a pattern is not typed, so nothing can misfit");
        Pattern { graph: b.finish().expect("a pattern is not typed, so nothing can misfit"), root }
    }
}

/// One pattern for each combination of flags, so that no case of a product is forgotten.
pub fn variants<const N: usize>(write: impl for<'b> Fn(&'b Build, [bool; N]) -> Val<'b>) -> Vec<Pattern> {
    let flags = |bits: usize| std::array::from_fn(|i| bits >> i & 1 == 1);
    (0..1 << N).map(|bits| Pattern::new(|b| write(b, flags(bits)))).collect()
}

/// What the holes of a pattern stand for in one place of a graph.
pub struct Match {
    holes: Vec<Filled>,
}

#[derive(Clone)]
struct Filled {
    hole: String,
    value: ValueId,
    scalar: Option<f32>,
}

impl Match {
    /// The value in a hole. Panics when the pattern has no such hole.
    pub fn val<'b>(&self, b: &'b Build, hole: &str) -> Val<'b> {
        self.optional_val(b, hole).expect("the rule's pattern has this hole")
    }

    /// The value in a hole that some variants lack.
    pub fn optional_val<'b>(&self, b: &'b Build, hole: &str) -> Option<Val<'b>> {
        self.hole(hole).map(|filled| b.val(filled.value))
    }

    /// The number in a hole, or `default` when this variant lacks it. `None`: it is there and no constant.
    pub fn scalar_or(&self, hole: &str, default: f32) -> Option<f32> {
        self.optional_scalar(hole).map(|c| c.unwrap_or(default))
    }

    /// The number in a hole, if this variant has it. `None`: it is there and no constant.
    pub fn optional_scalar(&self, hole: &str) -> Option<Option<f32>> {
        match self.hole(hole) {
            None => Some(None),
            Some(filled) => filled.scalar.map(Some),
        }
    }

    fn hole(&self, hole: &str) -> Option<&Filled> {
        self.holes.iter().find(|filled| filled.hole == hole)
    }
}

/// `find` becomes `replace`, wherever it stands and means the same.
pub struct Rule {
    /// verb_noun.
    pub name: &'static str,
    /// The patterns; variants of one formula.
    pub find: fn() -> Vec<Pattern>,
    /// The new value; `None` leaves this place alone.
    pub replace: for<'b> fn(&Match, &'b Build) -> Option<Val<'b>>,
}

/// Applies a rule wherever it matches and returns how often it fired.
///
/// A match is refused when a value inside it, other than its root, is used outside it or is a port of an entry.
/// Edits in place: the work grows with the graph, not with its square.
///
/// Errors: the replacement does not fit, which is a bug of the rule.
pub fn rewrite(graph: &mut Graph, rule: &Rule) -> Result<usize, BuildError> {
    let patterns = (rule.find)();
    let mut users = Users::of(graph);
    let b = Build::edit(std::mem::take(graph));
    let mut fired = 0;
    for root in (0..b.with_graph(|g| g.values.len())).map(ValueId) {
        let found = b.with_graph(|g| {
            let alive = users.alive(root);
            patterns.iter().filter(|_| alive).find_map(|pattern| pattern.at(g, root, &users))
        });
        let Some(found) = found else { continue };
        let old_len = b.with_graph(|g| g.values.len());
        let Some(new) = (rule.replace)(&found, &b).and_then(Val::id) else { continue };
        b.with_graph_mut(|g| users.redirect(g, old_len, root, new));
        fired += 1;
    }
    *graph = b.finish()?;
    graph.sweep();
    Ok(fired)
}

impl Pattern {
    /// The match rooted at `root`, if the pattern stands there and nothing else uses its inside.
    fn at(&self, graph: &Graph, root: ValueId, users: &Users) -> Option<Match> {
        let empty = vec![None; self.graph.values.len()];
        let found = self.fit(graph, self.root, root, empty)?;
        let inside: Vec<ValueId> = (0..found.len())
            .filter(|&p| p != self.root.0 && matches!(self.graph.values[p].def, Def::Op(..)))
            .filter_map(|p| found[p])
            .collect();
        let closed = |id: &ValueId| {
            !users.ports[id.0] && users.of[id.0].iter().all(|user| *user == root || inside.contains(user))
        };
        let holes = (0..found.len()).filter(|&p| self.graph.values[p].def == Def::Input).filter_map(|p| {
            let value = found[p]?;
            let scalar = match graph.value(value).def {
                Def::Const(c) => Some(c),
                Def::Input | Def::Weight(_) | Def::Op(..) => None,
            };
            Some(Filled { hole: self.graph.values[p].name.clone(), value, scalar })
        });
        inside.iter().all(closed).then(|| Match { holes: holes.collect() })
    }

    /// Extends `found` (pattern value -> graph value) so that `p` stands for `id`.
    fn fit(
        &self,
        graph: &Graph,
        p: ValueId,
        id: ValueId,
        mut found: Vec<Option<ValueId>>,
    ) -> Option<Vec<Option<ValueId>>> {
        if let Some(before) = found[p.0] {
            return (before == id).then_some(found);
        }
        found[p.0] = Some(id);
        match (&self.graph.value(p).def, &graph.value(id).def) {
            (Def::Input, _) => Some(found),
            (Def::Const(a), Def::Const(b)) => (a.to_bits() == b.to_bits()).then_some(found),
            (Def::Op(p_op, p_args), Def::Op(op, args)) if p_op == op && p_args.len() == args.len() => {
                let in_order = |order: &[ValueId]| {
                    p_args.iter().zip(order).try_fold(found.clone(), |found, (p, id)| self.fit(graph, *p, *id, found))
                };
                in_order(args).or_else(|| match op {
                    Op::Binary(Binary::Add | Binary::Mul) => in_order(&[args[1], args[0]]),
                    _ => None,
                })
            }
            _ => None,
        }
    }
}

/// Every reader and every port of an old value takes the new one.
pub(crate) fn redirect(graph: &mut Graph, new_id: &HashMap<ValueId, ValueId>) {
    let moved = |id: &mut ValueId| {
        if let Some(new) = new_id.get(id) {
            *id = *new;
        }
    };
    for value in &mut graph.values {
        if let Def::Op(_, args) = &mut value.def {
            args.iter_mut().for_each(moved);
        }
    }
    for entry in &mut graph.entries {
        entry.inputs.iter_mut().chain(&mut entry.outputs).for_each(|port| moved(&mut port.value));
    }
}

/// Who reads each value, kept current while a rule edits.
struct Users {
    of: Vec<Vec<ValueId>>,
    ports: Vec<bool>,
}

impl Users {
    fn of(graph: &Graph) -> Users {
        let mut ports = vec![false; graph.values.len()];
        for port in graph.entries.iter().flat_map(|e| e.inputs.iter().chain(&e.outputs)) {
            ports[port.value.0] = true;
        }
        Users { of: graph.users(), ports }
    }

    fn alive(&self, id: ValueId) -> bool {
        self.ports[id.0] || !self.of[id.0].is_empty()
    }

    /// Every reader of `old` reads `new` instead; values from `old_len` on are new.
    fn redirect(&mut self, graph: &mut Graph, old_len: usize, old: ValueId, new: ValueId) {
        self.of.resize(graph.values.len(), Vec::new());
        self.ports.resize(graph.values.len(), false);
        for id in (old_len..graph.values.len()).map(ValueId) {
            for arg in graph.args(id) {
                self.of[arg.0].push(id);
            }
        }
        let readers: Vec<ValueId> = self.of[old.0].iter().copied().filter(|user| user.0 < old_len).collect();
        for reader in &readers {
            if let Def::Op(_, args) = &mut graph.values[reader.0].def {
                args.iter_mut().filter(|arg| **arg == old).for_each(|arg| *arg = new);
            }
        }
        self.of[old.0].retain(|user| user.0 >= old_len);
        self.of[new.0].extend(readers);
        for entry in &mut graph.entries {
            for port in entry.inputs.iter_mut().chain(&mut entry.outputs).filter(|port| port.value == old) {
                port.value = new;
                self.ports[new.0] = true;
            }
        }
        self.ports[old.0] = false;
        self.release(graph, old);
    }

    /// A value that nobody reads any more does not count as a reader.
    fn release(&mut self, graph: &Graph, id: ValueId) {
        let mut dead = vec![id];
        while let Some(id) = dead.pop() {
            if self.alive(id) {
                continue;
            }
            for arg in graph.args(id) {
                self.of[arg.0].retain(|user| *user != id);
                dead.push(*arg);
            }
        }
    }
}
