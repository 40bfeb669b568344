//! Places where a factor for each channel moves from one weight into the next and the model stays the same: outliers leave
//! an activation for the weights that read it, which makes both easier to round.
//!
//! | place | divided by s | multiplied by s | why nothing changes |
//! | --- | --- | --- | --- |
//! | [`Kind::Norm`] | element j of the gain and the bias | column j of each Linear that reads the norm | a product of two columns |
//! | [`Kind::FeedForward`] | row j of `wi` and its bias | column j of `wo` | `relu(x / s) = relu(x) / s`; gated: `act(a) · (b / s)` |
//! | [`Kind::Values`] | row j of `v` and its bias | columns of `o` | attention mixes keys, never channels |
//!
//! [`places`] finds them from the ops alone; [`refused`] tells where one was looked for and is not. [`apply`] replaces
//! recipes of weights and touches no node.
//!
//! # What else sees the factors
//!
//! What an entry hands over to another is divided too: `encoder_hidden` by the factors of the encoder's last norm, cached
//! values by those of [`Kind::Values`]. Both sides belong to one artifact, so its results stay; but its hidden states are
//! no longer the checkpoint's.
//!
//! # Which factors
//!
//! Powers of two ([`power_of_two`]) cost at most √2 of the wanted factor. For them every product is exact, barring
//! underflow: the float model stays bit-equal, and a weight stored in f16 or bf16 still fits its type. Other factors round
//! each weight once more, which moves logits by f32 noise.

use std::collections::HashMap;

use graph::arithmetic;
use graph::ir::properties::Elements;
use graph::{
    Binary, Def, Derive, Dim, Graph, Op, PAST, Port, PortRole, Unary, ValueId, WeightData, WeightError, WeightId,
};

use crate::settings::Equalize;

/// Factors lie between 1 / `LIMIT` and `LIMIT`: beyond it, a channel counts as dead rather than as an outlier, and its
/// weights would leave the range of f16.
pub const LIMIT: f32 = 1024.0;

/// What divides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Gain and bias of a norm that only Linears read.
    Norm,
    /// The first Linear of a feed-forward layer, or the linear branch of a gated one.
    FeedForward,
    /// The value projection of an attention.
    Values,
}

/// A side of [`graph::Weight::matrix`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Axis {
    /// Outputs of a Linear.
    Rows,
    /// Inputs of a Linear; elements of a vector.
    Columns,
}

/// The channels of a weight's rows or columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The weight.
    pub weight: WeightId,
    /// Which side is scaled.
    pub axis: Axis,
    /// For each row or column its channel; `None` keeps its factor of 1.
    pub channels: Vec<Option<usize>>,
}

/// Where `width` factors move exactly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// What divides.
    pub kind: Kind,
    /// Name of the weight that is divided.
    pub name: String,
    /// Channels, each with a factor of its own.
    pub width: usize,
    /// Divided by the factors: first the gain or matrix, then the bias if there is one.
    pub divided: Vec<Part>,
    /// Multiplied by them: the weights of all Linears that read [`Place::input`], alike in their channels.
    pub multiplied: Vec<Part>,
    /// The value that shrinks, whose channels are to be observed: what the multiplied weights read.
    pub input: ValueId,
}

impl Place {
    /// The largest of what was observed for the columns of [`Place::input`], for each channel.
    ///
    /// With fewer key heads than query heads a channel of `v` is several columns of the input.
    pub fn per_channel(&self, of_columns: &[f32]) -> Vec<f32> {
        let mut max = vec![0.0; self.width];
        self.multiplied.iter().take(1).for_each(|part| part.fold_max(of_columns, &mut max));
        max
    }

    /// `max_i |w_ij|` of each channel over all multiplied weights.
    pub fn consumer_max(&self, graph: &Graph) -> Result<Vec<f32>, WeightError> {
        maxima(graph, &self.multiplied, self.width)
    }

    /// `max_j |w_ij|` of each channel of the divided matrix, or the elements of the divided gain. Biases do not count.
    pub fn producer_max(&self, graph: &Graph) -> Result<Vec<f32>, WeightError> {
        maxima(graph, &self.divided[..1], self.width)
    }
}

impl Part {
    fn fold_max(&self, values: &[f32], max: &mut [f32]) {
        for (channel, x) in self.channels.iter().zip(values) {
            if let Some(channel) = channel {
                max[*channel] = max[*channel].max(x.abs());
            }
        }
    }

