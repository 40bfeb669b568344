//! Tensors seen under another shape.

use crate::eval::tensor::Tensor;

/// The floats of a tensor that inference made f32.
pub(in crate::eval) fn f32s(x: &Tensor) -> &[f32] {
    x.as_f32().expect("inference made it f32")
}

pub(in crate::eval) fn broadcast_shape(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let axis = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (1, n) | (n, 1) => n,
            (m, n) => {
                assert_eq!(m, n, "inference broadcasts {a:?} and {b:?}");
                n
            }
        })
        .collect()
}

/// `each(offsets, width)` for every row of the last axis of `shape`, first to last: where it begins in each of some tensors
/// that are seen under that shape. A shape without axes is one row of one.
pub(super) fn each_row<const N: usize>(shape: &[usize], at: [&Strided; N], mut each: impl FnMut([usize; N], usize)) {
    let (outer, width) = match shape {
        [outer @ .., width] => (outer, *width),
        [] => (&[][..], 1),
    };
    let rows: usize = outer.iter().product();
    let (mut index, mut offsets) = (vec![0; outer.len()], [0; N]);
    for _ in 0..rows {
        each(offsets, width);
        // The next row, axes to the right first.
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            for (offset, at) in offsets.iter_mut().zip(at) {
                *offset += at.0[axis];
            }
            if index[axis] < outer[axis] {
                break;
            }
            for (offset, at) in offsets.iter_mut().zip(at) {
                *offset -= outer[axis] * at.0[axis];
            }
            index[axis] = 0;
        }
    }
}

/// Element strides of a tensor seen under a broadcast shape; a stretched axis has stride 0.
pub(in crate::eval) struct Strided(Vec<usize>);

impl Strided {
    pub(in crate::eval) fn new(shape: &[usize], to: &[usize]) -> Strided {
        let mut strides = vec![0; to.len()];
        let mut stride = 1;
        for (i, length) in shape.iter().enumerate().rev() {
            let axis = i + to.len() - shape.len();
            if *length != 1 {
                strides[axis] = stride;
            }
            stride *= length;
        }
        Strided(strides)
    }

    /// These strides, one for each axis.
    pub(super) fn of(strides: Vec<usize>) -> Strided {
        Strided(strides)
    }

    /// The stride of the last axis.
    pub(in crate::eval) fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// Offset of the element that stands at flat index `i` of the broadcast shape `to`.
    pub(in crate::eval) fn offset(&self, mut i: usize, to: &[usize]) -> usize {
        let mut offset = 0;
        for (length, stride) in to.iter().zip(&self.0).rev() {
            offset += i % length * stride;
            i /= length;
        }
        offset
    }
}
