//! Tensors as the files of a checkpoint store them, whatever container they are in.

use std::collections::BTreeMap;
use std::path::Path;

use graph::{Blob, FloatType, GgmlType, WeightData};

use crate::error::Problem;
use crate::limits::{LAYER_TENSORS, LAYERS_AT_LEAST, LAYERS_OF_A_CONFIG};

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

/// A tensor of integers that follows from the config, and that files hold all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Integers {
    /// In the checkpoint.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<i64>,
}

/// By their names.
pub(crate) type Tensors = BTreeMap<String, Stored>;
/// The weights that a checkpoint's config speaks of.
#[derive(Debug)]
pub(crate) enum Weights {
    /// Those of its files.
    Stored(Tensors),
    /// Those that somebody lists: they have shapes and no bytes, and no two are the same.
    Listed(Tensors),
    /// There are no files: weights have shapes and no bytes, and none is missing.
    OfConfigAlone,
}

impl Weights {
    /// By name; none where there are no files.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Stored)> {
        let stored = match self {
            Weights::Stored(tensors) | Weights::Listed(tensors) => Some(tensors),
            Weights::OfConfigAlone => None,
        };
        stored.into_iter().flatten()
    }

    /// A tensor that the files hold.
    pub(crate) fn get(&self, name: &str) -> Option<&Stored> {
        match self {
            Weights::Stored(tensors) | Weights::Listed(tensors) => tensors.get(name),
            Weights::OfConfigAlone => None,
        }
    }

    /// What stands for a tensor that the files do not hold. Errors: it is missing.
    pub(crate) fn absent(&self, name: &str, expected: String) -> Result<WeightData, Problem> {
        match self {
            Weights::Stored(_) | Weights::Listed(_) => Err(Problem::MissingTensor { name: name.to_owned(), expected }),
            Weights::OfConfigAlone => Ok(stand_in()),
        }
    }

    /// Refuses a number of layers that so many tensors cannot have, before anyone writes that many. Errors: what was expected.
    pub(crate) fn check_layers(&self, count: usize) -> Result<(), String> {
        let (most, tensors) = match self {
            Weights::Stored(tensors) | Weights::Listed(tensors) => {
                let tensors = tensors.len();
                ((tensors / LAYER_TENSORS).max(LAYERS_AT_LEAST).min(tensors), Some(tensors))
            }
            Weights::OfConfigAlone => (LAYERS_OF_A_CONFIG, None),
        };
        match tensors {
            _ if count <= most => Ok(()),
            None => Err(format!("at most {most} layers")),
            Some(tensors) if count > tensors => Err(format!("at most {tensors}, the number of tensors")),
            Some(tensors) => Err(format!("at most {most} layers of {tensors} tensors")),
        }
    }

    /// Whether they have bytes: a model runs with them, so that its decoding needs an end.
    pub(crate) fn can_run(&self) -> bool {
        matches!(self, Weights::Stored(_))
    }
}

/// A weight without bytes.
pub(crate) fn stand_in() -> WeightData {
    WeightData::Stored { blob: Blob::memory([]), dtype: FloatType::F32 }
}

/// How errors call a file.
pub(crate) fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}
