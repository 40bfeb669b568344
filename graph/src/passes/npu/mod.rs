//! What toolchains of NPUs need.

pub(super) mod expand;
pub(super) mod fold_heads;
pub(super) mod make_static;
pub(super) mod untie_embeddings;
