//! The recipe: one YAML file that says which checkpoint becomes which artifacts, and how good they must be.

pub mod draft;
pub mod load;
mod problems;
pub mod purpose;
pub mod rescale;
pub mod samples;
pub mod schema;
pub mod target;
pub mod yaml;
