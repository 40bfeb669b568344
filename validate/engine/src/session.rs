//! Engine and session: which graphs there are, what they keep between calls, and which threads compute them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use graph::ir::port::{DECODER_IDS, ENCODER_HIDDEN, LOGITS};
use graph::{
    DEC, DType, Dim, Entry, Feeds, FloatType, Graph, Op, PAST, Port, PortRole, Side, Sym, Tensor, Tensors, ValueId,
    Visible,
};

use crate::error::EngineError;
use crate::ggml::{self, Backend, Context, Kind, Place, Team};
use crate::host::{Call, Upload};
use crate::load::Others;
use crate::lower::{Frame, Slot, Val, lower};
use crate::options::{Cache, Options, Repacking};
use crate::store::Store;

/// The keys that a step sees are counted in steps of this many, so that its graph serves as many tokens. It is a multiple
/// of the numbers that ggml's kernels sum side by side: what is hidden adds zeros in places of their own.
const KEYS_STEP: usize = 64;
/// Columns of a call from which on it is computed by the threads of the encoder.
const MANY_COLUMNS: usize = 32;

/// A loaded model.
#[derive(Clone)]
pub struct Engine(Rc<Loaded>);

struct Loaded {
    graph: Graph,
    options: Options,
    encoder: Stack,
    step: Stack,
    /// Values of the encoder that the decoder reads: keys and values in turn.
    cross: Vec<Port>,
    /// Keys and values that the decoder keeps.
    present: Vec<Port>,
    hidden: ValueId,
    logits: ValueId,
    /// Whether every attention over the cache hides the places that are not written yet.
    hides_free_places: bool,
    store: Store,
    backend: Rc<Backend>,
    others: Others,
}

impl Loaded {
    /// The threads that compute a call of so many columns.
    fn team(&self, columns: usize) -> Team {
        if columns < MANY_COLUMNS && self.options.decoder_threads.is_some() {
            return Team::Decoder;
        }
        match self.others.leave_of(self.options.encoder_threads) {
            1 if self.options.decoder_threads.is_none() => Team::Decoder,
            threads => Team::Encoder(threads),
        }
    }

    fn vocabulary(&self) -> usize {
        self.graph.value(self.logits).ty.shape.last().and_then(Dim::literal).unwrap_or(0)
    }
}

/// An entry and its values in order.
struct Stack {
    entry: Entry,
    order: Vec<ValueId>,
}

impl Engine {
    /// Opens a GGUF file that trefoil wrote, with nothing but the file.
    ///
    /// Errors: it is no such file, or ggml cannot hold one of its weights or compute one of its values; all of them.
    pub fn open(file: &Path, options: &Options) -> Result<Engine, EngineError> {
        let mut graph = converters::import_gguf(file).map_err(Box::new)?.graph;
        graph::passes::run(&mut graph)
            .map_err(|e| EngineError::Passes { file: file.to_owned(), message: e.to_string() })?;
        Engine::of_graph(graph, options)
    }

