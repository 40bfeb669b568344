//! What follows once artifacts are written: they are timed and held against engines, and go into their places with their report.

use std::fs;
use std::path::Path;

use graph::Scratch;
use validate::bench::compare::{self, Compared, Float};
use validate::chain::Baseline;
use validate::report::{ArtifactReport, Check, Link, Report, Verdict};
use validate::runtime::Options;

use super::beside;
use super::card::{self, Card};
use super::error::PipelineError;
use super::folder::OutFolder;
use super::growth::Grown;
use super::manifest;
use super::paged;
use super::provenance;
use super::twin::{self, Twin};
use super::validated::validated;
use super::work::{Staged, Work, check_places};
use crate::names::failed;
use crate::pages;
use crate::recipe::target::Target;
use crate::show::progress::{Display, Of};

/// What is done with the artifacts of a recipe that were made.
pub struct Conversion<'w, 'r> {
    /// The recipe's work.
    pub work: &'w Work<'r>,
    /// A missing engine fails.
    pub strict: bool,
    /// Artifacts are timed.
    pub is_timed: bool,
}

impl Conversion<'_, '_> {
    /// Bytes of the float models that artifacts are held against, one at a time.
    pub fn twin_bytes(&self) -> u64 {
        if self.is_timed && twin::is_small(&self.work.source) { twin::bytes(&self.work.source) } else { 0 }
    }

    /// Times some of the artifacts in their engines, beside a float artifact of their format: one of the recipe's, else one that is
    /// written for this and gone afterwards.
    ///
    /// `which`: places in `staged`.
    pub fn timed(
        &self,
        staged: &[Staged],
        which: &[usize],
        baseline: &Baseline,
        scratch: &Path,
        options: &Options,
        display: &Display,
    ) -> Result<Vec<Compared>, PipelineError> {
        let courses = baseline.courses(compare::SAMPLES)?;
        let mut twin: Option<(&str, Result<Twin, String>)> = None;
        let mut found = Vec::new();
        for one in which.iter().map(|at| &staged[*at]) {
            let (format, limit) =
                (one.target.format().name(), one.target.limits(&self.work.recipe.validate).min_speedup);
            if !self.is_timed {
                let why = "speed was not measured: `speed: false` in the recipe, or --no-bench";
                let what = "tokens per second against the float model";
                let checks = limit.map(|_| Check::not_run(Link::Runtime, what, why)).into_iter().collect();
                found.push(Compared { speeds: Vec::new(), checks });
                continue;
            }
            let sibling = staged.iter().find(|other| other.target.format().name() == format && other.is_float);
            let float = match sibling {
                _ if one.is_float => Float::Itself,
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

    /// Runs the chain on an artifact; what clocks said goes with it.
    pub fn validate(
        &self,
        one: &mut Staged,
        speed: Compared,
        baseline: &Baseline,
        scratch: &Path,
        options: &Options,
        display: &Display,
    ) -> Result<ArtifactReport, PipelineError> {
        let Staged { target, artifact, manifest, grown, .. } = one;
        let grown = match grown.take() {
            Some(grown) => grown,
            None => {
                let scratch = Scratch::in_dir(scratch).map_err(PipelineError::io(scratch))?;
                Grown::stored(&self.work.source, target, manifest, artifact, &scratch, display)?
            }
        };
        let limits = target.limits(&self.work.recipe.validate);
        let files = (manifest.files.clone(), None);
        let mut report = validated(baseline, &grown, target, artifact, files, limits, options, display)?;
        report.speed = speed.speeds;
        report.checks.extend(speed.checks);
        Ok(report)
    }

    /// Gives an artifact its verdict, and its report the names under which files will lie. `model`: checks of the model.
    pub fn judge(&self, one: &mut Staged, model: &[Check], report: &mut ArtifactReport) {
        one.manifest.verdict = Report::verdict_of(model, &report.checks, self.strict);
        report.folder = place(one.target, one.manifest.verdict);
        rename_in(report, &one.artifact.dir, &self.work.recipe.out.join(&report.folder));
    }

    /// Puts all artifacts and their report into their places, at once; returns the report as it lies there.
    ///
    /// Errors: the checkpoint changed meanwhile, or something foreign came into the way; nothing has changed then.
    pub fn commit(
        &self,
        folder: OutFolder,
        staged: &[Staged],
        report: Option<Report>,
    ) -> Result<Option<Report>, PipelineError> {
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        for Staged { target, manifest, .. } in staged {
            let (dir, name) = (folder.staged(target.name()), place(target, manifest.verdict));
            manifest.write(&dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?;
            if manifest.verdict == Verdict::Failed {
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
            let dir = folder.staged(&place(target, manifest.verdict));
            let (file, card) = (dir.join(card::FILE), Card { manifest, model: &model, source: &source, report });
            fs::write(&file, card.page()).map_err(PipelineError::io(&file))?;
            provenance::write(&dir, &card)?;
        }
        Ok(())
    }
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Engines name files where they found them; a reader finds them where they are put.
pub fn rename_in(report: &mut ArtifactReport, staged: &Path, place: &Path) {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for (from, to) in [(absolute(staged), absolute(place)), (staged.to_owned(), place.to_owned())] {
        let [from, to] = [from, to].map(|path| path.display().to_string());
        report.checks.iter_mut().for_each(|check| check.sentence = check.sentence.replace(&from, &to));
    }
}

/// Where an artifact is to lie.
fn place(target: &Target, verdict: Verdict) -> String {
    if verdict == Verdict::Failed { failed(target.name()) } else { target.name().to_owned() }
}
