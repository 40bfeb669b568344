//! How fast artifacts are in their engines, and in how much memory.
//!
//! [`measure`] runs engines under a clock, in turn, each in a process of its own; [`metrics::spread`] says what of that may be
//! quoted; [`traffic`] counts what a step reads, [`bandwidth`] measures what the machine can read; [`compare`] holds an artifact
//! against the float model's in the same engine for reports; [`picture`] draws.

pub mod bandwidth;
pub mod compare;
pub mod course;
pub mod machine;
pub mod measure;
pub mod picture;
pub mod slow;
pub mod traffic;

pub use course::{Course, Times};
pub use metrics::Spread;
