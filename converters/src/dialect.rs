//! How engines other than llama.cpp want a GGUF of a family: a table for each family and engine.

use std::fmt;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use graph::{GgmlType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizer::Spelling;

use crate::error::ImportError;

/// An engine that opens GGUF.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
pub enum Engine {
    /// T5, mT5, UMT5.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// Whisper, Moonshine.
    #[serde(rename = "transcribe.cpp")]
    TranscribeCpp,
}

impl Engine {
    /// As a recipe has it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::LlamaCpp => "llama.cpp",
            Engine::TranscribeCpp => "transcribe.cpp",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one engine reads of one family. Weights are the same in every dialect, and their bits too.
pub struct Dialect {
    /// Who reads it.
    pub engine: Engine,
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Names of tensors, as [`crate::Architecture::gguf_names`] has them.
    pub names: &'static [(&'static str, &'static str)],
    /// Its own keys, whole.
    pub keys: fn(&Checkpoint) -> Result<Vec<(String, Value)>, ImportError>,
    /// Tensors f32 that no checkpoint has, by their names.
    pub tables: fn(&Checkpoint) -> Result<Vec<(&'static str, Tensor)>, ImportError>,
    /// How the byte pairs of its tokenizer spell bytes.
    pub spelling: Spelling,
    /// What it does not compute, a sentence each.
    pub refused: fn(&Checkpoint) -> Result<Vec<String>, ImportError>,
    /// Which types it takes.
    pub types: TensorTypes,
}

/// The types of tensors that an engine takes.
pub struct TensorTypes {
    /// Ends of the names of tensors that are F32 and nothing else.
    pub only_f32: &'static [&'static str],
    /// Parts of the names of tensors that are F32 or F16.
    pub no_bf16: &'static [&'static str],
    /// Block types of all others.
    pub blocks: &'static [GgmlType],
}
