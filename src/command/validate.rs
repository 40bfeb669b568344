//! `trefoil validate`: the comparison alone, for an artifact that exists.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use converters::Artifact;
use graph::{Progress, Scratch};
use validate::report::{InputFile, Note, Report, Verdict as Judged};

use crate::build::error::PipelineError;
use crate::build::folder;
use crate::build::growth::{Grown, refused};
use crate::build::manifest::{self, Manifest, Origin};
use crate::build::room::room;
use crate::build::source::Source;
use crate::build::source::{fed_first, text_of};
use crate::build::there;
use crate::build::validated::validated;
use crate::command::arguments::{Common, Verdict};
use crate::command::engines::Engines;
use crate::command::summary::told;
use crate::recipe::load::Loaded;
use crate::recipe::samples::Validation;
use crate::show::progress::Display;

/// Arguments of `validate`.
#[derive(clap::Args)]
pub struct Validate {
    /// The artifact's folder, with its trefoil.json
    artifact: PathBuf,
    /// The checkpoint that it was made from
    #[arg(long, value_name = "DIR")]
    reference: PathBuf,
    /// Lines {"input": …, "target": …} or plain text [default: drawn inputs]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// How many samples of --data, from the first [default: as the artifact's recipe says]
    #[arg(long, value_name = "N")]
    samples: Option<NonZeroUsize>,
    #[command(flatten)]
    engines: Engines,
}

/// Runs the chain on the artifact as it lies there, against the checkpoint and against its own stored weights: their bytes
/// may depend on the processor that calibrated them.
pub fn validate(arguments: &Validate, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let dir = &arguments.artifact;
    there::folder(dir).map_err(PipelineError::io(dir))?;
    folder::settle_around(dir);
    let wrong = |message: String| PipelineError::Artifact { dir: dir.clone(), message };
    let manifest = Manifest::read(dir).map_err(PipelineError::io(&dir.join(manifest::FILE)))?.ok_or_else(|| {
        wrong(format!("expected a {}, found none; only artifacts of trefoil have one", manifest::FILE))
    })?;
    let loaded = Loaded::of_artifact(dir, &manifest.recipe.text)?;
    let target = loaded.recipe.artifacts.iter().find(|t| t.name() == manifest.name);
    let target = target
        .ok_or_else(|| wrong(format!("{}: no artifact named {} in its recipe", manifest::FILE, manifest.name)))?;
    let wanted = Validation {
        data: arguments.data.clone(),
        samples: arguments.samples.or(loaded.recipe.validate.samples),
        ..loaded.recipe.validate.clone()
    };

    display.say(&format!("import {}", arguments.reference.display()));
    let (text, of_languages) = text_of(&arguments.reference, &[&loaded.recipe.languages])?;
    let decode = fed_first(&arguments.reference, &loaded.recipe.decode, &*text)?;
    let source = Source::open(&arguments.reference, &[&of_languages, &decode])?;
    let source = source.seeing(loaded.recipe.image);
    let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
    if let Some(other) = different_input(&manifest.model, &origin) {
        return Err(wrong(format!("made from another checkpoint than {}: {other}", arguments.reference.display())));
    }
    let data = source.evaluation(&wanted, &*text)?;
    let need = refused(&source, target)?;
    room(&tempfile::env::temp_dir(), need.scratch + source.logits_bytes(&data), display)?;
    let recorded = arguments.reference.join("expected.safetensors");
    let baseline =
        source.baseline(wanted.scoring(source.normalizer(wanted.normalize)?), data, &*text, &recorded, display)?;
    let artifact = Artifact::list(target.format().name(), dir).map_err(PipelineError::io(dir))?;
    let scratch = Scratch::new().map_err(PipelineError::io(&tempfile::env::temp_dir()))?;
    let grown = Grown::stored(&source, target, &manifest, &artifact, &scratch, display)?;
    let files = (manifest::outputs(&artifact)?, Some(&manifest.files[..]));
    let options = wanted.options(arguments.engines.options());
    let report = validated(&baseline, &grown, target, &artifact, files, target.limits(&wanted), &options, display)?;
    display.finish();
    let strict = arguments.engines.strict;
    let is_good = Report::verdict_of(&baseline.checks, &report.checks, strict) == Judged::Passed;
    let note = Note { about: manifest.recipe.file, text: manifest.recipe.text };
    told(&source.report(origin, None, &baseline, vec![report], note), is_good, None, strict, common)
}

/// The first weight file that differs between the checkpoint of an artifact and the one at hand.
fn different_input(then: &Origin, now: &Origin) -> Option<String> {
    let of = |origin: &Origin, path: &str| origin.inputs.iter().find(|f| f.path == path).map(|f| f.sha256.clone());
    let changed = |f: &&InputFile| of(now, &f.path).as_ref() != Some(&f.sha256);
    then.inputs.iter().find(changed).map(|f| format!("{} has another SHA-256", f.path))
}
