//! Runs artifacts in real engines and compares them with the full-precision model, link by link.

pub mod chain;
pub mod generate;
pub mod metrics;
pub mod report;
pub mod runtime;

pub use report::{Check, Note, Report};
pub use runtime::{Engine, RUNTIMES, Runtime, RuntimeError, Session};
