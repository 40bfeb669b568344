use std::collections::{BTreeMap, HashMap, HashSet};

use crate::eval::{Interpreter, relative_bucket};
use crate::ir::fake_quant::FakeQuant;
use crate::ir::graph::{Def, Entry, Graph, Port, Value, ValueId};
use crate::ir::op::Op;
use crate::ir::port::{POSITION, PortRole, SLOT};
use crate::ir::ty::{BATCH, DEC, Dim, ENC, PAST, Sym, Type};
use crate::passes::pass::{About, Caller, Changed, Meaning, Pass, PassError};
use crate::weights::{Derive, Weight, WeightData, WeightId};

/// The lengths of a static graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lengths {
    /// Places of the encoder's input.
    pub source: usize,
    /// Target tokens: a step stands at a position below it.
    pub target: usize,
    /// Who writes new keys and values into the cache.
    pub update: Update,
}

/// Who writes a step's keys and values into the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Update {
    /// The caller: a step returns those of its token alone.
    #[default]
    Caller,
    /// The step: it takes and returns the whole cache, and [`SLOT`], which is 1 at the place of the token and 0 elsewhere.
    Step,
}

/// Entries of any length  ->  `encoder` and `decoder`, in which every length is a number, for engines that compile a graph
/// for its shapes.
///
/// - There is one sequence; values `[batch, n, e]` are `[n, e]`, so that every Linear is a product of two matrices, and those of
///   five axes, of which engines take four, lose the first one too.
/// - `encoder` returns the keys and values that each cross-attention reads, `cross.{i}.k` and `cross.{i}.v`, and nothing
///   else; `decoder` takes them, so that they are computed once.
/// - `decoder` is one step: one token, its `position`, and `past.{i}.k`, `past.{i}.v` of `target - 1` tokens, of which those
///   from `position` on are hidden; it returns `logits` and the new keys and values `present.{i}.k`, `present.{i}.v`, which
///   the caller writes at `position`. The new token stands behind the past, whatever its position is. With [`Update::Step`]
///   the past has `target` places, and `present.{i}.k` is all of it with the new token in its place.
/// - What depends on lengths alone becomes a weight: positions, masks and biases by distance of the encoder, and for the
///   decoder tables of them that are looked up by `position`.
///
/// The graph was split and expanded; masks are finite. Counts the entries. Errors: a value of another form; names it.
#[derive(Clone, Copy, Debug)]
pub struct MakeStatic {
    /// The numbers that lengths become.
    pub lengths: Lengths,
}

impl MakeStatic {
    /// Its row of the table.
    pub const ABOUT: &'static About = &About {
        name: "make_static",
        formula: "entries of any length -> encoder and decoder of fixed lengths",
        caller: Caller::Format("npu"),
        meaning: Meaning::Recut,
    };
}

impl Pass for MakeStatic {
    fn about(&self) -> &'static About {
        MakeStatic::ABOUT
    }

    fn run(&self, graph: &mut Graph) -> Result<Changed, PassError> {
        *graph = make_static(graph, self.lengths)?;
        Ok(graph.entries.len().into())
    }
}

fn make_static(graph: &Graph, lengths: Lengths) -> Result<Graph, PassError> {
    let refused = |message: String| MakeStatic::ABOUT.refused(message);
    let entry = |name: &str| graph.entry(name).ok_or_else(|| refused(format!("no entry named {name}")));
    let (encoder, step) = (entry("encoder")?, entry("decoder_with_past")?);
    let mut frozen = Frozen {
        old: graph,
        lengths,
        steps: graph.users().iter().map(|users| only_steps(graph, users)).collect(),
        new: Graph::default(),
        names: HashSet::new(),
        weights: HashMap::new(),
        known: BTreeMap::from([(BATCH, 1), (ENC, lengths.source)]),
        map: HashMap::new(),
        cut: "encoder",
        position: None,
        slot: None,
    };
    let cross: Vec<Port> =
        step.inputs.iter().filter(|port| matches!(port.role(), PortRole::Cross(_))).cloned().collect();
    if lengths.target < 2 || lengths.source == 0 {
        return Err(refused(format!("expected a source of at least 1 and a target of at least 2, found {lengths:?}")));
    }
    let inputs = graph.sources(encoder).into_iter().cloned().collect();
    frozen.cut(&Entry { inputs, outputs: cross, ..encoder.clone() }).map_err(refused)?;
    frozen.known.extend([(DEC, 1), (PAST, lengths.target - 1)]);
    let present = |port: &Port| Ok(Port { value: new_part(graph, port)?, ..port.clone() });
    let outputs: Result<Vec<Port>, String> = step
        .outputs
        .iter()
        .map(|port| match (port.role(), lengths.update) {
            (PortRole::Present(_), Update::Caller) => present(port),
            _ => Ok(port.clone()),
        })
        .collect();
    let step = Entry { name: "decoder".to_owned(), outputs: outputs.map_err(refused)?, ..step.clone() };
    frozen.cut = "decoder";
    frozen.cut(&step).map_err(refused)?;
    let mut new = frozen.new;
    new.sweep();
    Ok(new)
}

