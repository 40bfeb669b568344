//! `trefoil build`: the artifacts of many recipes, of which only those are made that no run has made before.

mod arguments;
mod told;

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use validate::runtime::Options;

use crate::build::cache;
use crate::build::conversion::Conversion;
use crate::build::costs;
use crate::build::error::PipelineError;
use crate::build::fetch::fetch;
use crate::build::folder::OutFolder;
use crate::build::installed::Installed;
use crate::build::keys::Keys;
use crate::build::lock::{Going, Lock};
use crate::build::manifest::Manifest;
use crate::build::parts::{Builder, How, Parts};
use crate::build::room::room;
use crate::build::work::{Asked, Work};
use crate::build::workplace::Workplace;
use crate::command::arguments::{Common, Verdict};
use crate::command::summary;
use crate::recipe::load::Loaded;
use crate::recipe::target::Target;
use crate::show::progress::Display;
use crate::show::terminal::{print, printable};
pub use arguments::Build;
use told::Told;

/// A recipe and which of its artifacts are asked for.
struct Job {
    file: PathBuf,
    loaded: Loaded,
    /// Of each artifact.
    wanted: Vec<bool>,
}

/// What all recipes share.
struct Run<'a> {
    arguments: &'a Build,
    installed: Installed,
    /// For what waits and for what nobody will miss.
    workplace: Workplace,
    damaged: RefCell<Vec<String>>,
    display: &'a Display,
}

/// Builds.
pub fn build(arguments: &Build, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    cache::ask(cache::Asked { folder: arguments.cache.clone(), most_artifact_bytes: arguments.cache_size });
    let jobs = jobs(arguments, display)?;
    let workplace = Workplace::new(arguments.shard.is_some())?;
    // For all recipes, and on the disk that takes what they make.
    let _ = tempfile::env::override_temp_dir(workplace.path());
    let run = Run { arguments, installed: Installed::default(), workplace, damaged: RefCell::default(), display };
    let (mut told, mut errors) = (Vec::new(), Vec::new());
    for (number, job) in jobs.iter().enumerate() {
        let mut found = Told::of(job.file.clone());
        if let Err(error) = run.one(job, number, &mut found) {
            found.error = Some(error.to_string());
            errors.push(error);
        }
        told.push(found);
    }
    display.finish();
    let text = told::all(&told, &run.damaged.borrow(), common.json);
    let text = if common.json { text } else { printable(&text).into_owned() };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))?;
    let failures: String = told.iter().map(|told| failures(told, arguments.engines.strict)).collect();
    // A closed stderr leaves no place to say so.
    let _ = io::stderr().write_all(failures.as_bytes());
    match errors.len() {
        0 if told.iter().all(Told::is_good) => Ok(Verdict::Passed),
        0 => Ok(Verdict::Failed),
        1 => Err(errors.remove(0)),
        _ => Err(PipelineError::Several(errors)),
    }
}

