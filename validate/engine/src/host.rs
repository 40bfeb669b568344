//! What is computed on the host: all integers, and the tensors that follow from lengths, positions and masks alone.
//!
//! Integers live here and floats in ggml; what crosses is an [`Upload`].

use std::collections::BTreeMap;
use std::rc::Rc;

use graph::{Def, Feeds, Graph, Op, PAST, Port, Rope, Sym, Tensor, ValueId, Visible, relative_bucket};

use crate::error::EngineError;
use crate::ggml;

/// A tensor of a graph that is written before the graph runs.
pub(crate) struct Upload {
    pub(crate) tensor: ggml::Tensor,
    pub(crate) recipe: Recipe,
    /// Whether it differs from one step to the next of the same lengths.
    pub(crate) each_step: bool,
}

/// How its values come to be.
pub(crate) enum Recipe {
    /// These floats.
    Fixed(Vec<f32>),
    /// Floats that are fed.
    Fed(ValueId),
    /// Integers as I32, each a row of a table of so many.
    Ids { of: ValueId, rows: usize },
    /// Integers as I32.
    Positions(ValueId),
    /// 1 where an integer is not 0.
    Choice(ValueId),
    /// 0 where an integer is not 0, else a number.
    Padding { of: ValueId, hidden: f32 },
    /// 0 where a key is visible, else a number; `first` is added to the position of every query.
    Mask { visible: Visible, start: graph::Dim, q: usize, k: usize, hidden: f32 },
    /// T5's bias.
    Bias { table: Rc<Vec<f32>>, heads: usize, bucket: Bucket, start: graph::Dim, q: usize, k: usize },
    /// Rows of a cache for new tokens, from the first free one on.
    CacheRows { new: usize },
    /// Single elements of a cache `[capacity, width, heads, batch]` for values `[width, new, heads, batch]`.
    CacheCells { capacity: usize, new: usize, width: usize, rest: usize },
}

/// Which row of a bias table a distance has.
#[derive(Clone, Copy)]
pub(crate) struct Bucket {
    pub(crate) buckets: usize,
    pub(crate) max_distance: usize,
    pub(crate) bidirectional: bool,
}

/// What the values of a call depend on.
pub(crate) struct Call<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) inputs: &'a [Port],
    pub(crate) feeds: &'a Feeds,
    /// The shapes' lengths: keys are counted with the places of the cache that are still free.
    pub(crate) lengths: &'a BTreeMap<Sym, usize>,
    /// Tokens before this call.
    pub(crate) past: usize,
}

