//! What holds of an op whatever numbers it meets: passes ask here and keep no lists of ops of their own.
//!
//! Every match names every op, so that a new one does not compile until all of this is said of it.

use super::op::{Binary, Granularity, Op};
use super::ty::{Dim, Type};

/// Where the elements of a result come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elements {
    /// Arithmetic makes them.
    Computed,
    /// Each is an element of one of the arguments from this one on; rounding them and rounding the result is the same.
    Moved {
        /// The first argument that gives elements.
        from: usize,
    },
    /// Each is an element of a table, found by an id or a distance.
    LookedUp {
        /// The argument that is the table.
        table: usize,
    },
    /// They follow from positions or from a padding mask alone, and no argument holds them.
    Told,
}

/// What an op does with an argument, which is what a weight there is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// An activation, or a number of elementwise arithmetic.
    Operand,
    /// Ids, positions, choices or a padding mask: integers.
    Integers,
    /// The second factor of a matrix product.
    Matrix,
    /// The kernel of a convolution.
    Kernel,
    /// A table whose rows are found by id.
    Table,
    /// A table whose rows are found by distance.
    Distances,
    /// Multiplies what a norm made.
    Gain,
    /// Added in the end.
    Bias,
}

/// An axis of an argument that has length 1 in a result is stretched, and aligned at the end.
fn aligned(axis: usize, arg: &Type, result: &Type) -> Option<usize> {
    (axis + result.shape.len()).checked_sub(arg.shape.len())
}

/// The same unless the axis is the last one, over which the op sums or normalizes.
fn all_but_last(axis: usize, arg: &Type) -> Option<usize> {
    (axis + 1 < arg.shape.len()).then_some(axis)
}

/// The product of lengths: the known factor and the symbolic ones, sorted.
fn count(shape: &[Dim]) -> (usize, Vec<&Dim>) {
    let known = shape.iter().filter_map(Dim::literal).product();
    let mut symbolic: Vec<&Dim> = shape.iter().filter(|dim| dim.literal().is_none()).collect();
    symbolic.sort();
    (known, symbolic)
}

/// The axis of `to` that holds the same places as axis `axis` of `from`, of as many elements.
fn kept_by_reshape(axis: usize, from: &[Dim], to: &[Dim]) -> Option<usize> {
    let before = count(&from[..axis]);
    (0..to.len()).find(|b| to[*b] == from[axis] && count(&to[..*b]) == before)
}

