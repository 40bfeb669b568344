//! What takes the place of a block type that does not fit a row.

use graph::{FloatType, GgmlType};

use crate::scheme::Scheme;

/// What a weight becomes whose rows are no multiple of the block of its ggml type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// An error.
    Refuse,
    /// This, where it fits.
    To(Scheme),
    /// The nearest type with blocks of 32 and no fewer bits, as `llama-quantize` has it: `q5_0` for `q4_k`, `q5_1` for `q5_k`,
    /// `q8_0` for `q6_k`; `f16` where rows are no multiple of 32 either.
    Nearest,
}

impl Fallback {
    /// What to try in place of a scheme, the first first.
    pub(super) fn instead_of(self, scheme: Scheme) -> Vec<Scheme> {
        let (Scheme::Ggml(kind), half) = (scheme, Scheme::Float(FloatType::F16)) else { return Vec::new() };
        match (self, kind) {
            (Fallback::Refuse, _) => Vec::new(),
            (Fallback::To(other), _) => vec![other],
            (Fallback::Nearest, GgmlType::Q4K) => vec![Scheme::Ggml(GgmlType::Q5_0), half],
            (Fallback::Nearest, GgmlType::Q5K) => vec![Scheme::Ggml(GgmlType::Q5_1), half],
            (Fallback::Nearest, GgmlType::Q6K) => vec![Scheme::Ggml(GgmlType::Q8_0), half],
            (
                Fallback::Nearest,
                GgmlType::Q8_0 | GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Mxfp4,
            ) => vec![half],
        }
    }
}