    fn derive(&self, factor: impl Fn(usize) -> f32) -> Derive {
        let factors = self.channels.iter().map(|channel| channel.map_or(1.0, &factor)).collect();
        match self.axis {
            Axis::Rows => Derive::Rows(factors),
            Axis::Columns => Derive::Columns(factors),
        }
    }
}

fn maxima(graph: &Graph, parts: &[Part], width: usize) -> Result<Vec<f32>, WeightError> {
    let (mut max, mut row) = (vec![0.0; width], Vec::new());
    for part in parts {
        let weight = graph.weights.get(part.weight);
        for i in 0..weight.matrix()[0] {
            weight.rows(i..i + 1, &mut row)?;
            match part.axis {
                Axis::Columns => part.fold_max(&row, &mut max),
                Axis::Rows => {
                    if let Some(channel) = part.channels[i] {
                        max[channel] = row.iter().fold(max[channel], |max, x| max.max(x.abs()));
                    }
                }
            }
        }
    }
    Ok(max)
}

/// Factors for one place.
#[derive(Clone, PartialEq, Debug)]
pub struct Chosen {
    /// Where they move.
    pub place: Place,
    /// One per channel; all 1 where none is better.
    pub factors: Vec<f32>,
    /// Error of the outputs of the quantized Linears that read the place, without the factors and with them; `awq` alone
    /// measures it.
    pub errors: Option<[f64; 2]>,
}

impl Chosen {
    /// Whether a factor is not 1.
    pub fn moves(&self) -> bool {
        self.factors.iter().any(|s| *s != 1.0)
    }
}

/// Every place of a graph, in the order of its values. Of the graph after the passes and before quantization.
pub fn places(graph: &Graph) -> Vec<Place> {
    survey(graph).into_iter().filter_map(|(_, found)| found.ok()).collect()
}

/// Norms, feed-forward layers and attentions where no factor can move: the value's name, and why.
pub fn refused(graph: &Graph) -> Vec<(String, String)> {
    let name = |id: ValueId| graph.value(id).name.clone();
    survey(graph).into_iter().filter_map(|(id, found)| Some((name(id), found.err()?))).collect()
}

/// Divides and multiplies. Places of one graph may be applied one after another, in any order.
///
/// Panics unless `s` has one finite factor above 0 for each channel.
pub fn apply(graph: &mut Graph, place: &Place, s: &[f32]) {
    assert_eq!(s.len(), place.width, "factors for {}", place.name);
    assert!(s.iter().all(|s| s.is_finite() && *s > 0.0), "factors for {}: {s:?}", place.name);
    for part in &place.divided {
        graph.weights.get_mut(part.weight).derive(part.derive(|channel| 1.0 / s[channel]));
    }
    for part in &place.multiplied {
        graph.weights.get_mut(part.weight).derive(part.derive(|channel| s[channel]));
    }
}

/// SmoothQuant (Xiao et al., arXiv 2211.10438, equation 4): `s_j = max|x_j|^α / max_i|w_ij|^(1-α)`.
///
/// `act_max`: of [`Place::input`] for each channel; `weight_max`: [`Place::consumer_max`]. `alpha`: 0 leaves all to the
/// weights, 1 all to the activation; the paper takes 0.5. A channel that one of them never uses gets 1.
pub fn smoothquant(act_max: &[f32], weight_max: &[f32], alpha: f32) -> Vec<f32> {
    let factor =
        |(x, w): (&f32, &f32)| bounded(*x, *w, arithmetic::powf(*x, alpha) / arithmetic::powf(*w, 1.0 - alpha));
    act_max.iter().zip(weight_max).map(factor).collect()
}

/// Cross-layer equalization (Nagel et al., arXiv 1906.04721, equation 11): `s_j = √(r1_j / r2_j)`, which makes both ranges
/// `√(r1_j · r2_j)`.
///
/// `producer_max`: [`Place::producer_max`]; `consumer_max`: [`Place::consumer_max`]. A dead channel gets 1.
pub fn equalized(producer_max: &[f32], consumer_max: &[f32]) -> Vec<f32> {
    producer_max.iter().zip(consumer_max).map(|(r1, r2)| bounded(*r1, *r2, (r1 / r2).sqrt())).collect()
}

