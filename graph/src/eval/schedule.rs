//! In which order the values of an entry are computed, how long each lives, and the lengths of a call.

use std::collections::{BTreeMap, HashSet};

use super::error::EvalError;
use super::tensor::{Feeds, Tensor};
use crate::ir::graph::{Entry, Graph, Value, ValueId};
use crate::ir::ty::{DType, Dim, Sym, Type};

/// The values of one entry in the order in which they are computed.
pub struct Course {
    pub(super) entry: Entry,
    pub(super) order: Vec<ValueId>,
    /// By value: the place of the last value that reads it; no place for outputs.
    pub(super) last_use: Vec<usize>,
}

impl Course {
    /// Errors: there is no such entry.
    pub fn new(graph: &Graph, entry: &str) -> Result<Course, EvalError> {
        let found = graph.entry(entry).ok_or_else(|| EvalError::NoEntry {
            entry: entry.to_owned(),
            known: graph.entries.iter().map(|e| e.name.clone()).collect(),
        })?;
        let order = graph.order(found);
        let fed: HashSet<ValueId> = found.inputs.iter().map(|port| port.value).collect();
        let mut last_use = vec![usize::MAX; graph.values.len()];
        for (place, id) in order.iter().enumerate().filter(|(_, id)| !fed.contains(id)) {
            graph.args(*id).iter().for_each(|arg| last_use[arg.0] = place);
        }
        found.outputs.iter().for_each(|port| last_use[port.value.0] = usize::MAX);
        Ok(Course { entry: found.clone(), order, last_use })
    }

    /// Every value, arguments before what reads them.
    pub fn order(&self) -> &[ValueId] {
        &self.order
    }
}

/// A call between two values of its [`Course`]: all that the values to come read.
#[derive(Clone, Debug)]
pub struct Halted {
    /// Values that are still read.
    pub live: BTreeMap<ValueId, Tensor>,
    /// The length of every symbol met so far.
    pub lengths: BTreeMap<Sym, usize>,
    /// The place of the next value.
    pub next: usize,
}

/// The length of every symbol, from the shapes of the feeds. Errors: every missing, surplus or ill-shaped feed.
pub(super) fn bind(graph: &Graph, entry: &Entry, feeds: &Feeds) -> Result<BTreeMap<Sym, usize>, EvalError> {
    let mut lengths = entry.fixed.clone();
    let mut problems = Vec::new();
    let mut dims: Vec<(&str, &Type, &Tensor)> = Vec::new();
    for port in &entry.inputs {
        let ty = &graph.value(port.value).ty;
        match feeds.get(&port.name) {
            None => problems.push(format!("{}: expected {ty}, found nothing", port.name)),
            Some(tensor) => {
                let dtype = if tensor.as_f32().is_some() { DType::F32 } else { DType::I64 };
                match dtype == ty.dtype && tensor.shape().len() == ty.shape.len() {
                    true => dims.push((&port.name, ty, tensor)),
                    false => {
                        problems.push(format!(
                            "{}: expected {ty}, found {dtype:?} of shape {:?}",
                            port.name,
                            tensor.shape()
                        ));
                    }
                }
            }
        }
    }
    for name in feeds.keys().filter(|name| entry.input(name).is_none()) {
        problems.push(format!("{name}: no such input"));
    }
    for (_, ty, tensor) in &dims {
        for (dim, length) in ty.shape.iter().zip(tensor.shape()) {
            if let Some(sym) = dim.symbol() {
                lengths.entry(sym).or_insert(*length);
            }
        }
    }
    for (name, ty, tensor) in &dims {
        let fits = ty.shape.iter().zip(tensor.shape()).all(|(dim, length)| dim.resolve(&lengths) == Some(*length));
        if !fits {
            problems.push(format!("{name}: expected {ty} with {}, found {:?}", told(&lengths), tensor.shape()));
        }
    }
    match problems.is_empty() {
        true => Ok(lengths),
        false => Err(EvalError::Feeds { entry: entry.name.clone(), problems }),
    }
}

/// Whether a computed value is what inference said of it. A convolution makes a length that no input tells; it is that of its
/// symbol from then on.
///
/// Errors: another shape or element type, with the lengths of the call.
pub(super) fn check(value: &Value, found: &Tensor, lengths: &mut BTreeMap<Sym, usize>) -> Result<(), EvalError> {
    let Type { dtype, shape } = &value.ty;
    let mut fits = |dim: &Dim, length: usize| match (dim.literal(), dim.symbol()) {
        (Some(n), _) => n == length,
        (None, Some(sym)) => *lengths.entry(sym).or_insert(length) == length,
        (None, None) => dim.resolve(lengths) == Some(length),
    };
    let is_shape = shape.len() == found.shape().len() && shape.iter().zip(found.shape()).all(|(dim, n)| fits(dim, *n));
    match is_shape && (*dtype == DType::F32) == found.as_f32().is_some() {
        true => Ok(()),
        false => Err(EvalError::Shape {
            value: value.name.clone(),
            expected: value.ty.to_string(),
            lengths: told(lengths),
            found: found.shape().to_vec(),
        }),
    }
}

/// As `batch = 1, enc = 3`.
fn told(lengths: &BTreeMap<Sym, usize>) -> String {
    lengths.iter().map(|(sym, n)| format!("{} = {n}", sym.0)).collect::<Vec<String>>().join(", ")
}

/// An input that an entry does not list: nothing flows through it, so one of its lengths is fixed to 0.
pub(super) fn empty(ty: &Type, lengths: &BTreeMap<Sym, usize>) -> Tensor {
    let shape: Vec<usize> = ty
        .shape
        .iter()
        .map(|dim| dim.resolve(lengths).expect("verify() lets an entry leave out only inputs of known, empty shape"))
        .collect();
    assert!(shape.contains(&0), "verify() lets an entry leave out only empty inputs");
    match ty.dtype {
        DType::F32 => Tensor::f32(shape, Vec::new()),
        DType::I64 => Tensor::i64(shape, Vec::new()),
    }
}
