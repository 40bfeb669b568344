//! What every conversion runs.

pub(super) mod fold;
pub(super) mod fuse_attention;
pub(super) mod split;
