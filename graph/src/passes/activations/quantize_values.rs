use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::build::Build;
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::{Def, Graph, ValueId};
use crate::ir::op::{Binary, Op, Unary};
use crate::ir::properties::{Elements, Reads};
use crate::ir::ty::{DType, PAST};
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::rewrite::redirect;
use crate::weights::{AffineTensor, Block, Derive, Quantized, WeightData, WeightId};

/// Bits of what an engine with fixed steps everywhere computes with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Widths {
    /// 8 or 16.
    pub activations: u8,
    /// Of keys and values, the second factors of products of two activations: 8, or 16.
    pub keys: u8,
    /// Of what a softmax reads, from the product of queries and keys on: 8 or 16. Scores of a real model lie hundreds apart,
    /// and differences of tenths count.
    pub scores: u8,
}

/// Values that are rounded to the same steps.
#[derive(Clone, PartialEq, Debug)]
pub struct Tied {
    /// Them, in the order of the graph.
    pub values: Vec<ValueId>,
    /// Those among them that are no copy of another one: their numbers decide the range.
    pub sources: Vec<ValueId>,
    /// Tables whose rows they are, and weights that they move as they are: all of their numbers count too, also rows that no sample
    /// asked for.
    pub tables: Vec<WeightId>,
    /// What the range follows from.
    pub kind: Kind,
    /// 8 or 16.
    pub bits: u8,
}

/// What a range follows from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// What calibration saw.
    Seen,
    /// The same, and 0 in the middle.
    Symmetric,
    /// Probabilities: 0 to 1.
    Probability,
    /// Scores with their mask: from what a softmax turns into nothing. Hidden keys end there.
    Masked,
    /// A mask: 0, and this number.
    Mask(f32),
}

/// Which values an engine with fixed steps rounds, and which to the same steps.
///
/// - Every float value is rounded, except between ops that such engines compute in floats: norms, activation functions
///   but ReLU and the sigmoid, products with a number, convolutions.
/// - What only moves numbers (reshape, transpose, slice, concat, a repeated head) has the steps of what it moves.
/// - What a ReLU reads has the steps of its result, so that no code stands for a negative number.
/// - Keys and values, the second factors of products of two activations, are symmetric; with 16-bit activations they are
///   rounded a second time, to steps of their own: engines take no two factors of 16 unsigned bits.
/// - Where scores are wider than other activations, queries are widened before the product, and probabilities narrowed.
///
/// Groups in the order in which [`QuantizeValues`] rounds. `graph` was expanded.
pub fn tied_values(graph: &Graph, widths: Widths) -> Vec<Tied> {
    let users = graph.users();
    let ports: HashSet<ValueId> =
        graph.entries.iter().flat_map(|e| e.inputs.iter().chain(&e.outputs)).map(|port| port.value).collect();
    let floats = |id: &ValueId| graph.value(*id).ty.dtype == DType::F32;
    let rounded: Vec<ValueId> = (0..graph.values.len())
        .map(ValueId)
        .filter(floats)
        .filter(|id| match &graph.value(*id).def {
            Def::Input => graph.value(*id).ty.shape.iter().any(|dim| dim.symbol() == Some(PAST)),
            Def::Const(_) | Def::Weight(_) => false,
            Def::Op(..) => {
                let inside = in_floats(graph, *id)
                    && !ports.contains(id)
                    && users[id.0].iter().all(|user| in_floats(graph, *user));
                !inside
            }
        })
        .collect();

    let mut groups = Groups::new(graph.values.len());
    let mut second: BTreeSet<ValueId> = BTreeSet::new();
    let mut tables: HashMap<WeightId, ValueId> = HashMap::new();
    for &id in &rounded {
        let args = graph.args(id);
        let Some(op) = graph.op(id) else { continue };
        match op.elements() {
            Elements::Moved { from } => args[from..].iter().for_each(|arg| groups.tie(id, *arg)),
            Elements::LookedUp { table } => {
                if let Some(table) = graph.weight_of(args[table]) {
                    let first = *tables.entry(table).or_insert(id);
                    groups.tie(id, first);
                }
            }
            Elements::Told | Elements::Computed => {}
        }
        if *op == Op::Unary(Unary::Relu) && users[args[0].0].len() == 1 {
            groups.tie(id, args[0]);
        }
        let is_second =
            |(place, arg): &(usize, &ValueId)| op.reads(*place) == Reads::Matrix && graph.weight_of(**arg).is_none();
        second.extend(args.iter().enumerate().filter(is_second).map(|(_, arg)| arg));
    }
    let scores = scores(graph);
    let wide: BTreeSet<ValueId> = scores.iter().map(|id| groups.root(*id)).collect();
    let second: BTreeSet<ValueId> = second.into_iter().map(|id| groups.root(id)).collect();
    let mut members: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for id in rounded {
        members.entry(groups.root(id)).or_default().push(id);
    }

    let (mut tied, mut again) = (Vec::new(), Vec::new());
    for (root, values) in members {
        let sources: Vec<ValueId> = values.iter().copied().filter(|id| !is_copy(graph, &users, *id)).collect();
        let moved = values.iter().flat_map(|id| moved_weights(graph, *id));
        let tables: BTreeSet<WeightId> = sources.iter().filter_map(|id| table_of(graph, *id)).chain(moved).collect();
        let seen: Vec<ValueId> = sources.iter().copied().filter(|id| table_of(graph, *id).is_none()).collect();
        if second.contains(&root) {
            if widths.activations == 16 {
                // The op that makes them has one width.
                let made = |id: &ValueId| Tied {
                    values: vec![*id],
                    sources: vec![*id],
                    tables: Vec::new(),
                    kind: Kind::Seen,
                    bits: widths.activations,
                };
                tied.extend(seen.iter().map(made));
            }
            let tables = tables.into_iter().collect();
            tied.push(Tied { values, sources: seen, tables, kind: Kind::Symmetric, bits: widths.keys });
            continue;
        }
        let kind = match seen.as_slice() {
            [one] => kind(graph, *one),
            _ => Kind::Seen,
        };
        let bits = match kind == Kind::Probability || wide.contains(&root) {
            true => widths.scores,
            false => widths.activations,
        };
        let of_group = Tied { values, sources: seen, tables: tables.into_iter().collect(), kind, bits };
        if kind == Kind::Probability && widths.scores != widths.activations {
            again.push(Tied { bits: widths.activations, ..of_group.clone() });
        }
        if widths.scores != widths.activations {
            let queries = of_group.values.iter().copied().filter(|id| {
                users[id.0].iter().any(|user| scores.contains(user) && graph.op(*user) == Some(&Op::MatMul))
            });
            again.extend(queries.map(|id| Tied { values: vec![id], bits: widths.scores, ..of_group.clone() }));
        }
        tied.push(of_group);
    }
    tied.extend(again);
    tied
}