    /// The same of a graph with the entries `encoder`, `decoder` and `decoder_with_past`, which `graph::passes` make.
    pub fn of_graph(graph: Graph, options: &Options) -> Result<Engine, EngineError> {
        let entry = |name: &str| {
            graph.entry(name).ok_or_else(|| EngineError::Refused {
                problems: vec![format!("{name}: expected an entry of this name, found none")],
            })
        };
        let (encoder, first, step) = (entry("encoder")?, entry("decoder")?, entry("decoder_with_past")?);
        let output = |entry: &Entry, name: &str| {
            entry.output(name).ok_or_else(|| EngineError::Refused {
                problems: vec![format!("{}: expected an output {name}, found none", entry.name)],
            })
        };
        let (hidden, logits) = (output(encoder, ENCODER_HIDDEN)?, output(step, LOGITS)?);
        let is_cross = |port: &Port| matches!(port.role(), PortRole::Cross(_));
        let is_present = |port: &Port| matches!(port.role(), PortRole::Present(_));
        let is_past = |port: &Port| matches!(port.role(), PortRole::Past(_));
        let of = |ports: &[Port], is: &dyn Fn(&Port) -> bool| -> Vec<Port> {
            ports.iter().filter(|port| is(port)).cloned().collect()
        };
        let (cross, present, past) =
            (of(&first.outputs, &is_cross), of(&step.outputs, &is_present), of(&step.inputs, &is_past));
        // One graph makes the encoder's output, all that it is made of and what the decoder reads of it.
        let sources = graph.sources(encoder);
        let is_source = |port: &&Port| {
            !(port.role() == PortRole::DecoderIds
                || cross.contains(port)
                || past.contains(port)
                || sources.contains(port))
        };
        let more = step.inputs.iter().filter(is_source).cloned();
        let inputs: Vec<Port> = sources.iter().map(|port| (*port).clone()).chain(more).collect();
        let whole = Entry {
            name: "encoder".to_owned(),
            inputs: inputs.clone(),
            outputs: [&encoder.outputs[..], &cross[..]].concat(),
            fixed: encoder.fixed.clone(),
        };
        let order = |entry: &Entry, without: &[Port]| -> Vec<ValueId> {
            let order = graph.order(entry).into_iter();
            order.filter(|id| without.iter().all(|port| port.value != *id)).collect()
        };
        let encoder = Stack { order: order(&whole, &[]), entry: whole };
        let stepping = Entry { inputs: of(&step.inputs, &|port| !is_past(port)), ..step.clone() };
        let step = Stack { order: order(step, &past), entry: stepping };
        let hides_free_places = hides_free_places(&graph, &step, &present);
        let backend = Rc::new(Backend::cpu(options.encoder_threads, options.decoder_threads.unwrap_or(1))?);
        if options.repack != Repacking::None {
            ggml::quiet();
        }
        let store = Store::new(&graph, &[(&encoder.order, false), (&step.order, true)], &backend, options)?;
        let options = options.clone();
        Ok(Engine(Rc::new(Loaded {
            graph,
            options,
            encoder,
            step,
            cross,
            present,
            hidden,
            logits,
            hides_free_places,
            store,
            backend,
            others: Others::new(),
        })))
    }

    /// A session; several share the weights.
    pub fn session(&self) -> Session {
        Session { model: self.0.clone(), source: None }
    }

    /// Logits of a token.
    pub fn vocabulary(&self) -> usize {
        self.0.vocabulary()
    }

    /// The longest target that the model has positions for, if it has a table of them.
    pub fn limit_tokens(&self) -> Option<usize> {
        self.0.graph.longest(DEC)
    }

    /// The encoder's inputs: names and types.
    pub fn inputs(&self) -> Vec<(String, graph::Type)> {
        let ports = self.0.encoder.entry.inputs.iter();
        ports.map(|port| (port.name.clone(), self.0.graph.value(port.value).ty.clone())).collect()
    }
}

