//! One schedule, two sets of kernels. The plain ones are the meaning: one function an op, one thread a call, and the sums in
//! the order of their formula. The prepared ones ([`Interpreter::prepared`]) are for long work and are proven against them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::cache::Cache;
use super::error::EvalError;
use super::kernels::strided::f32s;
use super::kernels::{attention, elementwise, layout, linear, mask, norm, quant};
use super::prepared;
use super::schedule::{Course, Halted, bind, check, empty};
use super::tensor::{Feeds, Tensor, Tensors};
use crate::arithmetic;
use crate::ir::graph::{Def, Graph, Port, ValueId};
use crate::ir::op::Op;
use crate::ir::ty::Dim;
use crate::weights::WeightId;

/// Evaluates the entries of one graph.
///
/// Without a cache, a weight is read when an op uses it and dropped after: the peak is the largest weight plus live
/// activations.
pub struct Interpreter<'g> {
    graph: Cow<'g, Graph>,
    prepared: bool,
    cache: Cache,
    courses: Mutex<HashMap<String, Arc<Course>>>,
    /// Begun so far; a call has the number of those before it.
    calls: AtomicU64,
    /// Running now.
    running: AtomicUsize,
}

impl<'g> Interpreter<'g> {
    /// Plain kernels; reads weights anew at each use.
    pub fn new(graph: &'g Graph) -> Interpreter<'g> {
        Interpreter::of(Cow::Borrowed(graph))
    }

    /// The same with a graph of its own.
    pub fn owning(graph: Graph) -> Interpreter<'static> {
        Interpreter::of(Cow::Owned(graph))
    }

    fn of(graph: Cow<'g, Graph>) -> Interpreter<'g> {
        Interpreter {
            graph,
            prepared: false,
            cache: Cache::default(),
            courses: Mutex::default(),
            calls: AtomicU64::new(0),
            running: AtomicUsize::new(0),
        }
    }

    /// With the kernels for long work: those of the processor, on all threads where calls are fewer than threads.
    ///
    /// Results are the plain ones within the noise of f32, and the same at any number of threads and with any cache. Where arithmetic is
    /// to be [portable](crate::arithmetic::Portable), kernels stay plain.
    #[must_use]
    pub fn prepared(self) -> Interpreter<'g> {
        Interpreter { prepared: !arithmetic::is_portable(), ..self }
    }

