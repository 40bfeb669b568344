//! The interpreter as a session: the meaning that every engine is compared with.

use std::cell::Cell;
use std::ops::Deref;

use graph::eval::{EvalError, Feeds, Interpreter, Tensors};
use graph::ir::port::{DECODER_IDS, ENCODER_HIDDEN, LOGITS};
use graph::{DEC, Granularity, Graph, Op, PortRole, Tensor, ValueId};

use crate::runtime::error::RuntimeError;
use crate::runtime::interface::Session;
use report::Engine;

/// Decodes with the entries `encoder`, `decoder` and `decoder_with_past` of a graph.
///
/// `I`: an interpreter, or a reference to one; several sessions may share it, on several threads.
pub struct Reference<I> {
    interpreter: I,
    settings: String,
    noise: Option<Noise>,
    encoded: Option<Encoded>,
}

/// Which noise comes next.
struct Noise {
    seed: u64,
    times: f64,
    calls: Cell<u64>,
}

struct Encoded {
    source: Feeds,
    hidden: Tensor,
    /// `past.{i}.k`, `past.{i}.v`, `cross.{i}.k`, `cross.{i}.v`; empty before the first decoding call.
    caches: Tensors,
}

/// Weights of a graph that an interpreter may hold, so that decoding does not read them at every step.
pub const CACHED_WEIGHTS_BYTES: usize = 2 << 30;

impl<'g, I: Deref<Target = Interpreter<'g>>> Reference<I> {
    /// A session.
    pub fn new(interpreter: I) -> Reference<I> {
        Reference { interpreter, settings: "f32".to_owned(), noise: None, encoded: None }
    }

    /// The session with the noise of sums in another order ([`Interpreter::call_with_noise`]), another in each call.
    pub fn with_noise(self, seed: u64, times: f64) -> Reference<I> {
        Reference { noise: Some(Noise { seed, times, calls: Cell::new(0) }), ..self }
    }

    /// The session with other [`Engine::settings`] in the report.
    pub fn with_settings(self, settings: String) -> Reference<I> {
        Reference { settings, ..self }
    }

    fn call(&self, entry: &str, mut feeds: Feeds) -> Result<Tensors, RuntimeError> {
        // An entry takes only what it needs; a decoder without padding takes no mask.
        if let Some(entry) = self.interpreter.graph().entry(entry) {
            feeds.retain(|name, _| entry.input(name).is_some());
        }
        let out = match &self.noise {
            None => self.interpreter.call(entry, &feeds),
            Some(Noise { seed, times, calls }) => {
                calls.set(calls.get() + 1);
                self.interpreter.call_with_noise(entry, &feeds, seed.wrapping_add(calls.get() << 16), *times)
            }
        };
        out.map_err(failed)
    }
}

fn failed(error: EvalError) -> RuntimeError {
    RuntimeError::Failed { runtime: "reference", message: error.to_string() }
}

fn lacks(entry: &str, output: &str) -> RuntimeError {
    RuntimeError::Failed { runtime: "reference", message: format!("{entry}: expected an output {output}, found none") }
}

impl<'g, I: Deref<Target = Interpreter<'g>>> Session for Reference<I> {
    fn engine(&self) -> Engine {
        Engine {
            name: "interpreter".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings.clone(),
        }
    }

    fn limit_tokens(&self) -> Option<usize> {
        self.interpreter.graph().longest(DEC)
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        if let Some(known) = &mut self.encoded
            && known.source == *source
        {
            // The same sources again: only the targets start anew.
            known.caches.clear();
            return Ok(());
        }
        let graph = self.interpreter.graph();
        let before = graph.entry("encoder").map(|entry| graph.before(entry)).unwrap_or_default();
        let mut feeds = source.clone();
        for entry in before {
            feeds.extend(self.call(&entry.name, feeds.clone())?);
        }
        let mut out = self.call("encoder", feeds)?;
        self.encoded = Some(Encoded {
            source: source.clone(),
            hidden: out.remove(ENCODER_HIDDEN).ok_or_else(|| lacks("encoder", ENCODER_HIDDEN))?,
            caches: Tensors::new(),
        });
        Ok(())
    }

