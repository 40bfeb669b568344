//! What every command understands, and what it says in the end.

use std::path::PathBuf;

use clap::{ArgAction, Args};

/// What every command understands.
#[derive(Args)]
pub struct Common {
    /// Prints JSON; an error is a line of JSON on stderr, {"error": {"message", "hint", "kind", "exit_code"}}
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Tells on stderr what happens and how long it takes: stages, engines, the cache; twice: files and what engines say, too
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Appends all of that to a file
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
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
