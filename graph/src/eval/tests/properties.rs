//! What [`crate::ir::properties`] says of each op, seen in its numbers.

use std::collections::BTreeSet;

use super::prepared::drawn;
use super::*;
use crate::ir::graph::ValueId;
use crate::ir::op::{Binary, Layout, Rope, Unary};
use crate::ir::properties::Elements;

/// An op with arguments of which no two axes are alike by chance. Integers are fed as 0 and 1, and two more.
fn samples() -> Vec<(Op, Vec<Type>)> {
    let f = |shape: &[usize]| Type::f32(shape.to_vec());
    let i = |shape: &[usize]| Type::i64(shape.to_vec());
    let dims = |shape: &[usize]| shape.iter().map(|n| Dim::from(*n)).collect::<Vec<Dim>>();
    let rope = |layout| Op::Rope(Rope { theta: 10.0, factor: 1.0, dims: 4, layout });
    let conv = |stride, pad| Op::Conv { stride, pad, length: None };
    let conv2d = |stride, pad, groups| Op::Conv2d { stride, pad, groups };
    let [q, k, v] = [f(&[2, 4, 3, 5]), f(&[2, 2, 6, 5]), f(&[2, 2, 6, 7])];
    let attention = Op::Attention { scale: 0.3, softcap: Some(2.0) };
    let lengths = |n: usize| (Dim::from(1), Dim::from(n), Dim::from(5));
    let (start, few, many) = lengths(3);
    vec![
        (Op::MatMul, vec![f(&[2, 1, 3, 4]), f(&[5, 4, 6])]),
        (Op::Linear, vec![f(&[2, 3, 4]), f(&[5, 4]), f(&[5])]),
        (Op::Embed, vec![i(&[2, 3]), f(&[4, 5])]),
        (Op::Binary(Binary::Add), vec![f(&[2, 3, 4]), f(&[3, 1])]),
        (Op::Binary(Binary::Sub), vec![f(&[4]), f(&[2, 3, 4])]),
        (Op::Binary(Binary::Mul), vec![f(&[2, 3, 4]), f(&[2, 3, 4])]),
        (Op::Binary(Binary::Div), vec![f(&[2, 3, 4]), f(&[4])]),
        (Op::Unary(Unary::Gelu), vec![f(&[2, 3])]),
        (Op::Softmax, vec![f(&[2, 3, 4])]),
        (Op::Mean { axis: 1 }, vec![f(&[2, 3, 4])]),
        (Op::Mean { axis: 2 }, vec![f(&[2, 3, 4])]),
        (Op::RmsNorm { eps: 1e-3 }, vec![f(&[2, 3, 4]), f(&[4])]),
        (Op::LayerNorm { eps: 1e-3 }, vec![f(&[2, 3, 4]), f(&[4]), f(&[4])]),
        (Op::GroupNorm { groups: 2, eps: 1e-3 }, vec![f(&[2, 4, 3]), f(&[4]), f(&[4])]),
        (conv(2, 1), vec![f(&[2, 3, 7]), f(&[5, 3, 3]), f(&[5])]),
        (conv(1, 0), vec![f(&[2, 3, 7]), f(&[5, 3, 1])]),
        (conv2d([2, 1], [1, 0], 2), vec![f(&[2, 4, 7, 5]), f(&[6, 2, 3, 1])]),
        (conv2d([1, 1], [1, 1], 3), vec![f(&[2, 3, 4, 5]), f(&[3, 1, 3, 3])]),
        (Op::Reshape(dims(&[2, 3, 2, 2, 5])), vec![f(&[2, 3, 4, 5])]),
        (Op::Reshape(dims(&[6, 4])), vec![f(&[2, 3, 4])]),
        (Op::Broadcast(dims(&[2, 3, 4])), vec![f(&[3, 1])]),
        (Op::Slice { axis: 1, start: 1, step: 2, len: 2.into() }, vec![f(&[2, 5, 3])]),
        (Op::Slice { axis: 1, start: 0, step: 1, len: 5.into() }, vec![f(&[2, 5, 3])]),
        (Op::Transpose(vec![2, 0, 1]), vec![f(&[2, 3, 4])]),
        (Op::Concat { axis: 1 }, vec![f(&[2, 3, 4]), f(&[2, 1, 4])]),
        (Op::Select, vec![i(&[3, 1]), f(&[2, 3, 4]), f(&[4])]),
        (Op::Positions { start: start.clone(), len: few.clone() }, Vec::new()),
        (rope(Layout::Half), vec![f(&[2, 3, 4, 6]), i(&[4])]),
        (rope(Layout::Pairs), vec![f(&[2, 3, 4, 6]), i(&[4])]),
        (
            Op::Mask { visible: Visible::CAUSAL, start: start.clone(), q: few.clone(), k: many.clone(), hidden: -9.0 },
            Vec::new(),
        ),
        (Op::PaddingMask { hidden: -9.0 }, vec![i(&[2, 3])]),
        (
            Op::RelativeBias { buckets: 6, max_distance: 5, bidirectional: true, start, q: few, k: many },
            vec![f(&[6, 2])],
        ),
        (Op::DynamicQuant(Granularity::Tensor), vec![f(&[2, 3])]),
        (Op::DynamicQuant(Granularity::Token), vec![f(&[2, 3])]),
        (Op::DynamicQuant(Granularity::Block(2)), vec![f(&[2, 3])]),
        (Op::FakeQuant(FakeQuant { scale: 0.25, zero: 100, bits: 8 }), vec![f(&[2, 3])]),
        (attention.clone(), vec![q.clone(), k, v, f(&[4, 1, 6])]),
        (attention, vec![q.clone(), f(&[2, 4, 6, 5]), f(&[2, 4, 6, 7])]),
    ]
}

