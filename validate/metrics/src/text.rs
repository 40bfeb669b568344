//! Figures of texts beside right answers, from sums that each text adds.

pub mod bleu;
pub mod chrf;
pub mod error_rates;
pub mod rouge;
