//! Tensors of a PyTorch pickle, read without running anything.
//!
//! A pickle is a program: it may name any function of any module and have it called. `pytorch-reader` interprets the few
//! calls that rebuild tensors and turns all others into opaque objects.

mod scan;

use std::io;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};

use crate::error::CheckpointError;

/// Where training scripts keep the weights beside an optimizer's state and the like.
const STATE_DICT: &str = "model_state_dict";

/// The tensors of a file, sorted by name. Their data is read when asked, views gathered into row-major order.
///
/// Where the file has a `model_state_dict`, the tensors are those in it, by their names in it.
///
/// Errors: not a file that `torch.save` wrote, one that takes more memory than its length allows, tensors that reach outside their storage, an object in place of a tensor.
pub(crate) fn tensors(file: &Path) -> Result<Vec<Tensor>, CheckpointError> {
    let malformed = |e: pytorch_reader::PytorchError| CheckpointError::malformed(file, e);
    scan::check(file).map_err(|message| CheckpointError::malformed(file, message))?;
    let reader = PytorchReader::new(file).map_err(malformed)?;
    let whole = PytorchReader::read_pickle_data(file, None).map_err(malformed)?;
    let mut objects = Vec::new();
    collect_objects(&whole, &mut String::new(), &mut objects);
    objects.retain(|(path, _)| reader.get(path).is_none());
    objects.sort();
    if !objects.is_empty() {
        let list: Vec<String> = objects.iter().map(|(path, object)| format!("{path} = {object}(..)")).collect();
        let list = list.join(", ");
        return Err(CheckpointError::malformed(
            file,
            format!("expected tensors only, found calls that are not run: {list}"),
        ));
    }
    let mut tensors: Vec<Tensor> = reader.into_tensors().into_values().collect();
    if let PickleValue::Dict(entries) = &whole
        && entries.contains_key(STATE_DICT)
    {
        tensors.retain_mut(|tensor| {
            let inside =
                tensor.name.strip_prefix(STATE_DICT).and_then(|name| name.strip_prefix('.')).map(str::to_owned);
            let is_inside = inside.is_some();
            tensor.name = inside.unwrap_or_default();
            is_inside
        });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// Paths and types of what the reader does not interpret; tensors are among them.
fn collect_objects(value: &PickleValue, path: &mut String, out: &mut Vec<(String, String)>) {
    let mut descend = |key: &str, value: &PickleValue| {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(key);
        collect_objects(value, path, out);
        path.truncate(length);
    };
    match value {
        PickleValue::Dict(entries) => entries.iter().for_each(|(key, value)| descend(key, value)),
        PickleValue::List(items) => items.iter().enumerate().for_each(|(i, value)| descend(&i.to_string(), value)),
        PickleValue::Unsupported(object) => out.push((path.clone(), object.clone())),
        PickleValue::None
        | PickleValue::Bool(_)
        | PickleValue::Int(_)
        | PickleValue::Float(_)
        | PickleValue::String(_)
        | PickleValue::Bytes(_) => {}
    }
}

/// The bytes of a tensor in row-major order. Errors: it holds more than its file, as a view with steps of 0 does.
pub(crate) fn read(tensor: &Tensor, file_bytes: u64) -> io::Result<Vec<u8>> {
    let elements = tensor.shape().iter().try_fold(1_u64, |n, dim| n.checked_mul(*dim as u64));
    match elements.and_then(|n| n.checked_mul(tensor.dtype().size() as u64)) {
        Some(bytes) if bytes <= file_bytes => tensor.read(),
        _ => {
            let message = format!("expected at most the {file_bytes} bytes of the file, found {:?}", tensor.shape());
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// An element type in the words of safetensors.
pub(crate) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U64 => "U64",
        DType::U32 => "U32",
        DType::U16 => "U16",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}