/// Reads all recipes, of which one that is named twice is one, and brings the checkpoints of those that are built here. Errors: all
/// that cannot be read or brought.
fn jobs(arguments: &Build, display: &Display) -> Result<Vec<Job>, PipelineError> {
    let mut files: Vec<&PathBuf> = Vec::new();
    for file in &arguments.recipes {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    let (mut jobs, mut errors, mut place) = (Vec::new(), Vec::new(), 0);
    for file in files {
        match Loaded::read(file) {
            Ok(mut loaded) => {
                let places = place..place + loaded.recipe.artifacts.len();
                place = places.end;
                let wanted: Vec<bool> =
                    places.map(|place| arguments.shard.is_none_or(|shard| shard.has(place))).collect();
                if wanted.contains(&true) {
                    errors.extend(fetch(&mut loaded, arguments.engines.offline, display).err());
                }
                jobs.push(Job { file: file.clone(), loaded, wanted });
            }
            Err(error) => errors.push(error.into()),
        }
    }
    if errors.is_empty() { Ok(jobs) } else { Err(PipelineError::Several(errors)) }
}

impl Run<'_> {
    /// Builds a recipe; what became of it stands in `told`, whatever ends it.
    fn one(&self, job: &Job, number: usize, told: &mut Told) -> Result<(), PipelineError> {
        let Build { shard, join, locked, no_validate, no_bench, portable, engines, .. } = self.arguments;
        let Job { file, loaded, wanted } = job;
        if !wanted.contains(&true) {
            return Ok(());
        }
        let (recipe, display) = (&loaded.recipe, self.display);
        let work = Work::new(&Asked { recipe: file, only: &[], report_dir: None }, loaded, display)?;
        let going = Going::of(file, loaded, &work.origin.inputs)?;
        let lock = match locked {
            true => Some(Lock::of(file, &going)?),
            false => Lock::may_be_written(file).map(|()| None)?,
        };
        told.drift = lock.as_ref().map_or(Vec::new(), |lock| lock.drift_of_inputs(&going));
        if !told.drift.is_empty() {
            return Ok(());
        }

        let is_timed = recipe.validate.speed && !no_bench;
        let conversion = Conversion { work: &work, strict: engines.strict, is_timed };
        let data = if *no_validate { None } else { Some(work.source.evaluation(&recipe.validate, &*work.text)?) };
        let kernel = work.portably(*portable).map(|_portable| graph::eval::kernel())?;
        let keys = Keys::of(&work, data.as_ref(), is_timed, kernel)?;
        let dir = match shard {
            // The out folder is for whole recipes, and other shards may be at work.
            Some(_) => self.workplace.path().join(number.to_string()),
            None => recipe.out.clone(),
        };
        let folder = OutFolder::open(&dir)?;
        let logits = data.as_ref().map_or(0, |data| work.source.logits_bytes(data));
        let twins = if data.is_some() { conversion.twin_bytes() } else { 0 };
        room(&dir, work.need + logits + twins, display)?;

        let options: Options = recipe.validate.options(engines.options());
        let how = How {
            joins: *join,
            must_keep: shard.is_some(),
            is_portable: *portable,
            options: &options,
            installed: &self.installed,
        };
        let damaged = &self.damaged;
        let builder = Builder { conversion: &conversion, how: &how, keys: &keys, folder: &folder, display, damaged };
        let targets: Vec<&Target> =
            work.targets.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(target, _)| *target).collect();
        let mut parts = builder.build(&targets, data)?;
        let report = parts.report(&conversion);
        told.rows = Told::rows(&parts);

        let manifests: Vec<&Manifest> = parts.staged.iter().map(|one| &one.manifest).collect();
        let now = going.done(&manifests, report.as_ref());
        let is_whole = !wanted.contains(&false) && report.is_some();
        told.drift = lock.as_ref().map_or(Vec::new(), |lock| lock.drift_of_results(&now, is_whole));
        if !told.drift.is_empty() {
            return Ok(());
        }
        if shard.is_some() {
            work.inputs.unchanged(&work.origin.inputs)?;
            told.report = report;
            return Ok(());
        }
        self.put(job, &conversion, folder, &parts, report, told)?;
        if lock.is_none() && told.is_good() {
            now.write(file)?;
            told.lock = Some(Lock::place(file));
        }
        Ok(())
    }

    /// Puts the artifacts of a recipe and their report into their places.
    fn put(
        &self,
        job: &Job,
        conversion: &Conversion,
        folder: OutFolder,
        parts: &Parts,
        report: Option<validate::Report>,
        told: &mut Told,
    ) -> Result<(), PipelineError> {
        let recipe = &job.loaded.recipe;
        let places = [recipe.out.as_path(), job.file.parent().unwrap_or(Path::new("."))];
        let is_validated = report.is_some();
        let report = report
            .map(|report| validate::Report { costs: costs::of(&places, &conversion.work.origin.inputs), ..report });
        let report = conversion.commit(folder, &parts.staged, report)?;
        told.out = Some(recipe.out.clone());
        told.report = report.filter(|_| is_validated);
        Ok(())
    }
}

/// What was wrong with a recipe's artifacts, and what differs from its lock, a line each.
fn failures(told: &Told, strict: bool) -> String {
    let place = Lock::place(&told.recipe).display().to_string();
    let drift = told.drift.iter().map(|row| printable(&format!("failed: {place}: {row}\n")).into_owned());
    let failed = told.report.iter().map(|report| summary::failures(report, strict));
    drift.chain(failed).collect()
}
