//! The nodes of one graph or branch as they are written: their names, and the lengths and positions that they are made of.

use std::collections::{BTreeMap, HashMap, HashSet};

use graph::{Def, Dim, Graph, Sym, ValueId, WeightId};
use onnx::make::{int, node};
use onnx::proto::tensor_proto::DataType;
use onnx::proto::{AttributeProto, NodeProto};
use onnx::tensors::Layout;

use super::file::Lowering;

/// What a masked score is added to; two of them are still finite.
pub(super) const MASKED: f32 = f32::MIN / 2.0;

/// Nodes of one graph or branch.
pub(super) struct Block<'a, 'g> {
    pub(super) outer: &'a mut Lowering<'g>,
    pub(super) fixed: &'a BTreeMap<Sym, usize>,
    prefix: &'a str,
    pub(super) inputs: &'a [(ValueId, String)],
    pub(super) names: HashMap<ValueId, String>,
    pub(super) nodes: Vec<NodeProto>,
    // Lengths, positions and the like, by what they are.
    made: HashMap<String, String>,
    // Symbols that a convolution made: its result, and the axis.
    pub(super) lengths: HashMap<Sym, (String, i64)>,
    // Dynamically quantized values: codes, scale, zero point.
    pub(super) quantized: HashMap<ValueId, [String; 3]>,
    // Values that products round: the value before, and the block.
    pub(super) rounded_inside: HashMap<ValueId, (String, usize)>,
    // What is made here.
    pub(super) wanted: HashSet<ValueId>,
    // Results of joined products that come later in the order.
    pub(super) split: HashMap<ValueId, String>,
    // Results of fused attentions as [b, q, h·d].
    pub(super) merged: HashMap<ValueId, String>,
    pub(super) place: String,
    counts: HashMap<String, usize>,
}

impl<'a, 'g> Block<'a, 'g> {
    /// Without nodes. `wanted`: the values that it makes.
    pub(super) fn new(
        outer: &'a mut Lowering<'g>,
        inputs: &'a [(ValueId, String)],
        fixed: &'a BTreeMap<Sym, usize>,
        wanted: HashSet<ValueId>,
        prefix: &'a str,
    ) -> Block<'a, 'g> {
        Block {
            outer,
            fixed,
            prefix,
            inputs,
            names: inputs.iter().cloned().collect(),
            nodes: Vec::new(),
            made: HashMap::new(),
            lengths: HashMap::new(),
            quantized: HashMap::new(),
            rounded_inside: HashMap::new(),
            wanted,
            split: HashMap::new(),
            merged: HashMap::new(),
            place: String::new(),
            counts: HashMap::new(),
        }
    }

    pub(super) fn graph(&self) -> &Graph {
        self.outer.graph
    }

    pub(super) fn shape(&self, id: ValueId) -> Vec<Dim> {
        self.graph().value(id).ty.shape.iter().map(|d| d.fix(self.fixed)).collect()
    }

    /// A name for a result of this value's nodes.
    pub(super) fn fresh(&mut self, hint: &str) -> String {
        let base = format!("{}{}/{hint}", self.prefix, self.place);
        let count = self.counts.entry(base.clone()).or_default();
        *count += 1;
        if *count == 1 { base } else { format!("{base}_{count}") }
    }

    pub(super) fn emit_with(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(op);
        self.nodes.push(node(op, inputs, &[&name], attributes));
        name
    }

    pub(super) fn emit(&mut self, op: &str, inputs: &[&str]) -> String {
        self.emit_with(op, inputs, Vec::new())
    }

    pub(super) fn cast(&mut self, x: &str, to: DataType) -> String {
        self.emit_with("Cast", &[x], vec![int("to", to as i64)])
    }

    pub(super) fn scaled(&mut self, op: &str, x: &str, by: f32) -> String {
        let by = self.outer.float_scalar(by);
        self.emit(op, &[x, &by])
    }

    pub(super) fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> String {
        let axes = self.outer.ints(axes);
        self.emit("Unsqueeze", &[x, &axes])
    }

    /// Makes something once a block, under a place of its own.
    pub(super) fn once(
        &mut self,
        what: String,
        make: impl FnOnce(&mut Self) -> Result<String, String>,
    ) -> Result<String, String> {
        if let Some(name) = self.made.get(&what) {
            return Ok(name.clone());
        }
        let place = std::mem::replace(&mut self.place, what.clone());
        let name = make(self);
        self.place = place;
        self.made.insert(what, name.clone()?);
        name
    }

    /// Gives a value the name of an output: its node has it from then on, unless it is an input or another output as well.
    ///
    /// An `Identity` instead would copy a cache at every step.
    pub(super) fn name_output(&mut self, id: ValueId, name: &str, named: &HashSet<&str>) -> Result<(), String> {
        let have = self.name(id)?;
        if have == name {
            return Ok(());
        }
        let is_made = self.nodes.iter().any(|node| node.output.contains(&have));
        if !is_made || named.contains(have.as_str()) {
            self.nodes.push(node("Identity", &[&have], &[name], Vec::new()));
            return Ok(());
        }
        let uses = self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        uses.chain(self.names.values_mut()).filter(|used| **used == have).for_each(|used| name.clone_into(used));
        Ok(())
    }

