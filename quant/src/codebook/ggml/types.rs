//! Every block type, a line each.

use graph::ggml::GgmlType;

use super::block_type::BlockType;
use super::{mxfp4, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};

const TYPES: &[BlockType] =
    &[q8_0::TYPE, q4_0::TYPE, q4_1::TYPE, q5_0::TYPE, q5_1::TYPE, q4_k::TYPE, q5_k::TYPE, q6_k::TYPE, mxfp4::TYPE];

/// How the codes of a type are chosen.
pub(super) fn of(kind: GgmlType) -> &'static BlockType {
    TYPES.iter().find(|one| one.kind == kind).expect("a test holds that each type has a line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_line() {
        GgmlType::ALL.iter().for_each(|kind| assert_eq!(of(*kind).kind, *kind));
        assert_eq!(TYPES.len(), GgmlType::ALL.len());
    }
}