/// What a softmax reads, from the product of queries and keys on.
fn scores(graph: &Graph) -> HashSet<ValueId> {
    let softmaxes = (0..graph.values.len()).map(ValueId).filter(|id| graph.op(*id) == Some(&Op::Softmax));
    let mut pending: Vec<ValueId> = softmaxes.map(|id| graph.args(id)[0]).collect();
    let mut found = HashSet::new();
    while let Some(id) = pending.pop() {
        if graph.op(id).is_some() && found.insert(id) && graph.op(id) != Some(&Op::MatMul) {
            pending.extend(graph.args(id));
        }
    }
    found
}

/// Whether engines with fixed steps compute an op in floats.
fn in_floats(graph: &Graph, id: ValueId) -> bool {
    let Some(op) = graph.op(id) else { return false };
    match op {
        Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::GroupNorm { .. } | Op::Conv { .. } | Op::Conv2d { .. } => true,
        Op::Unary(Unary::Relu | Unary::Sigmoid) => false,
        Op::Unary(Unary::Tanh | Unary::Gelu | Unary::GeluTanh | Unary::Silu | Unary::QuickGelu) => true,
        Op::Binary(_) => graph.args(id).iter().any(|arg| matches!(graph.value(*arg).def, Def::Const(_))),
        Op::MatMul
        | Op::Linear
        | Op::Embed
        | Op::Softmax
        | Op::Mean { .. }
        | Op::Reshape(_)
        | Op::Broadcast(_)
        | Op::Slice { .. }
        | Op::Transpose(_)
        | Op::Concat { .. }
        | Op::Select
        | Op::Positions { .. }
        | Op::Rope(_)
        | Op::Mask { .. }
        | Op::PaddingMask { .. }
        | Op::RelativeBias { .. }
        | Op::DynamicQuant(_)
        | Op::FakeQuant(_)
        | Op::Attention { .. } => false,
    }
}

