//! `trefoil recipe`: what a recipe asks for, and what one may say.

use std::path::Path;

use crate::build::error::PipelineError;
use crate::build::growth;
use crate::build::source::{Source, text_of};
use crate::command::arguments::{Common, Verdict};
use crate::command::summary;
use crate::recipe::load::Loaded;
use crate::show::terminal::{print, printable};

/// `recipe check`: what becomes of every weight, without writing anything.
pub fn check(path: &Path, model: Option<&Path>, common: &Common) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(path)?;
    loaded.replace(model, None);
    let (_, of_languages) = text_of(&loaded.recipe.model, &[&loaded.recipe.languages])?;
    let source = Source::open(&loaded.recipe.model, &[&of_languages, &loaded.recipe.decode])?;
    let mut plans = Vec::new();
    for target in &loaded.recipe.artifacts {
        let (model, _) = growth::prepared(&source, target)?;
        let plan = growth::plan(target, &model.graph)?;
        plans.push((target.name(), plan));
    }
    print(&printable(&summary::planned(&plans, common.json))).map_err(PipelineError::io(Path::new("stdout")))?;
    Ok(Verdict::Passed)
}