/// A graph of one op, and numbers for its arguments.
struct Alone {
    op: Op,
    types: Vec<Type>,
    graph: Graph,
    args: Vec<Tensor>,
}

impl Alone {
    fn new((op, types): (Op, Vec<Type>)) -> Alone {
        let b = Build::new();
        let names: Vec<String> = (0..types.len()).map(|i| i.to_string()).collect();
        let inputs: Vec<_> = names.iter().zip(&types).map(|(name, ty)| b.input(name, ty.clone())).collect();
        let y = b.op(op.clone(), &inputs);
        let ports: Vec<_> = names.iter().map(String::as_str).zip(inputs).collect();
        b.entry("only", &ports, &[("y", y)], BTreeMap::new());
        let graph = b.finish().expect("fits");
        let drawn = |(i, ty): (usize, &Type)| {
            let shape: Vec<usize> = ty.shape.iter().map(|dim| dim.literal().expect("a number")).collect();
            let count = shape.iter().product();
            match ty.dtype {
                crate::ir::ty::DType::F32 => Tensor::f32(shape, drawn(count, 11 * i as u64 + 3)),
                crate::ir::ty::DType::I64 => Tensor::i64(shape, (0..count as i64).map(|n| n % 2).collect()),
            }
        };
        let args = types.iter().enumerate().map(drawn).collect();
        Alone { op, types, graph, args }
    }

    fn result(&self, args: &[Tensor]) -> Tensor {
        let feeds = args.iter().enumerate().map(|(i, x)| (i.to_string(), x.clone())).collect();
        Interpreter::new(&self.graph).call("only", &feeds).expect("evaluates").remove("y").expect("its output")
    }

    fn floats(&self, args: &[Tensor]) -> Vec<f32> {
        match self.result(args).as_f32() {
            Some(floats) => floats.to_vec(),
            None => Vec::new(),
        }
    }

    fn axis_followed(&self, arg: usize, axis: usize) -> Option<usize> {
        let result = &self.graph.value(ValueId(self.graph.values.len() - 1)).ty;
        self.op.follows(arg, axis, &self.types.iter().collect::<Vec<_>>(), result)
    }
}

/// The place along an axis of each element.
fn places(shape: &[usize], axis: usize) -> Vec<usize> {
    let inner: usize = shape[axis + 1..].iter().product();
    (0..shape.iter().product()).map(|i: usize| i / inner % shape[axis]).collect()
}

/// The same tensor with other numbers at one place of an axis.
fn changed(x: &Tensor, axis: usize, place: usize) -> Tensor {
    let here = places(x.shape(), axis);
    let is_here = |i: &usize| here[*i] == place;
    match (x.as_f32(), x.as_i64()) {
        (Some(xs), _) => {
            let xs = xs.iter().enumerate().map(|(i, x)| if is_here(&i) { x * 1.5 + 0.75 } else { *x }).collect();
            Tensor::f32(x.shape(), xs)
        }
        (_, ids) => {
            let ids = ids.expect("a tensor is f32 or i64").iter().enumerate();
            Tensor::i64(x.shape(), ids.map(|(i, id)| if is_here(&i) { 1 - id } else { *id }).collect())
        }
    }
}

#[test]
fn a_position_wise_axis_carries_one_place_to_one_place() {
    for sample in samples() {
        let alone = Alone::new(sample);
        let before = alone.result(&alone.args);
        for (arg, x) in alone.args.iter().enumerate() {
            for axis in 0..x.shape().len() {
                let Some(to) = alone.axis_followed(arg, axis) else { continue };
                if x.shape()[axis] == 1 && before.shape()[to] != 1 {
                    continue; // stretched: one place for all
                }
                for place in 0..x.shape()[axis] {
                    let mut args = alone.args.clone();
                    args[arg] = changed(x, axis, place);
                    let after = alone.result(&args);
                    let differs: BTreeSet<usize> = places(before.shape(), to)
                        .into_iter()
                        .enumerate()
                        .filter(|(i, _)| before.as_f32().expect("floats")[*i] != after.as_f32().expect("floats")[*i])
                        .map(|(_, place)| place)
                        .collect();
                    let op = &alone.op;
                    assert!(differs.iter().all(|found| *found == place), "{op}: {arg}.{axis}.{place}: {differs:?}");
                }
            }
        }
    }
}

