//! How a checkpoint decodes greedily: generation_config.json, or config.json where there is none.

mod decoding;
mod keys;
pub mod languages;
mod overrides;
mod prompt;
mod source;
#[cfg(test)]
mod tests;

pub use decoding::Generation;
pub use overrides::{Ids, Overrides};
pub use prompt::{Choice, Prompt};
