//! `trefoil verify`: whether a recipe still makes the very bytes of the artifacts that lie there.

use std::path::{Path, PathBuf};

use serde_json::json;
use validate::report::OutputFile;

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
use crate::show::terminal::{print, printable};

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Verify {
    /// The recipe
    recipe: PathBuf,
    /// Another checkpoint than the recipe's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Another folder with the artifacts than the recipe's
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only this artifact; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// What was found of one artifact.
struct Found {
    name: String,
    /// Names of files that differ.
    others: Vec<String>,
    /// Why they may.
    why: String,
}

/// Makes the artifacts again in a folder of their own and compares their files with the manifests; changes nothing.
pub fn verify(arguments: &Verify, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(&arguments.recipe)?;
    loaded.replace(arguments.model.as_deref(), arguments.out.as_deref());
    fetch(&mut loaded, false, display)?;
    let recipe = &loaded.recipe;
    // Artifacts are whole in any case.
    let _ = folder::settle(&recipe.out);
    let asked = Asked { recipe: &arguments.recipe, only: &arguments.only, report_dir: None };
    let work = Work::new(&asked, &loaded, display)?;
    let there: Vec<Manifest> =
        work.targets.iter().map(|target| stored(&recipe.out, target.name())).collect::<Result<_, _>>()?;

    let home = tempfile::tempdir().map_err(PipelineError::io(&std::env::temp_dir()))?;
    let folder = OutFolder::open(home.path())?;
    room(home.path(), work.need, display)?;
    let observed = work.source.observed(recipe, &work.targets, &work.origin, &*work.text, folder.scratch(), display)?;
    let mut found = Vec::new();
    for (target, there) in work.targets.iter().zip(&there) {
        found.push(compared(there, &work.stage(target, observed.as_ref(), &folder, display)?));
    }
    display.finish();
    print(&told(&found, common.json)).map_err(PipelineError::io(Path::new("stdout")))?;
    Ok(if found.iter().all(|one| one.others.is_empty()) { Verdict::Passed } else { Verdict::Failed })
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

fn compared(there: &Manifest, now: &Staged) -> Found {
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
        (Some(calibrated), _) if calibrated.kernel != graph::eval::kernel() => format!(
            "{} weights follow from samples, and this processor sums in another order: made with {}, and this is {}",
            calibrated.weights.len(),
            calibrated.kernel,
            graph::eval::kernel()
        ),
        (Some(_), _) => "made from other samples, or its files were changed".to_owned(),
        (None, _) => "its files were changed".to_owned(),
    };
    Found { name: there.name.clone(), others, why }
}

fn told(found: &[Found], as_json: bool) -> String {
    if as_json {
        let row = |one: &Found| json!({ "name": one.name, "is_same": one.others.is_empty(), "others": one.others, "why": one.why });
        return serde_json::to_string_pretty(&found.iter().map(row).collect::<Vec<_>>()).expect("only JSON types")
            + "\n";
    }
    let line = |one: &Found| match one.others.is_empty() {
        true => format!("{}: the same bytes\n", one.name),
        false => format!("{}: other bytes in {}: {}\n", one.name, one.others.join(", "), one.why),
    };
    printable(&found.iter().map(line).collect::<String>()).into_owned()
}
