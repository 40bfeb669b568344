//! Why a call cannot be evaluated.

use crate::weights::WeightError;

/// A call could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// There is no such entry.
    #[error("no entry named {entry}: the graph has {}", .known.join(", "))]
    NoEntry {
        /// What was asked for.
        entry: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Feeds do not fit the entry; all misfits are listed.
    #[error("{entry}: {}", .problems.join("\n  "))]
    Feeds {
        /// The entry.
        entry: String,
        /// One line each.
        problems: Vec<String>,
    },
    /// An id lies outside the table it indexes.
    #[error("{value}: id {id} is outside the table of {rows} rows")]
    Id {
        /// The value that looks up.
        value: String,
        /// The id.
        id: i64,
        /// Rows of the table.
        rows: usize,
    },
    /// An input is too short for what is done with it.
    #[error("{value}: {op} reaches past the end of {shape:?}")]
    TooShort {
        /// The value that cannot be computed.
        value: String,
        /// Its op.
        op: String,
        /// The shape of what it reads.
        shape: Vec<usize>,
    },
    /// A value has another shape than inference gave it: a length of this call is two numbers.
    #[error("{value}: expected {expected} with {lengths}, found {found:?}")]
    Shape {
        /// The value.
        value: String,
        /// Its type.
        expected: String,
        /// What its symbols stand for in this call.
        lengths: String,
        /// The shape that was computed.
        found: Vec<usize>,
    },
    /// A weight cannot be read.
    #[error(transparent)]
    Weight(#[from] WeightError),
}