/// Evaluates one entry of a graph once, as [`graph::eval()`] does, with the encoder's threads.
///
/// Outputs are floats. Errors: feeds that do not fit, and what ggml cannot hold or compute.
pub fn evaluate(graph: &Graph, entry: &str, feeds: &Feeds, options: &Options) -> Result<Tensors, EngineError> {
    let entry = graph.entry(entry).ok_or_else(|| input("the entry", "one of the graph", entry))?;
    let backend = Rc::new(Backend::cpu(options.encoder_threads, options.decoder_threads.unwrap_or(1))?);
    let order = graph.order(entry);
    let store = Store::new(graph, &[(&order, false)], &backend, options)?;
    let lengths = bind(graph, entry, feeds)?;
    let (given, caches) = (HashMap::new(), HashMap::new());
    let lowered = lower(Frame { graph, store: &store, options, entry, order: &order, lengths, given, caches })?;
    lowered.inputs.allocate(Place::Of(&backend))?;
    let mut outputs = Vec::new();
    for port in &entry.outputs {
        let val = lowered.values.get(&port.value).ok_or_else(|| input(&port.name, "floats", "integers"))?;
        // Computed here, whatever else reads it and writes over it.
        let tensor = lowered.context.scale(&lowered.context.dense(&val.tensor), 1.0, 0.0);
        tensor.keep();
        outputs.push((port.name.clone(), tensor, val.shape.clone()));
    }
    let tensors: Vec<ggml::Tensor> = outputs.iter().map(|(_, tensor, _)| tensor.clone()).collect();
    let graph_ = graph_of(lowered.context, lowered.nodes, &tensors, &backend)?;
    let past = entry.fixed.get(&PAST).copied().or_else(|| lowered.lengths.get(&PAST).copied()).unwrap_or(0);
    let call = Call { graph, inputs: &entry.inputs, feeds, lengths: &lowered.lengths, past };
    lowered.uploads.iter().try_for_each(|upload| call.write(upload))?;
    graph_.compute(Team::Encoder(options.encoder_threads))?;
    Ok(outputs.into_iter().map(|(name, tensor, shape)| (name, Tensor::f32(shape, tensor.read_f32()))).collect())
}

/// Whether every attention of a decoder that reads its cache has a mask that hides keys after the query.
fn hides_free_places(graph: &Graph, step: &Stack, present: &[Port]) -> bool {
    let reads_cache = |id: ValueId| {
        present.iter().any(|port| port.value == id)
            || graph.args(id).iter().any(|part| present.iter().any(|port| port.value == *part))
    };
    fn masks(graph: &Graph, id: ValueId) -> bool {
        match graph.op(id) {
            Some(Op::Mask { visible: Visible { after: Some(0), .. }, k, .. }) => *k == Dim::from(PAST) + DEC.into(),
            Some(Op::Binary(graph::Binary::Add) | Op::Broadcast(_) | Op::Concat { .. } | Op::Reshape(_)) => {
                graph.args(id).iter().any(|arg| masks(graph, *arg))
            }
            _ => false,
        }
    }
    step.order.iter().all(|id| match (graph.op(*id), graph.args(*id)) {
        (Some(Op::Attention { .. }), [_, k, v, bias @ ..]) => {
            !(reads_cache(*k) || reads_cache(*v)) || bias.first().is_some_and(|bias| masks(graph, *bias))
        }
        // What else reads a whole cache would see its free places.
        (Some(Op::Concat { .. }), args) if args.iter().any(|arg| present.iter().any(|p| p.value == *arg)) => true,
        (_, args) => !args.iter().any(|arg| present.iter().any(|port| port.value == *arg)),
    })
}

/// A batch that is being decoded.
pub struct Session {
    model: Rc<Loaded>,
    source: Option<Source>,
}

/// An encoded batch.
struct Source {
    feeds: Feeds,
    rows: usize,
    lengths: BTreeMap<Sym, usize>,
    hidden: Tensor,
    /// As [`Loaded::cross`].
    cross: Vec<Slot>,
    /// As [`Loaded::present`]; empty before the first step.
    caches: Vec<Slot>,
    /// Which source each row was encoded from.
    of: Vec<usize>,
    past: usize,
    step: Option<Step>,
}

/// The graph of a step.
struct Step {
    tokens: usize,
    keys: usize,
    graph: ggml::Graph,
    uploads: Vec<Upload>,
    lengths: BTreeMap<Sym, usize>,
    logits: ggml::Tensor,
    /// Whether what is the same in every step has been written.
    written: bool,
    _inputs: Context,
}

fn input(name: &str, expected: impl ToString, found: impl ToString) -> EngineError {
    EngineError::Input { name: name.to_owned(), expected: expected.to_string(), found: found.to_string() }
}