/// Whether all numbers of a value are those of its arguments, or of a ReLU that reads it.
fn is_copy(graph: &Graph, users: &[Vec<ValueId>], id: ValueId) -> bool {
    match graph.op(id).map(Op::elements) {
        None => true, // the past: keys and values of earlier steps
        Some(Elements::Moved { .. }) => true,
        Some(Elements::Computed | Elements::LookedUp { .. } | Elements::Told) => {
            matches!(users[id.0].as_slice(), [one] if graph.op(*one) == Some(&Op::Unary(Unary::Relu)))
        }
    }
}

/// The table that a value shows rows of.
fn table_of(graph: &Graph, id: ValueId) -> Option<WeightId> {
    match graph.op(id)?.elements() {
        Elements::LookedUp { table } => graph.weight_of(graph.args(id)[table]),
        Elements::Computed | Elements::Moved { .. } | Elements::Told => None,
    }
}

/// Weights whose numbers a value has as they are, such as positions in another shape: no sample shows them.
fn moved_weights(graph: &Graph, id: ValueId) -> Vec<WeightId> {
    match graph.op(id).map(Op::elements) {
        Some(Elements::Moved { from }) => {
            graph.args(id)[from..].iter().filter_map(|arg| graph.weight_of(*arg)).collect()
        }
        Some(Elements::Computed | Elements::LookedUp { .. } | Elements::Told) | None => Vec::new(),
    }
}

fn mask_of(graph: &Graph, id: ValueId) -> Option<f32> {
    graph.op(id)?.hidden()
}

fn kind(graph: &Graph, id: ValueId) -> Kind {
    match graph.op(id) {
        Some(Op::Softmax) => Kind::Probability,
        Some(Op::Binary(Binary::Add)) if graph.args(id).iter().any(|arg| mask_of(graph, *arg).is_some()) => {
            Kind::Masked
        }
        _ => mask_of(graph, id).map_or(Kind::Seen, Kind::Mask),
    }
}

/// `x  ->  FakeQuant(x)`: rounds values to the steps of their groups. Whoever reads one reads it rounded, ports too.
///
/// Tables that nothing but embeddings show, and tensors that elementwise ops read, are rounded with their values. A bias of a Linear with `int8`
/// weights becomes multiples of (step of the input) · (scale of its row), the unit of the sums it is added to. Counts the values
/// that are rounded.
///
/// Errors, the graph unchanged: a bias that several Linears with different units read, or that needs more than 32 bits.
pub struct QuantizeValues<'a> {
    /// The groups of [`tied_values`], in their order, each with its steps.
    pub groups: &'a [(Tied, FakeQuant)],
}

impl QuantizeValues<'_> {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "quantize_values",
        formula: "x -> FakeQuant(x) for every value",
        caller: Caller::Format("npu"),
        meaning: Meaning::Rounded,
    };
}

impl Pass for QuantizeValues<'_> {
    fn about(&self) -> &'static About {
        QuantizeValues::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        quantize(graph, self.groups).map(Changed::from)
    }
}

