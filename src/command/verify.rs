//! `trefoil verify`: whether artifacts are what was made, and whether the same would be made again. Changes nothing.

mod arguments;
mod folders;
mod remade;
mod told;

use std::path::{Path, PathBuf};

use crate::build::error::PipelineError;
use crate::command::arguments::{Common, Verdict};
use crate::show::progress::Display;
pub use arguments::Verify;

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
