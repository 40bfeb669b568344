//! How far outputs are apart, how well texts answer a task, and what a sample lets one say of it.
//!
//! [`distances`] compares logits, [`sequences`] tokens, [`score`] texts with right answers, after [`normalize`], [`given`] holds what others say of them; [`clusters`] gives
//! distances an interval, [`lost`] judges limits on pairs; [`spread`] says what of a few timed runs may be quoted. Sums are in f64; a
//! value that is not a number passes no limit. `docs/metrics.md` has the formulas.

mod bootstrap;
pub mod clusters;
pub mod distances;
mod edits;
pub mod given;
pub mod lost;
pub mod metric;
mod ngrams;
pub mod normalize;
pub mod proportions;
pub mod score;
pub mod sequences;
mod spaces;
pub mod spread;
mod sums;
mod text;

pub use clusters::Clusters;
pub use distances::{Distances, Meter, argmax, kl_divergence};
pub use edits::edit_distance;
pub use given::{Given, Mean};
pub use lost::Lost;
pub use metric::TaskMetric;
pub use normalize::Normalizer;
pub use score::{Answer, Figure, Score, Scored, Scoring};
pub use sequences::{Agreement, agreement, common_prefix, token_agreement};
pub use spread::{Ruling, Spread};
