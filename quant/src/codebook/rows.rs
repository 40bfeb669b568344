//! What a codebook is, and what it does with the rows of one weight.

use std::fmt;
use std::hash::{Hash, Hasher};

use graph::{Blob, Quantized, Weight, WeightError};

use crate::measure::OutputErrors;
use crate::settings::Clip;

/// Which numbers a weight can hold: an element type (integers, small floats), a scale type, and the weights that share a scale.
///
/// Every method of choosing codes is written against this, so a codebook works with all of them.
pub trait Codebook: fmt::Debug + Send + Sync {
    /// As recipes write it: `int4-g128-asym`, `q4_k`.
    fn name(&self) -> String;

    /// Why rows of `columns` weights have no place in it.
    fn misfit(&self, columns: usize) -> Option<String> {
        let _ = columns;
        None
    }

    /// Whether [`Clip`] says how the range of its codes is found. Otherwise its scales come from a search of its own.
    fn has_range(&self) -> bool {
        false
    }

    /// Bytes that a row of `columns` weights becomes.
    fn row_bytes(&self, columns: usize) -> usize;

    /// The weight of `[rows, columns]` that `codes` and the scales and zero points of its chunks make.
    fn tensor(&self, shape: [usize; 2], codes: Blob, scales: &[f32], zeros: Vec<i8>) -> Quantized;

    /// Ready to encode the rows of this weight. `importance`: what a squared error in each column counts; all the same when
    /// absent. Errors: a codebook that must see the whole weight first cannot read it.
    fn rows<'a>(
        &'a self,
        weight: &Weight,
        clip: Clip,
        importance: Option<&'a [f32]>,
    ) -> Result<Box<dyn Rows + 'a>, WeightError>;
}

/// Two codebooks of one name are one.
impl PartialEq for dyn Codebook {
    fn eq(&self, other: &dyn Codebook) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Codebook {}

impl Hash for dyn Codebook {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl<C: Codebook + ?Sized> Codebook for &C {
    fn name(&self) -> String {
        (**self).name()
    }

    fn misfit(&self, columns: usize) -> Option<String> {
        (**self).misfit(columns)
    }

    fn has_range(&self) -> bool {
        (**self).has_range()
    }

    fn row_bytes(&self, columns: usize) -> usize {
        (**self).row_bytes(columns)
    }

    fn tensor(&self, shape: [usize; 2], codes: Blob, scales: &[f32], zeros: Vec<i8>) -> Quantized {
        (**self).tensor(shape, codes, scales, zeros)
    }

    fn rows<'a>(
        &'a self,
        weight: &Weight,
        clip: Clip,
        importance: Option<&'a [f32]>,
    ) -> Result<Box<dyn Rows + 'a>, WeightError> {
        (**self).rows(weight, clip, importance)
    }
}

/// Encodes whole rows of one weight.
pub trait Rows: Sync {
    /// Scales, and the nearest codes under them.
    ///
    /// `values`: f32[rows·columns], finite. `out.bytes` and `out.decoded` have their final lengths; scales and zero points are
    /// appended.
    fn encode(&self, values: &[f32], out: &mut Chunk);

    /// Other codes under the scales that [`Rows::encode`] left in `out`, chosen by `feedback`.
    fn recode(&self, out: &mut Chunk, feedback: Feedback);
}

/// Gets what the codes mean, f32[rows·columns], to be overwritten, and [`Choose`].
pub type Feedback<'a> = &'a mut dyn FnMut(&mut [f32], Choose);

/// Gives the weight at a row and a column the code nearest to a number, and returns what that means.
pub type Choose<'a> = &'a mut dyn FnMut(usize, usize, f32) -> f32;

/// What some rows become.
#[derive(Default)]
pub struct Chunk {
    /// For the scratch file: `rows · row_bytes`.
    pub bytes: Vec<u8>,
    /// What the bytes mean: one f32 per weight.
    pub decoded: Vec<f32>,
    /// In row order.
    pub scales: Vec<f32>,
    /// As many as scales, or none.
    pub zeros: Vec<i8>,
    /// When it was measured.
    pub outputs: Option<OutputErrors>,
}

impl Chunk {
    /// Room for `rows` rows of `columns` weights, `row_bytes` each; what it held before is gone.
    pub fn reset(&mut self, rows: usize, columns: usize, row_bytes: usize) {
        self.bytes.resize(rows * row_bytes, 0);
        self.decoded.resize(rows * columns, 0.0);
        self.scales.clear();
        self.zeros.clear();
        self.outputs = None;
    }
}
