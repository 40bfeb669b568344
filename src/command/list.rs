//! What is supported, from the registries: for `--list` and for the table in the README.

use clap::ValueEnum;
use converters::export::npu::PROFILES;
use converters::{ARCHITECTURES, FORMATS};
use quant::Scheme;
use serde::Serialize;
use validate::Program;
use validate::runtime::programs;

use crate::command::arguments::Verdict;

/// A part of the list.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Everything.
    All,
    /// Words of config.json's `model_type`.
    Families,
    /// Kinds of artifacts.
    Formats,
    /// Representations of a weight.
    Schemes,
    /// What runs artifacts.
    Engines,
    /// Toolchains for NPUs, as `lint` judges for them.
    Profiles,
}

#[derive(Serialize)]
struct List {
    #[serde(skip_serializing_if = "Option::is_none")]
    families: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    formats: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schemes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engines: Option<Vec<EngineRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profiles: Option<Vec<ProfileRow>>,
}

#[derive(Serialize)]
struct ProfileRow {
    name: &'static str,
    about: &'static str,
}

#[derive(Serialize)]
struct EngineRow {
    name: String,
    /// Formats that it opens.
    runs: Vec<String>,
}

impl List {
    fn of(what: What) -> List {
        let wanted = |part| what == What::All || what == part;
        List {
            families: wanted(What::Families)
                .then(|| ARCHITECTURES.iter().flat_map(|a| a.model_types()).map(|word| (*word).to_owned()).collect()),
            formats: wanted(What::Formats).then(|| FORMATS.iter().map(|f| f.name().to_owned()).collect()),
            schemes: wanted(What::Schemes).then(|| Scheme::ALL.iter().map(|s| s.name()).collect()),
            engines: wanted(What::Engines).then(|| {
                let runs = |engine: &dyn Program| {
                    let formats = FORMATS.iter().map(|f| f.name()).filter(|f| engine.runs(f));
                    EngineRow { name: engine.name().to_owned(), runs: formats.map(str::to_owned).collect() }
                };
                programs().map(runs).collect()
            }),
            profiles: wanted(What::Profiles)
                .then(|| PROFILES.iter().map(|p| ProfileRow { name: p.name, about: p.about }).collect()),
        }
    }

    /// Title and entries of each part.
    fn parts(&self) -> Vec<(&'static str, Vec<String>)> {
        let engines = self.engines.as_ref().map(|engines| {
            let row = |e: &EngineRow| match e.runs.is_empty() {
                true => e.name.clone(),
                false => format!("{} ({})", e.name, e.runs.join(", ")),
            };
            engines.iter().map(row).collect()
        });
        let names = |profiles: &Vec<ProfileRow>| profiles.iter().map(|profile| profile.name.to_owned()).collect();
        let profiles = self.profiles.as_ref().map(names);
        [
            ("families", self.families.clone()),
            ("formats", self.formats.clone()),
            ("schemes", self.schemes.clone()),
            ("engines", engines),
            ("profiles", profiles),
        ]
        .into_iter()
        .filter_map(|(title, entries)| Some((title, entries?)))
        .collect()
    }
}

/// Prints the list to stdout: lines, JSON, or the rows of a Markdown table.
pub fn print(what: What, markdown: bool, json: bool) -> anyhow::Result<Verdict> {
    let list = List::of(what);
    let mut text = String::new();
    if json {
        text = serde_json::to_string_pretty(&list)? + "\n";
    } else if markdown {
        text.push_str("| | |\n| --- | --- |\n");
        for (title, entries) in list.parts() {
            let entries: Vec<String> = entries.iter().map(|entry| format!("`{entry}`")).collect();
            text.push_str(&format!("| {title} | {} |\n", entries.join(" ")));
        }
    } else {
        for (title, entries) in list.parts() {
            text.push_str(&format!("{title}:\n"));
            entries.iter().for_each(|entry| text.push_str(&format!("  {entry}\n")));
        }
    }
    crate::show::terminal::print(&text)?;
    Ok(Verdict::Passed)
}
