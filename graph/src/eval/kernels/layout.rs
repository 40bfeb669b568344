//! What only moves elements.

use super::strided::{Strided, each_row, f32s};
use crate::eval::tensor::Tensor;

/// The elements of `x` at the places that strides lead to, under another shape.
fn picked(x: &Tensor, shape: Vec<usize>, at: &Strided) -> Tensor {
    match x.as_f32() {
        Some(xs) => Tensor::f32(&shape[..], gathered(xs, &shape, at)),
        None => Tensor::i64(&shape[..], gathered(x.as_i64().expect("a tensor is f32 or i64"), &shape, at)),
    }
}

fn gathered<T: Copy>(xs: &[T], shape: &[usize], at: &Strided) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    each_row(shape, [at], |[from], width| match at.last() {
        1 => out.extend_from_slice(&xs[from..from + width]),
        step => out.extend((0..width).map(|i| xs[from + i * step])),
    });
    out
}

pub(in crate::eval) fn broadcast(x: &Tensor, to: Vec<usize>) -> Tensor {
    let at = Strided::new(x.shape(), &to);
    picked(x, to, &at)
}

/// `None`: the places reach past the end.
pub(in crate::eval) fn slice(x: &Tensor, axis: usize, start: usize, step: usize, len: usize) -> Option<Tensor> {
    let n = x.shape()[axis];
    if len > 0 && start + (len - 1) * step >= n {
        return None;
    }
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let mut shape = x.shape().to_vec();
    shape[axis] = len;
    let outer = x.shape()[..axis].iter().product();
    Some(match x.as_f32() {
        Some(xs) => Tensor::f32(shape, sliced(xs, [outer, n, inner], start, step, len)),
        None => {
            Tensor::i64(shape, sliced(x.as_i64().expect("a tensor is f32 or i64"), [outer, n, inner], start, step, len))
        }
    })
}

fn sliced<T: Copy>(xs: &[T], [outer, n, inner]: [usize; 3], start: usize, step: usize, len: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(outer * len * inner);
    for i in 0..outer {
        for place in 0..len {
            out.extend_from_slice(&xs[(i * n + start + place * step) * inner..][..inner]);
        }
    }
    out
}

pub(in crate::eval) fn transpose(x: &Tensor, perm: &[usize]) -> Tensor {
    let shape: Vec<usize> = perm.iter().map(|&i| x.shape()[i]).collect();
    let mut strides = vec![1; perm.len()];
    for i in (0..perm.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * x.shape()[i + 1];
    }
    picked(x, shape, &Strided::of(perm.iter().map(|&i| strides[i]).collect()))
}

pub(in crate::eval) fn concat(args: &[Tensor], axis: usize) -> Tensor {
    let mut shape = args[0].shape().to_vec();
    shape[axis] = args.iter().map(|x| x.shape()[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let run = |x: &Tensor| x.shape()[axis..].iter().product::<usize>();
    if args[0].as_f32().is_some() {
        let mut out = Vec::with_capacity(shape.iter().product());
        for i in 0..outer {
            args.iter().for_each(|x| out.extend_from_slice(&f32s(x)[i * run(x)..(i + 1) * run(x)]));
        }
        Tensor::f32(shape, out)
    } else {
        let mut out = Vec::with_capacity(shape.iter().product());
        for i in 0..outer {
            for x in args {
                out.extend_from_slice(&x.as_i64().expect("inference made all i64")[i * run(x)..(i + 1) * run(x)]);
            }
        }
        Tensor::i64(shape, out)
    }
}
