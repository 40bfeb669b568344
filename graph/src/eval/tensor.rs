//! A dense tensor in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Arguments by port name.
pub type Feeds = BTreeMap<String, Tensor>;

/// Results by port name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Elements in row-major order. Cloning shares them.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Arc<Vec<f32>>),
    /// Token ids and masks.
    I64(Arc<Vec<i64>>),
}

/// A dense row-major tensor; cloning and reshaping share the elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of floats. Panics when the element count is not the product of `shape`.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        let shape = shape.into();
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements of {shape:?}");
        Tensor { shape, data: Data::F32(Arc::new(data)) }
    }

    /// A tensor over floats that others hold too. Panics when the element count is not the product of `shape`.
    pub fn shared_f32(shape: impl Into<Vec<usize>>, data: Arc<Vec<f32>>) -> Tensor {
        let shape = shape.into();
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements of {shape:?}");
        Tensor { shape, data: Data::F32(data) }
    }

    /// A tensor of integers. Panics when the element count is not the product of `shape`.
    pub fn i64(shape: impl Into<Vec<usize>>, data: Vec<i64>) -> Tensor {
        let shape = shape.into();
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements of {shape:?}");
        Tensor { shape, data: Data::I64(Arc::new(data)) }
    }

    /// A tensor without dimensions.
    pub fn scalar(value: f32) -> Tensor {
        Tensor::f32([], vec![value])
    }

    /// Lengths, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements and their type.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The floats, or `None` for integers.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(data) => Some(data),
            Data::I64(_) => None,
        }
    }

    /// The integers, or `None` for floats.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            Data::I64(data) => Some(data),
            Data::F32(_) => None,
        }
    }

    /// The same elements under another shape. Panics when the element counts differ.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        assert_eq!(self.len(), shape.iter().product::<usize>(), "{:?} as {shape:?}", self.shape);
        Tensor { shape, data: self.data.clone() }
    }
}
