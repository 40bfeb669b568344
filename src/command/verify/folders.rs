//! Whether the folders of artifacts are what was made: their files by digest, their tensors by reading them, and on demand every byte
//! by making it again.

use std::fs;
use std::path::{Component, Path, PathBuf};

use graph::Progress;
use serde::Serialize;
use validate::report::Verdict as Judged;

use super::arguments::Verify;
use super::remade;
use super::told::tell;
use crate::build::error::PipelineError;
use crate::build::folder::{self, STATE};
use crate::build::intact::{Fault, Folder};
use crate::build::manifest::{self, Manifest};
use crate::build::provenance;
use crate::build::reread::reread;
use crate::build::work::{Asked, Work};
use crate::command::arguments::{Common, Verdict};
use crate::recipe::load::Loaded;
use crate::show::progress::Display;

/// What was found of one artifact.
#[derive(Serialize)]
struct Found {
    /// Its folder.
    folder: PathBuf,
    is_intact: bool,
    /// As its manifest has it; none where that cannot be read.
    verdict: Option<Judged>,
    /// Files of the folder.
    files: usize,
    /// Tensors that were read and are as the manifest says; none where they were not read, or are not.
    tensors: Option<usize>,
    /// Whether every byte was made again.
    is_rederived: bool,
    faults: Vec<Fault>,
}

/// Looks at every artifact in the given folders.
pub fn verify(
    paths: &[&PathBuf],
    arguments: &Verify,
    common: &Common,
    display: &Display,
) -> Result<Verdict, PipelineError> {
    let mut dirs = Vec::new();
    for path in paths {
        dirs.extend(artifacts(path)?);
    }
    let mut found = Vec::new();
    for dir in dirs {
        display.say(&format!("verify {}", dir.display()));
        found.push(one(dir, arguments, display)?);
    }
    display.finish();
    tell(&found, &found.iter().flat_map(lines).collect::<Vec<_>>(), common)?;
    Ok(if found.iter().all(|one| one.is_intact) { Verdict::Passed } else { Verdict::Failed })
}

/// The artifacts at a path: itself, or those right below it, by name. Errors: none is there, and what is instead.
fn artifacts(path: &Path) -> Result<Vec<PathBuf>, PipelineError> {
    let wrong = |found: &str| {
        let message = format!("expected an artifact ({}) or a folder of artifacts, found {found}", manifest::FILE);
        PipelineError::Artifact { dir: path.to_owned(), message }
    };
    if path.components().any(|part| part == Component::Normal(STATE.as_ref())) {
        return Err(wrong("what a run works on and has not finished"));
    }
    folder::settle_around(path);
    let _ = folder::settle(path);
    let has_manifest = |dir: &Path| fs::symlink_metadata(dir.join(manifest::FILE)).is_ok();
    if has_manifest(path) {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(PipelineError::io(path))? {
        let entry = entry.map_err(PipelineError::io(path))?;
        let is_dir = entry.file_type().map_err(PipelineError::io(&entry.path()))?.is_dir();
        entries.push((entry.path(), is_dir));
    }
    let mut dirs: Vec<PathBuf> =
        entries.iter().filter(|(dir, is_dir)| *is_dir && has_manifest(dir)).map(|(dir, _)| dir.clone()).collect();
    dirs.sort();
    match dirs.is_empty() {
        false => Ok(dirs),
        true if entries.is_empty() => Err(wrong("an empty folder")),
        true if entries.iter().any(|(dir, _)| dir.ends_with(STATE)) => {
            Err(wrong("what a run works on and has not finished; the next `trefoil convert` there tidies up"))
        }
        true => Err(wrong("no such file there")),
    }
}

fn one(dir: PathBuf, arguments: &Verify, display: &Display) -> Result<Found, PipelineError> {
    let Folder { manifest, mut faults, files, can_be_read } = Folder::of(&dir)?;
    let (mut tensors, mut is_rederived) = (None, false);
    if let Some(manifest) = manifest.as_ref().filter(|_| can_be_read) {
        if manifest.has_provenance {
            faults.extend(provenance::faults(&dir, manifest)?);
        }
        match reread(&dir, manifest) {
            Ok(count) => tensors = Some(count),
            Err(more) => faults.extend(more),
        }
        if let Some(checkpoint) = &arguments.rederive {
            is_rederived = true;
            faults.extend(rederived(&dir, manifest, checkpoint, arguments.data.as_deref(), display)?);
        }
    }
    let verdict = manifest.map(|manifest| manifest.verdict);
    Ok(Found { folder: dir, is_intact: faults.is_empty(), verdict, files: files.len(), tensors, is_rederived, faults })
}

/// Makes an artifact again from its checkpoint and the recipe in its manifest.
fn rederived(
    dir: &Path,
    manifest: &Manifest,
    checkpoint: &Path,
    data: Option<&Path>,
    display: &Display,
) -> Result<Vec<Fault>, PipelineError> {
    let mut loaded = Loaded::of_artifact(dir, &manifest.recipe.text)?;
    let home = tempfile::tempdir().map_err(PipelineError::io(&std::env::temp_dir()))?;
    loaded.replace(Some(checkpoint), Some(&home.path().join("out")));
    match (&mut loaded.recipe.calibrate, data, &manifest.samples) {
        (Some(calibrate), Some(data), _) => calibrate.data = data.to_owned(),
        (_, None, Some(samples)) => {
            let message = format!(
                "it follows from the samples {} (SHA-256 {}); give them with --data",
                samples.file, samples.sha256
            );
            return Err(PipelineError::Artifact { dir: dir.to_owned(), message });
        }
        (None, Some(_), _) => {
            let message = "expected no --data: its recipe calibrates nothing".to_owned();
            return Err(PipelineError::Artifact { dir: dir.to_owned(), message });
        }
        (_, None, None) => {}
    }
    let only = [manifest.name.clone()];
    let asked = Asked { recipe: Path::new(&manifest.recipe.file), only: &only, report_dir: None };
    let work = Work::new(&asked, &loaded, display)?;
    let found = remade::differences(&work, std::slice::from_ref(manifest), display)?;
    let told = |one: remade::Difference| {
        let text = format!("expected the bytes that {} makes, found others: {}", checkpoint.display(), one.why);
        one.others.into_iter().map(move |file| Fault::new(file, text.clone()))
    };
    Ok(found.into_iter().flat_map(told).collect())
}

/// A line that says what holds, or one a fault.
fn lines(found: &Found) -> Vec<String> {
    let at = found.folder.display();
    if !found.is_intact {
        let line = |fault: &Fault| format!("{at}: {}: {}", fault.about, fault.text);
        return found.faults.iter().map(line).collect();
    }
    let tensors = found.tensors.map_or(String::new(), |count| format!(", {count} tensors read"));
    let again = if found.is_rederived { ", every byte made again" } else { "" };
    let verdict = found.verdict.map_or(String::new(), |verdict| format!("; verdict when it was made: {verdict}"));
    vec![format!("{at}: intact: {} files{tensors}{again}{verdict}", found.files)]
}
