//! What another order of the same sums would do to a graph: where activations are rounded, noise in the last bits of f32
//! moves a number across an edge between two steps now and then, and how far that carries depends on the model.

use super::error::EvalError;
use super::interpreter::Interpreter;
use super::schedule::Course;
use super::tensor::{Feeds, Tensor, Tensors};
use crate::ir::graph::{Def, ValueId};
use crate::ir::ty::Dim;

/// Half of the distance between 1 and the next f32: the most that one operation rounds, relative.
const UNIT_ROUNDOFF: f64 = 1.0 / (1 << 24) as f64;
/// Sums that a vector unit runs side by side, at least (AVX2; NEON with two registers).
const LANES: f64 = 8.0;

impl Interpreter<'_> {
    /// [`Interpreter::call`] with noise on every product, `times` as large as that of sums in another order.
    ///
    /// A sum of n products in 8 lanes is off by a random walk of n / 8 roundings, `2^-24 · √(n / 8)` of the size of the result: the
    /// root mean square of a row stands for it, because a single sum may be small by cancelling. Equal `seed`s give equal noise.
    pub fn call_with_noise(&self, entry: &str, feeds: &Feeds, seed: u64, times: f64) -> Result<Tensors, EvalError> {
        let course = Course::new(self.graph(), entry)?;
        let mut call = self.begin(&course, feeds)?;
        for (place, id) in course.order().iter().enumerate() {
            self.advance(&course, &mut call, place + 1, &mut |_, _| {})?;
            if let (Some(terms), Some(tensor)) = (self.terms(*id, &call.live), call.live.get_mut(id)) {
                *tensor = shaken(tensor, times * (terms as f64 / LANES).sqrt(), seed ^ (id.0 as u64) << 32);
            }
        }
        self.finish(&course, call, &mut |_, _| {})
    }

    /// Products in each sum of a value; `None` when it is none of sums of products.
    fn terms(&self, id: ValueId, live: &std::collections::BTreeMap<ValueId, Tensor>) -> Option<usize> {
        let graph = self.graph();
        let Def::Op(op, args) = &graph.value(id).def else { return None };
        let types: Vec<_> = args.iter().map(|arg| &graph.value(*arg).ty).collect();
        let lengths = op.terms(&types)?;
        // Mixed values are sums over keys, as many as the graph does not say, whose weights sum to 1: a row of the result stands for them.
        let known = lengths.iter().map(Dim::literal).product::<Option<usize>>();
        known.or(live.get(&id).and_then(|x| x.shape().last().copied()))
    }
}

/// Uniform noise with a standard deviation of `roundings · 2^-24` of each row's root mean square.
fn shaken(x: &Tensor, roundings: f64, seed: u64) -> Tensor {
    let width = x.shape().last().copied().unwrap_or(1).max(1);
    let mut state = seed;
    let mut floats = x.as_f32().expect("products are floats").to_vec();
    for row in floats.chunks_mut(width) {
        let square = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
        let size = UNIT_ROUNDOFF * roundings * square.sqrt();
        if size.is_finite() {
            row.iter_mut()
                .for_each(|x| *x = (f64::from(*x) + size * 12f64.sqrt() * (uniform(&mut state) - 0.5)) as f32);
        }
    }
    Tensor::f32(x.shape(), floats)
}

/// The next number of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), from 0 to 1.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