#[test]
fn an_axis_that_is_not_position_wise_mixes_moves_or_drops_places() {
    // Each is mixed, so that `None` for all axes would not pass.
    let mixed = |op: &Op, arg: usize| -> Vec<usize> {
        let sample = samples().into_iter().find(|(other, _)| other == op).expect("a sample");
        let alone = Alone::new(sample);
        let axes = 0..alone.types[arg].shape.len();
        axes.filter(|axis| alone.axis_followed(arg, *axis).is_none()).collect()
    };
    assert_eq!(mixed(&Op::MatMul, 0), [3]);
    assert_eq!(mixed(&Op::MatMul, 1), [1]);
    assert_eq!(mixed(&Op::Linear, 0), [2]);
    assert_eq!(mixed(&Op::Embed, 1), [0]);
    assert_eq!(mixed(&Op::Softmax, 0), [2]);
    assert_eq!(mixed(&Op::Mean { axis: 1 }, 0), [1]);
    assert_eq!(mixed(&Op::GroupNorm { groups: 2, eps: 1e-3 }, 0), [1, 2]);
    assert_eq!(mixed(&Op::Conv { stride: 2, pad: 1, length: None }, 0), [1, 2]);
    assert_eq!(mixed(&Op::Conv { stride: 1, pad: 0, length: None }, 0), [1]);
    assert_eq!(mixed(&Op::Conv2d { stride: [2, 1], pad: [1, 0], groups: 2 }, 0), [1, 2]);
    assert_eq!(mixed(&Op::Conv2d { stride: [1, 1], pad: [1, 1], groups: 3 }, 0), [2, 3]);
    assert_eq!(mixed(&Op::Reshape([2, 3, 2, 2, 5].map(Dim::from).to_vec()), 0), [2]);
    assert_eq!(mixed(&Op::Concat { axis: 1 }, 0), [1]);
    assert_eq!(mixed(&Op::Attention { scale: 0.3, softcap: Some(2.0) }, 1), [1, 2, 3]);
    assert_eq!(mixed(&Op::Attention { scale: 0.3, softcap: Some(2.0) }, 3), [2]);
    assert_eq!(mixed(&Op::DynamicQuant(Granularity::Tensor), 0), [0, 1]);
}

#[test]
fn a_factor_on_a_set_of_arguments_that_is_linear_is_a_factor_on_the_result() {
    for sample in samples() {
        let alone = Alone::new(sample);
        let before = alone.floats(&alone.args);
        for set in alone.op.linear_in(alone.args.len()) {
            let scaled = alone.args.iter().enumerate().map(|(i, x)| match (set.contains(&i), x.as_f32()) {
                (true, Some(xs)) => Tensor::f32(x.shape(), xs.iter().map(|x| x * -2.0).collect()),
                _ => x.clone(),
            });
            let after = alone.floats(&scaled.collect::<Vec<_>>());
            // A power of two is exact.
            assert!(before.iter().zip(&after).all(|(a, b)| a * -2.0 == *b), "{}: {set:?}", alone.op);
        }
    }
}

#[test]
fn elements_that_are_moved_or_looked_up_are_those_of_the_arguments() {
    for sample in samples() {
        let alone = Alone::new(sample);
        let of = |args: &[Tensor]| -> BTreeSet<u32> {
            args.iter().filter_map(Tensor::as_f32).flatten().map(|x| x.to_bits()).collect()
        };
        let there = match alone.op.elements() {
            Elements::Moved { from } => of(&alone.args[from..]),
            Elements::LookedUp { table } => of(&alone.args[table..=table]),
            Elements::Computed | Elements::Told => continue,
        };
        let found = of(&[alone.result(&alone.args)]);
        assert!(found.is_subset(&there), "{}", alone.op);
    }
}

#[test]
fn an_op_without_its_batch_gives_the_same_elements() {
    for sample in samples() {
        let alone = Alone::new(sample);
        let Some(op) = alone.op.without_batch() else { continue };
        let is_batch = |ty: &Type| ty.shape.first().and_then(Dim::literal) == Some(2);
        if !matches!(op, Op::Slice { .. } | Op::Concat { .. } | Op::Transpose(_)) || !alone.types.iter().all(is_batch) {
            continue;
        }
        let first = |x: &Tensor| x.as_f32().expect("floats")[..x.len() / 2].to_vec();
        let types = alone.types.iter().map(|ty| Type { shape: ty.shape[1..].to_vec(), ..ty.clone() }).collect();
        let mut fewer = Alone::new((op, types));
        fewer.args = alone.args.iter().map(|x| Tensor::f32(&x.shape()[1..], first(x))).collect();
        assert_eq!(fewer.floats(&fewer.args), first(&alone.result(&alone.args)), "{}", alone.op);
    }
}
