//! The artifacts of a recipe, each taken from the cache or made and put there, and what validation says of each.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use converters::Artifact;
use graph::Progress;
use validate::report::{ArtifactReport, CalibrationReport, Check, Made, Note, Outcome, Report, Verdict};
use validate::runtime::Options;
use validate::task::Data;

use super::cache::{self, Kind};
use super::conversion::{Conversion, rename_in};
use super::error::PipelineError;
use super::folder::OutFolder;
use super::installed::Installed;
use super::keys::{Keys, RECORDED};
use super::made::made;
use super::manifest::{self, Manifest};
use super::observed::Observed;
use super::shelf::{self, Findings, Found, Kept, Name};
use super::work::{Staged, Work};
use crate::recipe::target::Target;
use crate::show::progress::Display;

/// Stands for the folder of an artifact in the sentences of what is kept, for it has another one in each run.
const HERE: &str = "{artifact}";

/// Whence an artifact came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// All of it was in the cache.
    Cached,
    /// Its files were, and it was tested anew.
    Tested,
    /// It was made.
    Made,
}

impl Came {
    /// For machines.
    pub fn name(self) -> &'static str {
        match self {
            Came::Cached => "cached",
            Came::Tested => "tested",
            Came::Made => "made",
        }
    }
}

/// How a recipe is built.
pub struct How<'a> {
    /// Nothing is made: what is not in the cache never came.
    pub joins: bool,
    /// What cannot be kept is an error, for others wait for it.
    pub must_keep: bool,
    /// Artifacts are made by arithmetic that is the same on every processor.
    pub is_portable: bool,
    /// For the engines.
    pub options: &'a Options,
    /// Those of this machine.
    pub installed: &'a Installed,
}

/// What is known of an artifact beside its files.
pub struct Side {
    /// Of its entry.
    pub name: Name,
    /// Whence it came.
    pub came: Came,
    calibration: Option<CalibrationReport>,
    /// None where nobody validates.
    findings: Option<Findings>,
}

/// The artifacts of a recipe that a run is asked for.
pub struct Parts<'r> {
    /// As they wait to be put into their places.
    pub staged: Vec<Staged<'r>>,
    /// One for each of them.
    pub sides: Vec<Side>,
}

/// Takes and makes.
pub struct Builder<'a, 'r> {
    /// Clocks and the chain.
    pub conversion: &'a Conversion<'a, 'r>,
    /// How.
    pub how: &'a How<'a>,
    /// Names of entries.
    pub keys: &'a Keys,
    /// Where artifacts wait.
    pub folder: &'a OutFolder,
    /// Where progress is shown.
    pub display: &'a Display,
    /// Of entries that were damaged, a sentence each.
    pub damaged: &'a RefCell<Vec<String>>,
}

