//! `trefoil verify`: whether artifacts are what was made, and whether the same would be made again. Changes nothing.

mod folders;
mod remade;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::build::error::PipelineError;
use crate::command::arguments::{Common, Verdict};
use crate::show::progress::Display;
use crate::show::terminal::{one_line, print};

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Verify {
    /// Folders of artifacts, or folders that hold some: digests of all files, every tensor read again. Or a recipe: makes its
    /// artifacts again and compares
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also derives every byte of the artifacts again, from this checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    rederive: Option<PathBuf>,
    /// With --rederive: the samples that calibrated the artifacts
    #[arg(long, value_name = "FILE", requires = "rederive")]
    data: Option<PathBuf>,
    /// Of a recipe: another checkpoint than the recipe's
    #[arg(long, value_name = "DIR", conflicts_with = "rederive")]
    model: Option<PathBuf>,
    /// Of a recipe: another folder with the artifacts than the recipe's
    #[arg(long, value_name = "DIR", conflicts_with = "rederive")]
    out: Option<PathBuf>,
    /// Of a recipe: only this artifact; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "rederive")]
    only: Vec<String>,
}

/// What was found at all paths. Failed: something there is not what was made.
pub fn verify(arguments: &Verify, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let (recipes, folders): (Vec<&PathBuf>, Vec<&PathBuf>) = arguments.paths.iter().partition(|path| path.is_file());
    if recipes.is_empty() {
        return folders::verify(&folders, arguments, common, display);
    }
    let wrong =
        |path: &Path, message: &str| PipelineError::Artifact { dir: path.to_owned(), message: message.to_owned() };
    match (&recipes[..], &folders[..]) {
        ([recipe], []) if arguments.rederive.is_none() => remade::verify(recipe, arguments, common, display),
        ([recipe], []) => Err(wrong(recipe, "expected the folder of an artifact with --rederive, found a file")),
        _ => Err(wrong(recipes[0], "expected a recipe alone, found it among other paths")),
    }
}

/// Prints lines, or the same as JSON.
fn tell(found: &impl Serialize, lines: &[String], common: &Common) -> Result<(), PipelineError> {
    let text = match common.json {
        true => serde_json::to_string_pretty(found).expect("only JSON types") + "\n",
        false => lines.iter().map(|line| one_line(line) + "\n").collect(),
    };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))
}
