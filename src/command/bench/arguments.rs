//! What `bench` is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::command::engines::Engines;

/// Where drawn sources begin.
pub const SEED: u64 = 1;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Bench {
    /// Folders of artifacts of one model; ONNX folders as Optimum writes them too
    #[arg(required_unless_present = "paper", value_name = "ARTIFACT")]
    pub artifacts: Vec<PathBuf>,
    /// Only this engine; may be given several times [default: every one that opens an artifact]. With --paper: onnxruntime, which
    /// is its default, or ggml
    #[arg(long, value_name = "NAME")]
    pub engine: Vec<String>,
    /// Lengths of the sources: tokens, seconds of sound, or 1 image [default: 32,128,512, or what the model hears or sees]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub source: Vec<usize>,
    /// Sequences side by side
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    pub batch: Vec<NonZeroUsize>,
    /// Tokens that are said, whatever they are
    #[arg(long, value_name = "N", default_value = "64")]
    pub tokens: NonZeroUsize,
    /// Runs of each, in turn with the others, after one that does not count
    #[arg(long, value_name = "N", default_value = "5")]
    pub runs: NonZeroUsize,
    /// Instead of artifacts: an encoder-decoder of the shape of Mu (330 million random weights) against a decoder-only of the same
    /// size, beside what "Return of the Encoder" published
    #[arg(long, conflicts_with_all = ["artifacts", "batch"])]
    pub paper: bool,
    /// With --paper: the sizes to compare instead of Mu's, of a config.json of any family that reads tokens
    #[arg(long, value_name = "FILE", requires = "paper")]
    pub config: Option<PathBuf>,
    /// With --paper: what both compute in [default: int8]
    #[arg(long, value_enum, requires = "paper", value_name = "WORD")]
    pub precision: Option<Precision>,
    /// Draws the figures into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub engines: Engines,
}

/// What the models of `--paper` compute in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Precision {
    /// Weights and the inputs of their products
    Int8,
    /// Single precision
    F32,
}
