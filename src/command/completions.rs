//! `trefoil completions`: what a shell needs to complete commands and options.

use std::io;

use clap_complete::{Shell, generate};

use crate::command::arguments::Verdict;
use crate::show::terminal::print;

/// Arguments of `completions`.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell that is to read it: `trefoil completions bash >~/.local/share/bash-completion/completions/trefoil`
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script of a shell for `program`.
pub fn completions(arguments: &Completions, mut program: clap::Command) -> io::Result<Verdict> {
    let (mut script, name) = (Vec::new(), program.get_name().to_owned());
    generate(arguments.shell, &mut program, name, &mut script);
    print(&String::from_utf8(script).expect("made of this program's texts"))?;
    Ok(Verdict::Passed)
}