impl Session {
    /// Encodes a batch of token rows, the shorter ones padded at their end with a masked 0.
    pub fn encode_tokens(&mut self, rows: &[&[i64]]) -> Result<(), EngineError> {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let filled = |row: &&[i64], of: &dyn Fn(i64) -> i64| -> Vec<i64> {
            let padding = std::iter::repeat_n(0, width - row.len());
            row.iter().map(|id| of(*id)).chain(padding).collect()
        };
        let tensor = |of: &dyn Fn(i64) -> i64| {
            Tensor::i64([rows.len(), width], rows.iter().flat_map(|row| filled(row, of)).collect())
        };
        let feeds = [("input_ids", tensor(&|id| id)), ("attention_mask", tensor(&|_| 1))];
        self.encode(&feeds.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }

    /// Encodes a batch and forgets the one before.
    ///
    /// `feeds`: the inputs by their names, the batch first; those that the model does not have are left out.
    pub fn encode(&mut self, feeds: &Feeds) -> Result<(), EngineError> {
        self.source = None;
        let model = &self.model;
        let entry = &model.encoder.entry;
        let mut feeds = feeds.clone();
        feeds.retain(|name, _| entry.input(name).is_some());
        let lengths = bind(&model.graph, entry, &feeds)?;
        let frame = Frame {
            graph: &model.graph,
            store: &model.store,
            options: &model.options,
            entry,
            order: &model.encoder.order,
            lengths,
            given: HashMap::new(),
            caches: HashMap::new(),
        };
        let lowered = lower(frame)?;
        lowered.inputs.allocate(Place::Of(&model.backend))?;
        let shapes: Vec<[usize; 4]> = model
            .cross
            .iter()
            .map(|port| {
                let shape = &lowered.values[&port.value].shape;
                shape[..]
                    .try_into()
                    .map_err(|_| input(&port.name, "keys and values [b, h, n, d]", format!("{shape:?}")))
            })
            .collect::<Result<_, _>>()?;
        let cross = slots(model, &model.cross, &shapes, "cross")?;
        let hidden = &lowered.values[&model.hidden];
        let mut outputs = vec![lowered.context.dense(&hidden.tensor)];
        outputs[0].keep();
        for (port, slot) in model.cross.iter().zip(&cross) {
            let value = &lowered.values[&port.value].tensor;
            let value = if slot.transposed { lowered.context.permute(value, [1, 0, 2, 3]) } else { value.clone() };
            outputs.push(lowered.context.copy(&value, &slot.tensor));
        }
        let hidden_shape = hidden.shape.clone();
        let encoded = outputs[0].clone();
        let graph = graph_of(lowered.context, lowered.nodes, &outputs, &model.backend)?;
        let call =
            Call { graph: &model.graph, inputs: &entry.inputs, feeds: &feeds, lengths: &lowered.lengths, past: 0 };
        lowered.uploads.iter().try_for_each(|upload| call.write(upload))?;
        graph.compute(model.team(usize::MAX))?;
        let rows = hidden_shape[0];
        self.source = Some(Source {
            rows,
            hidden: Tensor::f32(hidden_shape, encoded.read_f32()),
            lengths: lowered.lengths,
            feeds,
            cross,
            caches: Vec::new(),
            of: (0..rows).collect(),
            past: 0,
            step: None,
        });
        Ok(())
    }

    /// What the encoder made: f32[b, enc, e]. `None` before [`Session::encode`].
    pub fn hidden(&self) -> Option<&Tensor> {
        self.source.as_ref().map(|source| &source.hidden)
    }

    /// Logits of a token.
    pub fn vocabulary(&self) -> usize {
        self.model.vocabulary()
    }

    /// Sequences side by side; 0 before [`Session::encode`].
    pub fn rows(&self) -> usize {
        self.source.as_ref().map_or(0, |source| source.rows)
    }

    /// Tokens fed so far.
    pub fn past_tokens(&self) -> usize {
        self.source.as_ref().map_or(0, |source| source.past)
    }

    /// Forgets all target tokens; the sources stay.
    pub fn restart(&mut self) {
        if let Some(source) = &mut self.source {
            source.past = 0;
        }
    }

    /// Feeds the next `tokens` tokens of every row, `ids[row · tokens + i]`. Returns the logits after each of them,
    /// `[rows, tokens, vocabulary]`.
    pub fn step(&mut self, ids: &[i64], tokens: usize) -> Result<Vec<f32>, EngineError> {
        let model = &self.model;
        let source = self.source.as_mut().ok_or_else(|| input(DECODER_IDS, "an encoded source", "none"))?;
        if tokens == 0 || source.rows.checked_mul(tokens) != Some(ids.len()) {
            return Err(input(
                DECODER_IDS,
                format!("{} rows of {tokens} tokens above 0", source.rows),
                format!("{} ids", ids.len()),
            ));
        }
        let needed = source.past + tokens;
        let keys = if model.hides_free_places { needed.next_multiple_of(KEYS_STEP) } else { needed };
        source.make_room(model, keys)?;
        if source.step.as_ref().is_none_or(|step| step.tokens != tokens || step.keys != keys) {
            source.step = None;
            source.step = Some(source.lower_step(model, tokens, keys)?);
        }
        let mut feeds = source.feeds.clone();
        feeds.insert(DECODER_IDS.to_owned(), Tensor::i64([source.rows, tokens], ids.to_vec()));
        let step = source.step.as_mut().expect("just made");
        let call = Call {
            graph: &model.graph,
            inputs: &model.step.entry.inputs,
            feeds: &feeds,
            lengths: &step.lengths,
            past: source.past,
        };
        for upload in step.uploads.iter().filter(|upload| upload.each_step || !step.written) {
            call.write(upload)?;
        }
        step.written = true;
        let team = model.team(ids.len());
        step.graph.compute(team)?;
        source.past = needed;
        Ok(step.logits.read_f32())
    }

    /// Makes row `i` what row `rows[i]` was, keys and values included: beams go on from others, a source gets several, and
    /// finished rows are dropped.
    pub fn select(&mut self, rows: &[usize]) -> Result<(), EngineError> {
        let model = &self.model;
        let source = self.source.as_mut().ok_or_else(|| input("rows", "an encoded source", "none"))?;
        if rows.is_empty() || rows.iter().any(|row| *row >= source.rows) {
            return Err(input("rows", format!("rows of 0 to {}", source.rows - 1), format!("{rows:?}")));
        }
        let of: Vec<usize> = rows.iter().map(|row| source.of[*row]).collect();
        let same_sources = of == source.of;
        if rows.len() == source.rows {
            let slots = source.caches.iter().chain(source.cross.iter().filter(|_| !same_sources));
            slots.for_each(|slot| move_rows(&slot.tensor, &slot.tensor, rows));
        } else {
            source.step = None;
            let moved = |ports: &[Port], from: &[Slot], word: &str| -> Result<Vec<Slot>, EngineError> {
                let shape = |slot: &Slot| {
                    let [a, b, heads, _] = slot.tensor.ne();
                    let [keys, width] = if slot.transposed { [a, b] } else { [b, a] };
                    [rows.len(), heads, keys, width]
                };
                let to = slots(model, ports, &from.iter().map(shape).collect::<Vec<_>>(), word)?;
                from.iter().zip(&to).for_each(|(from, to)| move_rows(&from.tensor, &to.tensor, rows));
                Ok(to)
            };
            let cross = moved(&model.cross, &source.cross, "cross")?;
            if !source.caches.is_empty() {
                source.caches = moved(&model.present, &source.caches, "cache")?;
            }
            source.cross = cross;
        }
        if !same_sources {
            for tensor in source.feeds.values_mut() {
                *tensor = rows_of(tensor, rows);
            }
            source.hidden = rows_of(&source.hidden, rows);
            let batch = |graph: &Graph, port: &Port| graph.value(port.value).ty.shape.first().and_then(Dim::symbol);
            if let Some(sym) = model.encoder.entry.inputs.iter().find_map(|port| batch(&model.graph, port)) {
                source.lengths.insert(sym, rows.len());
            }
            if let Some(step) = &mut source.step {
                step.written = false;
            }
        }
        (source.rows, source.of) = (rows.len(), of);
        Ok(())
    }
}

fn rows_of(tensor: &Tensor, rows: &[usize]) -> Tensor {
    let width = tensor.len() / tensor.shape()[0].max(1);
    let shape = [&[rows.len()], &tensor.shape()[1..]].concat();
    match (tensor.as_f32(), tensor.as_i64()) {
        (Some(x), _) => Tensor::f32(shape, rows.iter().flat_map(|row| &x[row * width..][..width]).copied().collect()),
        (_, x) => {
            let x = x.unwrap_or_default();
            Tensor::i64(shape, rows.iter().flat_map(|row| &x[row * width..][..width]).copied().collect())
        }
    }
}

/// The slowest axis of `to` becomes rows of that of `from`, which may be the same tensor.
fn move_rows(from: &ggml::Tensor, to: &ggml::Tensor, rows: &[usize]) {
    let slab = from.bytes() / from.ne()[3];
    let mut read: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let same = from.ne() == to.ne();
    for row in rows.iter().enumerate().filter(|(to, from)| !same || to != *from).map(|(_, from)| *from) {
        read.entry(row).or_insert_with(|| {
            let mut bytes = vec![0; slab];
            from.read(row * slab, &mut bytes);
            bytes
        });
    }
    for (i, row) in rows.iter().enumerate() {
        if let Some(bytes) = read.get(row).filter(|_| !same || i != *row) {
            to.write(i * slab, bytes);
        }
    }
}

fn graph_of(
    context: Context,
    nodes: usize,
    outputs: &[ggml::Tensor],
    backend: &Rc<Backend>,
) -> Result<ggml::Graph, EngineError> {
    let home = Context::new(0, nodes)?;
    let graph = home.graph(nodes, outputs, backend)?;
    // The graph keeps the contexts of its outputs, and they those of all that is read.
    drop(context);
    Ok(graph)
}

/// Zeroed tensors for keys and values of shapes `[batch, heads, n, width]`.
fn slots(model: &Loaded, ports: &[Port], shapes: &[[usize; 4]], word: &str) -> Result<Vec<Slot>, EngineError> {
    let context = Context::new(ports.len(), 0)?;
    let kind = match model.options.cache {
        Cache::F32 => Kind::F32,
        Cache::F16 => Kind::Float(FloatType::F16),
    };
    let slot = |(port, shape): (&Port, &[usize; 4])| {
        let [batch, heads, n, width] = *shape;
        let transposed = port.role().cache().is_some_and(|cache| cache.side == Side::Value);
        let ne = if transposed { [n, width, heads, batch] } else { [width, n, heads, batch] };
        let tensor = context.tensor(kind, ne, &format!("{word} {}", port.name));
        Slot { tensor, transposed, capacity: n }
    };
    let slots: Vec<Slot> = ports.iter().zip(shapes).map(slot).collect();
    context.allocate(Place::Of(&model.backend))?;
    // What is hidden is multiplied by 0, and that must not be a NaN.
    slots.iter().for_each(|slot| slot.tensor.clear());
    Ok(slots)
}

impl Source {
    /// Caches for at least `keys` tokens, with what they hold.
    fn make_room(&mut self, model: &Loaded, keys: usize) -> Result<(), EngineError> {
        let capacity = self.caches.first().map_or(0, |slot| slot.capacity);
        if capacity >= keys {
            return Ok(());
        }
        let capacity = (2 * capacity).max(keys);
        let shape = |port: &Port| {
            let dims = &model.graph.value(port.value).ty.shape;
            let length = |i: usize| dims.get(i).and_then(Dim::literal);
            match (dims.len(), length(1), length(3)) {
                (4, Some(heads), Some(width)) => Ok([self.rows, heads, capacity, width]),
                _ => Err(input(&port.name, "keys and values [b, h, n, d]", &model.graph.value(port.value).ty)),
            }
        };
        let shapes = model.present.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
        let larger = slots(model, &model.present, &shapes, "cache")?;
        for (from, to) in self.caches.iter().zip(&larger) {
            let mut bytes = vec![0; from.tensor.bytes()];
            from.tensor.read(0, &mut bytes);
            // A line of keys of one head, or of one element of values, becomes a longer one.
            let tokens = |slot: &Slot| if slot.transposed { slot.tensor.nb()[1] } else { slot.tensor.nb()[2] };
            for (i, line) in bytes.chunks(tokens(from)).enumerate() {
                to.tensor.write(i * tokens(to), line);
            }
        }
        self.caches = larger;
        self.step = None;
        Ok(())
    }

