//! `trefoil convert`: from a recipe to artifacts and their report, all of them at once or none.

use std::fs;
use std::path::{Path, PathBuf};

use converters::checkpoint::Generation;
use converters::{Artifact, ExportError};
use graph::progress::Unit;
use graph::{Progress, Scratch};
use validate::report::{ArtifactReport, Note, Report, Verdict as Judged};

use crate::build::folder::OutFolder;
use crate::build::growth::{Grown, Need, refused};
use crate::build::inputs::Inputs;
use crate::build::manifest::{self, Manifest, Origin, RecipeText};
use crate::build::{beside, places};
use crate::pipeline::{Engines, PipelineError, Source, room, told, validated};
use crate::progress::Display;
use crate::recipe::{Loaded, Target};
use crate::run::text_of;
use crate::terminal::print;
use crate::{Common, Verdict, summary};

/// The importance matrix beside a GGUF.
const IMATRIX_FILE: &str = "imatrix.gguf";

/// Arguments of `convert`.
#[derive(clap::Args)]
pub struct Convert {
    /// The recipe
    recipe: PathBuf,
    /// Another checkpoint than the recipe's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Another folder for the artifacts than the recipe's
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only this artifact; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Writes the artifacts without testing them, and no report
    #[arg(long)]
    no_validate: bool,
    /// Puts report.json and report.md here instead of beside the artifacts
    #[arg(long, value_name = "DIR", conflicts_with = "no_validate")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    engines: Engines,
}

/// An artifact that is written and not yet in its place.
struct Staged<'r> {
    target: &'r Target,
    grown: Grown,
    artifact: Artifact,
    manifest: Manifest,
}