/// What is joined with the past behind a port `present.{i}.k`.
fn new_part(graph: &Graph, port: &Port) -> Result<ValueId, String> {
    let joined = match (graph.op(port.value), graph.args(port.value)) {
        (Some(Op::FakeQuant(_)), [joined]) => *joined,
        _ => port.value,
    };
    match (graph.op(joined), graph.args(joined)) {
        (Some(Op::Concat { axis: 2 }), [_, new]) => Ok(*new),
        _ => Err(format!("{}: expected the past joined with a new part", port.name)),
    }
}

/// Whether values of so many axes have the batch first and stand without it.
fn loses_batch(axes: usize) -> bool {
    matches!(axes, 3 | 5)
}

/// The steps to which all readers round a value.
fn only_steps(graph: &Graph, users: &[ValueId]) -> Option<FakeQuant> {
    let steps = |id: &ValueId| match graph.op(*id) {
        Some(Op::FakeQuant(steps)) => Some(*steps),
        _ => None,
    };
    let first = users.first().and_then(steps)?;
    users.iter().all(|user| steps(user) == Some(first)).then_some(first)
}

/// What an old value became.
#[derive(Clone, Copy)]
enum Known {
    Value(ValueId),
    /// Positions that are known: start, start + 1, …
    Range {
        start: usize,
        len: usize,
    },
    /// The step's position, plus this.
    Step {
        offset: usize,
    },
}

struct Frozen<'g> {
    old: &'g Graph,
    lengths: Lengths,
    /// By old value.
    steps: Vec<Option<FakeQuant>>,
    new: Graph,
    names: HashSet<String>,
    /// By name.
    weights: HashMap<String, ValueId>,
    known: BTreeMap<Sym, usize>,
    map: HashMap<ValueId, Known>,
    cut: &'static str,
    position: Option<ValueId>,
    slot: Option<ValueId>,
}