impl Call<'_> {
    fn dim(&self, dim: &graph::Dim) -> usize {
        dim.resolve(self.lengths).expect("the lowering resolved it")
    }

    /// A position: counted from the tokens that are there.
    fn start(&self, dim: &graph::Dim) -> usize {
        let mut lengths = self.lengths.clone();
        lengths.insert(PAST, self.past);
        dim.resolve(&lengths).expect("the lowering resolved it")
    }

    fn fed(&self, id: ValueId) -> Option<&Tensor> {
        self.feeds.get(&self.inputs.iter().find(|port| port.value == id)?.name)
    }

    /// An integer tensor.
    fn ints(&self, id: ValueId) -> Tensor {
        if let Some(fed) = self.fed(id) {
            return fed.clone();
        }
        let Def::Op(op, args) = &self.graph.value(id).def else { unreachable!("the lowering took only fed integers") };
        let x = |i: usize| self.ints(args[i]);
        match op {
            Op::Positions { start, len } => {
                let (start, len) = (self.start(start), self.dim(len));
                Tensor::i64([len], (0..len).map(|i| (start + i) as i64).collect())
            }
            Op::Reshape(to) => x(0).reshaped(to.iter().map(|d| self.dim(d)).collect::<Vec<_>>()),
            Op::Broadcast(to) => {
                let (x, to): (_, Vec<usize>) = (x(0), to.iter().map(|d| self.dim(d)).collect());
                let missing = to.len() - x.shape().len();
                picked(&x, to, |at| {
                    let own = at[missing..].iter().zip(x.shape());
                    own.fold(0, |flat, (i, n)| flat * n + if *n == 1 { 0 } else { *i })
                })
            }
            Op::Slice { axis, start, step, len } => {
                let x = x(0);
                let mut to = x.shape().to_vec();
                to[*axis] = self.dim(len);
                picked(&x, to, |at| {
                    let place = |i: usize, n: usize| if i == *axis { start + n * step } else { n };
                    at.iter().enumerate().zip(x.shape()).fold(0, |flat, ((i, n), len)| flat * len + place(i, *n))
                })
            }
            Op::Transpose(perm) => {
                let x = x(0);
                let mut own = vec![0; perm.len()];
                let to: Vec<usize> = perm.iter().map(|i| x.shape()[*i]).collect();
                picked(&x, to, |at| {
                    perm.iter().zip(at).for_each(|(axis, n)| own[*axis] = *n);
                    own.iter().zip(x.shape()).fold(0, |flat, (n, len)| flat * len + n)
                })
            }
            Op::Concat { axis } => {
                let parts: Vec<Tensor> = args.iter().map(|arg| self.ints(*arg)).collect();
                let mut to = parts[0].shape().to_vec();
                to[*axis] = parts.iter().map(|x| x.shape()[*axis]).sum();
                let outer: usize = to[..*axis].iter().product();
                let mut out = Vec::with_capacity(to.iter().product());
                for i in 0..outer {
                    for part in &parts {
                        let run: usize = part.shape()[*axis..].iter().product();
                        out.extend_from_slice(&part.as_i64().expect("integers")[i * run..(i + 1) * run]);
                    }
                }
                Tensor::i64(to, out)
            }
            other => unreachable!("the lowering refuses integers from {other}"),
        }
    }

    /// Writes a tensor. Errors: an id that is no row of its table.
    pub(crate) fn write(&self, upload: &Upload) -> Result<(), EngineError> {
        let to = &upload.tensor;
        let ints = |id: &ValueId| self.ints(*id);
        let floats = |id: &ValueId, f: &dyn Fn(i64) -> f32| -> Vec<f32> {
            ints(id).as_i64().expect("integers").iter().map(|x| f(*x)).collect()
        };
        match &upload.recipe {
            Recipe::Fixed(values) => to.write_f32(values),
            Recipe::Fed(id) => to.write_f32(self.fed(*id).and_then(Tensor::as_f32).expect("checked before")),
            Recipe::Ids { of, rows } => {
                let ids = ints(of);
                let ids = ids.as_i64().expect("integers");
                if let Some((place, id)) = ids.iter().enumerate().find(|(_, id)| !(0..*rows as i64).contains(*id)) {
                    return Err(EngineError::Input {
                        name: format!("{}, place {place}", self.graph.value(*of).name),
                        expected: format!("an id of 0 to {}", rows - 1),
                        found: id.to_string(),
                    });
                }
                to.write(0, &ids.iter().flat_map(|id| (*id as i32).to_ne_bytes()).collect::<Vec<u8>>());
            }
            Recipe::Positions(id) => {
                let ids = ints(id);
                let ids = ids.as_i64().expect("integers").iter();
                to.write(0, &ids.flat_map(|id| (*id as i32).to_ne_bytes()).collect::<Vec<u8>>());
            }
            Recipe::Choice(id) => to.write_f32(&floats(id, &|x| f32::from(u8::from(x != 0)))),
            Recipe::Padding { of, hidden } => to.write_f32(&floats(of, &|x| if x != 0 { 0.0 } else { *hidden })),
            Recipe::Mask { visible, start, q, k, hidden } => {
                let start = self.start(start);
                let cell = |i: usize| if visible.sees(start + i / k, i % k) { 0.0 } else { *hidden };
                to.write_f32(&(0..q * k).map(cell).collect::<Vec<f32>>());
            }
            Recipe::Bias { table, heads, bucket, start, q, k } => {
                to.write_f32(&bias(table, *heads, *bucket, self.start(start), *q, *k));
            }
            Recipe::CacheRows { new } => {
                let rows = (self.past..self.past + new).flat_map(|row| (row as i64).to_ne_bytes());
                to.write(0, &rows.collect::<Vec<u8>>());
            }
            Recipe::CacheCells { capacity, new, width, rest } => {
                let mut cells = Vec::with_capacity(8 * rest * new * width);
                for outer in 0..*rest {
                    for token in 0..*new {
                        for place in 0..*width {
                            let cell = (outer * width + place) * capacity + self.past + token;
                            cells.extend_from_slice(&(cell as i64).to_ne_bytes());
                        }
                    }
                }
                to.write(0, &cells);
            }
        }
        Ok(())
    }
}

/// Integers of `x` under another shape; `at` tells the flat place of an index.
fn picked(x: &Tensor, to: Vec<usize>, mut at: impl FnMut(&[usize]) -> usize) -> Tensor {
    let data = x.as_i64().expect("integers");
    let mut index = vec![0; to.len()];
    let count = to.iter().product();
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(data[at(&index)]);
        for axis in (0..to.len()).rev() {
            index[axis] += 1;
            if index[axis] < to[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Tensor::i64(to, out)
}

/// `[heads, q, k]`: each row is a window of one line of all distances.
fn bias(table: &[f32], heads: usize, bucket: Bucket, start: usize, q: usize, k: usize) -> Vec<f32> {
    let Bucket { buckets, max_distance, bidirectional } = bucket;
    // From the first key and the last query to the last key and the first query.
    let first = -((start + q - 1) as i64);
    let rows: Vec<usize> =
        (0..(q + k - 1) as i64).map(|i| relative_bucket(first + i, buckets, max_distance, bidirectional)).collect();
    let mut out = Vec::with_capacity(heads * q * k);
    for head in 0..heads {
        let line: Vec<f32> = rows.iter().map(|row| table[row * heads + head]).collect();
        for query in 0..q {
            out.extend_from_slice(&line[q - 1 - query..][..k]);
        }
    }
    out
}

/// What a factor of `freq_factors` divides a position by: the inverse of the radians a position.
pub(crate) fn rope_factors(rope: &Rope) -> Vec<f32> {
    rope.frequencies().iter().map(|f| (1.0 / f64::from(*f)) as f32).collect()
}
