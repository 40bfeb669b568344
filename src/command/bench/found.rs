//! Who is measured, and what is found.

use validate::bench::Spread;
use validate::bench::measure::Measured;
use validate::bench::traffic::Traffic;
use validate::report::Engine;
use validate::runtime::Runtime;

use super::subject::Subject;

/// An artifact in an engine.
pub struct Contender<'s> {
    pub subject: &'s Subject,
    pub runtime: &'static dyn Runtime,
    pub engine: Engine,
    pub load_ms: Vec<f64>,
    pub traffic: Option<Traffic>,
}

/// What was measured of one contender with one kind of course.
pub struct Row<'c> {
    pub contender: &'c Contender<'c>,
    pub source: usize,
    pub batch: usize,
    /// Or why not.
    pub measured: Result<Measured, String>,
    pub bytes_per_token: Option<f64>,
    /// Processes that wanted to run, before and after.
    pub load: [Option<f64>; 2],
}

/// Everything that a table shows.
pub struct Found<'c> {
    pub rows: Vec<Row<'c>>,
    /// Bytes a second that all threads read.
    pub bandwidth: Option<Spread>,
    pub threads: usize,
    pub tokens: usize,
    pub runs: usize,
    /// Of the lengths.
    pub unit: &'static str,
}
