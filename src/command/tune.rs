//! `tune`: what each weight may lose, measured; then the smallest plan within a budget, as a recipe that `convert` takes.

mod arguments;
mod found;
mod memory;
mod picture;
mod search;
mod singles;
mod text;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use graph::Progress;
use quant::Policy;
use serde_json::json;
use validate::task::Data;

use crate::build::error::PipelineError;
use crate::build::fetch::fetch;
use crate::build::folder::OutFolder;
use crate::build::growth::{prepared, refused};
use crate::build::inputs::Inputs;
use crate::build::manifest::Origin;
use crate::build::observed::Observed;
use crate::build::room::room;
use crate::build::source::{Source, fed_first, text_of};
use crate::build::workplace::Workplace;
use crate::build::{places, whole};
use crate::command::arguments::{Common, Verdict};
use crate::recipe::load::{Loaded, is_on_hub};
use crate::show::progress::Display;
use crate::show::terminal::print;
pub use arguments::Tune;
use found::{FILES, Found};
use memory::{About, Memory};
use search::Search;
use singles::Singles;

/// `tune`.
pub fn tune(arguments: &Tune, common: &Common, display: &Display) -> Result<Verdict, PipelineError> {
    let mut loaded = Loaded::read(&arguments.recipe)?;
    loaded.replace(arguments.model.as_deref(), None);
    fetch(&mut loaded, false, display)?;
    let Loaded { recipe, text: recipe_text } = &loaded;
    let wrong = |message: &str| PipelineError::Tune { recipe: arguments.recipe.clone(), message: message.to_owned() };
    let target = match (&arguments.only, &recipe.artifacts[..]) {
        (Some(name), all) => all.iter().find(|t| t.name() == name).ok_or_else(|| PipelineError::NoArtifact {
            found: name.clone(),
            known: all.iter().map(|t| t.name().to_owned()).collect(),
        })?,
        (None, [one]) => one,
        (None, _) => return Err(wrong("it has several artifacts; expected --only NAME")),
    };
    let wanted = recipe.calibrate.as_ref().ok_or_else(|| wrong("expected `calibrate: { data: FILE }`, found none"))?;
    if !target.policy().scheme.is_quantized() {
        return Err(wrong("expected a quantized scheme in the artifact's `quantize`, found a float one"));
    }

    let report_dir = arguments.report_dir.as_deref().unwrap_or(&recipe.out);
    if let Some(problem) = places::foreign_report(report_dir, &FILES, &["artifact", "measured"]) {
        return Err(PipelineError::Places(vec![problem]));
    }
    display.say(&format!("import {}", recipe.model.display()));
    let inputs = Inputs::of(&recipe.model).map_err(PipelineError::io(&recipe.model))?;
    let (text, of_languages) = text_of(&recipe.model, &[&recipe.languages])?;
    let decode = fed_first(&recipe.model, &recipe.decode, &*text)?;
    let source = Source::open(&recipe.model, &[&of_languages, &decode])?.seeing(recipe.image);
    let origin = Origin::of(&source.exact.checkpoint, &source.exact.semantics)?;
    let data = source.load(&wanted.data, wanted.samples, &*text)?;
    // A shard writes to the cache alone, and others may be at work on the same report.
    let workplace = arguments.shard.map(|_| Workplace::new(true)).transpose()?;
    let work_dir = workplace.as_ref().map(|workplace| workplace.path().join("tune"));
    let work_dir = work_dir.as_deref().unwrap_or(report_dir);
    let folder = OutFolder::open(work_dir)?;
    // Whoever needs a temporary file in this process or below it gets it on the disk that takes the result.
    let _ = tempfile::env::override_temp_dir(folder.scratch());
    let need = refused(&source, target)?;
    room(work_dir, need.scratch + source.logits_bytes(&data), display)?;
    let most = arguments.samples.get().min(data.samples.len());
    let judging = Data { samples: data.samples[..most].to_vec(), ..data.clone() };
    let observed =
        Observed::new(&source.exact.graph, &origin, &source.decoding, wanted, data, folder.scratch(), display)?;
    if arguments.max_drop.is_some() && !observed.has_targets() {
        return Err(wrong(
            "--max-drop scores the task; expected calibration data with targets that are fed, found none",
        ));
    }
    let (model, _) = prepared(&source, target)?;
    let judged = judging.samples.len();
    let (metric, with_task) = (recipe.validate.metric, arguments.max_drop.is_some());
    let rules = recipe.validate.normalize;
    let normalizer = source.normalizer(rules)?;
    let memory = Memory::open(&About { target, observed: &observed, judged, metric, rules }, arguments.shard);
    let search = Search {
        target,
        model: &model,
        source: &source,
        inputs: &origin.inputs,
        text: &*text,
        metric,
        normalizer,
        observed: &observed,
        singles: Singles::new(&model.graph, &observed, judged)?,
        judging,
        floats: OnceLock::new(),
        judged,
        with_task,
        display,
    };
    if let Some(shard) = arguments.shard {
        let measured = search.part(arguments, shard, memory)?;
        display.finish();
        print(&text::part(shard, measured, common.json)).map_err(PipelineError::io(Path::new("stdout")))?;
        return Ok(Verdict::Passed);
    }
    let (found, policy) = search.run(arguments, memory)?;
    display.finish();
    inputs.unchanged(&origin.inputs)?;
    write(&found, folder)?;
    let saved = match &policy {
        Some(policy) => {
            let file = arguments.save.clone().unwrap_or_else(|| beside(&arguments.recipe));
            let mut value = tuned(recipe_text, &arguments.recipe, target.name(), policy)?;
            let folder = |file: &Path| file.parent().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
            if let Some(from) = folder(&arguments.recipe).filter(|from| Some(from) != folder(&file).as_ref()) {
                anchor(&mut value, &from);
            }
            let head = format!(
                "# Made by `trefoil tune {}`: the artifact {} {}.\n\n",
                arguments.recipe.file_name().unwrap_or_default().to_string_lossy(),
                target.name(),
                budget(arguments)
            );
            let text = head + &text::yaml(&value);
            whole::write(&file, text.as_bytes()).map_err(PipelineError::io(&file))?;
            Some(file)
        }
        None => None,
    };
    match common.json {
        true => print(&(serde_json::to_string_pretty(&found).expect("plain data") + "\n")),
        false => print(&text::summary(&found, &report_dir.join("tune.md"), saved.as_deref())),
    }
    .map_err(PipelineError::io(Path::new("stdout")))?;
    let missed = arguments.max_size.is_some() || arguments.max_kl.is_some() || arguments.max_drop.is_some();
    if missed && saved.is_none() {
        // A closed stderr leaves no place to say so.
        let _ = writeln!(io::stderr(), "failed: tune: no plan of these candidates {}", budget(arguments));
        return Ok(Verdict::Failed);
    }
    Ok(Verdict::Passed)
}

