//! What is known of a recipe's work before anything is calibrated, and how an artifact is made of it.

use std::path::Path;

use converters::{Artifact, ExportError};
use graph::arithmetic::Portable;
use graph::progress::Unit;
use graph::{Progress, Scratch};
use validate::chain::Arithmetic;
use validate::report::Verdict;
use validate::task::Text;

use crate::build::error::PipelineError;
use crate::build::folder::OutFolder;
use crate::build::growth::{Grown, Need, refused};
use crate::build::inputs::Inputs;
use crate::build::manifest::{self, Manifest, Origin, RecipeText};
use crate::build::observed::Observed;
use crate::build::places;
use crate::build::provenance;
use crate::build::source::{Source, fed_first, text_of};
use crate::recipe::load::Loaded;
use crate::recipe::schema::Recipe;
use crate::recipe::target::Target;
use crate::show::progress::Display;

/// The importance matrix beside a GGUF.
const IMATRIX_FILE: &str = "imatrix.gguf";

/// What the encoder of a model is fed that a Fourier transform made.
const SPECTRUM: &str = "input_features";

/// What of the command line decides the work.
pub struct Asked<'r> {
    /// The recipe's file.
    pub recipe: &'r Path,
    /// Names of artifacts; all when empty.
    pub only: &'r [String],
    /// Where the report goes, if not beside the artifacts.
    pub report_dir: Option<&'r Path>,
}

/// An artifact that is written and not yet in its place.
pub struct Staged<'r> {
    pub target: &'r Target,
    pub artifact: Artifact,
    pub manifest: Manifest,
    /// It computes in floats.
    pub is_float: bool,
    /// What it computes; absent where an earlier run made it.
    pub grown: Option<Grown>,
}

/// A recipe's work, known before anything is calibrated or written.
pub struct Work<'r> {
    pub recipe: &'r Recipe,
    pub targets: Vec<&'r Target>,
    /// A folder of the report's own, which is another one than that of the artifacts.
    pub report_dir: Option<&'r Path>,
    pub source: Source,
    /// Bytes that the artifacts take, and what waits to be written to them.
    pub need: u64,
    pub text: Box<dyn Text>,
    pub inputs: Inputs,
    pub origin: Origin,
    pub recipe_text: RecipeText,
}

