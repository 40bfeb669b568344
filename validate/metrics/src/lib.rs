//! How far outputs are apart, how well texts answer a task, and what a sample lets one say of it.
//!
//! [`distances`] compares logits, [`sequences`] tokens, [`score`] texts with right answers; [`spread`] says what of a few timed
//! runs may be quoted. Sums are in f64; a value that is not a number passes no limit.

pub mod distances;
pub mod score;
pub mod sequences;
pub mod spread;

pub use distances::{Distances, Meter, argmax, kl_divergence};
pub use score::{Answer, Figure, Lost, Score, Scored, Scoring, TaskMetric};
pub use sequences::{Agreement, agreement, common_prefix, edit_distance, token_agreement};
pub use spread::{Ruling, Spread};
