//! Which weights are quantized, how, and with what error.
//!
//! A [`Scheme`] names a representation; a [`Policy`] (part of the recipe) chooses one for every weight by role and by
//! glob; a [`Quantizer`] turns the rows of one weight into that representation, streaming them through a scratch file.

pub mod ggml;
pub mod policy;
pub mod round;
pub mod scheme;

pub use policy::{Activations, Plan, Policy, PolicyError, Role, Rule};
pub use scheme::{Clip, Scheme};