impl<'r> Builder<'_, 'r> {
    /// All of `targets`. `data`: for validation, if there is to be one.
    ///
    /// Errors: those of the work; what never came, all of it, where nothing is to be made.
    pub fn build(&self, targets: &[&'r Target], data: Option<Data>) -> Result<Parts<'r>, PipelineError> {
        let (mut taken, mut missing) = (Vec::new(), Vec::new());
        for target in targets {
            let before = self.damaged.borrow().len();
            let found = self.taken(target)?;
            let is_damaged = self.damaged.borrow().len() > before;
            missing.extend(missed(target, found.as_ref().map(|(_, side)| side), data.is_some(), is_damaged));
            taken.push(found);
        }
        if self.how.joins && !missing.is_empty() {
            let recipe = self.work().recipe_text.file.clone();
            return Err(PipelineError::NeverCame { recipe, missing, cache: cache::folder().unwrap_or_default() });
        }
        let mut parts = Parts { staged: Vec::new(), sides: Vec::new() };
        let mut watched = Watched { builder: self, observed: None };
        for (target, taken) in targets.iter().zip(taken) {
            let (staged, side) = match taken {
                Some(part) => part,
                None => self.made(target, &mut watched)?,
            };
            parts.staged.push(staged);
            parts.sides.push(side);
        }
        if let Some(data) = data {
            self.validate(&mut parts, data, &mut watched)?;
        }
        Ok(parts)
    }

    fn work(&self) -> &Work<'r> {
        self.conversion.work
    }

    /// An artifact of the cache, copied to where it waits; with what validation said of it, where that still holds.
    fn taken(&self, target: &'r Target) -> Result<Option<(Staged<'r>, Side)>, PipelineError> {
        let dir = self.folder.stage(target.name())?;
        for name in self.names(&self.keys.artifact(target), Kind::Artifact) {
            let found = shelf::take_artifact(&name, &dir).map_err(PipelineError::io(&dir))?;
            let Some(Kept { manifest, is_float, calibration }) = self.whole(found) else { continue };
            let manifest =
                Manifest { recipe: self.work().recipe_text.clone(), verdict: Verdict::NotValidated, ..manifest };
            manifest.write(&dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?;
            let artifact = Artifact::list(target.format().name(), &dir).map_err(PipelineError::io(&dir))?;
            let staged = Staged { target, artifact, manifest, is_float, grown: None };
            let findings = self.findings(&name, &staged);
            return Ok(Some((staged, Side { name, came: Came::Cached, calibration, findings })));
        }
        fs::remove_dir(&dir).map_err(PipelineError::io(&dir))?;
        Ok(None)
    }

    /// What validation said of an artifact, if it would say so again: it passed, and the same engines are here. A join takes it as it is.
    fn findings(&self, artifact: &Name, staged: &Staged) -> Option<Findings> {
        let name = self.keys.findings(artifact, staged.target, self.work().recipe);
        let found = self.names(&name, Kind::Validation).into_iter();
        let holds = |findings: &Findings| {
            let passed = findings.report.all_checks().all(|(_, check)| check.outcome != Outcome::Failed);
            passed && findings.engines == self.how.installed.of(&staged.artifact, self.how.options)
        };
        found.filter_map(|name| self.whole(shelf::take_findings(&name))).find(|known| self.how.joins || holds(known))
    }

    fn names(&self, own: &Name, kind: Kind) -> Vec<Name> {
        if self.how.joins { own.with_other_kernels(kind) } else { vec![own.clone()] }
    }

    fn whole<T>(&self, found: Found<T>) -> Option<T> {
        match found {
            Found::Whole(found) => Some(found),
            Found::Nothing => None,
            Found::Damaged(sentence) => {
                self.display.say(&sentence);
                self.damaged.borrow_mut().push(sentence);
                None
            }
        }
    }

    fn made(&self, target: &'r Target, watched: &mut Watched<'_, '_, 'r>) -> Result<(Staged<'r>, Side), PipelineError> {
        let name = self.keys.artifact(target);
        let portable = self.work().portably(self.how.is_portable)?;
        let observed = watched.by(target)?;
        let calibration = observed.map(Observed::report);
        let staged = self.work().stage(target, observed, self.folder, self.display)?;
        drop(portable);
        let kept =
            Kept { manifest: staged.manifest.clone(), is_float: staged.is_float, calibration: calibration.clone() };
        self.kept(shelf::put_artifact(&name, &staged.artifact.dir, &kept))?;
        Ok((staged, Side { name, came: Came::Made, calibration, findings: None }))
    }

    /// Without a place to keep things the next run takes longer, and that is all, unless others wait for them.
    fn kept(&self, done: std::io::Result<()>) -> Result<(), PipelineError> {
        let folder = cache::folder().unwrap_or_default();
        match done {
            Err(source) if self.how.must_keep => Err(PipelineError::NotKept { folder, source }),
            Err(error) => {
                self.display.say(&format!("{}: nothing is kept for the next run: {error}", folder.display()));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Runs the chain on all of which nothing is known.
    fn validate(
        &self,
        parts: &mut Parts<'r>,
        data: Data,
        watched: &mut Watched<'_, '_, 'r>,
    ) -> Result<(), PipelineError> {
        let which: Vec<usize> = (0..parts.sides.len()).filter(|at| parts.sides[*at].findings.is_none()).collect();
        if which.is_empty() {
            return Ok(());
        }
        for at in &which {
            let staged = &mut parts.staged[*at];
            // What values of an NPU's graph were seen to hold is in no manifest.
            if staged.grown.is_none() && staged.target.npu().is_some() {
                fs::remove_dir_all(&staged.artifact.dir).map_err(PipelineError::io(&staged.artifact.dir))?;
                let _portable = self.work().portably(self.how.is_portable)?;
                *staged = self.work().stage(staged.target, watched.by(staged.target)?, self.folder, self.display)?;
            }
        }
        let Work { recipe, source, text, origin, .. } = self.work();
        let (options, scratch, conversion) = (self.how.options, self.folder.scratch(), self.conversion);
        let scoring = recipe.validate.scoring(source.normalizer(recipe.validate.normalize)?);
        let recorded = recipe.model.join(RECORDED);
        let baseline = source.baseline(scoring, data, &**text, &recorded, self.display)?;
        let speeds = conversion.timed(&parts.staged, &which, &baseline, scratch, options, self.display)?;
        for (at, speed) in which.into_iter().zip(speeds) {
            let (one, side) = (&mut parts.staged[at], &mut parts.sides[at]);
            let mut report = conversion.validate(one, speed, &baseline, scratch, options, self.display)?;
            rename_in(&mut report, &one.artifact.dir, Path::new(HERE));
            let unnamed = Note { about: String::new(), text: String::new() };
            let report = source.report(origin.clone(), None, &baseline, vec![report], unnamed);
            let engines = self.how.installed.of(&one.artifact, options);
            let findings = Findings { engines, report: Report { made: Made::default(), ..report } };
            let name = self.keys.findings(&side.name, one.target, recipe);
            self.kept(shelf::put_findings(&name, &findings))?;
            if side.came == Came::Cached {
                side.came = Came::Tested;
            }
            side.findings = Some(findings);
        }
        Ok(())
    }
}

/// The model on the calibration data, from when the first artifact asks for it.
struct Watched<'a, 'b, 'r> {
    builder: &'a Builder<'b, 'r>,
    observed: Option<Observed>,
}

impl Watched<'_, '_, '_> {
    /// As a target needs it.
    fn by(&mut self, target: &Target) -> Result<Option<&Observed>, PipelineError> {
        let work = self.builder.work();
        if !target.is_watched() || !work.recipe.is_calibrated() {
            return Ok(None);
        }
        if self.observed.is_none() {
            let all: Vec<&Target> = work.recipe.artifacts.iter().collect();
            let (folder, display) = (self.builder.folder, self.builder.display);
            self.observed =
                work.source.observed(work.recipe, &all, &work.origin, &*work.text, folder.scratch(), display)?;
        }
        Ok(self.observed.as_ref())
    }
}

impl Parts<'_> {
    /// Gives every artifact its verdict and joins what is known of them; `None` where nobody validated.
    pub fn report(&mut self, conversion: &Conversion) -> Option<Report> {
        let mut artifacts = Vec::new();
        for (one, side) in self.staged.iter_mut().zip(&self.sides) {
            let findings = side.findings.as_ref()?;
            let mut report: ArtifactReport = findings.report.artifacts.first()?.clone();
            rename_in(&mut report, Path::new(HERE), &one.artifact.dir);
            conversion.judge(one, &findings.report.checks, &mut report);
            artifacts.push(report);
        }
        // What is told of the model is the same in all but where an engine came or went: then the worst of it.
        let failed = |findings: &&Findings| count_failed(&findings.report.checks);
        let known = self.sides.iter().filter_map(|side| side.findings.as_ref());
        let worst = known.rev().max_by_key(failed)?;
        let recipe_text = &conversion.work.recipe_text;
        Some(Report {
            recipe: Note { about: recipe_text.file.clone(), text: recipe_text.text.clone() },
            calibration: self.sides.iter().find_map(|side| side.calibration.clone()),
            artifacts,
            made: made(),
            ..worst.report.clone()
        })
    }
}

/// What a join misses of an artifact, in a sentence.
fn missed(target: &Target, side: Option<&Side>, with_findings: bool, is_damaged: bool) -> Option<String> {
    let what = match side {
        None if is_damaged => "its entry was damaged",
        None => "never came",
        Some(side) if !with_findings || side.findings.is_some() => return None,
        Some(_) if is_damaged => "came, and what validation said of it was damaged",
        Some(_) => "came, and what validation said of it never did",
    };
    Some(format!("{}: {what}", target.name()))
}

fn count_failed(checks: &[Check]) -> usize {
    checks.iter().filter(|check| check.outcome == Outcome::Failed).count()
}
