//! What a search is asked for.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use quant::Scheme;

use crate::command::shard::Shard;
use crate::show::table::bytes;

/// Samples that judge a trial, unless told otherwise.
const SAMPLES: usize = 128;

/// Arguments of `tune`.
#[derive(clap::Args)]
pub struct Tune {
    /// The recipe
    pub recipe: PathBuf,
    /// Which artifact [default: the recipe's only one]
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Most bytes of its weights, as 2900000 or 2.9MB
    #[arg(long, value_name = "BYTES", value_parser = bytes, group = "budget")]
    pub max_size: Option<u64>,
    /// Most KL divergence from the float model, in nats
    #[arg(long, value_name = "KL", group = "budget")]
    pub max_kl: Option<f64>,
    /// Most points of the task's metric lost on the calibration data
    #[arg(long, value_name = "POINTS", group = "budget")]
    pub max_drop: Option<f64>,
    /// Schemes to choose from [default: those of the format]
    #[arg(long, value_name = "SCHEME", value_delimiter = ',')]
    pub candidates: Vec<Scheme>,
    /// Calibration samples that judge a trial, from the first
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(SAMPLES).expect("not 0"))]
    pub samples: NonZeroUsize,
    /// Measures single weights alone, the i-th of n parts of them as 1/3, and keeps what it finds for a search with the same cache
    #[arg(long, value_name = "I/N", conflicts_with = "budget")]
    pub shard: Option<Shard>,
    /// Another checkpoint than the recipe's
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Where the new recipe goes [default: beside the recipe, as NAME-tuned.yaml]
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Where tune.md, tune.json and tune.svg go [default: in the recipe's `out`]
    #[arg(long, value_name = "DIR")]
    pub report_dir: Option<PathBuf>,
}
