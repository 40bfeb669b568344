//! Artifacts of fixed shapes, run by what `npu.json` says of them in any engine that runs one graph.

mod ports;
mod python;
mod session;
mod value;

pub(super) use ports::{Found, Signature};
pub(super) use python::{PythonEngine, PythonGraph};
pub(super) use session::{Step, Steps};
pub(super) use value::{Codes, Value, with_codes};

/// [`converters::Format::name`] of these artifacts.
pub(super) const FORMAT: &str = "npu";

#[cfg(test)]
mod tests;
