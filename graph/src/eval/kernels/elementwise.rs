//! Functions of each element.

use super::strided::{Strided, broadcast_shape, each_row, f32s};
use crate::arithmetic::{exp, tanh};
use crate::eval::tensor::Tensor;
use crate::ir::op::{Binary, Unary};

pub(in crate::eval) fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Tensor {
    let f = |x: f32, y: f32| match op {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
    };
    let shape = broadcast_shape(a.shape(), b.shape());
    let (xs, ys) = (f32s(a), f32s(b));
    let out = if a.shape() == b.shape() {
        xs.iter().zip(ys).map(|(x, y)| f(*x, *y)).collect()
    } else {
        let at = [Strided::new(a.shape(), &shape), Strided::new(b.shape(), &shape)];
        let mut out = Vec::with_capacity(shape.iter().product());
        each_row(&shape, [&at[0], &at[1]], |[a, b], width| match [at[0].last(), at[1].last()] {
            [1, 1] => out.extend(xs[a..a + width].iter().zip(&ys[b..]).map(|(x, y)| f(*x, *y))),
            [1, 0] => out.extend(xs[a..a + width].iter().map(|x| f(*x, ys[b]))),
            [s, t] => out.extend((0..width).map(|i| f(xs[a + i * s], ys[b + i * t]))),
        });
        out
    };
    Tensor::f32(shape, out)
}

pub(in crate::eval) fn unary(op: Unary, x: &Tensor) -> Tensor {
    let f = |x: f32| match op {
        Unary::Relu => x.max(0.0),
        Unary::Tanh => tanh(x),
        Unary::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => {
            const SQRT_2_OVER_PI: f32 = 0.797_884_6;
            0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
        }
        Unary::Silu => x / (1.0 + exp(-x)),
        Unary::Sigmoid => 1.0 / (1.0 + exp(-x)),
        Unary::QuickGelu => x / (1.0 + exp(-1.702 * x)),
    };
    Tensor::f32(x.shape(), f32s(x).iter().map(|x| f(*x)).collect())
}

pub(in crate::eval) fn select(choice: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = broadcast_shape(&broadcast_shape(choice.shape(), a.shape()), b.shape());
    let choices = choice.as_i64().expect("inference made it i64");
    let [at, a_at, b_at] = [choice, a, b].map(|x| Strided::new(x.shape(), &shape));
    let (xs, ys) = (f32s(a), f32s(b));
    let mut out = Vec::with_capacity(shape.iter().product());
    each_row(&shape, [&at, &a_at, &b_at], |[c, a, b], width| {
        out.extend((0..width).map(|i| match choices[c + i * at.last()] {
            0 => ys[b + i * b_at.last()],
            _ => xs[a + i * a_at.last()],
        }));
    });
    Tensor::f32(shape, out)
}
