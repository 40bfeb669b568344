//! What all families of transcribe.cpp's GGUF share. Source: src/transcribe-weights-util.h there (@ea077b8).

use checkpoint::gguf::Value;
use graph::GgmlType;

use crate::dialect::TensorTypes;

/// Positions are read as F32, convolutions as F32 or F16, matrices as any type but MXFP4.
pub(super) const TYPES: TensorTypes = TensorTypes {
    only_f32: &[
        ".bias",
        ".pos_emb.weight",
        "norm.weight",
        ".norm_attn.weight",
        ".norm_self.weight",
        ".norm_cross.weight",
        ".norm_ffn.weight",
    ],
    no_bf16: &["enc.conv."],
    blocks: &[
        GgmlType::Q8_0,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
    ],
};

/// A number of something.
pub(super) fn count(key: impl Into<String>, n: usize) -> (String, Value) {
    (key.into(), Value::U32(n as u32)) // at most 2^31
}

/// The id of a token.
pub(super) fn token(key: impl Into<String>, id: i64) -> (String, Value) {
    (key.into(), Value::U32(id as u32)) // read as a u32
}
