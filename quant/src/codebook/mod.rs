//! Which numbers exist: codes, the scales that give them meaning, and how both lie in bytes.
//!
//! A [`rows::Codebook`] is an element type × a scale type × a group. A file here is one codebook, or a family that shares a
//! layout; [`crate::Scheme::ALL`] lists them.

pub mod affine;
pub mod clip;
pub mod float8;
pub mod ggml;
pub mod grid;
pub mod rows;
