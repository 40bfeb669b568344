//! The files of a report, put in their places.

use std::fs;
use std::path::Path;

use validate::report::Report;

use super::error::PipelineError;
use super::folder::OutFolder;
use crate::pages::{self, RENDERERS};

/// Writes the files of a report where they wait to be committed; returns their names.
pub fn staged(report: &Report, folder: &OutFolder) -> Result<Vec<&'static str>, PipelineError> {
    for page in RENDERERS {
        let file = folder.staged(page.name);
        fs::write(&file, (page.render)(report)).map_err(PipelineError::io(&file))?;
    }
    Ok(pages::names())
}

/// Puts the files of a report into a folder, all of them or none.
pub fn put(report: &Report, dir: &Path) -> Result<(), PipelineError> {
    let folder = OutFolder::open(dir)?;
    let names = staged(report, &folder)?;
    Ok(folder.commit(&names, &[])?)
}
