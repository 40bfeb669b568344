//! What a recipe may say of the format.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the format.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Safetensors {
    /// The type of weights that have no codes.
    pub dtype: Dtype,
    /// Megabytes (10^6 bytes) after which another file begins.
    pub shard_size_mb: NonZeroU64,
    /// Stores 4-bit codes in 8 bits when other weights have 8-bit codes. transformers reads one width for a whole model, so
    /// the default refuses the mixture.
    pub widen_codes: bool,
}

/// The type of weights that have no codes. Only widening is possible; the schemes f16 and bf16 narrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Each as it is.
    #[default]
    AsStored,
    /// Single precision.
    F32,
    /// Half precision, which all must have already.
    F16,
    /// The upper half of single precision, which all must have already.
    Bf16,
}

impl Safetensors {
    /// As stored, in files of 5 GB as transformers writes them.
    pub const DEFAULT: Safetensors = Safetensors {
        dtype: Dtype::AsStored,
        shard_size_mb: NonZeroU64::new(5000).expect("not 0"),
        widen_codes: false,
    };
}

impl Default for Safetensors {
    fn default() -> Safetensors {
        Safetensors::DEFAULT
    }
}