impl Op {
    /// Where the elements of the result come from.
    pub fn elements(&self) -> Elements {
        match self {
            Op::Reshape(_) | Op::Broadcast(_) | Op::Slice { .. } | Op::Transpose(_) | Op::Concat { .. } => {
                Elements::Moved { from: 0 }
            }
            Op::Select => Elements::Moved { from: 1 },
            Op::Embed => Elements::LookedUp { table: 1 },
            Op::RelativeBias { .. } => Elements::LookedUp { table: 0 },
            Op::Positions { .. } | Op::Mask { .. } | Op::PaddingMask { .. } => Elements::Told,
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
            | Op::Rope(_)
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_)
            | Op::Attention { .. } => Elements::Computed,
        }
    }

    /// What the op does with its argument number `place`.
    pub fn reads(&self, place: usize) -> Reads {
        match (self, place) {
            (Op::Linear | Op::MatMul, 1) => Reads::Matrix,
            (Op::Conv { .. } | Op::Conv2d { .. }, 1) => Reads::Kernel,
            (Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::GroupNorm { .. }, 1) => Reads::Gain,
            (Op::Linear | Op::Conv { .. } | Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::GroupNorm { .. }, 2..) => {
                Reads::Bias
            }
            (Op::Embed, 1..) => Reads::Table,
            (Op::RelativeBias { .. }, _) => Reads::Distances,
            (Op::Embed | Op::Select, 0) | (Op::Rope(_), 1..) | (Op::PaddingMask { .. }, _) => Reads::Integers,
            (
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
                | Op::Positions { .. }
                | Op::Rope(_)
                | Op::Mask { .. }
                | Op::DynamicQuant(_)
                | Op::FakeQuant(_)
                | Op::Attention { .. },
                _,
            ) => Reads::Operand,
        }
    }

    /// The sets of arguments in which the result is linear: all of one set times c give the result times c, for any c, but
    /// for rounding. `arity`: how many arguments there are.
    pub fn linear_in(&self, arity: usize) -> Vec<Vec<usize>> {
        let there = |sets: &[&[usize]]| -> Vec<Vec<usize>> {
            sets.iter().map(|set| set.iter().copied().filter(|arg| *arg < arity).collect()).collect()
        };
        match self {
            Op::MatMul | Op::Conv2d { .. } | Op::Binary(Binary::Mul) => there(&[&[0], &[1]]),
            Op::Linear | Op::Conv { .. } => there(&[&[0, 2], &[1, 2]]),
            Op::Embed => there(&[&[1]]),
            Op::Binary(Binary::Add | Binary::Sub) => there(&[&[0, 1]]),
            Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::GroupNorm { .. } | Op::Select => there(&[&[1, 2]]),
            Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Slice { .. }
            | Op::Transpose(_)
            | Op::Rope(_)
            | Op::RelativeBias { .. }
            | Op::Mean { .. }
            | Op::Binary(Binary::Div) => there(&[&[0]]),
            Op::Concat { .. } => vec![(0..arity).collect()],
            Op::Attention { .. } => there(&[&[2]]),
            // A ReLU takes factors above 0 only, and steps that follow from the argument have an edge at every power of two.
            Op::Unary(_)
            | Op::Softmax
            | Op::Positions { .. }
            | Op::Mask { .. }
            | Op::PaddingMask { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_) => Vec::new(),
        }
    }

    /// The axis of the result that is position-wise along axis `axis` of argument `arg`: place p of it depends on place p of
    /// that argument and on no other place. `None` where the op mixes, moves or drops the places of that axis.
    ///
    /// `args`, `result`: the types that inference gave.
    pub fn follows(&self, arg: usize, axis: usize, args: &[&Type], result: &Type) -> Option<usize> {
        let (x, rank) = (args[arg], result.shape.len());
        match self {
            Op::MatMul => match (arg, x.shape.len() - axis) {
                (0, 1) | (1, 2) => None,
                (_, from_end) => rank.checked_sub(from_end),
            },
            Op::Linear => match (arg, axis) {
                (0, _) => all_but_last(axis, x),
                (1, 1) => None,
                (_, _) => Some(rank - 1),
            },
            Op::Embed => match (arg, axis) {
                (0, _) => Some(axis),
                (_, 0) => None,
                (_, _) => Some(rank - 1),
            },
            Op::Binary(_) | Op::Unary(_) | Op::Select | Op::FakeQuant(_) | Op::Broadcast(_) => aligned(axis, x, result),
            Op::Softmax | Op::DynamicQuant(Granularity::Token | Granularity::Block(_)) => all_but_last(axis, x),
            Op::DynamicQuant(Granularity::Tensor) => None,
            Op::Mean { axis: summed } => (axis != *summed).then_some(axis),
            Op::RmsNorm { .. } | Op::LayerNorm { .. } => match arg {
                0 => all_but_last(axis, x),
                _ => Some(rank - 1),
            },
            Op::GroupNorm { .. } => match (arg, axis) {
                (0, 0) => Some(0),
                (0, _) => None,
                (_, _) => Some(1),
            },
            Op::Conv { stride, pad, .. } => {
                let is_pointwise = *stride == 1 && *pad == 0 && args[1].shape[2].literal() == Some(1);
                match (arg, axis) {
                    (0, 0) => Some(0),
                    (0, 2) if is_pointwise => Some(2),
                    (0, _) => None,
                    (_, 0) => Some(1),
                    (_, _) => None,
                }
            }
            Op::Conv2d { stride, pad, groups } => {
                let place = |i: usize| stride[i] == 1 && pad[i] == 0 && args[1].shape[i + 2].literal() == Some(1);
                let one_channel = |x: &Type| x.shape[1].literal() == Some(*groups);
                match (arg, axis) {
                    (0, 0) => Some(0),
                    // Each channel is a group of its own.
                    (0, 1) => (one_channel(x) && one_channel(result)).then_some(1),
                    (0, 2 | 3) => place(axis - 2).then_some(axis),
                    (1, 0) => Some(1),
                    (_, _) => None,
                }
            }
            Op::Reshape(to) => kept_by_reshape(axis, &x.shape, to),
            Op::Slice { axis: cut, start, step, len } => {
                let is_whole = *start == 0 && *step == 1 && *len == x.shape[axis];
                (axis != *cut || is_whole).then_some(axis)
            }
            Op::Transpose(perm) => perm.iter().position(|from| *from == axis),
            Op::Concat { axis: joined } => (axis != *joined).then_some(axis),
            Op::Rope(_) => match (arg, axis) {
                (0, 3) => None,
                (0, _) => Some(axis),
                (_, _) => Some(2),
            },
            Op::PaddingMask { .. } => Some(if axis == 0 { 0 } else { 3 }),
            Op::RelativeBias { .. } => (axis == 1).then_some(1),
            Op::Attention { .. } => match (arg, axis) {
                (0, 3) | (1 | 2, 2) | (1, 3) => None,
                (1 | 2, 1) => (x.shape[1] == result.shape[1]).then_some(1),
                // A bias broadcasts to [b, h, q, k], of which all keys are summed over.
                (3.., _) => aligned(axis, x, result).filter(|axis| *axis < 3),
                (_, _) => Some(axis),
            },
            // They have no arguments.
            Op::Positions { .. } | Op::Mask { .. } => None,
        }
    }

    /// The lengths whose product tells how many products each sum of the result adds up; `None` of what adds up no products.
    ///
    /// Of an attention they are those of its scores, a head's width: the weights of the keys, which it adds up after, sum to 1.
    pub fn terms(&self, args: &[&Type]) -> Option<Vec<Dim>> {
        match self {
            Op::MatMul | Op::Linear | Op::Attention { .. } => Some(args[0].shape.last().into_iter().cloned().collect()),
            Op::Conv { .. } | Op::Conv2d { .. } => Some(args[1].shape[1..].to_vec()),
            Op::Embed
            | Op::Binary(_)
            | Op::Unary(_)
            | Op::Softmax
            | Op::Mean { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Slice { .. }
            | Op::Transpose(_)
            | Op::Concat { .. }
            | Op::Select
            | Op::Positions { .. }
            | Op::Rope(_)
            | Op::Mask { .. }
            | Op::PaddingMask { .. }
            | Op::RelativeBias { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_) => None,
        }
    }

    /// The number that a norm over the last axis adds before it takes the root; `None` of what is no such norm.
    pub fn eps(&self) -> Option<f32> {
        match self {
            Op::RmsNorm { eps } | Op::LayerNorm { eps } => Some(*eps),
            Op::MatMul
            | Op::Linear
            | Op::Embed
            | Op::Binary(_)
            | Op::Unary(_)
            | Op::Softmax
            | Op::Mean { .. }
            | Op::GroupNorm { .. }
            | Op::Conv { .. }
            | Op::Conv2d { .. }
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Slice { .. }
            | Op::Transpose(_)
            | Op::Concat { .. }
            | Op::Select
            | Op::Positions { .. }
            | Op::Rope(_)
            | Op::Mask { .. }
            | Op::PaddingMask { .. }
            | Op::RelativeBias { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_)
            | Op::Attention { .. } => None,
        }
    }

    /// What a mask gives to hidden keys; `None` for what is no mask.
    pub fn hidden(&self) -> Option<f32> {
        match self {
            Op::Mask { hidden, .. } | Op::PaddingMask { hidden } => Some(*hidden),
            Op::MatMul
            | Op::Linear
            | Op::Embed
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
            | Op::Positions { .. }
            | Op::Rope(_)
            | Op::RelativeBias { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_)
            | Op::Attention { .. } => None,
        }
    }

    /// The same op with other lengths. Errors: those of `length`.
    pub fn with_lengths<E>(&self, length: impl Fn(&Dim) -> Result<Dim, E>) -> Result<Op, E> {
        let shape = |dims: &[Dim]| dims.iter().map(&length).collect::<Result<Vec<Dim>, E>>();
        Ok(match self {
            Op::Reshape(to) => Op::Reshape(shape(to)?),
            Op::Broadcast(to) => Op::Broadcast(shape(to)?),
            Op::Slice { axis, start, step, len } => {
                Op::Slice { axis: *axis, start: *start, step: *step, len: length(len)? }
            }
            Op::Positions { start, len } => Op::Positions { start: length(start)?, len: length(len)? },
            Op::Mask { visible, start, q, k, hidden } => {
                Op::Mask { visible: *visible, start: length(start)?, q: length(q)?, k: length(k)?, hidden: *hidden }
            }
            Op::RelativeBias { buckets, max_distance, bidirectional, start, q, k } => Op::RelativeBias {
                buckets: *buckets,
                max_distance: *max_distance,
                bidirectional: *bidirectional,
                start: length(start)?,
                q: length(q)?,
                k: length(k)?,
            },
            // The name of a length that a convolution makes is no length.
            Op::Conv { .. }
            | Op::Conv2d { .. }
            | Op::MatMul
            | Op::Linear
            | Op::Embed
            | Op::Binary(_)
            | Op::Unary(_)
            | Op::Softmax
            | Op::Mean { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Transpose(_)
            | Op::Concat { .. }
            | Op::Select
            | Op::Rope(_)
            | Op::PaddingMask { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_)
            | Op::Attention { .. } => self.clone(),
        })
    }

    /// The same op on arguments without their first axis, the batch. `None` where the op needs that axis, as a convolution
    /// does, or works along it.
    ///
    /// The target of a Reshape or Broadcast is a shape of its own and stays.
    pub fn without_batch(&self) -> Option<Op> {
        match self {
            Op::Slice { axis, start, step, len } => {
                Some(Op::Slice { axis: axis.checked_sub(1)?, start: *start, step: *step, len: len.clone() })
            }
            Op::Concat { axis } => Some(Op::Concat { axis: axis.checked_sub(1)? }),
            Op::Mean { axis } => Some(Op::Mean { axis: axis.checked_sub(1)? }),
            Op::Transpose(perm) => match perm.split_first() {
                Some((0, rest)) => Some(Op::Transpose(rest.iter().map(|axis| axis - 1).collect())),
                _ => None,
            },
            Op::GroupNorm { .. }
            | Op::Conv { .. }
            | Op::Conv2d { .. }
            | Op::Rope(_)
            | Op::PaddingMask { .. }
            | Op::Attention { .. } => None,
            Op::MatMul
            | Op::Linear
            | Op::Embed
            | Op::Binary(_)
            | Op::Unary(_)
            | Op::Softmax
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Select
            | Op::Positions { .. }
            | Op::Mask { .. }
            | Op::RelativeBias { .. }
            | Op::DynamicQuant(_)
            | Op::FakeQuant(_) => Some(self.clone()),
        }
    }
}
