//! Whether a recipe still makes the very bytes of the artifacts that lie there.

use std::path::Path;

use graph::arithmetic::PORTABLE;
use serde::Serialize;
use validate::report::OutputFile;

use super::arguments::Verify;
use super::told::tell;
use crate::build::error::PipelineError;
use crate::build::fetch::fetch;
use crate::build::folder::{self, OutFolder};
use crate::build::manifest::{self, Manifest};
use crate::build::room::room;
use crate::build::work::{Asked, Staged, Work};
use crate::command::arguments::{Common, Verdict};
use crate::names::failed;
use crate::recipe::load::Loaded;
use crate::show::progress::Display;

/// What was found of one artifact.
#[derive(Serialize)]
struct Found {
    name: String,
    is_same: bool,
    #[serde(flatten)]
    difference: Difference,
}

/// What an artifact that was made again has of another kind.
#[derive(Serialize)]
pub struct Difference {
    /// Names of files that differ.
    pub others: Vec<String>,
    /// Why they may.
    pub why: String,
}

/// Makes the artifacts of a recipe again in a folder of their own and compares their files with the manifests.
pub fn verify(path: &Path, arguments: &Verify, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(path)?;
    loaded.replace(arguments.model.as_deref(), arguments.out.as_deref());
    fetch(&mut loaded, false, display)?;
    let recipe = &loaded.recipe;
    // Artifacts are whole in any case.
    let _ = folder::settle(&recipe.out);
    let asked = Asked { recipe: path, only: &arguments.only, report_dir: None };
    let work = Work::new(&asked, &loaded, display)?;
    let there: Vec<Manifest> =
        work.targets.iter().map(|target| stored(&recipe.out, target.name())).collect::<Result<_, _>>()?;
    let found: Vec<Found> = differences(&work, &there, display)?
        .into_iter()
        .zip(there)
        .map(|(difference, there)| Found { name: there.name, is_same: difference.others.is_empty(), difference })
        .collect();
    display.finish();
    tell(&found, &found.iter().map(line).collect::<Vec<_>>(), common)?;
    Ok(if found.iter().all(|one| one.is_same) { Verdict::Passed } else { Verdict::Failed })
}

/// Makes every artifact of the work again, in a folder that goes afterwards. `there`: their manifests.
pub fn differences(work: &Work, there: &[Manifest], display: &Display) -> Result<Vec<Difference>, PipelineError> {
    let home = tempfile::tempdir().map_err(PipelineError::io(&std::env::temp_dir()))?;
    let folder = OutFolder::open(home.path())?;
    room(home.path(), work.need, display)?;
    let is_portable = |one: &Manifest| one.calibrated.as_ref().is_some_and(|made| made.kernel == PORTABLE);
    let _portable = work.portably(there.iter().any(is_portable))?;
    let targets = &work.targets;
    let observed = work.source.observed(work.recipe, targets, &work.origin, &*work.text, folder.scratch(), display)?;
    let made = |(target, there)| Ok(difference(there, &work.stage(target, observed.as_ref(), &folder, display)?));
    work.targets.iter().copied().zip(there).map(made).collect()
}

/// The manifest of an artifact, under its own name or that of one that failed.
fn stored(out: &Path, name: &str) -> Result<Manifest, PipelineError> {
    let dirs = [out.join(name), out.join(failed(name))];
    for dir in &dirs {
        if let Some(manifest) = Manifest::read(dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))? {
            return Ok(manifest);
        }
    }
    let message = format!("expected a {}, found none; `trefoil convert` makes the artifact first", manifest::FILE);
    Err(PipelineError::Artifact { dir: dirs[0].clone(), message })
}

fn difference(there: &Manifest, now: &Staged) -> Difference {
    let differs = |file: &&OutputFile| now.manifest.files.iter().all(|other| other != *file);
    let missing = |file: &&OutputFile| there.files.iter().all(|other| other.path != file.path);
    let others = there.files.iter().filter(differs).chain(now.manifest.files.iter().filter(missing));
    let others: Vec<String> = others.map(|file| file.path.clone()).collect();
    let why = match (&there.calibrated, others.is_empty()) {
        (_, true) => String::new(),
        _ if there.trefoil != now.manifest.trefoil => {
            format!("made by trefoil {}, and this is {}", there.trefoil, now.manifest.trefoil)
        }
        _ if there.recipe.sha256 != now.manifest.recipe.sha256 => {
            format!("made from another text of {}", there.recipe.file)
        }
        _ if there.model.inputs != now.manifest.model.inputs => "made from another checkpoint".to_owned(),
        _ if there.samples.is_some() && there.samples != now.manifest.samples => "made from other samples".to_owned(),
        (Some(calibrated), _) if calibrated.kernel != graph::eval::kernel() => format!(
            "{} weights follow from samples, and this processor sums in another order: made with {}, and this is {}",
            calibrated.weights.len(),
            calibrated.kernel,
            graph::eval::kernel()
        ),
        (Some(_), _) => "made from other samples, or its files were changed".to_owned(),
        (None, _) => "its files were changed".to_owned(),
    };
    Difference { others, why }
}

fn line(Found { name, difference: Difference { others, why }, .. }: &Found) -> String {
    match others.is_empty() {
        true => format!("{name}: the same bytes"),
        false => format!("{name}: other bytes in {}: {why}", others.join(", ")),
    }
}