fn quantize(graph: &mut Graph, groups: &[(Tied, FakeQuant)]) -> Result<usize, PassError> {
    let refused = |message: String| QuantizeValues::ABOUT.refused(message);
    let mut steps: BTreeMap<ValueId, Vec<FakeQuant>> = BTreeMap::new();
    for (tied, fixed) in groups {
        fixed.check().map_err(refused)?;
        tied.values.iter().for_each(|id| steps.entry(*id).or_default().push(*fixed));
    }
    let users = graph.users();
    let mut derived: BTreeMap<WeightId, Derive> = BTreeMap::new();
    for id in (0..graph.values.len()).map(ValueId) {
        let args = graph.args(id);
        let last = |id: &ValueId| steps.get(id).and_then(|steps| steps.last()).copied();
        match graph.op(id) {
            Some(Op::Embed) => {
                let only_shown = users[args[1].0].iter().all(|user| graph.op(*user) == Some(&Op::Embed));
                if let (Some(table), Some(fixed), true) = (graph.weight_of(args[1]), last(&id), only_shown) {
                    derived.insert(table, Derive::Steps(fixed));
                }
            }
            Some(Op::Binary(_)) if !in_floats(graph, id) => {
                for (weight, other) in [(args[0], args[1]), (args[1], args[0])] {
                    if let (Some(weight), Some(fixed)) = (graph.weight_of(weight), last(&other)) {
                        let own = own_steps(graph, weight, fixed.bits).map_err(refused)?;
                        derived.insert(weight, Derive::Steps(own));
                    }
                }
            }
            Some(Op::Linear) => {
                let (Some(w), Some(bias), Some(fixed)) =
                    (graph.weight_of(args[1]), args.get(2).and_then(|b| graph.weight_of(*b)), last(&args[0]))
                else {
                    continue;
                };
                let Some(units) = units(&graph.weights.get(w).data, fixed) else { continue };
                check_bias(graph, bias, &units).map_err(refused)?;
                let units = Derive::Multiples(units.into());
                if derived.insert(bias, units.clone()).is_some_and(|known| known != units) {
                    let name = &graph.weights.get(bias).name;
                    return Err(refused(format!("{name}: several Linears read it and give it different units")));
                }
            }
            _ => {}
        }
    }
    for (weight, derive) in derived {
        graph.weights.get_mut(weight).derive(derive);
    }

    let b = Build::edit(std::mem::take(graph));
    let mut new_id = HashMap::new();
    for (id, steps) in &steps {
        let name = b.with_graph(|g| g.value(*id).name.clone());
        let _here = b.scope(name);
        let mut value = b.val(*id);
        for fixed in steps {
            value = b.op(Op::FakeQuant(*fixed), &[value]);
        }
        new_id.extend(value.id().map(|new| (*id, new)));
    }
    *graph = b.finish().map_err(|source| QuantizeValues::ABOUT.misfit(source))?;
    // The past stays an input; the rounding itself keeps its argument.
    let inputs: Vec<(usize, usize, ValueId)> = graph
        .entries
        .iter()
        .enumerate()
        .flat_map(|(e, entry)| entry.inputs.iter().enumerate().map(move |(p, port)| (e, p, port.value)))
        .filter(|(_, _, id)| graph.value(*id).def == Def::Input)
        .collect();
    let firsts: Vec<(ValueId, ValueId)> = new_id
        .iter()
        .map(|(old, last)| {
            let mut first = *last;
            while graph.args(first)[0] != *old {
                first = graph.args(first)[0];
            }
            (first, *old)
        })
        .collect();
    redirect(graph, &new_id);
    for (first, old) in firsts {
        if let Def::Op(_, args) = &mut graph.values[first.0].def {
            args[0] = old;
        }
    }
    for (entry, port, id) in inputs {
        graph.entries[entry].inputs[port].value = id;
    }
    graph.sweep();
    Ok(new_id.len())
}

/// The units of a Linear's sums, by row; `None` for weights that are no `int8` with one symmetric scale a row.
fn units(weight: &WeightData, input: FakeQuant) -> Option<Vec<f32>> {
    match weight {
        WeightData::Quantized(Quantized::Affine(AffineTensor {
            bits: 8,
            block: Block::Row,
            zeros: None,
            scales,
            ..
        })) => Some(scales.iter().map(|scale| input.scale * scale.to_f32()).collect()),
        _ => None,
    }
}

fn check_bias(graph: &Graph, bias: WeightId, units: &[f32]) -> Result<(), String> {
    let weight = graph.weights.get(bias);
    let floats = weight.read().map_err(|error| error.to_string())?;
    // With a unit of 0 the quotient is infinite or NaN.
    let fits = |x: &f32, unit: &f32| f64::from(x.abs()) / f64::from(*unit) < f64::from(i32::MAX);
    match floats.iter().zip(units).position(|(x, unit)| !fits(x, unit)) {
        None => Ok(()),
        Some(i) => Err(format!(
            "{}[{i}]: expected at most 2^31 units of {:e}, found {}; the row of weights beside it is nearly 0",
            weight.name, units[i], floats[i]
        )),
    }
}

/// Steps over all numbers of a weight.
fn own_steps(graph: &Graph, weight: WeightId, bits: u8) -> Result<FakeQuant, String> {
    let floats = graph.weights.get(weight).read().map_err(|error| error.to_string())?;
    let (low, high) = floats.iter().fold((0.0f32, 0.0f32), |(low, high), x| (low.min(*x), high.max(*x)));
    Ok(FakeQuant::over(low, high, bits))
}

/// Disjoint sets of values.
struct Groups(Vec<ValueId>);

impl Groups {
    fn new(count: usize) -> Groups {
        Groups((0..count).map(ValueId).collect())
    }

    fn root(&mut self, id: ValueId) -> ValueId {
        let mut at = id;
        while self.0[at.0] != at {
            self.0[at.0] = self.0[self.0[at.0].0];
            at = self.0[at.0];
        }
        at
    }

    fn tie(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.0.max(b.0)] = ValueId(a.0.min(b.0));
    }
}