    pub(super) fn name(&mut self, id: ValueId) -> Result<String, String> {
        if let Some(name) = self.names.get(&id) {
            return match self.rounded_inside.contains_key(&id) {
                false => Ok(name.clone()),
                true => {
                    Err(format!("{}: rounded for a product, and read by something else", self.graph().value(id).name))
                }
            };
        }
        let value = self.graph().value(id);
        match value.def {
            Def::Const(c) => Ok(self.outer.float_scalar(c)),
            Def::Weight(weight) => self.weight(weight),
            Def::Input => Err(format!("{} is neither fed nor empty", value.name)),
            Def::Op(..) => Err(format!("{} is read before it is made", value.name)),
        }
    }

    /// A float weight as f32.
    pub(super) fn weight(&mut self, id: WeightId) -> Result<String, String> {
        let name = self.graph().weights.get(id).name.clone();
        self.outer.weights.insert(id);
        match self.outer.layouts.get(&id) {
            Some(Layout::Float(graph::FloatType::F16)) => {
                Ok(self.outer.prepare("Cast", &[&name], "f32", vec![int("to", DataType::Float as i64)]))
            }
            Some(Layout::Float(_)) => Ok(name),
            other => Err(format!("{name}: {other:?} is read by neither a Linear nor an Embed")),
        }
    }

    /// `i64[1]`: a length known when the model runs, or a constant.
    pub(super) fn length(&mut self, dim: &Dim) -> Result<String, String> {
        let dim = dim.fix(self.fixed);
        if let Some(n) = dim.literal() {
            return Ok(self.outer.ints(&[n as i64]));
        }
        self.once(format!("length({dim})"), |b| {
            // A length may be told as a whole where its symbols are not.
            if dim.symbol().is_none()
                && let Some((name, axis)) = b.told(&dim)
            {
                return Ok(b.emit_with("Shape", &[&name], vec![int("start", axis), int("end", axis + 1)]));
            }
            let mut total: Option<String> = (dim.known() > 0).then(|| b.outer.ints(&[dim.known() as i64]));
            for sym in dim.symbols() {
                let one = b.symbol(*sym)?;
                total = Some(match total {
                    Some(sum) => b.emit("Add", &[&sum, &one]),
                    None => one,
                });
            }
            Ok(total.expect("a dimension that is no literal has a symbol"))
        })
    }

    /// The first input that has an axis of a length, and which.
    fn told(&self, length: &Dim) -> Option<(String, i64)> {
        self.inputs.iter().find_map(|(id, name)| {
            let axis = self.outer.graph.value(*id).ty.shape.iter().position(|dim| dim == length)?;
            Some((name.clone(), axis as i64))
        })
    }

    /// `i64[1]`: the length of a symbol, read off the first input that has it, or off the convolution that made it.
    pub(super) fn symbol(&mut self, sym: Sym) -> Result<String, String> {
        self.once(sym.0.to_owned(), |b| {
            let found = b.told(&sym.into()).or_else(|| b.lengths.get(&sym).cloned());
            let (name, axis) = found.ok_or_else(|| format!("nothing tells the length `{}`", sym.0))?;
            Ok(b.emit_with("Shape", &[&name], vec![int("start", axis), int("end", axis + 1)]))
        })
    }

    /// `i64[n]`: start, start + 1, ...
    pub(super) fn positions(&mut self, start: Option<&Dim>, count: &Dim) -> Result<String, String> {
        let start = start.map(|s| s.fix(self.fixed)).filter(|s| s.literal() != Some(0));
        let text = start.as_ref().map_or("0".to_owned(), Dim::to_string);
        self.once(format!("positions({text}, {})", count.fix(self.fixed)), |b| {
            let count = b.length(count)?;
            let (zero, one) = (b.outer.int_scalar(0), b.outer.int_scalar(1));
            let count = b.emit("Squeeze", &[&count]);
            let range = b.emit("Range", &[&zero, &count, &one]);
            match &start {
                None => Ok(range),
                Some(start) => {
                    let start = b.length(start)?;
                    Ok(b.emit("Add", &[&range, &start]))
                }
            }
        })
    }

    /// `i64[q,k]`: position of the key minus position of the query.
    pub(super) fn distances(&mut self, start: &Dim, q: &Dim, k: &Dim) -> Result<String, String> {
        self.once(format!("distances({start}, {q}, {k})"), |b| {
            let queries = b.positions(Some(start), q)?;
            let keys = b.positions(None, k)?;
            let queries = b.unsqueeze(&queries, &[1]);
            Ok(b.emit("Sub", &[&keys, &queries]))
        })
    }

    pub(super) fn slice(&mut self, x: &str, axis: i64, start: usize, step: usize, len: &Dim) -> Result<String, String> {
        let [first, axis, stride] = [start as i64, axis, step as i64].map(|i| self.outer.ints(&[i]));
        // One past the last place: start + (len - 1) · step + 1.
        let end = match len.fix(self.fixed).literal() {
            Some(n) => self.outer.ints(&[(start + n.saturating_sub(1) * step + n.min(1)) as i64]),
            None => {
                let len = self.length(len)?;
                let [one, step, rest] = [1, step as i64, start as i64 + 1].map(|i| self.outer.ints(&[i]));
                let last = self.emit("Sub", &[&len, &one]);
                let last = self.emit("Mul", &[&last, &step]);
                self.emit("Add", &[&last, &rest])
            }
        };
        Ok(self.emit("Slice", &[x, &first, &end, &axis, &stride]))
    }
}