/// The nearest powers of two, by ratio.
pub fn power_of_two(s: &[f32]) -> Vec<f32> {
    s.iter().map(|s| 2f32.powi(arithmetic::log2(*s).round() as i32)).collect()
}

/// The factors that are applied where `s` are wanted.
pub(crate) fn rounded(how: Equalize, s: Vec<f32>) -> Vec<f32> {
    if how.is_exact() { power_of_two(&s) } else { s }
}

fn bounded(a: f32, b: f32, s: f32) -> f32 {
    let is_alive = a > 0.0 && b > 0.0 && a.is_finite() && b.is_finite();
    if is_alive { s.clamp(1.0 / LIMIT, LIMIT) } else { 1.0 }
}

/// Each norm, feed-forward layer and attention: a place, or why not.
fn survey(graph: &Graph) -> Vec<(ValueId, Result<Place, String>)> {
    let mut uses: HashMap<WeightId, usize> = HashMap::new();
    let args = (0..graph.values.len()).flat_map(|index| graph.args(ValueId(index)));
    for weight in args.filter_map(|arg| graph.weight_of(*arg)) {
        *uses.entry(weight).or_default() += 1;
    }
    let survey = Survey { graph, users: graph.users(), uses };
    let each = (0..graph.values.len()).map(ValueId);
    each.filter_map(|id| Some((id, survey.at(id)?))).collect()
}

struct Survey<'g> {
    graph: &'g Graph,
    users: Vec<Vec<ValueId>>,
    /// Arguments that are this weight.
    uses: HashMap<WeightId, usize>,
}

/// A Linear, seen from where its result is used: `rows[j]` of its weight make channel j.
struct Branch {
    linear: ValueId,
    rows: Vec<usize>,
}

