//! `npu.json`: what a host must know to run the graphs of an artifact.
//!
//! A host runs the encoder once, with the source padded to the length of a [`Bucket`]; it keeps the keys and values of the
//! encoder's output (`cross.{i}.k`, `cross.{i}.v`) and feeds them at every step. A step takes one token, its position and
//! the keys and values of earlier tokens (`past.{i}.k`, `past.{i}.v`), of fixed length and zero at first, and returns the
//! logits and those of this token (`present.{i}.k`, `present.{i}.v`), which the host writes at the token's position.

use std::path::Path;

use checkpoint::json;
use serde::{Deserialize, Serialize};

use crate::error::ExportError;

/// The file's name.
pub const HOST_FILE: &str = "npu.json";

/// The graphs of an artifact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The profile that they were written for.
    pub profile: String,
    /// Target tokens that a decoder can hold; a step's position is below it.
    pub target: usize,
    /// Which ids pad a source.
    pub pad_token_id: i64,
    /// By source length, shortest first.
    pub buckets: Vec<Bucket>,
}

impl Host {
    /// What lies in a folder, if there is any. Errors: the file cannot be read, or is not what it should be.
    pub fn read(dir: &Path) -> Result<Option<Host>, ExportError> {
        Ok(json::read_if_there(&dir.join(HOST_FILE))?)
    }
}

/// An encoder and a decoder for sources of one length.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Tokens (or frames) that the encoder takes.
    pub source: usize,
    /// Its encoder.
    pub encoder: Place,
    /// Its decoder.
    pub decoder: Place,
}

/// One graph.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its file, in the artifact's folder.
    pub file: String,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it returns.
    pub outputs: Vec<Port>,
}

/// An input or output of a graph.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// `input_ids`, `input_features`, `pixel_values`, `attention_mask`; `decoder_input_ids`, `position`; `past.{i}.k`, `cross.{i}.v`,
    /// `present.{i}.k`; `logits`.
    pub port: String,
    /// What the file calls it.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// What its numbers mean.
    pub numbers: Numbers,
    /// Of keys and values of the decoder: the axis on which tokens stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_axis: Option<usize>,
}

/// The elements of a port.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Numbers {
    /// Ids, masks and positions.
    Int32,
    /// Plain floats.
    Float32,
    /// `(code - zero) · scale`.
    Uint8 {
        /// Width of a step.
        scale: f32,
        /// The code of 0.
        zero: i32,
    },
    /// The same with 16 bits.
    Uint16 {
        /// Width of a step.
        scale: f32,
        /// The code of 0.
        zero: i32,
    },
    /// `code · scale`.
    Int16 {
        /// Width of a step.
        scale: f32,
    },
}