    fn decode(&mut self, decoder_input_ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let Some(encoded) = &self.encoded else {
            return Err(RuntimeError::Failed { runtime: "reference", message: "decode before encode".to_owned() });
        };
        // The source, because a decoder may need its mask.
        let mut feeds = encoded.source.clone();
        feeds.insert(DECODER_IDS.to_owned(), decoder_input_ids.clone());
        let entry = match encoded.caches.is_empty() {
            true => {
                feeds.insert(ENCODER_HIDDEN.to_owned(), encoded.hidden.clone());
                "decoder"
            }
            false => {
                feeds.extend(encoded.caches.iter().map(|(name, cache)| (name.clone(), cache.clone())));
                "decoder_with_past"
            }
        };
        let mut out = self.call(entry, feeds)?;
        let logits = out.remove(LOGITS).ok_or_else(|| lacks(entry, LOGITS))?;
        let caches = &mut self.encoded.as_mut().expect("checked above").caches;
        for (name, tensor) in out {
            caches.insert(PortRole::of(&name).next().to_string(), tensor);
        }
        Ok(logits)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<bool, RuntimeError> {
        if !rows_are_alone(self.interpreter.graph()) {
            return Ok(false);
        }
        let Some(encoded) = &mut self.encoded else { return Ok(false) };
        encoded.hidden = of_rows(&encoded.hidden, rows);
        for tensor in encoded.source.values_mut().chain(encoded.caches.values_mut()) {
            *tensor = of_rows(tensor, rows);
        }
        Ok(true)
    }
}

/// Whether what a sequence says does not depend on the others of its batch: a scale that is taken from a whole tensor does.
pub fn rows_are_alone(graph: &Graph) -> bool {
    let together = |op: &Op| matches!(op, Op::DynamicQuant(Granularity::Tensor));
    !(0..graph.values.len()).filter_map(|index| graph.op(ValueId(index))).any(together)
}

/// Some sequences of a batch.
pub(super) fn of_rows(x: &Tensor, rows: &[usize]) -> Tensor {
    fn picked<T: Copy>(elements: &[T], width: usize, rows: &[usize]) -> Vec<T> {
        rows.iter().flat_map(|row| &elements[row * width..(row + 1) * width]).copied().collect()
    }
    let width = x.shape()[1..].iter().product();
    let shape = [&[rows.len()], &x.shape()[1..]].concat();
    match x.as_f32() {
        Some(floats) => Tensor::f32(shape, picked(floats, width, rows)),
        None => Tensor::i64(shape, picked(x.as_i64().expect("a tensor is f32 or i64"), width, rows)),
    }
}

/// Two tensors of one batch `[b, n, ..]`, one behind the other. Errors: they do not fit, in words.
pub(super) fn beside(a: &Tensor, b: &Tensor) -> Result<Tensor, RuntimeError> {
    fn joined<T: Copy>(a: &[T], b: &[T], rows: usize) -> Vec<T> {
        let (of_a, of_b) = (a.len() / rows.max(1), b.len() / rows.max(1));
        let row = |i: usize| a[i * of_a..][..of_a].iter().chain(&b[i * of_b..][..of_b]).copied();
        (0..rows).flat_map(row).collect()
    }
    let (&[rows, n, ref width @ ..], &[rows_of_b, m, ref width_of_b @ ..]) = (a.shape(), b.shape()) else {
        return Err(RuntimeError::Failed { runtime: "reference", message: "expected batches".to_owned() });
    };
    let shape = [&[rows, n + m], width].concat();
    match (a.as_f32().zip(b.as_f32()), a.as_i64().zip(b.as_i64())) {
        (Some((a, b)), _) if rows == rows_of_b && width == width_of_b => Ok(Tensor::f32(shape, joined(a, b, rows))),
        (_, Some((a, b))) if rows == rows_of_b && width == width_of_b => Ok(Tensor::i64(shape, joined(a, b, rows))),
        _ => {
            let message = format!("expected batches of one width, found {:?} and {:?}", a.shape(), b.shape());
            Err(RuntimeError::Failed { runtime: "reference", message })
        }
    }
}

/// An interpreter for long work: prepared kernels, and weights held up to [`CACHED_WEIGHTS_BYTES`].
pub fn caching(graph: &Graph) -> Interpreter<'_> {
    Interpreter::new(graph).prepared().with_cache(CACHED_WEIGHTS_BYTES)
}
