//! `BasicTextNormalizer` with its defaults.

use super::{asides, symbols};
use crate::spaces::single_spaced;

/// Lower case, without asides, symbols as spaces.
pub fn normalized(text: &str) -> String {
    single_spaced(&symbols::spaced(&asides::removed(&text.to_lowercase())).to_lowercase())
}
