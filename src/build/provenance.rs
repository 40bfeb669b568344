//! What lies beside an artifact for those who have to know where it comes from: an in-toto statement with a SLSA predicate, and a
//! CycloneDX bill of materials. docs/provenance.md says what each field holds.
//!
//! Nothing here goes in a circle: the manifest has the digests of the files, the statement that of the manifest too, and neither has
//! one of the statement, the bill or the card. The statement follows from the manifest alone and can be made again; the number of the
//! bill is a digest of the bill.

mod bom;
mod json;
mod licenses;
mod statement;

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use converters::{checkpoint, limits};

use crate::build::card::Card;
use crate::build::error::PipelineError;
use crate::build::intact::Fault;
use crate::build::manifest::{self, Manifest};
use crate::names::{BOM, PROVENANCE};

/// Whoever wants a time in what is built says which (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// The last second that RFC 3339 can write, in seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// The time that `SOURCE_DATE_EPOCH` says, as RFC 3339 writes it; none without it. Errors: it is no time.
pub fn time() -> io::Result<Option<String>> {
    let Some(found) = env::var_os(EPOCH) else { return Ok(None) };
    let found = found.to_string_lossy();
    match found.parse::<u64>() {
        Ok(seconds) if seconds <= LAST_SECOND => {
            Ok(Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()))
        }
        _ => {
            let message = format!("expected seconds since 1970, found {found}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

/// The same, as an error of a command.
pub fn checked_time() -> Result<Option<String>, PipelineError> {
    time().map_err(PipelineError::io(Path::new(EPOCH)))
}

/// Writes both into a staged folder in which the manifest lies.
pub fn write(dir: &Path, card: &Card) -> Result<(), PipelineError> {
    let time = checked_time()?;
    let sha256 = checkpoint::sha256(&dir.join(manifest::FILE))?;
    let files = [
        (PROVENANCE, statement::text(card.manifest, &sha256, time.as_deref())),
        (BOM, bom::text(card, time.as_deref())),
    ];
    for (name, text) in files {
        fs::write(dir.join(name), text).map_err(PipelineError::io(&dir.join(name)))?;
    }
    Ok(())
}

/// What of both does not fit the manifest that lies there. Their times are nobody's to say, and not held to anything.
pub fn faults(dir: &Path, manifest: &Manifest) -> Result<Vec<Fault>, PipelineError> {
    let sha256 = checkpoint::sha256(&dir.join(manifest::FILE))?;
    let read =
        |name: &str| limits::read_text(&dir.join(name)).map_err(|error| vec![Fault::new(name, error.to_string())]);
    let statement = read(PROVENANCE).map_or_else(|faults| faults, |text| statement::faults(&text, manifest, &sha256));
    let bom = read(BOM).map_or_else(|faults| faults, |text| bom::faults(&text, manifest));
    Ok(statement.into_iter().chain(bom).collect())
}
