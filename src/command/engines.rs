//! Where a command finds engines.

use std::path::PathBuf;

use validate::runtime::Options;

/// Where engines come from.
#[derive(clap::Args)]
pub struct Engines {
    /// Downloads nothing: neither an engine nor a checkpoint
    #[arg(long)]
    pub offline: bool,
    /// Python of an environment that has transformers [default: that of the active one]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Fails where an engine is missing that runs such artifacts, instead of showing it as "not run"
    #[arg(long)]
    pub strict: bool,
}

impl Engines {
    /// For opening an artifact.
    pub fn options(&self) -> Options {
        Options { offline: self.offline, ..options(self.python.clone()) }
    }
}

/// With all threads of this run, in processes of this program.
pub fn options(python: Option<PathBuf>) -> Options {
    let threads = rayon::current_num_threads();
    // Without a path no engine starts, and each says so.
    let host = Some(std::env::current_exe().unwrap_or_default());
    Options { threads, python, host, ..Options::DEFAULT }
}
