//! Where long work tells how far it is.

/// A receiver of progress. Work is counted in bytes or samples, as `unit` says.
pub trait Progress: Sync {
    /// A stage begins; the one before it is over.
    fn stage(&self, name: &str, total: u64, unit: Unit);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// Something that a person who waits should know.
    fn say(&self, _sentence: &str) {}
}

/// What a stage counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes read.
    Bytes,
    /// Samples evaluated.
    Samples,
    /// Trials of a search.
    Trials,
}

/// Says nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _name: &str, _total: u64, _unit: Unit) {}
    fn advance(&self, _n: u64) {}
}
