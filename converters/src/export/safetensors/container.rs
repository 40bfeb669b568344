//! Writing the files: header, tensors streamed in chunks of rows, shards with their index.
//!
//! A file is the length of the header (u64), the header (JSON, filled up with spaces so that the data starts at a multiple
//! of 8) and the data. Tensors stand by falling size of their elements, then by name, so each is aligned to its elements;
//! safetensors' own writer does the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::tensor::Tensor;
use crate::error::ExportError;

/// Writes `model.safetensors`, or `model-00001-of-0000n.safetensors` and their index when the tensors pass `limit_bytes`.
///
/// The tensors of one weight stay in one file, which is larger than the limit when they alone are.
pub fn write(weights: &[Vec<Tensor>], limit_bytes: u64, dir: &Path) -> Result<(), ExportError> {
    let mut shards: Vec<Vec<&Tensor>> = vec![Vec::new()];
    let mut filled = 0;
    for tensors in weights {
        let bytes: u64 = tensors.iter().map(Tensor::bytes).sum();
        if filled > 0 && filled + bytes > limit_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        shards.last_mut().expect("never empty").extend(tensors);
        filled += bytes;
    }
    if let [only] = &mut shards[..] {
        return write_file(only, &dir.join("model.safetensors"));
    }
    let mut places = BTreeMap::new();
    let (count, mut total) = (shards.len(), 0);
    for (index, tensors) in shards.iter_mut().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        write_file(tensors, &dir.join(&name))?;
        total += tensors.iter().map(|tensor| tensor.bytes()).sum::<u64>();
        places.extend(tensors.iter().map(|tensor| (tensor.name.clone(), name.clone())));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
    let file = dir.join("model.safetensors.index.json");
    let text = serde_json::to_string_pretty(&index).expect("keys are strings") + "\n";
    std::fs::write(&file, text).map_err(io(&file))
}

fn write_file(tensors: &mut [&Tensor], file: &Path) -> Result<(), ExportError> {
    tensors.sort_by_key(|tensor| (Reverse(tensor.dtype().1), tensor.name.clone()));
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for tensor in tensors.iter() {
        let start = end;
        end += tensor.bytes();
        let entry = json!({ "dtype": tensor.dtype().0, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_string(&header).expect("keys are strings");
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));

    let mut out = BufWriter::new(File::create(file).map_err(io(file))?);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io(file))?;
    out.write_all(header.as_bytes()).map_err(io(file))?;
    for tensor in tensors {
        let mut written = 0;
        tensor.stream(&mut |bytes| {
            written += bytes.len() as u64;
            out.write_all(bytes).map_err(io(file))
        })?;
        assert_eq!(written, tensor.bytes(), "bytes of {} in the header", tensor.name);
    }
    out.flush().map_err(io(file))
}

fn io(file: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
    let file: PathBuf = file.to_owned();
    |source| ExportError::Io { file, source }
}
