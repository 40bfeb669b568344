//! Tensors between the graph's types and onnxruntime's, and its errors as the runtime's.

use graph::Tensor;
use graph::tensor::Data;
use ort::value::{DynValue, Tensor as OrtTensor};

use crate::runtime::error::RuntimeError;
use crate::runtime::names::ONNXRUNTIME;

pub(super) fn failed(message: impl ToString) -> RuntimeError {
    RuntimeError::Failed { runtime: ONNXRUNTIME, message: message.to_string() }
}

pub(super) fn nothing_for(input: &str) -> RuntimeError {
    failed(format!("nothing to feed to the input {input}"))
}

pub(super) fn to_ort(tensor: &Tensor) -> Result<DynValue, RuntimeError> {
    let shape = tensor.shape().to_vec();
    match tensor.data() {
        Data::F32(data) => OrtTensor::from_array((shape, data.to_vec())).map(|t| t.into_dyn()).map_err(failed),
        Data::I64(data) => OrtTensor::from_array((shape, data.to_vec())).map(|t| t.into_dyn()).map_err(failed),
    }
}

pub(super) fn from_ort(name: &str, value: &DynValue) -> Result<Tensor, RuntimeError> {
    let (shape, data) = value.try_extract_tensor::<f32>().map_err(|e| failed(format!("{name}: {e}")))?;
    let shape: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = shape.ok_or_else(|| failed(format!("{name}: a negative length")))?;
    match shape.iter().product::<usize>() == data.len() {
        true => Ok(Tensor::f32(shape, data.to_vec())),
        false => Err(failed(format!("{name}: {} floats for {shape:?}", data.len()))),
    }
}
