//! A recipe for a checkpoint that has none: what it can become, tried without computing anything.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use quant::{Policy, Role};
use serde_json::Value;

use crate::build::error::PipelineError;
use crate::build::growth::refused;
use crate::build::source::Source;
use crate::recipe::draft::{About, Draft, Leaf, Wish};
use crate::recipe::load::Loaded;
use crate::recipe::purpose::{Purpose, usual};

/// Of a sample that is looked at, which may be long.
const LINE_BYTES: u64 = 1 << 20;

/// The text of a recipe. `asked`: what the artifacts are for; the usual ones when empty, as far as the checkpoint can become them.
///
/// Errors: what was asked for cannot be, all of it at once.
pub fn drafted(source: &Source, wish: &Wish, asked: &[Purpose]) -> Result<String, PipelineError> {
    let about = about(source)?;
    let purposes = if asked.is_empty() { usual() } else { asked.to_vec() };
    let mut draft = Draft { about: &about, wish, leaves: Vec::new(), left_out: Vec::new() };
    for purpose in &purposes {
        // Nobody who asks for nothing in particular is told what a program cannot open.
        let runs = if asked.is_empty() { Ok(()) } else { purpose.runs(&about.model_type) };
        match runs.and_then(|()| possible(source, &about, wish, purpose)) {
            Ok(leaf) if draft.leaves.iter().any(|other| other.is_same(&leaf)) => {}
            Ok(leaf) => draft.leaves.push(leaf),
            Err(why) => draft.left_out.push((purpose.word, why)),
        }
    }
    if draft.leaves.is_empty() || !asked.is_empty() && !draft.left_out.is_empty() {
        let problems = draft.left_out.into_iter().map(|(word, why)| format!("{word}: {why}")).collect();
        return Err(PipelineError::Draft { name: about.name, problems });
    }
    Ok(draft.text())
}

fn about(source: &Source) -> Result<About, PipelineError> {
    let plan = Policy::default().plan(&source.exact.graph);
    let plan = plan.map_err(|error| PipelineError::Policy { artifact: source.name(), source: error })?;
    Ok(About {
        name: source.name(),
        model_type: source.exact.checkpoint.config().model_type().unwrap_or_default().to_owned(),
        reads: source.exact.architecture.front_end(),
        has_head: plan.weights.iter().any(|weight| weight.role == Role::Head),
        has_wo: plan.weights.iter().any(|weight| weight.name.ends_with(".wo.weight")),
    })
}

/// The artifact for a purpose, as the recipe will make it. Errors: why it cannot be.
fn possible(source: &Source, about: &About, wish: &Wish, purpose: &Purpose) -> Result<Leaf, String> {
    let leaf = Leaf::new(purpose, about, wish)?;
    if leaf.is_calibrated && wish.calibration.is_none() && wish.data.is_none() {
        return Err("it rounds activations to fixed steps; expected samples to find them on: `--calibrate FILE`, or `--data FILE`".to_owned());
    }
    let alone = Draft { about, wish, leaves: vec![leaf.clone()], left_out: Vec::new() };
    let recipe = Loaded::of_draft(Path::new(&about.name), alone.text()).map_err(|error| error.to_string())?.recipe;
    refused(source, &recipe.artifacts[0]).map_err(|error| error.to_string())?;
    Ok(leaf)
}

/// Whether samples have targets: the first line does. Errors: no such file.
pub fn has_targets(file: &Path) -> Result<bool, PipelineError> {
    let reader = File::open(file).map_err(PipelineError::io(file))?;
    let mut line = String::new();
    BufReader::new(reader.take(LINE_BYTES)).read_line(&mut line).map_err(PipelineError::io(file))?;
    Ok(serde_json::from_str::<Value>(&line).is_ok_and(|sample| sample.get("target").is_some()))
}
