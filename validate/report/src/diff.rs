//! What changed from one report to another of the same model on the same data.

mod compare;
mod found;
mod html;
mod markdown;
mod outline;
mod rules;

pub use compare::{Incomparable, diff};
pub use found::*;
pub use html::html;
pub use markdown::markdown;
pub use rules::Rules;
