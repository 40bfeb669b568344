//! What every command understands, and what it says in the end.

use clap::Args;

/// What every command understands.
#[derive(Args)]
pub struct Common {
    /// Prints JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// What a command found.
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// A check failed; its sentence is printed.
    Failed,
}
