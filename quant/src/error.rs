//! Why weights cannot be quantized.

use std::io;

use graph::WeightError;
use graph::eval::EvalError;

use crate::calibrate::ranges::RangeError;
use crate::scheme::Scheme;
use crate::settings::Method;

/// Weights cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    /// Some weights hold numbers that cannot be represented; the first number of each weight is listed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// Rows cannot be read.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// A method needs calibration, and there is none.
    #[error("{weight}: the method {} needs calibration samples; expected `calibrate: {{ data: FILE }}` in the recipe", .method.name())]
    Uncalibrated {
        /// The first such weight.
        weight: String,
        /// Its method.
        method: Method,
    },
    /// Factors are chosen by activations, and there is no calibration.
    #[error("`{setting}` needs calibration samples; expected `calibrate: {{ data: FILE }}` in the recipe")]
    UncalibratedFactors {
        /// As the recipe writes it.
        setting: &'static str,
    },
    /// The calibration samples do not run.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The scratch file does not take the quantized rows.
    #[error("{weight}: cannot write its quantized rows to the scratch file: {source}")]
    Scratch {
        /// The weight.
        weight: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A number in a weight that cannot be represented. `row` and `column` are those of [`graph::Weight::matrix`].
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refusal {
    /// NaN or infinity in the checkpoint.
    #[error("{weight}: expected finite numbers, found {value} at [{row}, {column}]; the checkpoint is damaged")]
    NotFinite {
        /// The weight.
        weight: String,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// NaN or ±inf.
        value: f32,
    },
    /// A finite number, or the scale that it calls for, lies outside the type.
    #[error(
        "{weight}: {value:e} at [{row}, {column}] is out of range for {scheme}, whose f16 ends at 65504; \
         use bf16 or keep for this weight"
    )]
    Overflow {
        /// The weight.
        weight: String,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// The number in the checkpoint.
        value: f32,
        /// What it was to become.
        scheme: Scheme,
    },
}

/// The model cannot be calibrated on these samples.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// There is no sample.
    #[error("calibration: expected at least one sample, found none")]
    Empty,
    /// A sample does not run.
    #[error("calibration: {0}")]
    Eval(#[from] EvalError),
    /// An activation is NaN or infinite.
    #[error(
        "calibration: {value} holds {found} in sample {}; the float model itself does not stand this input",
        .sample + 1
    )]
    NotFinite {
        /// The value of the graph.
        value: String,
        /// NaN or ±inf.
        found: f32,
        /// From 0.
        sample: usize,
    },
    /// An activation has no range.
    #[error("calibration: {value}: {source}")]
    Range {
        /// The value of the graph.
        value: String,
        /// Why.
        source: RangeError,
    },
    /// A weight cannot be read.
    #[error("calibration: {0}")]
    Weight(#[from] WeightError),
    /// A scratch file cannot be written or read.
    #[error("calibration: scratch file: {0}")]
    Io(#[from] io::Error),
}
