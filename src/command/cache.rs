//! `trefoil cache`: what is kept between runs.

use std::path::Path;

use serde_json::json;

use crate::build::cache::{self, Entry, Kind, MOST_ARTIFACT_BYTES, MOST_BYTES};
use crate::build::error::PipelineError;
use crate::command::arguments::{Common, Verdict};
use crate::show::table::{aligned, size};
use crate::show::terminal::print;

/// Arguments of `cache`.
#[derive(clap::Args)]
pub struct Cache {
    /// Removes what calibrations and searches found, and what `build` made; engines that were fetched stay
    #[arg(long)]
    clear: bool,
}

/// Shows what is kept between runs, or removes it.
pub fn run(arguments: &Cache, common: &Common) -> Result<Verdict, PipelineError> {
    if arguments.clear {
        cache::clear().map_err(|(file, source)| PipelineError::Io { file, source })?;
    }
    let folder = cache::folder();
    let entries = cache::entries();
    let of = |kind: Kind| {
        let own: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == kind).collect();
        (kind.name(), own.len(), own.iter().map(|entry| entry.bytes).sum::<u64>())
    };
    let kinds = Kind::ALL.map(of);
    let text = match common.json {
        true => {
            let kinds =
                kinds.map(|(name, findings, bytes)| json!({ "kind": name, "findings": findings, "bytes": bytes }));
            let all = json!({ "folder": folder, "most_bytes": MOST_BYTES, "most_artifact_bytes": MOST_ARTIFACT_BYTES, "kinds": kinds });
            serde_json::to_string_pretty(&all).expect("only JSON types") + "\n"
        }
        false => {
            let rows = kinds.map(|(name, findings, bytes)| vec![name.to_owned(), findings.to_string(), size(bytes)]);
            let at = folder.map_or("no home folder, so nothing is kept".to_owned(), |dir| dir.display().to_string());
            format!(
                "{at}\n{}at most {}, and {} of artifacts with their validations unless a build says otherwise; what nobody asked \
                 for the longest goes first\n",
                aligned(2, &rows),
                size(MOST_BYTES),
                size(MOST_ARTIFACT_BYTES)
            )
        }
    };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))?;
    Ok(Verdict::Passed)
}