impl Survey<'_> {
    /// The place whose factors divide in `id`, if it is of a kind that can have one.
    fn at(&self, id: ValueId) -> Option<Result<Place, String>> {
        let args = self.graph.args(id);
        match self.graph.op(id)? {
            Op::RmsNorm { .. } | Op::LayerNorm { .. } => Some(self.norm(id)),
            Op::Attention { .. } => Some(self.values(id)),
            Op::Unary(function) => {
                let branch = self.branch(args[0]).filter(|_| self.is_read_by_linear(id))?;
                Some(match function {
                    Unary::Relu => self.feed_forward(id, branch),
                    other => Err(format!("{other:?} of x / s is not {other:?}(x) / s, and there is no linear branch")),
                })
            }
            Op::Binary(Binary::Mul) => {
                let branch = args.iter().rev().find_map(|arg| self.branch(*arg))?;
                let is_gate = args.iter().all(|arg| self.graph.op(*arg).is_some());
                (is_gate && self.is_read_by_linear(id)).then(|| self.feed_forward(id, branch))
            }
            _ => None,
        }
    }

    fn norm(&self, id: ValueId) -> Result<Place, String> {
        let [_, scales @ ..] = self.graph.args(id) else { return Err("has no gain".into()) };
        let gain = self.own_weight(scales[0], 1)?;
        let width = self.graph.weights.get(gain).len();
        let channels: Vec<Option<usize>> = (0..width).map(Some).collect();
        let part = |weight| Part { weight, axis: Axis::Columns, channels: channels.clone() };
        let weights = scales.iter().map(|scale| self.own_weight(*scale, 1)).collect::<Result<Vec<_>, _>>()?;
        let multiplied = self.readers(id, &channels)?;
        self.is_handed_over(id)?;
        let divided = weights.into_iter().map(part).collect();
        Ok(Place { kind: Kind::Norm, name: self.weight_name(gain), width, divided, multiplied, input: id })
    }

    /// `id`: what the second Linear reads.
    fn feed_forward(&self, id: ValueId, branch: Branch) -> Result<Place, String> {
        let width = branch.rows.len();
        let multiplied = self.readers(id, &(0..width).map(Some).collect::<Vec<_>>())?;
        self.is_handed_over(id)?;
        self.is_for(id, &branch)?;
        let divided = self.divided_rows(&[branch.linear], |rows| {
            let mut channels = vec![None; rows];
            branch.rows.iter().enumerate().for_each(|(channel, row)| channels[*row] = Some(channel));
            channels
        })?;
        let name = self.weight_name(divided[0].weight);
        Ok(Place { kind: Kind::FeedForward, name, width, divided, multiplied, input: id })
    }

    fn values(&self, attention: ValueId) -> Result<Place, String> {
        let graph = self.graph;
        let [q, k, v, ..] = graph.args(attention) else { return Err("has no values".into()) };
        let (mut way, mut sources) = (Vec::new(), Vec::new());
        self.trace(*v, &mut way, &mut sources)?;
        if let Some(both) = way.iter().find(|id| [q, k].contains(id)) {
            return Err(format!("{} is read as values and as keys or queries", self.name(*both)));
        }
        for id in &way {
            self.is_handed_over(*id)?;
            let stranger = self.users[id.0].iter().find(|user| **user != attention && !way.contains(user));
            if let Some(user) = stranger {
                return Err(format!("{} is also read by {}", self.name(*id), self.name(*user)));
            }
        }
        let mut end = attention;
        way.push(end);
        while !self.is_read_by_linear(end) {
            self.is_handed_over(end)?;
            match self.users[end.0][..] {
                [next] if self.moves(next) => end = next,
                _ => return Err(format!("{} is not only put in order for a Linear", self.name(end))),
            }
            way.push(end);
        }
        self.is_handed_over(end)?;
        let channels = self.channels(&way).ok_or("the channels of the values are not those of single columns")?;
        let channels: Vec<Option<usize>> = channels.into_iter().map(Some).collect();
        let multiplied = self.readers(end, &channels)?;
        let divided = self.divided_rows(&sources, |rows| (0..rows).map(Some).collect())?;
        let (name, width) = (self.weight_name(divided[0].weight), divided[0].channels.len());
        Ok(Place { kind: Kind::Values, name, width, divided, multiplied, input: end })
    }

    /// The values from `id` back to Linears, arguments first.
    fn trace(&self, id: ValueId, way: &mut Vec<ValueId>, sources: &mut Vec<ValueId>) -> Result<(), String> {
        if way.contains(&id) {
            return Ok(());
        }
        match self.graph.op(id) {
            Some(Op::Linear) => sources.push(id),
            Some(op) if matches!(op.elements(), Elements::Moved { from: 0 }) => {
                for arg in self.graph.args(id) {
                    self.trace(*arg, way, sources)?;
                }
            }
            None if self.is_past(id) => {}
            Some(_) | None => return Err(format!("values come from {}, which is no Linear", self.name(id))),
        }
        way.push(id);
        Ok(())
    }

    /// Whether a value is another one whose elements are put in order.
    fn moves(&self, id: ValueId) -> bool {
        let is_moved = |op: &Op| matches!(op.elements(), Elements::Moved { .. });
        self.graph.op(id).is_some_and(is_moved) && self.graph.args(id).len() == 1
    }

    /// Whether a value is what this graph gave in an earlier step: only ever an input `past.X`, of which some entry gives
    /// `present.X`.
    fn is_past(&self, id: ValueId) -> bool {
        let entries = &self.graph.entries;
        let given = |cache| {
            let present = PortRole::Present(cache).to_string();
            entries.iter().any(|entry| entry.output(&present).is_some())
        };
        let is_fed_back = |port: &&Port| matches!(port.role(), PortRole::Past(cache) if given(cache));
        let ports: Vec<_> = entries.iter().flat_map(|e| &e.inputs).filter(|port| port.value == id).collect();
        !ports.is_empty() && ports.iter().all(is_fed_back)
    }

    /// For each column of the last value of `way`, which begins at Linears and passes an attention: the row that made it.
    ///
    /// Elements of a Linear's result are numbered by their row and followed, with 2 for every length that is not known.
    fn channels(&self, way: &[ValueId]) -> Option<Vec<usize>> {
        let mut rows: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for id in way {
            let (shape, args) = (self.shape(*id), self.graph.args(*id));
            let count: usize = shape.iter().product();
            let followed = match (self.graph.op(*id), args) {
                (Some(Op::Linear), _) => (0..count).map(|i| i % shape[shape.len() - 1]).collect(),
                (Some(Op::Reshape(_)), [x]) => rows[x].clone(),
                (Some(Op::Transpose(perm)), [x]) => transposed(&rows[x], &self.shape(*x), perm),
                (Some(Op::Concat { axis: 2 }), parts) => {
                    // [b, h, n, d]: the parts of one head stand side by side.
                    let heads = shape[0] * shape[1];
                    let of_head = |head: usize, part: &ValueId| {
                        let len = rows[part].len() / heads;
                        rows[part][head * len..][..len].to_vec()
                    };
                    (0..heads).flat_map(|head| parts.iter().flat_map(move |part| of_head(head, part))).collect()
                }
                (Some(Op::Attention { .. }), [_, _, v, ..]) => mixed(&rows[v], &self.shape(*v), &shape)?,
                (None, _) => Vec::new(), // No past.
                _ => return None,
            };
            debug_assert_eq!(followed.len(), count);
            rows.insert(*id, followed);
        }
        let last = way.last()?;
        let width = *self.shape(*last).last()?;
        let mut places = rows[last].chunks(width.max(1));
        let first = places.next()?;
        places.all(|place| place == first).then(|| first.to_vec())
    }

    fn shape(&self, id: ValueId) -> Vec<usize> {
        let length = |dim: &Dim| dim.known() + 2 * dim.symbols().iter().filter(|sym| **sym != PAST).count();
        self.graph.value(id).ty.shape.iter().map(length).collect()
    }

    /// The Linear whose result, or some places of its last axis, a value is.
    fn branch(&self, id: ValueId) -> Option<Branch> {
        let graph = self.graph;
        let last = graph.value(id).ty.shape.len().checked_sub(1)?;
        match (graph.op(id)?, graph.args(id)) {
            (Op::Linear, _) => {
                let width = graph.value(id).ty.shape[last].literal()?;
                Some(Branch { linear: id, rows: (0..width).collect() })
            }
            (Op::Slice { axis, start, step, len }, [x]) if *axis == last && graph.op(*x) == Some(&Op::Linear) => {
                let rows = (0..len.literal()?).map(|i| start + i * step).collect();
                Some(Branch { linear: *x, rows })
            }
            _ => None,
        }
    }

    /// Whether `id` alone reads the rows of a branch. Errors: who else does.
    fn is_for(&self, id: ValueId, branch: &Branch) -> Result<(), String> {
        let of_slices = self.users[branch.linear.0].iter().filter(|user| self.users[user.0] == [id]);
        for shown in of_slices.chain([&branch.linear]) {
            self.is_handed_over(*shown)?;
        }
        let mut strangers = self.users[branch.linear.0].iter().filter(|user| **user != id).filter(|user| {
            let others = self.branch(**user).filter(|other| other.linear == branch.linear);
            let is_apart = |other: &Branch| !other.rows.iter().any(|row| branch.rows.contains(row));
            let is_this = |other: &Branch| other.rows == branch.rows && self.users[user.0] == [id];
            !others.is_some_and(|other| is_apart(&other) || is_this(&other))
        });
        let times = self.users[branch.linear.0].iter().filter(|user| **user == id).count();
        match strangers.next() {
            Some(user) => Err(format!("{} is also read by {}", self.name(branch.linear), self.name(*user))),
            None if times > 1 => Err(format!("{} is both factors", self.name(branch.linear))),
            None => Ok(()),
        }
    }

    /// Weight and bias of Linears that share them, with the channels of their rows.
    fn divided_rows(
        &self,
        linears: &[ValueId],
        channels: impl Fn(usize) -> Vec<Option<usize>>,
    ) -> Result<Vec<Part>, String> {
        let Some((first, others)) = linears.split_first() else { return Err("no Linear makes the values".into()) };
        let [_, scales @ ..] = self.graph.args(*first) else { return Err("a Linear without a weight".into()) };
        if let Some(other) = others.iter().find(|other| self.graph.args(**other)[1..] != *scales) {
            return Err(format!("{} and {} have different weights", self.name(*first), self.name(*other)));
        }
        let weights = scales.iter().map(|scale| self.own_weight(*scale, linears.len()));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let channels = channels(self.graph.weights.get(weights[0]).matrix()[0]);
        let part = |(place, weight)| {
            let axis = if place == 0 { Axis::Rows } else { Axis::Columns };
            Part { weight, axis, channels: channels.clone() }
        };
        Ok(weights.into_iter().enumerate().map(part).collect())
    }

    /// The weights of all Linears that read `id`. Errors: something else reads it too, or a weight is not theirs alone.
    fn readers(&self, id: ValueId, channels: &[Option<usize>]) -> Result<Vec<Part>, String> {
        let part = |user: &ValueId| match (self.graph.op(*user), self.graph.args(*user)) {
            (Some(Op::Linear), [x, scales @ ..]) if *x == id && !scales.contains(&id) => {
                let weight = self.own_weight(scales[0], 1)?;
                Ok(Part { weight, axis: Axis::Columns, channels: channels.to_vec() })
            }
            _ => Err(format!("{} reads it, which is no Linear", self.name(*user))),
        };
        match self.users[id.0].is_empty() {
            true => Err("no Linear reads it".into()),
            false => self.users[id.0].iter().map(part).collect(),
        }
    }

    fn is_read_by_linear(&self, id: ValueId) -> bool {
        self.users[id.0].iter().any(|user| self.graph.op(*user) == Some(&Op::Linear) && self.graph.args(*user)[0] == id)
    }

    /// The weight of a value. Errors: it is none, codes already, or read elsewhere than in `times` arguments.
    fn own_weight(&self, id: ValueId, times: usize) -> Result<WeightId, String> {
        let name = self.name(id);
        let Def::Weight(weight) = self.graph.value(id).def else {
            return Err(format!("{name} is computed, not a weight"));
        };
        match self.graph.weights.get(weight).data.base() {
            WeightData::Quantized(_) => Err(format!("{name} is quantized already")),
            _ if self.uses[&weight] != times => Err(format!("{name} has other uses")),
            _ => Ok(weight),
        }
    }

    /// Whether all that an entry gives of a value comes back into this graph, and nothing else comes in.
    /// Errors: the port where that is not so.
    fn is_handed_over(&self, id: ValueId) -> Result<(), String> {
        let entries = &self.graph.entries;
        let is_taken = entries.iter().any(|entry| entry.inputs.iter().any(|port| port.value == id));
        let mut outputs = entries.iter().flat_map(|entry| &entry.outputs).filter(|port| port.value == id).peekable();
        if is_taken && outputs.peek().is_none() && !self.is_past(id) {
            return Err(format!("{} is an input", self.name(id)));
        }
        let is_taken_back = |port: &Port| match port.role() {
            PortRole::Present(cache) => {
                let past = PortRole::Past(cache).to_string();
                entries.iter().any(|entry| entry.input(&past).is_some())
            }
            _ => false,
        };
        match outputs.find(|port| !is_taken && !is_taken_back(port)) {
            Some(port) => Err(format!("{} is the output {}", self.name(id), port.name)),
            None => Ok(()),
        }
    }

    fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    fn weight_name(&self, id: WeightId) -> String {
        self.graph.weights.get(id).name.clone()
    }
}