    fn lower_step(&self, model: &Loaded, tokens: usize, keys: usize) -> Result<Step, EngineError> {
        let mut lengths = self.lengths.clone();
        lengths.insert(DEC, tokens);
        lengths.insert(PAST, keys - tokens);
        let views = Context::new(self.cross.len(), 0)?;
        let given = |(port, slot): (&Port, &Slot)| {
            let [a, b, heads, batch] = slot.tensor.ne();
            let (n, width) = if slot.transposed { (a, b) } else { (b, a) };
            let tensor = if slot.transposed { views.permute(&slot.tensor, [1, 0, 2, 3]) } else { slot.tensor.clone() };
            (port.value, Val { tensor, shape: vec![batch, heads, n, width] })
        };
        let given: HashMap<ValueId, Val> = model.cross.iter().zip(&self.cross).map(given).collect();
        let frame = Frame {
            graph: &model.graph,
            store: &model.store,
            options: &model.options,
            entry: &model.step.entry,
            order: &model.step.order,
            lengths,
            given,
            caches: model.present.iter().map(|port| port.value).zip(self.caches.iter().cloned()).collect(),
        };
        let lowered = lower(frame)?;
        lowered.inputs.allocate(Place::Of(&model.backend))?;
        let logits = lowered.context.dense(&lowered.values[&model.logits].tensor);
        logits.keep();
        let graph = graph_of(lowered.context, lowered.nodes, std::slice::from_ref(&logits), &model.backend)?;
        let (uploads, lengths) = (lowered.uploads, lowered.lengths);
        Ok(Step { tokens, keys, graph, uploads, lengths, logits, written: false, _inputs: lowered.inputs })
    }
}

/// The length of every symbol, from the shapes of the feeds. Errors: a feed that is missing or does not fit.
fn bind(graph: &Graph, entry: &Entry, feeds: &Feeds) -> Result<BTreeMap<Sym, usize>, EngineError> {
    let mut lengths = entry.fixed.clone();
    for port in &entry.inputs {
        let ty = &graph.value(port.value).ty;
        let Some(tensor) = feeds.get(&port.name) else { return Err(input(&port.name, ty, "nothing")) };
        let dtype = if tensor.as_f32().is_some() { DType::F32 } else { DType::I64 };
        let found = || format!("{dtype:?} of shape {:?}", tensor.shape());
        if dtype != ty.dtype || tensor.shape().len() != ty.shape.len() || tensor.is_empty() {
            return Err(input(&port.name, format!("{ty} with lengths above 0"), found()));
        }
        for (dim, length) in ty.shape.iter().zip(tensor.shape()) {
            if let Some(sym) = dim.symbol() {
                lengths.entry(sym).or_insert(*length);
            }
        }
        if !ty.shape.iter().zip(tensor.shape()).all(|(dim, length)| dim.resolve(&lengths) == Some(*length)) {
            let known: Vec<String> = lengths.iter().map(|(sym, n)| format!("{} = {n}", sym.0)).collect();
            return Err(input(&port.name, format!("{ty} with {}", known.join(", ")), found()));
        }
    }
    Ok(lengths)
}
