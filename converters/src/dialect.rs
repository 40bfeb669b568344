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
    /// Marian, M2M100 and NLLB; T5 with gated layers, in a file that opens in llama.cpp too.
    #[serde(rename = "CrispASR")]
    CrispAsr,
    /// Whisper, Moonshine.
    #[serde(rename = "transcribe.cpp")]
    TranscribeCpp,
}

impl Engine {
    /// As a recipe has it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::LlamaCpp => "llama.cpp",
            Engine::CrispAsr => "CrispASR",
            Engine::TranscribeCpp => "transcribe.cpp",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Keys of a file with their values.
pub type Keys = Vec<(String, Value)>;
/// Tensors by their names.
pub type Tables = Vec<(&'static str, Tensor)>;

/// What one engine reads of one family. Weights are the same in every dialect, and their bits too.
pub struct Dialect {
    /// Who reads it.
    pub engine: Engine,
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Names of tensors, as [`crate::Architecture::gguf_names`] has them.
    pub names: &'static [(&'static str, &'static str)],
    /// Its own keys, whole.
    pub keys: fn(&Checkpoint) -> Result<Keys, ImportError>,
    /// Tensors f32 that no checkpoint has, by their names.
    pub tables: fn(&Checkpoint) -> Result<Tables, ImportError>,
    /// The form in which it reads a tokenizer.
    pub tokenizer: Words,
    /// Whether what multiplies the decoder's output before the head is to be in the weight of the last norm.
    pub folds_logit_scale: bool,
    /// What it does not compute, a sentence each.
    pub refused: fn(&Checkpoint) -> Result<Vec<String>, ImportError>,
    /// Which types it takes.
    pub types: TensorTypes,
}

/// A form of a tokenizer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Words {
    /// SentencePiece's pieces with their scores.
    Pieces,
    /// Byte pairs that spell bytes in this way.
    BytePairs(Spelling),
    /// SentencePiece's models of both sides, and the ids of their pieces.
    Sides,
    /// Pieces that neighbours are joined to, by id with their scores, and the languages.
    Joins,
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

impl TensorTypes {
    /// What llama.cpp takes: vectors, biases, norms and relative biases as F32 and nothing else, all else in any type.
    pub const LLAMA_CPP: TensorTypes =
        TensorTypes { only_f32: &[".bias", "_norm.weight", "_rel_b.weight"], no_bf16: &[], blocks: GgmlType::ALL };
}
