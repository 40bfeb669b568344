//! Which weights are quantized, how, and with what error.
//!
//! A [`Scheme`] names a representation; a [`Policy`] (part of the recipe) chooses one for every weight by role and by
//! glob, which gives a [`Plan`]; a [`Quantizer`] turns the rows of one weight into that representation, streaming them
//! through a scratch file; [`quantize`] does so for a whole graph and records what it did to each weight. A [`Calibration`]
//! tells quantizers what the weights are multiplied with when the model really decodes.
//!
//! ```text
//! samples --gather(float graph)--> Statistics
//! Policy --plan(graph)--> Plan --quantize(graph, Calibration)--> the same graph, other recipes for its rows, [TensorRecord]
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`scheme`], [`settings`] | what a recipe can ask for |
//! | [`policy`] | what becomes of every weight: rules, roles, plans |
//! | [`calibrate`] | samples, statistics, histograms, ranges, Gram matrices, the walk through a model |
//! | [`codebook`] | which numbers exist, and how they lie in bytes |
//! | [`method`] | how codes are chosen: nearest, by importance, by error feedback |
//! | [`edit`] | factors and biases that change before or after quantization |
//! | [`mod@quantize`], [`measure`], [`report`] | a plan carried out, and what that did to each weight |
//! | [`tune`] | the search for plans |

pub mod calibrate;
pub mod codebook;
pub mod edit;
pub mod error;
pub mod measure;
pub mod method;
pub mod policy;
pub mod quantize;
pub mod report;
pub mod results;
pub mod scheme;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod tune;

pub use calibrate::{Calibration, Samples, Statistics, ranges, values};
pub use edit::{bias, equalize, rescale};
pub use error::{CalibrationError, QuantError, Refusal};
pub use measure::OutputErrors;
pub use method::QUANTIZERS;
pub use method::feedback::Compensation;
pub use method::quantizer::{Known, Needs, Outcome, Quantizer};
pub use policy::caution::{Caution, cautions};
pub use policy::decide::Policy;
pub use policy::fallback::Fallback;
pub use policy::fault::{PolicyError, PolicyFault};
pub use policy::plan::{Decider, Plan, Planned};
pub use policy::role::{Role, roles};
pub use policy::rule::{DefaultRule, Rule};
pub use quantize::{quantize, quantize_calibrated};
pub use report::{OutputRecord, ScaleStats, TensorRecord};
pub use results::RESULTS;
pub use scheme::Scheme;
pub use settings::{
    Activations, Clip, Equalize, Factors, GptqSettings, Method, RangeMethod, Smoothquant, StaticActivations,
};
