//! What was found about a model and its artifacts: `report.json` for machines, pages for people.
//!
//! [`Report`] is the whole; each renderer reads it and nothing else, so that a page can be made again from its JSON.

mod artifact;
pub mod chart;
mod check;
mod column;
pub mod diff;
pub mod escape;
pub mod figures;
pub mod html;
mod judged;
pub mod junit;
pub mod markdown;
mod parting;
mod report;
mod values;
mod wrong;

pub use artifact::*;
pub use check::*;
pub use column::*;
pub use judged::*;
pub use parting::*;
pub use report::*;
pub use values::*;
pub use wrong::*;