impl<'r> Work<'r> {
    /// Reads the checkpoint, its weights last.
    ///
    /// Errors, in this order: places that are not this run's; a checkpoint or a setting that is wrong; all that the formats
    /// refuse.
    pub fn new(asked: &Asked<'r>, loaded: &'r Loaded, display: &Display) -> Result<Work<'r>, PipelineError> {
        let recipe = &loaded.recipe;
        let targets = chosen(&recipe.artifacts, asked.only)?;
        provenance::checked_time()?;
        let report_dir = asked.report_dir.filter(|dir| !places::is_same(dir, &recipe.out));
        check_places(recipe, &targets, report_dir)?;
        display.say(&format!("import {}", recipe.model.display()));
        let inputs = Inputs::of(&recipe.model).map_err(PipelineError::io(&recipe.model))?;
        let (text, of_languages) = text_of(&recipe.model, &[&recipe.languages])?;
        let decode = fed_first(&recipe.model, &recipe.decode, &*text)?;
        let source = Source::open(&recipe.model, &[&of_languages, &decode])?.seeing(recipe.image);
        let need = all_refused(&source, &targets)?.iter().map(|need| need.scratch + need.artifact).sum();
        let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
        let recipe_text = RecipeText::new(asked.recipe, &loaded.text);
        Ok(Work { recipe, targets, report_dir, source, need, text, inputs, origin, recipe_text })
    }

    /// Arithmetic that is the same on every processor, while it is held. None when it is not asked for.
    ///
    /// Errors: the model is fed what is computed by the processor's vectors before any graph is.
    pub fn portably(&self, is_asked: bool) -> Result<Option<Portable>, PipelineError> {
        if !is_asked {
            return Ok(None);
        }
        let hears = self.source.exact.graph.entry("encoder").is_some_and(|entry| entry.input(SPECTRUM).is_some());
        let is_watched = self.targets.iter().any(|target| target.is_calibrated());
        match hears && is_watched {
            true => Err(PipelineError::NotPortable { model: self.recipe.model.clone() }),
            false => Ok(Some(Portable::begin())),
        }
    }

    /// Where the report lies.
    pub fn report_dir(&self) -> &Path {
        self.report_dir.unwrap_or(&self.recipe.out)
    }

    /// Grows an artifact and writes it where it waits to be committed.
    pub fn stage(
        &self,
        target: &'r Target,
        observed: Option<&Observed>,
        folder: &OutFolder,
        display: &Display,
    ) -> Result<Staged<'r>, PipelineError> {
        let (name, out) = (target.name(), &self.recipe.out);
        let scratch = Scratch::in_dir(folder.scratch()).map_err(PipelineError::io(out))?;
        let grown = Grown::new(&self.source, target, observed, &scratch, display)?;
        display.stage(&format!("{name}: write"), 0, Unit::Bytes);
        let dir = folder.stage(name)?;
        if let (Some(gguf), Some(observed)) = (target.gguf().filter(|gguf| gguf.imatrix), observed) {
            let file = dir.join(IMATRIX_FILE);
            observed.write_imatrix(&self.source.exact, gguf, &file).map_err(PipelineError::io(&out.join(name)))?;
        }
        let (artifact, manifest) = self.write(&grown, target, observed, &dir)?;
        let is_float = Arithmetic::of(&grown.model.graph) == Arithmetic::Floats;
        Ok(Staged { target, artifact, manifest, is_float, grown: Some(grown) })
    }

    /// Writes an artifact and its manifest into a staged folder.
    fn write(
        &self,
        grown: &Grown,
        target: &Target,
        observed: Option<&Observed>,
        dir: &Path,
    ) -> Result<(Artifact, Manifest), PipelineError> {
        let format = target.format();
        let export = |source: ExportError| PipelineError::Export { artifact: target.name().to_owned(), source };
        format.check(&grown.model).map_err(export)?;
        let artifact = format.write(&grown.model, dir).map_err(export)?;
        let manifest = Manifest {
            trefoil: env!("CARGO_PKG_VERSION").to_owned(),
            name: target.name().to_owned(),
            format: format.name().to_owned(),
            verdict: Verdict::NotValidated,
            model: self.origin.clone(),
            decoding: self.source.decoding.clone(),
            recipe: self.recipe_text.clone(),
            files: manifest::outputs(&artifact)?,
            has_card: true,
            has_provenance: true,
            samples: observed.filter(|_| target.is_watched()).map(Observed::samples),
            calibrated: grown.calibrated.clone(),
            substitutions: grown.substitutions.clone(),
            tensors: grown.records.clone(),
        };
        manifest.write(dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?;
        let artifact = Artifact::list(format.name(), dir).map_err(PipelineError::io(dir))?;
        Ok((artifact, manifest))
    }
}

/// Errors: artifacts or a report would replace what is not theirs.
pub fn check_places(recipe: &Recipe, targets: &[&Target], report_dir: Option<&Path>) -> Result<(), PipelineError> {
    let names: Vec<&str> = targets.iter().map(|target| target.name()).collect();
    let mut problems = places::problems(&recipe.out, &names, &recipe.model);
    problems.extend(places::report_problem(report_dir.unwrap_or(&recipe.out)));
    if problems.is_empty() { Ok(()) } else { Err(PipelineError::Places(problems)) }
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

/// The artifacts of a recipe that `--only` asks for; all without it.
fn chosen<'r>(targets: &'r [Target], only: &[String]) -> Result<Vec<&'r Target>, PipelineError> {
    let known: Vec<String> = targets.iter().map(|t| t.name().to_owned()).collect();
    if let Some(found) = only.iter().find(|name| !known.contains(name)) {
        return Err(PipelineError::NoArtifact { found: found.clone(), known });
    }
    Ok(targets.iter().filter(|t| only.is_empty() || only.iter().any(|name| name == t.name())).collect())
}
