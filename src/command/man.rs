//! `trefoil man`: manual pages, written from the arguments themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_mangen::Man as Page;

use crate::build::whole;
use crate::command::arguments::Verdict;
use crate::show::terminal::print;

/// Arguments of `man`.
#[derive(clap::Args)]
pub struct Man {
    /// A folder for the pages `trefoil.1`, `trefoil-convert.1`, … [default: the first of them is printed]
    dir: Option<PathBuf>,
}

/// The pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .file.display())]
pub struct ManError {
    file: PathBuf,
    source: io::Error,
}

/// Prints the page of `program`, or writes one for it and for each of its commands.
pub fn man(arguments: &Man, program: clap::Command) -> Result<Verdict, ManError> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let at = |file: &Path| {
        let file = file.to_owned();
        |source| ManError { file, source }
    };
    match &arguments.dir {
        None => {
            let (_, page) = page(program).map_err(at(Path::new("stdout")))?;
            let page = String::from_utf8(page).expect("made of this program's texts");
            print(&page).map_err(at(Path::new("stdout")))?;
        }
        Some(dir) => {
            fs::create_dir_all(dir).map_err(at(dir))?;
            for command in below(program) {
                let (name, page) = page(command).map_err(at(dir))?;
                let file = dir.join(name);
                whole::write(&file, &page).map_err(at(&file))?;
            }
        }
    }
    Ok(Verdict::Passed)
}

/// The name of its file and its text.
fn page(command: clap::Command) -> io::Result<(String, Vec<u8>)> {
    let source = concat!("trefoil ", env!("CARGO_PKG_VERSION"));
    let (page, mut text) = (Page::new(command).source(source), Vec::new());
    page.render(&mut text)?;
    Ok((page.get_filename(), text))
}

/// A command and all that are shown below it.
fn below(command: clap::Command) -> Vec<clap::Command> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let further: Vec<clap::Command> = shown.flat_map(below).collect();
    [vec![command], further].concat()
}
