//! Which numbers exist: codes, the scales that give them meaning, and how both lie in bytes.

pub mod affine;
pub mod clip;
pub mod ggml;
