//! Which stage made an answer another one: conversion, quantization or an engine.

use super::markup::Html;
use super::outcome::State;
use crate::artifact::{ArtifactReport, Generation};
use crate::check::{Check, Link};
use crate::figures::{ABSENT, grouped, percent};
use crate::parting::Parting;
use crate::report::Report;

/// What a stage did to one answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    /// Its answer is that of the stage before.
    Same,
    /// Another answer.
    Parts,
    /// Another answer, of two that were equally good.
    Tie,
    /// Nobody looked.
    Unknown,
}

impl Did {
    /// A class, a sign and a word.
    pub fn told(self) -> [&'static str; 3] {
        match self {
            Did::Same => ["good", "✓", "same"],
            Did::Parts => ["bad", "≠", "parts"],
            Did::Tie => ["odd", "≈", "parts at a tie"],
            Did::Unknown => ["none", "–", "not run"],
        }
    }
}

/// The stages of an answer, by name: conversion, quantization, and each engine.
pub fn steps(report: &Report, artifact: &ArtifactReport, generation: &Generation) -> Vec<(String, Did)> {
    let conversion = match conversion(report, artifact) {
        _ if parting(generation, None).is_some() => Did::Parts,
        State::Passed => Did::Same,
        State::Failed => Did::Parts,
        _ => Did::Unknown,
    };
    let mut all = vec![("conversion".to_owned(), conversion)];
    for i in 0..artifact.runs.len() {
        let name = if i == 0 { "quantization".to_owned() } else { artifact.runs[i].engine.name.clone() };
        all.push((name, did(generation, i)));
    }
    all
}

/// What a run did to the answer of what it is judged against: the float model for the first, the first for the others.
pub fn did(generation: &Generation, run: usize) -> Did {
    let of = |run: usize| generation.outputs.get(run).and_then(Option::as_deref);
    let expected = if run == 0 { Some(generation.float.as_str()) } else { of(0) };
    match (expected, of(run)) {
        (Some(expected), Some(found)) if expected == found => Did::Same,
        (Some(_), Some(_)) if parting(generation, Some(run)).is_some_and(|parting| parting.is_tie) => Did::Tie,
        (Some(_), Some(_)) => Did::Parts,
        _ => Did::Unknown,
    }
}

/// The parting of a run; of the conversion without one.
fn parting(generation: &Generation, run: Option<usize>) -> Option<&Parting> {
    let is_of = |parting: &&Parting| match (run, parting.stage) {
        (None, Link::Import | Link::Passes) => true,
        (Some(run), Link::Quantization | Link::Export | Link::Runtime) => parting.run == run as u64,
        _ => false,
    };
    generation.partings.iter().find(is_of)
}

/// Whether what was converted is what the checkpoint says.
fn conversion(report: &Report, artifact: &ArtifactReport) -> State {
    let is_its = |check: &&Check| matches!(check.link, Link::Import | Link::Passes | Link::Export);
    State::of_all(report.checks.iter().chain(&artifact.checks).filter(is_its))
}

/// One row a run: how many answers it changed.
pub fn summary(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw(
        "<table class=\"split\"><thead><tr><th>artifact<th>stage<th class=\"n\">answers<th class=\"n\">the same\
             <th class=\"n\">parted<th class=\"n\">of them at a tie<th class=\"n\">without an end</thead>",
    );
    for artifact in &report.artifacts {
        out.raw("<tbody>");
        conversion_row(&mut out, artifact, conversion(report, artifact));
        for i in 0..artifact.runs.len() {
            run_row(&mut out, artifact, i);
        }
        out.raw("</tbody>");
    }
    out.raw("</table>");
    out
}

fn conversion_row(out: &mut Html, artifact: &ArtifactReport, state: State) {
    out.raw("<tr class=\"first\"><th scope=\"row\">").within("<span dir=\"auto\">", artifact.lies_in(), "</span></th>");
    out.raw("<td data-name=\"stage\">conversion</td><td class=\"said\" colspan=\"5\">").add(&state.badge());
    out.raw("<small>by the checks of import, passes and export</small></td></tr>");
}

fn run_row(out: &mut Html, artifact: &ArtifactReport, run: usize) {
    let all: Vec<Did> = artifact.generations.iter().map(|g| did(g, run)).filter(|did| *did != Did::Unknown).collect();
    let count = |wanted: &[Did]| all.iter().filter(|did| wanted.contains(did)).count();
    // The float model is the first.
    let is_endless = |g: &&Generation| g.endless.get(run + 1) == Some(&true);
    let endless = artifact.generations.iter().filter(is_endless).count();
    let (same, parted, ties) = (count(&[Did::Same]), count(&[Did::Parts, Did::Tie]), count(&[Did::Tie]));
    let share = if all.is_empty() { ABSENT.to_owned() } else { percent(parted as f64 / all.len() as f64) };
    let name = if run == 0 { "quantization" } else { &artifact.runs[run].engine.name };
    out.raw("<tr><th scope=\"row\" class=\"again\">").within("<span dir=\"auto\">", artifact.lies_in(), "</span></th>");
    out.within("<td data-name=\"stage\">", name, "</td>");
    out.within("<td class=\"n\" data-name=\"answers\">", &grouped(all.len() as u64), "</td>");
    out.within("<td class=\"n\" data-name=\"the same\">", &grouped(same as u64), "</td>");
    out.within("<td class=\"n\" data-name=\"parted\">", &grouped(parted as u64), " ").within(
        "<small>",
        &share,
        "</small></td>",
    );
    out.within("<td class=\"n\" data-name=\"of them at a tie\">", &grouped(ties as u64), "</td>");
    out.within("<td class=\"n\" data-name=\"without an end\">", &grouped(endless as u64), "</td></tr>");
}
