//! Opening the files of weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::CheckpointError;
use crate::files::Files;
use crate::json::{self, Unique};
use crate::stored::{Bytes, Stored, Tensors, file_name};
use crate::{pickle, safetensors};

type Read = fn(&Path) -> Result<Tensors, CheckpointError>;

/// The tensors of one of [`crate::names::WEIGHTS`] and of the files that it names. What is read is added to the list of inputs.
pub(crate) fn open(name: &str, files: &Files, inputs: &mut Vec<PathBuf>) -> Result<Tensors, CheckpointError> {
    let file = files.path(name);
    let read: Read = if name.starts_with("model.safetensors") { safetensors_tensors } else { pickle_tensors };
    inputs.push(file.clone());
    match name.ends_with(".index.json") {
        true => of_shards(&file, files, inputs, read),
        false => read(&file),
    }
}

fn safetensors_tensors(file: &Path) -> Result<Tensors, CheckpointError> {
    let name = file_name(file);
    let stored = |e: safetensors::Entry| {
        let stored = Stored { file: name.clone(), dtype: e.dtype, shape: e.shape, bytes: Bytes::Range(e.bytes) };
        (e.name, stored)
    };
    Ok(safetensors::entries(file)?.into_iter().map(stored).collect())
}

fn pickle_tensors(file: &Path) -> Result<Tensors, CheckpointError> {
    let name = file_name(file);
    let file_bytes = std::fs::metadata(file).map_err(CheckpointError::io(file))?.len();
    let stored = |tensor: pytorch_reader::Tensor| {
        let (dtype, shape) = (pickle::dtype_name(tensor.dtype()).to_owned(), tensor.shape().to_vec());
        (tensor.name.clone(), Stored { file: name.clone(), dtype, shape, bytes: Bytes::Pickled(tensor, file_bytes) })
    };
    Ok(pickle::tensors(file)?.into_iter().map(stored).collect())
}

#[derive(Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

/// The files that an index names, in order. Errors: no index, or a file outside of its folder.
pub fn shards(index_file: &Path) -> Result<Vec<String>, CheckpointError> {
    Ok(by_shard(index_file)?.into_keys().collect())
}

/// The tensors of each file that an index names.
fn by_shard(index_file: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, CheckpointError> {
    let index: Index = json::read(index_file)?;
    let mut names_by_shard: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, shard) in index.weight_map.0 {
        names_by_shard.entry(shard).or_default().insert(name);
    }
    let inside = |c: Component| matches!(c, Component::Normal(_));
    // A backslash separates on another system, so it separates nowhere.
    let leaves = |shard: &&String| {
        shard.is_empty() || shard.contains(['\\', '\0']) || !Path::new(shard.as_str()).components().all(inside)
    };
    match names_by_shard.keys().find(leaves) {
        None => Ok(names_by_shard),
        Some(shard) => Err(CheckpointError::malformed(
            index_file,
            format!("shard {shard:?}: expected a path inside the checkpoint's folder"),
        )),
    }
}

/// Tensors of several files. Index and files must tell the same, in both directions.
fn of_shards(
    index_file: &Path,
    files: &Files,
    inputs: &mut Vec<PathBuf>,
    read: Read,
) -> Result<Tensors, CheckpointError> {
    let malformed = |message: String| CheckpointError::malformed(index_file, message);
    let mut tensors = Tensors::new();
    for (shard, names) in by_shard(index_file)? {
        let file = files.locate(&shard).ok_or_else(|| malformed(format!("shard {shard:?} is not in the folder")))?;
        inputs.push(file.clone());
        let found = read(&file)?;
        if let Some(name) = names.iter().find(|name| !found.contains_key(*name)) {
            return Err(malformed(format!("{name}: expected in {shard}, which does not hold it")));
        }
        if let Some(name) = found.keys().find(|name| !names.contains(*name)) {
            return Err(malformed(format!("{name}: found in {shard}, where the index does not place it")));
        }
        tensors.extend(found);
    }
    Ok(tensors)
}
