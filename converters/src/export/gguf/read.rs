//! The weights of a file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use checkpoint::gguf::{GgufFile, TensorType};
use graph::{Quantized, Weight, WeightData, WeightId, Weights};

use crate::error::ExportError;
use crate::model::Model;

/// The weights of `model` as a file has them, under the names of the checkpoint.
///
/// `named`: weights with their names in the file; `tables`: what it holds beside them, in bytes. Errors: the file cannot be read; inside, every
/// tensor that is missing, of another shape or of no such model.
pub(super) fn weights(
    model: &Model,
    named: &[(WeightId, String)],
    tables: &[(String, Vec<u8>)],
    (path, file): (&Path, &GgufFile),
) -> Result<Result<Weights, Vec<String>>, ExportError> {
    let mut faults = Vec::new();
    for (name, expected) in tables {
        let found = file.tensor(name).map(|tensor| tensor.data.read()).transpose();
        match found.map_err(|source| ExportError::Io { file: path.to_owned(), source })? {
            None => faults.push(format!("{name} is missing")),
            Some(bytes) if bytes != *expected => {
                faults.push(format!("{name} is not what the checkpoint's front end computes with"));
            }
            Some(_) => {}
        }
    }
    let mut found = BTreeMap::new();
    for (id, name) in named {
        let weight = model.graph.weights.get(*id);
        match file.tensor(name) {
            None => faults.push(format!("{name} is missing")),
            Some(tensor) if tensor.shape != weight.shape => {
                faults.push(format!("{name}: expected {:?}, found {:?}", weight.shape, tensor.shape));
            }
            Some(tensor) => {
                let data = match tensor.kind {
                    TensorType::Float(dtype) => WeightData::Stored { blob: tensor.data.clone(), dtype },
                    TensorType::Ggml(kind) => {
                        WeightData::Quantized(Quantized::Ggml { kind, blocks: tensor.data.clone() })
                    }
                };
                found.insert(*id, Weight { name: weight.name.clone(), shape: weight.shape.clone(), data });
            }
        }
    }
    let known: HashSet<&str> =
        named.iter().map(|(_, name)| name).chain(tables.iter().map(|(name, _)| name)).map(String::as_str).collect();
    let unknown = file.tensors.iter().filter(|tensor| !known.contains(tensor.name.as_str()));
    faults.extend(unknown.map(|tensor| format!("{} is no tensor of this model", tensor.name)));
    if !faults.is_empty() {
        return Ok(Err(faults));
    }
    let mut weights = Weights::default();
    for weight in found.into_values() {
        weights.push(weight);
    }
    Ok(Ok(weights))
}
