//! What a build is asked for.

use std::path::PathBuf;

use crate::command::engines::Engines;
use crate::command::shard::Shard;
use crate::show::table::bytes;

/// Arguments of `build`.
#[derive(clap::Args)]
pub struct Build {
    /// The recipes
    #[arg(required = true)]
    pub recipes: Vec<PathBuf>,
    /// Makes the i-th of n parts of the artifacts, as 1/3, into the cache alone
    #[arg(long, value_name = "I/N", conflicts_with = "join")]
    pub shard: Option<Shard>,
    /// Makes nothing: puts what shards made into its places, with the reports
    #[arg(long)]
    pub join: bool,
    /// Changes nothing where anything is not as NAME.lock beside the recipe says
    #[arg(long)]
    pub locked: bool,
    /// Makes the artifacts without testing them, and no report
    #[arg(long)]
    pub no_validate: bool,
    /// Does not time the artifacts in their engines
    #[arg(long)]
    pub no_bench: bool,
    /// Calibrates by sums in one fixed order, which makes the same bytes on every processor and takes longer
    #[arg(long)]
    pub portable: bool,
    /// The folder that keeps what runs made [default: $TREFOIL_CACHE, else that of the user]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Most bytes of artifacts there, as 20GB; those that nobody asked for the longest go first
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub cache_size: Option<u64>,
    #[command(flatten)]
    pub engines: Engines,
}
