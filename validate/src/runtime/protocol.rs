//! What goes through the pipe to an engine of native code: a line of JSON, then the values of its tensors.

use graph::Tensor;
use graph::tensor::Data;
use report::{Check, Engine};
use serde::{Deserialize, Serialize};

use super::error::RuntimeError;
use super::interface::Present;
use crate::bench::course::Times;

/// A call; the values of its tensors follow.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Open {
        format: String,
        files: Vec<String>,
        threads: usize,
        as_used: bool,
        merged: bool,
        soc_models: Vec<u32>,
    },
    Encode {
        tensors: Vec<Listed>,
    },
    /// What the encoder made of the source before.
    Encoder,
    Decode {
        tensors: Vec<Listed>,
    },
    /// A source and the targets of its decoder.
    Between {
        tensors: Vec<Listed>,
    },
    /// A course under a clock, the tensors being its source.
    Run {
        tensors: Vec<Listed>,
        prompt: Vec<i64>,
        tokens: usize,
    },
    Keep {
        rows: Vec<usize>,
    },
    Checks,
    /// What the engine is, without an artifact.
    Probe,
}

/// A tensor whose values follow.
#[derive(Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dtype {
    F32,
    I64,
}

impl Listed {
    pub(super) fn of(name: &str, tensor: &Tensor) -> Listed {
        let dtype = match tensor.data() {
            Data::F32(_) => Dtype::F32,
            Data::I64(_) => Dtype::I64,
        };
        Listed { name: name.to_owned(), dtype, shape: tensor.shape().to_vec() }
    }

    /// `None` when there are more than can be.
    pub(super) fn bytes(&self) -> Option<usize> {
        let width = if self.dtype == Dtype::F32 { 4 } else { 8 };
        self.shape.iter().try_fold(width, |product: usize, n| product.checked_mul(*n))
    }

    /// `data`: as many bytes as [`Listed::bytes`].
    pub(super) fn tensor(self, data: &[u8]) -> (String, Tensor) {
        let tensor = match self.dtype {
            Dtype::F32 => Tensor::f32(self.shape, data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::I64 => Tensor::i64(self.shape, data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        };
        (self.name, tensor)
    }
}

pub(super) fn values(tensor: &Tensor) -> Vec<u8> {
    match tensor.data() {
        Data::F32(floats) => {
            let mut bytes = vec![0; 4 * floats.len()];
            bytes.as_chunks_mut().0.iter_mut().zip(floats.iter()).for_each(|(b, x)| *b = x.to_le_bytes());
            bytes
        }
        Data::I64(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
    }
}

/// The answer to a call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Opened {
        engine: Engine,
        limit_tokens: Option<usize>,
        rows_at_once: Option<usize>,
    },
    Encoded,
    /// If the engine shows it; its values follow.
    Encoder(Option<Listed>),
    /// Its values follow.
    Decoded(Listed),
    /// Those of the encoder and of the decoder, if the engine shows them; their values follow.
    Between(Option<[Vec<Listed>; 2]>),
    Ran(Times),
    /// Whether the other sequences are gone.
    Kept(bool),
    Checks(Vec<Check>),
    Present(Present),
    Unavailable {
        runtime: String,
        why: String,
        install: String,
    },
    Failed {
        runtime: String,
        message: String,
    },
}

impl From<RuntimeError> for Reply {
    fn from(error: RuntimeError) -> Reply {
        match error {
            RuntimeError::Unavailable { runtime, why, install } => {
                Reply::Unavailable { runtime: runtime.to_owned(), why, install }
            }
            RuntimeError::Failed { runtime, message } => Reply::Failed { runtime: runtime.to_owned(), message },
        }
    }
}
