//! `trefoil convert`: from a recipe to artifacts and their report, all of them at once or none.

use std::path::{Path, PathBuf};

use validate::report::{Note, Report, Verdict as Judged};

use crate::build::conversion::Conversion;
use crate::build::costs;
use crate::build::error::PipelineError;
use crate::build::fetch::fetch;
use crate::build::folder::OutFolder;
use crate::build::manifest::Manifest;
use crate::build::room::room;
use crate::build::work::{Asked, Staged, Work};
use crate::command::arguments::{Common, Verdict};
use crate::command::drafting::Drafting;
use crate::command::engines::Engines;
use crate::command::summary;
use crate::command::summary::told;
use crate::show::progress::Display;
use crate::show::terminal::print;

/// Arguments of `convert`.
#[derive(clap::Args)]
pub struct Convert {
    /// A recipe; or a checkpoint that has none: its folder, a GGUF file that trefoil wrote, or `org/name[@revision]` of the
    /// Hugging Face Hub
    source: PathBuf,
    #[command(flatten)]
    drafting: Drafting,
    /// Another checkpoint than the recipe's, a folder or `hub:org/name[@revision]`
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Another folder for the artifacts than the recipe's [default without a recipe: build/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only this artifact; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Writes the artifacts without testing them, and no report
    #[arg(long)]
    no_validate: bool,
    /// Does not time the artifacts in their engines
    #[arg(long)]
    no_bench: bool,
    /// Calibrates by sums in one fixed order, which makes the same bytes on every processor and takes longer
    #[arg(long)]
    portable: bool,
    /// Puts report.json and its pages here instead of beside the artifacts
    #[arg(long, value_name = "DIR", conflicts_with = "no_validate")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    engines: Engines,
}

/// Makes the artifacts of a recipe.
pub fn convert(arguments: &Convert, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let Convert { source, drafting, only, engines, .. } = arguments;
    let instead = [arguments.model.as_deref(), arguments.out.as_deref()];
    let (mut loaded, file) = drafting.loaded(source, instead, engines.offline, display)?;
    loaded.replace(instead[0], instead[1]);
    let recipe = &file;
    fetch(&mut loaded, engines.offline, display)?;
    let asked = Asked { recipe, only, report_dir: arguments.report_dir.as_deref() };
    let work = Work::new(&asked, &loaded, display)?;
    let is_timed = loaded.recipe.validate.speed && !arguments.no_bench;
    let conversion = Conversion { work: &work, strict: engines.strict, is_timed };
    let (recipe, source) = (&loaded.recipe, &work.source);
    let data = match arguments.no_validate {
        true => None,
        false => Some(source.evaluation(&recipe.validate, &*work.text)?),
    };

    let folder = OutFolder::open(&recipe.out)?;
    // Whoever needs a temporary file in this process or below it gets it on the disk that takes the artifacts.
    let _ = tempfile::env::override_temp_dir(folder.scratch());
    let logits = data.as_ref().map_or(0, |data| source.logits_bytes(data));
    let twins = if data.is_some() { conversion.twin_bytes() } else { 0 };
    room(&recipe.out, work.need + logits + twins, display)?;

    let portable = work.portably(arguments.portable)?;
    let observed = source.observed(recipe, &work.targets, &work.origin, &*work.text, folder.scratch(), display)?;
    // All are written before the first is validated: what a format refuses is known early.
    let mut staged = Vec::new();
    for target in &work.targets {
        staged.push(work.stage(target, observed.as_ref(), &folder, display)?);
    }
    drop(portable);
    let scoring = recipe.validate.scoring(source.normalizer(recipe.validate.normalize)?);
    let recorded = recipe.model.join("expected.safetensors");
    let baseline = data.map(|data| source.baseline(scoring, data, &*work.text, &recorded, display));
    let report = match baseline.transpose()? {
        None => None,
        Some(baseline) => {
            let options = recipe.validate.options(engines.options());
            let (all, scratch): (Vec<usize>, _) = ((0..staged.len()).collect(), folder.scratch());
            let speeds = conversion.timed(&staged, &all, &baseline, scratch, &options, display)?;
            let mut reports = Vec::new();
            for (one, speed) in staged.iter_mut().zip(speeds) {
                let mut report = conversion.validate(one, speed, &baseline, scratch, &options, display)?;
                conversion.judge(one, &baseline.checks, &mut report);
                reports.push(report);
            }
            let note = Note { about: work.recipe_text.file.clone(), text: work.recipe_text.text.clone() };
            let report = source.report(work.origin.clone(), observed.as_ref(), &baseline, reports, note);
            let places = [recipe.out.as_path(), file.parent().unwrap_or(Path::new("."))];
            Some(Report { costs: costs::of(&places, &work.origin.inputs), ..report })
        }
    };
    let report = conversion.commit(folder, &staged, report)?;
    display.finish();
    match report.filter(|_| !arguments.no_validate) {
        None => {
            let place = |one: &Staged| recipe.out.join(one.target.name());
            let written: Vec<(PathBuf, &Manifest)> = staged.iter().map(|one| (place(one), &one.manifest)).collect();
            let text = summary::written(&written, common.json);
            print(&text).map_err(PipelineError::io(Path::new("stdout")))?;
            Ok(Verdict::Passed)
        }
        Some(report) => {
            let is_good = staged.iter().all(|one| one.manifest.verdict == Judged::Passed);
            told(&report, is_good, Some(work.report_dir()), conversion.strict, common)
        }
    }
}