/// tune.json, tune.md and tune.svg, all or none of them anew.
fn write(found: &Found, folder: OutFolder) -> Result<(), PipelineError> {
    let json = serde_json::to_string_pretty(found).expect("plain data") + "\n";
    for (name, text) in FILES.into_iter().zip([json, text::markdown(found), picture::svg(found)]) {
        fs::write(folder.staged(name), text).map_err(PipelineError::io(&folder.staged(name)))?;
    }
    Ok(folder.commit(&FILES, &[])?)
}

fn budget(arguments: &Tune) -> String {
    match (arguments.max_size, arguments.max_kl, arguments.max_drop) {
        (Some(bytes), _, _) => format!("has at most {bytes} bytes of weights"),
        (_, Some(kl), _) => format!("has a KL of at most {kl}"),
        (_, _, Some(points)) => format!("loses at most {points} points"),
        _ => "has no budget".to_owned(),
    }
}

fn beside(recipe: &Path) -> PathBuf {
    let stem = recipe.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    recipe.with_file_name(format!("{stem}-tuned.yaml"))
}

/// The recipe with this artifact alone and this policy.
fn tuned(text: &str, file: &Path, name: &str, policy: &Policy) -> Result<serde_json::Value, PipelineError> {
    let mut value: serde_json::Value = crate::recipe::yaml::parse(text, &file.display().to_string())
        .map_err(|e| PipelineError::Recipe(crate::recipe::load::RecipeError::Yaml(e)))?;
    let policy = serde_json::to_value(policy).expect("plain data");
    if let Some(top) = value.as_object_mut() {
        top.remove("quantize");
        if let Some(artifacts) = top.get_mut("artifacts").and_then(|a| a.as_array_mut()) {
            artifacts.retain(|a| match a.get("name").and_then(|n| n.as_str()) {
                Some(own) => own == name,
                None => a.get(name).is_some(),
            });
            for artifact in artifacts.iter_mut().filter_map(|a| a.as_object_mut()) {
                artifact.insert("quantize".to_owned(), policy.clone());
            }
        }
    }
    Ok(value)
}

/// Lets the paths of a recipe begin at the folder that they were relative to.
fn anchor(value: &mut serde_json::Value, folder: &Path) {
    for pointer in ["/model", "/out", "/calibrate/data", "/validate/data"] {
        if let Some(path) = value.pointer_mut(pointer)
            && let Some(text) = path.as_str().filter(|text| !is_on_hub(Path::new(text)))
        {
            *path = json!(folder.join(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_saved_elsewhere_finds_what_it_names() {
        let mut value = json!({ "model": "../m", "out": "/o", "calibrate": { "data": "a.txt" }, "artifacts": [] });
        anchor(&mut value, Path::new("/r/s"));
        let expected =
            json!({ "model": "/r/s/../m", "out": "/o", "calibrate": { "data": "/r/s/a.txt" }, "artifacts": [] });
        assert_eq!(value, expected);
    }
}
