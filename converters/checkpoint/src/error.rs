//! What can be wrong with a checkpoint.

use std::fmt;
use std::path::{Path, PathBuf};

/// A checkpoint cannot be read or does not fit its architecture.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The folder lacks a file that every checkpoint has.
    #[error("{}: not a checkpoint: expected {expected}, found none", .dir.display())]
    NotACheckpoint {
        /// The folder.
        dir: PathBuf,
        /// The file, or the files of which one is needed.
        expected: String,
    },
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {message}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where, expected, found.
        message: String,
    },
    /// Everything about config and tensors that does not fit, at once.
    #[error("{}: {}{}", .dir.display(), counted(.problems), listed(.problems))]
    DoesNotFit {
        /// The folder.
        dir: PathBuf,
        /// Each problem.
        problems: Vec<Problem>,
    },
    /// Rows of a weight cannot be read.
    #[error(transparent)]
    Weight(#[from] graph::WeightError),
    /// A weight holds NaN or an infinity; every such weight is listed.
    #[error("{}{}", counted(.0), listed(.0))]
    NotFinite(Vec<NotFinite>),
}

impl CheckpointError {
    /// A file that is not what its name says, and why.
    pub fn malformed(file: &Path, message: impl fmt::Display) -> CheckpointError {
        CheckpointError::Malformed { file: file.to_owned(), message: message.to_string() }
    }

    /// What the system said of a file.
    pub fn io(file: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError + use<> {
        let file = file.to_owned();
        |source| CheckpointError::Io { file, source }
    }
}

fn counted<T>(items: &[T]) -> String {
    match items.len() {
        1 => String::new(),
        n => format!("{n} problems"),
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [one] => one.to_string(),
        _ => items.iter().map(|item| format!("\n  {item}")).collect(),
    }
}

/// One thing about a checkpoint that does not fit its architecture.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Problem {
    /// A key that decides a shape or where decoding starts is not there.
    #[error("{file}: {key} is missing")]
    MissingKey {
        /// `config.json` or `generation_config.json`.
        file: &'static str,
        /// The key.
        key: String,
    },
    /// A key holds something of another kind.
    #[error("{file}: {key} = {found}, expected {expected}")]
    WrongKind {
        /// `config.json` or `generation_config.json`.
        file: &'static str,
        /// The key.
        key: String,
        /// What it should be.
        expected: String,
        /// Its value as JSON.
        found: String,
    },
    /// A value that changes the result and is not supported.
    #[error("{file}: {key} = {value} is not supported by {architecture}: {why}")]
    Unsupported {
        /// `config.json` or `generation_config.json`.
        file: &'static str,
        /// The key.
        key: String,
        /// Its value as JSON.
        value: String,
        /// `t5`.
        architecture: String,
        /// What is supported.
        why: String,
    },
    /// A key that the importer neither read nor knows to be without effect.
    #[error("{file}: {key} = {value} is not known to {architecture}; it may change the result")]
    UnreadKey {
        /// `config.json` or `generation_config.json`.
        file: &'static str,
        /// The key.
        key: String,
        /// Its value as JSON.
        value: String,
        /// `t5`.
        architecture: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("{name}: expected {expected}, found no such tensor")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// Shape with the names of its dimensions.
        expected: String,
    },
    /// A tensor of another shape.
    #[error("{name}: expected {expected}, found {found:?} in {file}")]
    WrongShape {
        /// The tensor.
        name: String,
        /// Shape with the names of its dimensions.
        expected: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The file.
        file: String,
    },
    /// A tensor that nothing asked for.
    #[error("{name}: {architecture} has no use for this tensor, {dtype} {shape:?} in {file}")]
    UnusedTensor {
        /// The tensor.
        name: String,
        /// `t5`.
        architecture: String,
        /// Its element type.
        dtype: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The file.
        file: String,
    },
    /// A tensor that does not hold floats of a supported type.
    #[error("{name}: expected F32, F16 or BF16, found {dtype} in {file}")]
    WrongType {
        /// The tensor.
        name: String,
        /// Its element type.
        dtype: String,
        /// The file.
        file: String,
    },
    /// Integers that differ from those that follow from the config.
    #[error("{name}: found {found}, as follows from config.json; in {file}")]
    OtherIntegers {
        /// The tensor.
        name: String,
        /// What it holds and what it should.
        found: String,
        /// The file.
        file: String,
    },
    /// A tensor whose bytes cannot be read.
    #[error("{name}: cannot be read from {file}: {message}")]
    Unreadable {
        /// The tensor.
        name: String,
        /// The file.
        file: String,
        /// What the reader said.
        message: String,
    },
    /// Two names for one weight that hold different values.
    #[error("{name}: expected the same values as {other}, found {difference}; {why}")]
    AliasesDiffer {
        /// The alias.
        name: String,
        /// The weight it stands for.
        other: String,
        /// The first difference.
        difference: String,
        /// Why they must be equal.
        why: String,
    },
}

/// A weight holds NaN or an infinity.
#[derive(Clone, PartialEq, Debug)]
pub struct NotFinite {
    /// Its name.
    pub weight: String,
    /// Row of the first such element.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// The element.
    pub value: f32,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotFinite { weight, row, column, value } = self;
        write!(f, "{weight}: expected finite values, found {value} at row {row}, column {column}")
    }
}
