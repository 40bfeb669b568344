//! All samples through a graph, halting before each value that is asked for.
//!
//! Between two halts the caller may replace weights that nothing computed so far has read: so the second half of a model
//! is calibrated on what the quantized first half says. What the values to come still read waits in a scratch file, one
//! record per sample, so memory holds a few samples and one activation whatever their number.

use std::collections::BTreeMap;
use std::io;

use graph::eval::{Course, Halted, Interpreter};
use graph::{Blob, FloatType, Graph, Progress, Scratch, Sym, Tensor, Tensors, ValueId};
use rayon::prelude::*;

use super::gram::Gram;
use super::samples::Samples;
use crate::error::CalibrationError;

/// Samples whose rows are in memory at once; fixed, so that sums do not depend on the number of threads.
const AT_ONCE: usize = 16;

/// Bytes of weights that one stage keeps as f32: a stage reads few, and each for every sample.
const STAGE_WEIGHTS_BYTES: usize = 512 << 20;

/// Samples on their way.
pub struct Walk<'a> {
    samples: &'a Samples<'a>,
    course: Course,
    place_of: BTreeMap<ValueId, usize>,
    /// By sample; empty before the first stage.
    waiting: Vec<Waiting>,
    at: usize,
    dir: &'a std::path::Path,
}

impl<'a> Walk<'a> {
    /// Before the first value. `dir` takes the scratch files.
    pub fn new(
        graph: &Graph,
        samples: &'a Samples<'a>,
        dir: &'a std::path::Path,
    ) -> Result<Walk<'a>, CalibrationError> {
        let course = Course::new(graph, samples.entry)?;
        let place_of = course.order().iter().enumerate().map(|(place, id)| (*id, place)).collect();
        Ok(Walk { samples, course, place_of, waiting: Vec::new(), at: 0, dir })
    }

    /// The place of a value in the order in which values are computed; `None` when the entry does not compute it.
    pub fn place(&self, id: ValueId) -> Option<usize> {
        self.place_of.get(&id).copied()
    }

    /// Runs all samples up to and including `id` and gives its floats to `each`, some samples at a time and in order.
    ///
    /// `id` must not lie before the value of the call before. Errors: a value that is not finite, with its sample.
    pub fn until(
        &mut self,
        graph: &Graph,
        id: ValueId,
        progress: &dyn Progress,
        mut each: impl FnMut(&[f32]),
    ) -> Result<(), CalibrationError> {
        let place = self.place_of[&id];
        assert!(place + 1 > self.at, "stages follow the order of the values");
        let interpreter = Interpreter::new(graph).prepared().with_cache(STAGE_WEIGHTS_BYTES);
        let scratch = Scratch::in_dir(self.dir)?;
        let mut waiting = Vec::with_capacity(self.samples.count);
        let one = |sample: usize| -> Result<(Tensor, Waiting), CalibrationError> {
            let mut call = self.halted(&interpreter, sample)?;
            interpreter.advance(&self.course, &mut call, place + 1, &mut |_, _| {})?;
            let found = call.live.get(&id).expect("something reads it, or it would not be asked for").clone();
            Ok((found, Waiting::new(&call, &scratch)?))
        };
        for from in (0..self.samples.count).step_by(AT_ONCE) {
            let to = self.samples.count.min(from + AT_ONCE);
            let done: Result<Vec<(Tensor, Waiting)>, CalibrationError> = (from..to).into_par_iter().map(one).collect();
            for (offset, (tensor, record)) in done?.into_iter().enumerate() {
                let floats = tensor.as_f32().expect("a Linear reads floats");
                if let Some(value) = floats.iter().find(|x| !x.is_finite()) {
                    let name = graph.value(id).name.clone();
                    return Err(CalibrationError::NotFinite { value: name, found: *value, sample: from + offset });
                }
                each(floats);
                waiting.push(record);
            }
            progress.advance((to - from) as u64);
        }
        (self.waiting, self.at) = (waiting, place + 1);
        Ok(())
    }
}

impl Walk<'_> {
    /// A sample where it halted, or before the first value.
    fn halted(&self, interpreter: &Interpreter, sample: usize) -> Result<Halted, CalibrationError> {
        match self.waiting.get(sample) {
            Some(waiting) => Ok(waiting.read()?),
            None => Ok(interpreter.begin(&self.course, &(self.samples.feeds)(sample))?),
        }
    }

    /// Runs the first `count` samples from where they halted to their end, without moving them, and shows their outputs to
    /// `watch`, in any order. `graph`: that of the walk with other weights for values to come.
    pub fn rest(
        &self,
        graph: &Graph,
        count: usize,
        watch: &(dyn Fn(usize, &Tensors) + Sync),
    ) -> Result<(), CalibrationError> {
        let interpreter = Interpreter::new(graph).prepared().with_cache(STAGE_WEIGHTS_BYTES);
        (0..count.min(self.samples.count)).into_par_iter().try_for_each(|sample| {
            let call = self.halted(&interpreter, sample)?;
            watch(sample, &interpreter.finish(&self.course, call, &mut |_, _| {})?);
            Ok(())
        })
    }

    /// The second moments of a value; see [`Walk::until`].
    pub fn gram(&mut self, graph: &Graph, id: ValueId, progress: &dyn Progress) -> Result<Gram, CalibrationError> {
        let width = graph.value(id).ty.shape.last().and_then(|dim| dim.literal());
        let mut gram = Gram::new(width.expect("a Linear reads rows of a literal width"));
        self.until(graph, id, progress, |rows| gram.add(rows))?;
        Ok(gram)
    }
}

/// A halted call whose numbers wait on disk.
struct Waiting {
    next: usize,
    lengths: BTreeMap<Sym, usize>,
    /// Value, whether it is f32 rather than i64, and shape.
    tensors: Vec<(ValueId, bool, Vec<usize>)>,
    /// Their elements, little-endian, one tensor after the other.
    elements: Blob,
}

impl Waiting {
    fn new(call: &Halted, scratch: &Scratch) -> io::Result<Waiting> {
        let mut bytes = Vec::new();
        let mut tensors = Vec::new();
        for (id, tensor) in &call.live {
            match (tensor.as_f32(), tensor.as_i64()) {
                (Some(floats), _) => {
                    let from = bytes.len();
                    bytes.resize(from + 4 * floats.len(), 0);
                    FloatType::F32.encode(floats, &mut bytes[from..]);
                }
                (None, ids) => ids.unwrap_or_default().iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            }
            tensors.push((*id, tensor.as_f32().is_some(), tensor.shape().to_vec()));
        }
        let room = scratch.reserve(bytes.len() as u64)?;
        room.write_at(0, &bytes)?;
        Ok(Waiting { next: call.next, lengths: call.lengths.clone(), tensors, elements: room.into_blob() })
    }

    fn read(&self) -> io::Result<Halted> {
        let bytes = self.elements.read()?;
        let mut rest = &bytes[..];
        let mut live = BTreeMap::new();
        for (id, is_float, shape) in &self.tensors {
            let count: usize = shape.iter().product();
            let (own, others) = rest.split_at(count * if *is_float { 4 } else { 8 });
            rest = others;
            let tensor = match is_float {
                true => Tensor::f32(&shape[..], own.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
                false => Tensor::i64(&shape[..], own.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            };
            live.insert(*id, tensor);
        }
        Ok(Halted { live, lengths: self.lengths.clone(), next: self.next })
    }
}
