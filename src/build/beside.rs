//! What a report says of artifacts that lie beside those of its run: it speaks of each folder, or says why not.

use std::fs;
use std::path::Path;

use validate::report::{ArtifactReport, Note, Report, Verdict};

use super::manifest::Manifest;
use super::places::REPORT_BYTES;
use crate::names::REPORT_JSON;

/// What a run leaves in the folder of artifacts.
pub struct Run<'a> {
    /// That folder.
    pub out: &'a Path,
    /// Where the report lies.
    pub report_dir: &'a Path,
    /// Names in `out` that it puts or removes.
    pub changed: &'a [&'a str],
    /// What it puts.
    pub made: &'a [&'a Manifest],
    /// Names of the recipe's artifacts, in its order.
    pub order: &'a [&'a str],
}

/// Completes a report with what lies in the folder beside what the run puts there; without a report of the run, keeps what an
/// earlier one says of artifacts that stay. `None`: there is nothing to be said.
pub fn account(report: Option<Report>, run: &Run) -> Option<Report> {
    let old = read(&run.report_dir.join(REPORT_JSON));
    let is_validated = report.is_some();
    let mut report = match (report, &old) {
        (Some(report), _) => report,
        (None, old) => Report { artifacts: Vec::new(), others: Vec::new(), ..old.clone()? },
    };
    if !is_validated {
        let text = "converted without validation, after this report was written";
        report.others.extend(run.made.iter().map(|made| Note { about: made.name.clone(), text: text.to_owned() }));
    }
    for (folder, manifest) in artifacts(run.out) {
        if run.changed.contains(&folder.as_str()) {
            continue;
        }
        let told = old.as_ref().filter(|old| is_same_work(old, &report));
        let told = told.and_then(|old| section(old, &folder, &manifest));
        // A report has one section a name.
        match told.filter(|own| report.artifacts.iter().all(|known| known.name != own.name)) {
            Some(own) => report.artifacts.push(own.clone()),
            None => report.others.push(Note { about: folder, text: unspoken(&manifest) }),
        }
    }
    report.artifacts.sort_by_key(|one| run.order.iter().position(|name| *name == one.name));
    (is_validated || !report.artifacts.is_empty()).then_some(report)
}

fn unspoken(manifest: &Manifest) -> String {
    let verdict = match manifest.verdict {
        Verdict::NotValidated => "not validated".to_owned(),
        verdict => format!("{verdict} when it was made"),
    };
    format!("made by another run with {}, {verdict}; this report does not speak of it", manifest.recipe.file)
}

fn read(file: &Path) -> Option<Report> {
    serde_json::from_slice(&converters::limits::read(file, REPORT_BYTES).ok()?).ok()
}

/// Whether two reports are of the same checkpoint, recipe and samples, so that their figures stand beside each other.
fn is_same_work(a: &Report, b: &Report) -> bool {
    (&a.trefoil, &a.recipe, &a.model.inputs, &a.data) == (&b.trefoil, &b.recipe, &b.model.inputs, &b.data)
}

/// What a report says of an artifact, if it is this very one.
fn section<'r>(report: &'r Report, folder: &str, manifest: &Manifest) -> Option<&'r ArtifactReport> {
    report.artifacts.iter().find(|one| one.folder == folder && one.name == manifest.name && one.files == manifest.files)
}

/// Artifacts of a folder by name.
fn artifacts(out: &Path) -> Vec<(String, Manifest)> {
    let folders = fs::read_dir(out).into_iter().flatten().flatten();
    let mut found: Vec<(String, Manifest)> = folders
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, Manifest::read(&entry.path()).ok()??)))
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}