/// Makes the artifacts of a recipe.
pub fn convert(arguments: &Convert, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(&arguments.recipe)?;
    loaded.replace(arguments.model.as_deref(), arguments.out.as_deref());
    let Loaded { recipe, text: recipe_text, .. } = &loaded;
    let targets = chosen(&recipe.artifacts, &arguments.only)?;
    let names: Vec<&str> = targets.iter().map(|target| target.name()).collect();
    // The report may have a folder of its own, which is another one than that of the artifacts.
    let report_dir = arguments.report_dir.as_deref().filter(|dir| !places::is_same(dir, &recipe.out));
    let check_places = || {
        let mut problems = places::problems(&recipe.out, &names, &recipe.model);
        problems.extend(places::report_problem(report_dir.unwrap_or(&recipe.out)));
        if problems.is_empty() { Ok(()) } else { Err(PipelineError::Places(problems)) }
    };
    check_places()?;

    display.say(&format!("import {}", recipe.model.display()));
    let inputs = Inputs::of(&recipe.model).map_err(PipelineError::io(&recipe.model))?;
    let (text, of_languages) = text_of(&recipe.model, &[&recipe.languages])?;
    let source = Source::open(&recipe.model, &[&of_languages, &recipe.decode])?;
    let needs = all_refused(&source, &targets)?;
    let data = match arguments.no_validate {
        true => None,
        false => Some(source.evaluation(&recipe.validate, &*text)?),
    };
    let recipe_text = RecipeText::new(&arguments.recipe, recipe_text);
    let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;

    let folder = OutFolder::open(&recipe.out)?;
    // Whoever needs a temporary file in this process or below it gets it on the disk that takes the artifacts.
    let _ = tempfile::env::override_temp_dir(folder.scratch());
    let logits = data.as_ref().map_or(0, |data| source.logits_bytes(data));
    room(&recipe.out, logits + needs.iter().map(|need| need.scratch + need.artifact).sum::<u64>(), display)?;

    let observed = source.observed(recipe, &targets, &origin, &*text, folder.scratch(), display)?;
    // All are written before the first is validated: what a format refuses is known early.
    let mut staged = Vec::new();
    for target in targets {
        let name = target.name();
        let scratch = Scratch::in_dir(folder.scratch()).map_err(PipelineError::io(&recipe.out))?;
        let grown = Grown::new(&source, target, observed.as_ref(), &scratch, display)?;
        display.stage(&format!("{name}: write"), 0, Unit::Bytes);
        let dir = folder.stage(name)?;
        if let (true, Some(observed)) = (target.writes_imatrix(), &observed) {
            let file = dir.join(IMATRIX_FILE);
            observed.write_imatrix(&source.exact, &file).map_err(PipelineError::io(&recipe.out.join(name)))?;
        }
        let (artifact, manifest) = write(&grown, target, &dir, &source.decoding, &origin, &recipe_text)?;
        staged.push(Staged { target, grown, artifact, manifest });
    }
    let recorded = recipe.model.join("expected.safetensors");
    let baseline = data.map(|data| source.baseline(recipe.validate.metric, data, &*text, &recorded, display));
    let baseline = baseline.transpose()?;
    let options = recipe.validate.options(arguments.engines.options());
    let mut reports = Vec::new();
    for Staged { target, grown, artifact, manifest } in &mut staged {
        if let Some(baseline) = &baseline {
            let limits = target.limits(&recipe.validate);
            let files = manifest.files.clone();
            let mut report = validated(baseline, grown, target, artifact, (files, None), limits, &options, display)?;
            manifest.verdict = Report::verdict_of(&baseline.checks, &report.checks, arguments.engines.strict);
            report.folder = place(target, manifest.verdict);
            let lies_at = recipe.out.join(&report.folder);
            rename_in(&mut report, &artifact.dir, &lies_at);
            reports.push(report);
        }
    }

    let report = baseline.as_ref().map(|baseline| {
        let note = Note { about: recipe_text.file.clone(), text: recipe_text.text.clone() };
        source.report(origin.clone(), observed.as_ref(), baseline, reports, note)
    });
    let is_good = staged.iter().all(|one| one.manifest.verdict != Judged::Failed);
    let (mut put, mut remove) = (Vec::new(), Vec::new());
    for Staged { target, manifest, .. } in &staged {
        let name = place(target, manifest.verdict);
        let dir = folder.staged(target.name());
        manifest.write(&dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?;
        if manifest.verdict == Judged::Failed {
            fs::rename(&dir, folder.staged(&name)).map_err(PipelineError::io(&dir))?;
        } else {
            remove.push(places::failed(target.name()));
        }
        put.push(name);
    }
    let run = beside::Run {
        out: &recipe.out,
        report_dir: report_dir.unwrap_or(&recipe.out),
        changed: &put.iter().chain(&remove).map(String::as_str).collect::<Vec<_>>(),
        made: &staged.iter().map(|one| &one.manifest).collect::<Vec<_>>(),
        order: &recipe.artifacts.iter().map(Target::name).collect::<Vec<_>>(),
    };
    let report = beside::account(report, &run);

    check_places()?;
    inputs.unchanged(&origin.inputs)?;
    if report_dir.is_none() {
        match &report {
            Some(report) => put.extend(staged_report(report, &folder)?),
            None => remove.extend([places::REPORT_JSON, places::REPORT_MD].map(str::to_owned)),
        }
    }
    folder.commit(&borrowed(&put), &borrowed(&remove))?;
    if let (Some(dir), Some(report)) = (report_dir, &report) {
        let folder = OutFolder::open(dir)?;
        let put = staged_report(report, &folder)?;
        folder.commit(&borrowed(&put), &[])?;
    }
    display.finish();
    let Some(report) = report.filter(|_| baseline.is_some()) else {
        let written: Vec<(PathBuf, &Manifest)> =
            staged.iter().map(|one| (recipe.out.join(one.target.name()), &one.manifest)).collect();
        print(&summary::written(&written, common.json)).map_err(PipelineError::io(Path::new("stdout")))?;
        return Ok(Verdict::Passed);
    };
    told(&report, is_good, Some(report_dir.unwrap_or(&recipe.out)), arguments.engines.strict, common)
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Engines name files where they found them; a reader finds them where they are put.
fn rename_in(report: &mut ArtifactReport, staged: &Path, place: &Path) {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for (from, to) in [(absolute(staged), absolute(place)), (staged.to_owned(), place.to_owned())] {
        let [from, to] = [from, to].map(|path| path.display().to_string());
        report.checks.iter_mut().for_each(|check| check.sentence = check.sentence.replace(&from, &to));
    }
}

/// Where an artifact is to lie.
fn place(target: &Target, verdict: Judged) -> String {
    if verdict == Judged::Failed { places::failed(target.name()) } else { target.name().to_owned() }
}

/// What all targets take. Errors: all that any of them refuses without computing.
fn all_refused(source: &Source, targets: &[&Target]) -> Result<Vec<Need>, PipelineError> {
    let (mut needs, mut errors) = (Vec::new(), Vec::new());
    for target in targets {
        match refused(source, target) {
            Ok(need) => needs.push(need),
            Err(error) => errors.push(error),
        }
    }
    match errors.len() {
        0 => Ok(needs),
        1 => Err(errors.remove(0)),
        _ => Err(PipelineError::Several(errors)),
    }
}

/// Writes an artifact and its manifest into a staged folder.
fn write(
    grown: &Grown,
    target: &Target,
    dir: &Path,
    decoding: &Generation,
    origin: &Origin,
    recipe: &RecipeText,
) -> Result<(Artifact, Manifest), PipelineError> {
    let format = target.format();
    let export = |source: ExportError| PipelineError::Export { artifact: target.name().to_owned(), source };
    format.check(&grown.model).map_err(export)?;
    let artifact = format.write(&grown.model, dir).map_err(export)?;
    let manifest = Manifest {
        trefoil: env!("CARGO_PKG_VERSION").to_owned(),
        name: target.name().to_owned(),
        format: format.name().to_owned(),
        verdict: Judged::NotValidated,
        model: origin.clone(),
        decoding: decoding.clone(),
        recipe: recipe.clone(),
        files: manifest::outputs(&artifact)?,
        calibrated: grown.calibrated.clone(),
        substitutions: grown.substitutions.clone(),
        tensors: grown.records.clone(),
    };
    manifest.write(dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?;
    let artifact = Artifact::list(format.name(), dir).map_err(PipelineError::io(dir))?;
    Ok((artifact, manifest))
}

/// The artifacts of a recipe that `--only` asks for; all without it.
fn chosen<'r>(targets: &'r [Target], only: &[String]) -> Result<Vec<&'r Target>, PipelineError> {
    let known: Vec<String> = targets.iter().map(|t| t.name().to_owned()).collect();
    if let Some(found) = only.iter().find(|name| !known.contains(name)) {
        return Err(PipelineError::NoArtifact { found: found.clone(), known });
    }
    Ok(targets.iter().filter(|t| only.is_empty() || only.iter().any(|name| name == t.name())).collect())
}

/// Puts report.json and report.md where they wait to be committed; returns their names.
fn staged_report(report: &Report, folder: &OutFolder) -> Result<[String; 2], PipelineError> {
    let files = [(places::REPORT_JSON, report.to_json()), (places::REPORT_MD, report.to_markdown())];
    for (name, text) in &files {
        fs::write(folder.staged(name), text).map_err(PipelineError::io(&folder.staged(name)))?;
    }
    Ok(files.map(|(name, _)| name.to_owned()))
}
