//! Whether the disk has room for the work.

use std::path::Path;

use graph::Progress;

use crate::build::error::PipelineError;
use crate::build::folder::free_bytes;
use crate::show::progress::Display;
use crate::show::table::size;

/// Says how many bytes the work takes on a disk, and that there are as many. A system that does not tell is believed.
///
/// Errors: there is less room.
pub fn room(place: &Path, need: u64, display: &Display) -> Result<(), PipelineError> {
    display.say(&format!("room for {} in {}", size(need), place.display()));
    match free_bytes(place) {
        Some(free) if free < need => Err(PipelineError::Room { place: place.to_owned(), need, free }),
        _ => Ok(()),
    }
}
