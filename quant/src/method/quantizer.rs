//! What every method of choosing codes is given, and what it gives.

use graph::{Progress, Scratch, Weight, WeightData};

use super::feedback::Compensation;
use super::stream::Streamed;
use crate::codebook::rows::Codebook;
use crate::error::QuantError;
use crate::measure::{Errors, OutputErrors};
use crate::policy::plan::Planned;
use crate::scheme::Scheme;
use crate::settings::Method;

/// A way to choose the numbers of some schemes.
pub trait Quantizer: Sync {
    /// As lists show it.
    fn name(&self) -> &'static str;

    /// What it must know besides the weights.
    fn needs(&self) -> Needs;

    /// Whether it makes this scheme by this method.
    fn applies(&self, scheme: Scheme, method: Method) -> bool;

    /// New rows for one weight. `planned.scheme` applies and fits the shape, as a [`Plan`] guarantees; `known` holds what
    /// [`Quantizer::needs`] asks for.
    ///
    /// The same result at any number of threads. Errors: a number that is not finite, in the weight or in what it
    /// becomes; a file that fails.
    fn quantize(
        &self,
        weight: &Weight,
        planned: &Planned,
        known: &Known,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Outcome, QuantError>;
}

/// What a quantizer must know besides the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing; it uses the importance of input channels where it is known.
    Nothing,
    /// The second moments of the activation that the quantized layers before the weight make.
    Gram,
}

/// What is known of the activation that a weight is applied to.
pub enum Known<'a> {
    /// Nothing.
    Nothing,
    /// The mean square of each channel; f32[columns].
    Importance(&'a [f32]),
    /// All second moments, and what follows from them.
    Gram(&'a Compensation),
}

impl Known<'_> {
    /// What a squared error in each column counts.
    pub fn importance(&self) -> Option<&[f32]> {
        match self {
            Known::Nothing => None,
            Known::Importance(importance) => Some(importance),
            Known::Gram(shared) => Some(shared.importance()),
        }
    }
}

/// What became of one weight.
#[derive(Debug)]
pub struct Outcome {
    /// Where its rows come from now.
    pub data: WeightData,
    /// The scales of the new form, for statistics; empty when it has none.
    pub scales: Vec<f32>,
    /// Original against new form.
    pub errors: Errors,
    /// The outputs of its Linear, when they were measured.
    pub outputs: Option<OutputErrors>,
    /// What was out of the ordinary, in words.
    pub notes: Vec<String>,
}

impl Outcome {
    pub(crate) fn float(data: WeightData, errors: Errors) -> Outcome {
        Outcome { data, scales: Vec::new(), errors, outputs: None, notes: Vec::new() }
    }

    pub(crate) fn coded(codebook: &dyn Codebook, shape: [usize; 2], streamed: Streamed) -> Outcome {
        let Streamed { blob, scales, zeros, errors, outputs } = streamed;
        let data = WeightData::Quantized(codebook.tensor(shape, blob, &scales, zeros));
        Outcome { data, scales, errors, outputs, notes: Vec::new() }
    }
}