impl Frozen<'_> {
    fn cut(&mut self, entry: &Entry) -> Result<(), String> {
        let place = |id: ValueId, message: String| format!("{}: {message}", self.old.value(id).name);
        let order = self.old.order(entry);
        self.map.clear();
        let mut inputs = Vec::new();
        for port in &entry.inputs {
            let ty = &self.old.value(port.value).ty;
            let mut ty = Type { dtype: ty.dtype, shape: self.dims(&ty.shape).map_err(|m| place(port.value, m))? };
            if matches!(port.role(), PortRole::Past(_)) && self.lengths.update == Update::Step {
                ty.shape[2] = self.lengths.target.into();
            }
            let rank = ty.shape.len();
            let fed = self.push(format!("{}.{}", self.cut, port.name), ty.clone(), Def::Input);
            inputs.push(Port { name: port.name.clone(), value: fed });
            let known = match (ty.dtype, rank) {
                (crate::ir::ty::DType::F32, 3) => {
                    let name = self.new.value(fed).name.clone();
                    self.op(&name, Op::Reshape(ty.shape[1..].to_vec()), &[fed])?
                }
                _ => fed,
            };
            // What is rounded where it is made comes rounded, and the entry says so.
            let known = match self.old.op(port.value) {
                Some(op @ Op::FakeQuant(_)) => {
                    self.op(&format!("{}.{}.rounded", self.cut, port.name), op.clone(), &[known])?
                }
                _ => known,
            };
            self.map.insert(port.value, Known::Value(known));
        }
        for id in order {
            if !self.map.contains_key(&id) {
                let known = self.value(id).map_err(|message| format!("{}: {message}", self.old.value(id).name))?;
                self.map.insert(id, known);
            }
        }
        if let Some(position) = self.position {
            inputs.insert(1, Port::new(PortRole::Position, position));
        }
        if let Some(slot) = self.slot {
            inputs.insert(1, Port::new(PortRole::Slot, slot));
        }
        let outputs = entry.outputs.iter().map(|port| match self.map[&port.value] {
            Known::Value(value) => Ok(Port { name: port.name.clone(), value }),
            Known::Range { .. } | Known::Step { .. } => Err(format!("{}: positions are no output", port.name)),
        });
        let outputs = outputs.collect::<Result<Vec<Port>, String>>()?;
        self.new.entries.push(Entry { name: entry.name.clone(), inputs, outputs, fixed: BTreeMap::new() });
        Ok(())
    }

    fn dim(&self, dim: &Dim) -> Result<usize, String> {
        dim.resolve(&self.known).ok_or_else(|| format!("its length {dim} does not follow from those given"))
    }

    fn dims(&self, shape: &[Dim]) -> Result<Vec<Dim>, String> {
        shape.iter().map(|dim| Ok(self.dim(dim)?.into())).collect()
    }

    fn push(&mut self, name: String, ty: Type, def: Def) -> ValueId {
        let mut unique = name.clone();
        let mut count = 0;
        while !self.names.insert(unique.clone()) {
            count += 1;
            unique = if count == 1 { format!("{}.{name}", self.cut) } else { format!("{}.{name}_{count}", self.cut) };
        }
        self.new.values.push(Value { name: unique, ty, def });
        ValueId(self.new.values.len() - 1)
    }

    /// A new value; a shape that does not fit is refused.
    fn op(&mut self, name: &str, op: Op, args: &[ValueId]) -> Result<ValueId, String> {
        let types: Vec<&Type> = args.iter().map(|arg| &self.new.value(*arg).ty).collect();
        let ty = op.infer(&types).map_err(|message| format!("{op}: {message}"))?;
        Ok(self.push(name.to_owned(), ty, Def::Op(op, args.to_vec())))
    }

    fn weight(&mut self, weight: Weight) -> ValueId {
        if let Some(known) = self.weights.get(&weight.name) {
            return *known;
        }
        let (name, ty) = (weight.name.clone(), Type::f32(weight.shape.iter().copied()));
        let id = self.new.weights.push(weight);
        let value = self.push(name.clone(), ty, Def::Weight(id));
        self.weights.insert(name, value);
        value
    }

    fn weight_of(&self, value: ValueId) -> Option<WeightId> {
        self.new.weight_of(value)
    }

    /// A weight of these floats, already rounded to steps where there are any.
    fn table(&mut self, name: String, shape: Vec<usize>, floats: &[f32], steps: Option<FakeQuant>) -> ValueId {
        let mut weight = Weight::stored(name, shape, floats);
        if let Some(steps) = steps {
            weight.data = WeightData::Derived(Derive::Steps(steps), Box::new(weight.data));
        }
        self.weight(weight)
    }

    fn value(&mut self, id: ValueId) -> Result<Known, String> {
        let old = self.old;
        let Value { name, ty, def } = old.value(id);
        let (op, args) = match def {
            Def::Input => return Err("it is needed and not among the inputs".to_owned()),
            Def::Const(_) => return Ok(Known::Value(self.constant(name, def))),
            Def::Weight(weight) => return Ok(Known::Value(self.weight(old.weights.get(*weight).clone()))),
            Def::Op(op, args) => (op, args),
        };
        match op {
            Op::Positions { start, len } if start.symbols().contains(&PAST) => {
                return match self.dim(len)? {
                    1 => Ok(Known::Step { offset: start.known() }),
                    n => Err(format!("expected one position a step, found {n}")),
                };
            }
            Op::Positions { start, len } => return Ok(Known::Range { start: self.dim(start)?, len: self.dim(len)? }),
            Op::Embed => return self.embed(id, args).map(Known::Value),
            Op::Mask { .. } | Op::RelativeBias { .. } => return self.by_length(id, op, args).map(Known::Value),
            Op::MatMul
            | Op::Linear
            | Op::Binary(_)
            | Op::Unary(_)
            | Op::Softmax
            | Op::Mean { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Conv { .. }
            | Op::Conv2d { .. }
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Slice { .. }
            | Op::Transpose(_)
            | Op::Concat { .. }
            | Op::Select
            | Op::Rope(_)
            | Op::PaddingMask { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_)
            | Op::Attention { .. } => {}
        }
        let mut new_args = Vec::new();
        for arg in args {
            match self.map[arg] {
                Known::Value(value) => new_args.push(value),
                Known::Range { .. } | Known::Step { .. } => return Err(format!("{op} of positions; expand it before")),
            }
        }
        if let Op::FakeQuant(steps) = op
            && let Some(weight) = self.weight_of(new_args[0])
        {
            return Ok(Known::Value(self.rounded(new_args[0], weight, *steps)));
        }
        if !new_args.is_empty()
            && new_args.iter().all(|arg| !matches!(self.new.value(*arg).def, Def::Op(..) | Def::Input))
        {
            return self.folded(name, op, &new_args).map(Known::Value);
        }
        if let (Op::Concat { axis: 2 }, &[past, new]) = (op, &new_args[..])
            && self.lengths.update == Update::Step
            && self.is_past(args[0])
        {
            let slot = self.slot();
            return self.op(name, Op::Select, &[slot, new, past]).map(Known::Value);
        }
        let resized = op.with_lengths(|dim| Ok::<Dim, String>(self.dim(dim)?.into()))?;
        let batchless = |dims: Vec<Dim>| if loses_batch(dims.len()) { dims[1..].to_vec() } else { dims };
        let op = match (&resized, args.first().is_some_and(|x| loses_batch(old.value(*x).ty.shape.len()))) {
            (Op::Reshape(to), _) => Op::Reshape(batchless(to.clone())),
            (Op::Broadcast(to), _) => Op::Broadcast(batchless(to.clone())),
            (Op::Conv { stride, pad, length }, true) => {
                let out = self.with_batch(name, Op::Conv { stride: *stride, pad: *pad, length: None }, &new_args)?;
                let n = self.new.value(out).ty.shape[1].literal().expect("all lengths are known");
                self.known.extend(length.map(|sym| (sym, n)));
                return Ok(Known::Value(out));
            }
            (Op::GroupNorm { .. }, true) => return self.with_batch(name, resized, &new_args).map(Known::Value),
            (resized, true) => resized.without_batch().ok_or("it works along the batch")?,
            (resized, false) => resized.clone(),
        };
        if let (Op::Reshape(to) | Op::Broadcast(to), [x]) = (&op, &new_args[..])
            && *to == self.new.value(*x).ty.shape
        {
            return Ok(Known::Value(*x));
        }
        let new = self.op(name, op, &new_args)?;
        let expected = batchless(self.dims(&ty.shape)?);
        let found = &self.new.value(new).ty.shape;
        // The past that a step writes itself has a place more than the one that its token stands behind.
        match *found == expected || self.lengths.update == Update::Step && self.is_past(id) {
            true => Ok(Known::Value(new)),
            false => Err(format!("expected {}, found {}", Type::f32(expected), self.new.value(new).ty)),
        }
    }

    fn constant(&mut self, name: &str, def: &Def) -> ValueId {
        if let Some(known) = self.weights.get(name) {
            return *known;
        }
        let value = self.push(name.to_owned(), Type::f32([0usize; 0]), def.clone());
        self.weights.insert(name.to_owned(), value);
        value
    }

    /// An op whose first argument needs its batch.
    fn with_batch(&mut self, name: &str, op: Op, args: &[ValueId]) -> Result<ValueId, String> {
        let source = match (self.new.op(args[0]), self.new.args(args[0])) {
            // An input that just lost it.
            (Some(Op::Reshape(_)), &[source]) if self.new.value(source).ty.shape.len() == 3 => source,
            _ => {
                let mut shape = vec![Dim::from(1)];
                shape.extend(self.new.value(args[0]).ty.shape.iter().cloned());
                self.op(&format!("{name}.batched"), Op::Reshape(shape), &[args[0]])?
            }
        };
        let out = self.op(&format!("{name}.of_batch"), op, &[&[source], &args[1..]].concat())?;
        let shape = self.new.value(out).ty.shape[1..].to_vec();
        self.op(name, Op::Reshape(shape), &[out])
    }

    fn rounded(&mut self, value: ValueId, weight: WeightId, steps: FakeQuant) -> ValueId {
        let weight = self.new.weights.get(weight);
        if matches!(&weight.data, WeightData::Derived(Derive::Steps(known), _) if *known == steps) {
            return value;
        }
        let name = format!("{}.rounded", weight.name);
        let data = WeightData::Derived(Derive::Steps(steps), Box::new(weight.data.clone()));
        let weight = Weight { name, shape: weight.shape.clone(), data };
        self.weight(weight)
    }

    /// What no input reaches, computed now.
    fn folded(&mut self, name: &str, op: &Op, args: &[ValueId]) -> Result<ValueId, String> {
        let mut alone = Graph { values: Vec::new(), weights: self.new.weights.clone(), entries: Vec::new() };
        let ids: Vec<ValueId> = args
            .iter()
            .map(|arg| {
                alone.values.push(self.new.value(*arg).clone());
                ValueId(alone.values.len() - 1)
            })
            .collect();
        let op = op.with_lengths(|dim| Ok::<Dim, String>(self.dim(dim)?.into()))?;
        let types: Vec<&Type> = ids.iter().map(|id| &alone.value(*id).ty).collect();
        let ty = op.infer(&types)?;
        let dropped = if ty.shape.len() == 3 && ty.shape[0].literal() == Some(1) { 1 } else { 0 };
        alone.values.push(Value { name: name.to_owned(), ty, def: Def::Op(op, ids) });
        let value = ValueId(alone.values.len() - 1);
        let port = Port { name: "y".to_owned(), value };
        let entry = Entry { name: "y".into(), inputs: Vec::new(), outputs: vec![port], fixed: BTreeMap::new() };
        alone.entries.push(entry);
        let out = Interpreter::new(&alone).call("y", &BTreeMap::new()).map_err(|error| error.to_string())?;
        let tensor = &out["y"];
        let floats = tensor.as_f32().ok_or("expected floats")?;
        Ok(self.table(name.to_owned(), tensor.shape()[dropped..].to_vec(), floats, None))
    }

    fn embed(&mut self, id: ValueId, args: &[ValueId]) -> Result<ValueId, String> {
        let name = &self.old.value(id).name.clone();
        let Known::Value(table) = self.map[&args[1]] else { return Err("positions are no table".to_owned()) };
        match self.map[&args[0]] {
            Known::Value(ids) => {
                let count: usize = self.new.value(ids).ty.shape.iter().filter_map(Dim::literal).product();
                let flat = match self.new.value(ids).ty.shape.len() {
                    1 => ids,
                    _ => self.op(&format!("{name}.ids"), Op::Reshape(vec![count.into()]), &[ids])?,
                };
                self.op(name, Op::Embed, &[flat, table])
            }
            Known::Range { start, len } => self.rows(table, start, len),
            Known::Step { offset } => {
                let rows = self.rows(table, offset, self.lengths.target)?;
                let position = self.position();
                self.op(name, Op::Embed, &[position, rows])
            }
        }
    }

    /// Whether an old value is the past of some layer, rounded or not.
    fn is_past(&self, id: ValueId) -> bool {
        let value = match self.old.op(id) {
            Some(Op::FakeQuant(_)) => self.old.args(id)[0],
            _ => id,
        };
        let length = self.old.value(value).ty.shape.get(2).and_then(Dim::symbol);
        self.old.value(value).def == Def::Input && length == Some(PAST)
    }

    fn slot(&mut self) -> ValueId {
        match self.slot {
            Some(slot) => slot,
            None => {
                let slot = self.push(SLOT.to_owned(), Type::i64([1, 1, self.lengths.target, 1]), Def::Input);
                self.slot = Some(slot);
                slot
            }
        }
    }

    fn position(&mut self) -> ValueId {
        match self.position {
            Some(position) => position,
            None => {
                let position = self.push(POSITION.to_owned(), Type::i64([1usize]), Def::Input);
                self.position = Some(position);
                position
            }
        }
    }

    /// Some rows of a table, rounded as it is.
    fn rows(&mut self, table: ValueId, start: usize, len: usize) -> Result<ValueId, String> {
        let id = self.weight_of(table).ok_or("expected a table that is a weight")?;
        let weight = self.new.weights.get(id).clone();
        let [count, width] = weight.matrix();
        if start + len > count {
            return Err(format!("expected at least {} rows in {}, found {count}", start + len, weight.name));
        }
        let steps = match &weight.data {
            WeightData::Derived(Derive::Steps(steps), _) => Some(*steps),
            _ => None,
        };
        let mut floats = Vec::new();
        weight.rows(start..start + len, &mut floats).map_err(|error| error.to_string())?;
        Ok(self.table(format!("{}.{start}+{len}", weight.name), vec![len, width], &floats, steps))
    }

    /// A mask or a bias by distance: of the encoder as it is; of the decoder's own keys, a table by position.
    fn by_length(&mut self, id: ValueId, op: &Op, args: &[ValueId]) -> Result<ValueId, String> {
        let (name, steps) = (self.old.value(id).name.clone(), self.steps[id.0]);
        let (start, q, k) = match op {
            Op::Mask { start, q, k, .. } | Op::RelativeBias { start, q, k, .. } => (start, q, k),
            _ => unreachable!("the caller chose these two"),
        };
        let (heads, table) = match args {
            [] => (None, Vec::new()),
            [table, ..] => {
                let Known::Value(table) = self.map[table] else { return Err("positions are no table".to_owned()) };
                let id = self.weight_of(table).ok_or("expected a table that is a weight")?;
                let weight = self.new.weights.get(id);
                (Some(weight.matrix()[1]), weight.read().map_err(|error| error.to_string())?)
            }
        };
        let cell = |head: usize, query: usize, key: usize| match op {
            Op::Mask { visible, hidden, .. } => {
                if visible.sees(query, key) {
                    0.0
                } else {
                    *hidden
                }
            }
            Op::RelativeBias { buckets, max_distance, bidirectional, .. } => {
                let distance = key as i64 - query as i64;
                let bucket = relative_bucket(distance, *buckets, *max_distance, *bidirectional);
                table[bucket * heads.unwrap_or(1) + head]
            }
            _ => unreachable!("the caller chose these two"),
        };
        let hidden = match op {
            Op::Mask { hidden, .. } if !hidden.is_finite() => {
                return Err(format!("expected a finite mask, found {hidden}"));
            }
            Op::Mask { hidden, .. } => *hidden,
            _ => 0.0,
        };
        let keys = self.dim(k)?;
        let count = heads.unwrap_or(1);
        if !(start.symbols().contains(&PAST) && k.symbols().contains(&PAST)) {
            let (start, queries) = (self.dim(start)?, self.dim(q)?);
            let mut floats = Vec::with_capacity(count * queries * keys);
            for head in 0..count {
                for i in 0..queries {
                    floats.extend((0..keys).map(|key| cell(head, start + i, key)));
                }
            }
            let shape = heads.map_or(vec![queries, keys], |heads| vec![1, heads, queries, keys]);
            return Ok(self.table(format!("{name}.{queries}x{keys}"), shape, &floats, steps));
        }
        // The past, of which the places from the position on are empty; the token itself is the last key, or in its place.
        let Lengths { target, update, .. } = self.lengths;
        if keys != target || self.dim(q)? != 1 {
            return Err(format!("expected one query and {target} keys, found {} and {keys}", self.dim(q)?));
        }
        let mut floats = Vec::with_capacity(target * count * keys);
        for position in 0..target {
            for head in 0..count {
                floats.extend((0..keys).map(|slot| match update == Update::Caller && slot + 1 == keys {
                    true => cell(head, position, position),
                    false if update == Update::Step && slot == position => cell(head, position, position),
                    false if slot < position => cell(head, position, slot),
                    false => hidden,
                }));
            }
        }
        let rows = self.table(format!("{name}.by_position.{target}"), vec![target, count * keys], &floats, steps);
        let position = self.position();
        let row = self.op(&format!("{name}.row"), Op::Embed, &[position, rows])?;
        let row = match steps {
            Some(steps) => self.op(&format!("{name}.row.rounded"), Op::FakeQuant(steps), &[row])?,
            None => row,
        };
        match heads {
            None => Ok(row),
            Some(heads) => self.op(&name, Op::Reshape([1, heads, 1, keys].map(Dim::from).to_vec()), &[row]),
        }
    }
}
