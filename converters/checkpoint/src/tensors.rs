//! The tensors of a checkpoint's files, whatever container they are in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use graph::{Blob, GgmlType};
use serde::Deserialize;

use crate::error::CheckpointError;
use crate::json::{self, Unique};
use crate::{pickle, safetensors};

/// A tensor in a file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub file: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Bytes,
}

#[derive(Debug)]
pub(crate) enum Bytes {
    Range(Blob),
    /// A tensor, and the length of its file.
    Pickled(pytorch_reader::Tensor, u64),
    Blocks(GgmlType, Blob),
}

/// By their names.
pub(crate) type Tensors = BTreeMap<String, Stored>;
/// The path of a file of the checkpoint, if the checkpoint has it.
type Locate<'s> = dyn Fn(&str) -> Option<PathBuf> + 's;
pub(crate) type Open = fn(&Path, &mut Vec<PathBuf>, &Locate) -> Result<Tensors, CheckpointError>;

/// The files that can hold weights, in the order of preference. An opener adds what it reads to the list of files.
pub(crate) const CONTAINERS: [(&str, Open); 5] = [
    ("model.safetensors", |file, files, _| one_file(file, files, safetensors_tensors)),
    ("model.safetensors.index.json", |file, files, locate| shards(file, files, locate, safetensors_tensors)),
    ("pytorch_model.bin", |file, files, _| one_file(file, files, pickle_tensors)),
    ("pytorch_model.bin.index.json", |file, files, locate| shards(file, files, locate, pickle_tensors)),
    ("model.pt", |file, files, _| one_file(file, files, pickle_tensors)),
];

fn one_file(
    file: &Path,
    files: &mut Vec<PathBuf>,
    read: fn(&Path) -> Result<Tensors, CheckpointError>,
) -> Result<Tensors, CheckpointError> {
    files.push(file.to_owned());
    read(file)
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

pub(crate) fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

#[derive(Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

/// Tensors of several files. Index and files must tell the same, in both directions.
fn shards(
    index_file: &Path,
    files: &mut Vec<PathBuf>,
    locate: &Locate,
    read: fn(&Path) -> Result<Tensors, CheckpointError>,
) -> Result<Tensors, CheckpointError> {
    let malformed = |message: String| CheckpointError::malformed(index_file, message);
    files.push(index_file.to_owned());
    let index: Index = json::read(index_file)?;
    let mut names_by_shard: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, shard) in index.weight_map.0 {
        names_by_shard.entry(shard).or_default().insert(name);
    }
    let mut tensors = Tensors::new();
    for (shard, names) in names_by_shard {
        let inside = |c: Component| matches!(c, Component::Normal(_));
        // A backslash separates on another system, so it separates nowhere.
        if shard.is_empty() || shard.contains(['\\', '\0']) || !Path::new(&shard).components().all(inside) {
            return Err(malformed(format!("shard {shard:?}: expected a path inside the checkpoint's folder")));
        }
        let file = locate(&shard).ok_or_else(|| malformed(format!("shard {shard:?} is not in the folder")))?;
        files.push(file.clone());
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
