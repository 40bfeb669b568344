//! `trefoil convert`: from a recipe to artifacts and their report, all of them at once or none.

use std::fs;
use std::path::{Path, PathBuf};

use validate::bench::compare::{self, Compared, Float};
use validate::chain::{Arithmetic, Baseline};
use validate::report::{ArtifactReport, Check, Link, Note, Report, Verdict as Judged};
use validate::runtime::Options;

use crate::build::beside;
use crate::build::card::{self, Card};
use crate::build::costs;
use crate::build::error::PipelineError;
use crate::build::fetch::fetch;
use crate::build::folder::OutFolder;
use crate::build::manifest::{self, Manifest};
use crate::build::paged;
use crate::build::provenance;
use crate::build::room::room;
use crate::build::twin::{self, Twin};
use crate::build::validated::validated;
use crate::build::work::{Asked, Staged, Work, check_places};
use crate::command::arguments::{Common, Verdict};
use crate::command::drafting::Drafting;
use crate::command::engines::Engines;
use crate::command::summary;
use crate::command::summary::told;
use crate::names::failed;
use crate::pages;
use crate::recipe::target::Target;
use crate::show::progress::{Display, Of};
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

    let observed = source.observed(recipe, &work.targets, &work.origin, &*work.text, folder.scratch(), display)?;
    // All are written before the first is validated: what a format refuses is known early.
    let mut staged = Vec::new();
    for target in &work.targets {
        staged.push(work.stage(target, observed.as_ref(), &folder, display)?);
    }
    let scoring = recipe.validate.scoring(source.normalizer(recipe.validate.normalize)?);
    let recorded = recipe.model.join("expected.safetensors");
    let baseline = data.map(|data| source.baseline(scoring, data, &*work.text, &recorded, display));
    let report = match baseline.transpose()? {
        None => None,
        Some(baseline) => {
            let options = recipe.validate.options(engines.options());
            let speed = conversion.timed(&staged, &baseline, folder.scratch(), &options, display)?;
            let reports = conversion.validate(&mut staged, speed, &baseline, &options, display)?;
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

/// What `convert` does with the artifacts that were made.
struct Conversion<'w, 'r> {
    work: &'w Work<'r>,
    /// A missing engine fails.
    strict: bool,
    /// Artifacts are timed.
    is_timed: bool,
}

impl Conversion<'_, '_> {
    /// Bytes of the float models that artifacts are held against, one at a time.
    fn twin_bytes(&self) -> u64 {
        if self.is_timed && twin::is_small(&self.work.source) { twin::bytes(&self.work.source) } else { 0 }
    }

    /// Times every artifact in its engines, beside a float artifact of its format: one of the recipe's, else one that is
    /// written for this and gone afterwards.
    fn timed(
        &self,
        staged: &[Staged],
        baseline: &Baseline,
        scratch: &Path,
        options: &Options,
        display: &Display,
    ) -> Result<Vec<Compared>, PipelineError> {
        let courses = baseline.courses(compare::SAMPLES)?;
        let is_float = |one: &Staged| Arithmetic::of(&one.grown.model.graph) == Arithmetic::Floats;
        let mut twin: Option<(&str, Result<Twin, String>)> = None;
        let mut found = Vec::new();
        for one in staged {
            let (format, limit) =
                (one.target.format().name(), one.target.limits(&self.work.recipe.validate).min_speedup);
            if !self.is_timed {
                let why = "speed was not measured: `speed: false` in the recipe, or --no-bench";
                let what = "tokens per second against the float model";
                let checks = limit.map(|_| Check::not_run(Link::Runtime, what, why)).into_iter().collect();
                found.push(Compared { speeds: Vec::new(), checks });
                continue;
            }
            let sibling = staged.iter().find(|other| other.target.format().name() == format && is_float(other));
            let float = match sibling {
                _ if is_float(one) => Float::Itself,
                Some(sibling) => Float::Artifact(&sibling.artifact),
                None if !compare::is_timed(&one.artifact) => Float::None("it is not timed".to_owned()),
                None => {
                    if twin.as_ref().is_none_or(|(of, _)| *of != format) {
                        // The one before goes first.
                        twin = None;
                    }
                    let (_, twin) =
                        twin.get_or_insert_with(|| (format, twin::write(&self.work.source, one.target, scratch)));
                    match twin {
                        Ok(twin) => Float::Artifact(&twin.artifact),
                        Err(why) => Float::None(why.clone()),
                    }
                }
            };
            let progress = Of { name: one.target.name(), display };
            found.push(compare::compare(&one.artifact, &float, &courses, limit, options, &progress));
        }
        Ok(found)
    }

    /// Runs the chain on every artifact, whose manifests then hold the verdicts.
    fn validate(
        &self,
        staged: &mut [Staged],
        speed: Vec<Compared>,
        baseline: &Baseline,
        options: &Options,
        display: &Display,
    ) -> Result<Vec<ArtifactReport>, PipelineError> {
        let mut reports = Vec::new();
        for (Staged { target, grown, artifact, manifest }, Compared { speeds, checks }) in staged.iter_mut().zip(speed)
        {
            let limits = target.limits(&self.work.recipe.validate);
            let files = (manifest.files.clone(), None);
            let mut report = validated(baseline, grown, target, artifact, files, limits, options, display)?;
            report.speed = speeds;
            report.checks.extend(checks);
            manifest.verdict = Report::verdict_of(&baseline.checks, &report.checks, self.strict);
            report.folder = place(target, manifest.verdict);
            let lies_at = self.work.recipe.out.join(&report.folder);
            rename_in(&mut report, &artifact.dir, &lies_at);
            reports.push(report);
        }
        Ok(reports)
    }

    /// Puts all artifacts and their report into their places, at once; returns the report as it lies there.
    ///
    /// Errors: the checkpoint changed meanwhile, or something foreign came into the way; nothing has changed then.
    fn commit(
        &self,
        folder: OutFolder,
        staged: &[Staged],
        report: Option<Report>,
    ) -> Result<Option<Report>, PipelineError> {
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        for Staged { target, manifest, .. } in staged {
            let (dir, name) = (folder.staged(target.name()), place(target, manifest.verdict));
            manifest.write(&dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?;
            if manifest.verdict == Judged::Failed {
                fs::rename(&dir, folder.staged(&name)).map_err(PipelineError::io(&dir))?;
            } else {
                remove.push(failed(target.name()));
            }
            put.push(name);
        }
        let run = beside::Run {
            out: &self.work.recipe.out,
            report_dir: self.work.report_dir(),
            changed: &put.iter().chain(&remove).map(String::as_str).collect::<Vec<_>>(),
            made: &staged.iter().map(|one| &one.manifest).collect::<Vec<_>>(),
            order: &self.work.recipe.artifacts.iter().map(Target::name).collect::<Vec<_>>(),
        };
        let report = beside::account(report, &run);
        self.write_cards(&folder, staged, report.as_ref())?;

        check_places(self.work.recipe, &self.work.targets, self.work.report_dir)?;
        self.work.inputs.unchanged(&self.work.origin.inputs)?;
        if self.work.report_dir.is_none() {
            match &report {
                Some(report) => put.extend(paged::staged(report, &folder)?.into_iter().map(str::to_owned)),
                None => remove.extend(pages::names().into_iter().map(str::to_owned)),
            }
        }
        folder.commit(&borrowed(&put), &borrowed(&remove))?;
        if let (Some(dir), Some(report)) = (self.work.report_dir, &report) {
            paged::put(report, dir)?;
        }
        Ok(report)
    }
}

impl Conversion<'_, '_> {
    /// Writes the card and the provenance of every artifact into its folder, which is not in its place yet.
    fn write_cards(&self, folder: &OutFolder, staged: &[Staged], report: Option<&Report>) -> Result<(), PipelineError> {
        let (model, recipe) = (self.work.source.name(), self.work.recipe);
        let source = card::Source::of(&recipe.model, &self.work.origin.model_type);
        for Staged { target, manifest, .. } in staged {
            let file = folder.staged(&place(target, manifest.verdict)).join(card::FILE);
            let card = Card { manifest, model: &model, source: &source, report };
            fs::write(&file, card.page()).map_err(PipelineError::io(&file))?;
            provenance::write(&folder.staged(&place(target, manifest.verdict)), &card)?;
        }
        Ok(())
    }
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
    if verdict == Judged::Failed { failed(target.name()) } else { target.name().to_owned() }
}
