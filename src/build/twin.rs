//! The float model in an artifact's format, for a clock to hold the artifact against.

use std::io;
use std::path::Path;

use converters::Artifact;
use tempfile::TempDir;

use super::growth::prepared;
use crate::build::source::Source;
use crate::recipe::target::Target;
use crate::show::table::size;

/// A larger one is not written for a comparison alone.
const MOST_BYTES: u64 = 2_000_000_000;

/// A float artifact that goes with this.
pub struct Twin {
    pub artifact: Artifact,
    _dir: TempDir,
}

/// Bytes of the float model, in the checkpoint's own types widened to at most f32.
pub fn bytes(source: &Source) -> u64 {
    source.exact.graph.weights.iter().map(|(_, weight)| 4 * weight.len() as u64).sum()
}

/// Whether it is small enough to be written.
pub fn is_small(source: &Source) -> bool {
    bytes(source) <= MOST_BYTES
}

/// Writes the float model as the target's format holds it. Errors: in words why there is none.
pub fn write(source: &Source, target: &Target, scratch: &Path) -> Result<Twin, String> {
    if !is_small(source) {
        let (found, most) = (size(bytes(source)), size(MOST_BYTES));
        return Err(format!("the float model takes {found}, and no more than {most} are written for a comparison"));
    }
    let model = prepared(source, target).map_err(|error| error.to_string())?.0;
    let format = target.format();
    let dir = TempDir::new_in(scratch).map_err(|error: io::Error| error.to_string())?;
    format.check(&model).map_err(|error| error.to_string())?;
    let artifact = format.write(&model, dir.path()).map_err(|error| error.to_string())?;
    Ok(Twin { artifact, _dir: dir })
}
