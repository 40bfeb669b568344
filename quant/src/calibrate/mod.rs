//! What a model's activations look like when it really decodes.

pub mod calibration;
pub mod gram;
pub mod histogram;
pub mod ranges;
pub mod samples;
pub mod statistics;
pub mod values;
pub mod walk;

pub use crate::error::CalibrationError;
pub use crate::policy::role::{inputs, inputs_of};
pub use calibration::Calibration;
pub use samples::Samples;
pub use statistics::{Channels, Observed, Statistics, gather};