/// `result.shape[i] = shape[perm[i]]`.
fn transposed(x: &[usize], shape: &[usize], perm: &[usize]) -> Vec<usize> {
    let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let mut at = vec![0; perm.len()];
    let next = |_| {
        let from: usize = at.iter().zip(perm).map(|(i, axis)| i * strides[*axis]).sum();
        for (i, axis) in at.iter_mut().zip(perm).rev() {
            *i += 1;
            if *i < shape[*axis] {
                break;
            }
            *i = 0;
        }
        x[from]
    };
    (0..x.len()).map(next).collect()
}

/// `v[b,g,k,d] -> [b,h,q,d]`, where `h / g` query heads share a key head. `None`: the keys of a head differ in their
/// channels, or there are none.
fn mixed(v: &[usize], v_shape: &[usize], shape: &[usize]) -> Option<Vec<usize>> {
    let (&[_, g, k, d], &[b, h, q, _]) = (v_shape, shape) else { return None };
    let of_head = |head: usize| {
        let keys = &v[head * k * d..][..k * d];
        let first = keys.get(..d)?;
        keys.chunks(d.max(1)).all(|key| key == first).then_some(first)
    };
    let mut mixed = Vec::new();
    for (batch, head) in (0..b).flat_map(|batch| (0..h).map(move |head| (batch, head))) {
        let channels = of_head(batch * g + head / (h / g))?;
        (0..q).for_each(|_| mixed.extend_from_slice(channels));
    }
    Some(mixed)
}

#[cfg(test)]
mod tests;