    /// Keeps weights between uses, as long as they fit into `bytes`; one that has not been read for some calls makes room.
    ///
    /// Plain kernels keep f32. Prepared ones keep what is stored, packed or as it is, and wider by little.
    #[must_use]
    pub fn with_cache(self, bytes: usize) -> Interpreter<'g> {
        Interpreter { cache: Cache::of(bytes), ..self }
    }

    /// The graph it evaluates.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Evaluates an entry: feeds by port name in, results by port name out.
    ///
    /// Errors: unknown entry, feeds that do not fit, ids outside a table, unreadable weights.
    pub fn call(&self, entry: &str, feeds: &Feeds) -> Result<Tensors, EvalError> {
        let call = || self.call_with(entry, feeds, &mut |_, _| {});
        // From outside of the pool every op that is shared out would be handed over, and waited for, on its own.
        match self.prepared && rayon::current_thread_index().is_none() {
            true => rayon::scope(|_| call()),
            false => call(),
        }
    }

    /// The same, and shows `tap` every value that an op computes, in order.
    pub fn call_with(
        &self,
        entry: &str,
        feeds: &Feeds,
        tap: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Tensors, EvalError> {
        let course = self.course(entry)?;
        let call = self.begin(&course, feeds)?;
        self.finish(&course, call, tap)
    }

    fn course(&self, entry: &str) -> Result<Arc<Course>, EvalError> {
        let mut courses = self.courses.lock().expect("no panic while holding the lock");
        if let Some(course) = courses.get(entry) {
            return Ok(course.clone());
        }
        let course = Arc::new(Course::new(self.graph(), entry)?);
        courses.insert(entry.to_owned(), course.clone());
        Ok(course)
    }

    /// The rest of a call: computes all values to come, and gives the outputs.
    pub fn finish(
        &self,
        course: &Course,
        mut call: Halted,
        tap: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Tensors, EvalError> {
        self.advance(course, &mut call, course.order.len(), tap)?;
        let output = |port: &Port| {
            let tensor = match call.live.get(&port.value) {
                Some(tensor) => tensor.clone(),
                None => self.argument(port.value, &call.live, self.calls.load(Ordering::Relaxed))?,
            };
            Ok((port.name.clone(), tensor))
        };
        course.entry.outputs.iter().map(output).collect()
    }

    /// A call before its first value. `course` is one of this graph, or of one that differs in its weights only.
    pub fn begin(&self, course: &Course, feeds: &Feeds) -> Result<Halted, EvalError> {
        let lengths = bind(self.graph(), &course.entry, feeds)?;
        let live = course.entry.inputs.iter().map(|port| (port.value, feeds[&port.name].clone())).collect();
        Ok(Halted { live, lengths, next: 0 })
    }

    /// Computes the values of a course from where the call halted up to place `until`, and shows each to `tap`.
    ///
    /// Between two calls of this function weights may be replaced that no value computed so far reads.
    pub fn advance(
        &self,
        course: &Course,
        call: &mut Halted,
        until: usize,
        tap: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<(), EvalError> {
        let graph = self.graph();
        let running = Running::new(self);
        while call.next < until {
            let place = call.next;
            let id = course.order[place];
            let value = graph.value(id);
            call.next += 1;
            match &value.def {
                _ if call.live.contains_key(&id) => {} // fed
                Def::Input => drop(call.live.insert(id, empty(&value.ty, &call.lengths))),
                // Read by the op that uses them.
                Def::Const(_) | Def::Weight(_) => {}
                Def::Op(op, args) => {
                    let tensor = self.apply(id, op, args, call, &running)?;
                    for arg in args.iter().filter(|arg| course.last_use[arg.0] == place) {
                        call.live.remove(arg);
                    }
                    check(value, &tensor, &mut call.lengths)?;
                    tap(id, &tensor);
                    call.live.insert(id, tensor);
                }
            }
        }
        Ok(())
    }

    /// A value as an argument: live, or a constant or weight fetched now, by the call of this number.
    fn argument(&self, id: ValueId, live: &BTreeMap<ValueId, Tensor>, call: u64) -> Result<Tensor, EvalError> {
        match self.graph.value(id).def {
            Def::Const(c) => Ok(Tensor::scalar(c)),
            Def::Weight(weight) => {
                let shape = self.graph.weights.get(weight).shape.clone();
                Ok(Tensor::shared_f32(shape, self.cache.floats(&self.graph, weight, call)?))
            }
            Def::Input | Def::Op(..) => Ok(live[&id].clone()),
        }
    }

    fn apply(
        &self,
        id: ValueId,
        op: &Op,
        args: &[ValueId],
        Halted { live, lengths, .. }: &Halted,
        running: &Running,
    ) -> Result<Tensor, EvalError> {
        let argument = |id: ValueId| self.argument(id, live, running.call);
        // A table is read row by row: a vocabulary is large and a sentence is short.
        if let (Op::Embed, [ids, table]) = (op, args)
            && let Some(table) = self.graph.weight_of(*table)
        {
            return self.embed(id, &argument(*ids)?, table);
        }
        if let (true, Op::Linear, [x, w, bias @ ..]) = (self.prepared, op, args)
            && let Some(w) = self.graph.weight_of(*w)
        {
            let matrix = self.cache.matrix(&self.graph, w, running.call)?;
            let bias = bias.first().map(|bias| argument(*bias)).transpose()?;
            let n = self.graph.weights.get(w).matrix()[0];
            return Ok(prepared::linear(&argument(*x)?, n, &matrix, bias.as_ref(), running.split())?);
        }
        let args = args.iter().map(|arg| argument(*arg)).collect::<Result<Vec<Tensor>, EvalError>>()?;
        let dim = |dim: &Dim| dim.resolve(lengths).expect("verify() lets no value stand before what tells its lengths");
        let x = || &args[0];
        let too_short = || EvalError::TooShort {
            value: self.graph.value(id).name.clone(),
            op: op.to_string(),
            shape: args[0].shape().to_vec(),
        };
        if self.prepared
            && let Some(done) = prepared::op(op, &args, running.split())
        {
            return done.ok_or_else(too_short);
        }
        Ok(match op {
            Op::MatMul => linear::matmul(x(), &args[1]),
            Op::Linear => linear::linear(x(), &args[1], args.get(2)),
            Op::Embed => return self.embed_values(id, x(), &args[1]),
            Op::Binary(op) => elementwise::binary(*op, x(), &args[1]),
            Op::Unary(op) => elementwise::unary(*op, x()),
            Op::Softmax => norm::softmax(x()),
            Op::Mean { axis } => norm::mean(x(), *axis),
            Op::RmsNorm { eps } => norm::rms_norm(x(), &args[1], *eps),
            Op::LayerNorm { eps } => norm::layer_norm(x(), &args[1], args.get(2), *eps),
            Op::GroupNorm { groups, eps } => norm::group_norm(x(), &args[1], &args[2], *groups, *eps),
            Op::Conv { stride, pad, .. } => {
                linear::conv(x(), &args[1], args.get(2), *stride, *pad).ok_or_else(too_short)?
            }
            Op::Conv2d { stride, pad, groups } => linear::conv2d(x(), &args[1], *stride, *pad, *groups),
            Op::Broadcast(to) => layout::broadcast(x(), to.iter().map(dim).collect()),
            Op::Slice { axis, start, step, len } => {
                layout::slice(x(), *axis, *start, *step, dim(len)).ok_or_else(too_short)?
            }
            Op::Select => elementwise::select(x(), &args[1], &args[2]),
            Op::Positions { start, len } => mask::positions(dim(start), dim(len)),
            Op::Rope(rope) => attention::rope(x(), &args[1], rope),
            Op::Reshape(to) => x().reshaped(to.iter().map(dim).collect::<Vec<usize>>()),
            Op::Transpose(perm) => layout::transpose(x(), perm),
            Op::Concat { axis } => layout::concat(&args, *axis),
            Op::Mask { visible, start, q, k, hidden } => mask::mask(*visible, dim(start), dim(q), dim(k), *hidden),
            Op::PaddingMask { hidden } => mask::padding_mask(x(), *hidden),
            Op::RelativeBias { buckets, max_distance, bidirectional, start, q, k } => {
                let bucket = |distance| mask::relative_bucket(distance, *buckets, *max_distance, *bidirectional);
                mask::relative_bias(x(), dim(start), dim(q), dim(k), bucket)
            }
            Op::DynamicQuant(granularity) => quant::dynamic_quant(*granularity, x()),
            Op::FakeQuant(steps) => quant::fake_quant(steps, x()),
            Op::Attention { scale, softcap } => {
                attention::attention(x(), &args[1], &args[2], args.get(3), *scale, *softcap)
            }
        })
    }

    fn embed(&self, id: ValueId, ids: &Tensor, table: WeightId) -> Result<Tensor, EvalError> {
        let weight = self.graph.weights.get(table);
        if let Some(floats) = self.cache.known_floats(table) {
            return self.embed_values(id, ids, &Tensor::shared_f32(weight.shape.clone(), floats));
        }
        let [rows, width] = weight.matrix();
        let (mut out, mut row) = (Vec::with_capacity(ids.len() * width), Vec::new());
        for index in self.rows_of(id, ids, rows)? {
            weight.rows(index..index + 1, &mut row)?;
            out.extend_from_slice(&row);
        }
        Ok(Tensor::f32([ids.shape(), &[width]].concat(), out))
    }

    fn embed_values(&self, id: ValueId, ids: &Tensor, table: &Tensor) -> Result<Tensor, EvalError> {
        let (rows, width) = (table.shape()[0], table.shape()[1]);
        let floats = f32s(table);
        let mut out = Vec::with_capacity(ids.len() * width);
        for index in self.rows_of(id, ids, rows)? {
            out.extend_from_slice(&floats[index * width..(index + 1) * width]);
        }
        Ok(Tensor::f32([ids.shape(), &[width]].concat(), out))
    }

    fn rows_of(&self, id: ValueId, ids: &Tensor, rows: usize) -> Result<Vec<usize>, EvalError> {
        let ids = ids.as_i64().expect("inference made ids i64");
        let row = |&i: &i64| {
            usize::try_from(i).ok().filter(|i| *i < rows).ok_or_else(|| EvalError::Id {
                value: self.graph.value(id).name.clone(),
                id: i,
                rows,
            })
        };
        ids.iter().map(row).collect()
    }
}

/// A call that is being computed.
struct Running<'i> {
    interpreter: &'i AtomicUsize,
    /// Its number.
    call: u64,
}

impl<'i> Running<'i> {
    fn new(interpreter: &'i Interpreter) -> Running<'i> {
        interpreter.running.fetch_add(1, Ordering::Relaxed);
        Running { interpreter: &interpreter.running, call: interpreter.calls.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether threads would stand idle if this call kept to its own.
    fn split(&self) -> bool {
        self.interpreter.load(Ordering::Relaxed) < rayon::current_num_threads()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.interpreter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Evaluates an entry once; see [`Interpreter`].
pub fn eval(
    graph: &Graph,
    entry: &str,
    feeds: &Feeds,
    tap: &mut dyn FnMut(ValueId, &Tensor),
) -> Result<Tensors, EvalError> {
    Interpreter::new(graph).call_with(entry, feeds, tap)
}
