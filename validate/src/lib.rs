//! Runs artifacts in real engines and compares them with the full-precision model, link by link.
//!
//! [`chain`] says what is compared with what; [`runtime`] opens artifacts; [`task`] holds the evaluation data;
//! [`report`] is what comes out. [`lint`] judges ONNX files for NPUs without running them.

pub mod answers;
pub mod bench;
pub mod calibration;
pub mod chain;
pub mod generate;
pub mod lint;
pub mod paper;
pub mod peers;
pub mod runtime;
pub mod task;

pub use chain::{Baseline, ChainError, Context, Limits, Subject, validate_artifact};
pub use generate::{Generated, Greedy};
pub use metrics;
pub use report;
pub use report::{Check, Engine, Note, Report};
pub use runtime::onnx::cache_folder;
pub use runtime::{Fit, Program, RUNTIMES, Runtime, RuntimeError, Session};
pub use task::{Data, DataError};
