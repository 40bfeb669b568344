//! What a person reads of a difference, before it is Markdown or HTML.

use super::found::*;
use crate::check::Outcome;
use crate::figures::{counted, grouped, percent, shortened, size, three};

/// Sentences shown of each engine, in each direction.
const SENTENCES: usize = 10;
/// Characters of what a model was asked or said.
const OUTPUT: usize = 120;
/// Characters of a sentence about a check.
const SENTENCE: usize = 400;

/// A part of a text in one of its blocks.
pub enum Part {
    /// Our words, with names from outside.
    Words(String),
    /// What was asked or said, shown as it is.
    Said(String),
}

/// A block of a page.
pub enum Block {
    /// A heading of the second level.
    Heading(String),
    /// One paragraph.
    Text(String),
    /// Points, a line each.
    List(Vec<Vec<Part>>),
    /// The heads of columns, and rows of as many cells.
    Table(Vec<&'static str>, Vec<Vec<String>>),
}

/// The verdict first, then artifacts with their figures and sentences.
pub fn outline(diff: &Diff) -> Vec<Block> {
    let mut blocks = vec![Block::Text(verdict(diff))];
    let of = |one: &Regression| {
        let artifact = one.artifact.as_deref().unwrap_or("model");
        words(format!("{artifact}: {}", shortened(&one.sentence, SENTENCE)))
    };
    blocks.push(Block::List(diff.regressions.iter().map(of).collect()));
    let [old, new] = &diff.verdicts;
    let data = format!("Before: {old}. Now: {new}. The same {}.", counted(diff.samples, "sample"));
    blocks.push(Block::Text(data));
    let known = [("New artifacts", &diff.added), ("Artifacts that are gone", &diff.removed)];
    blocks.extend(known.into_iter().filter(|(_, names)| !names.is_empty()).map(named));
    let rows: Vec<Vec<String>> = diff.artifacts.iter().flat_map(rows).collect();
    if !rows.is_empty() {
        blocks.push(Block::Table(vec!["artifact", "engine", "figure", "before", "now", ""], rows));
    }
    let checks = |checks: &[CheckChange]| checks.iter().map(check).collect::<Vec<_>>();
    if !diff.checks.is_empty() {
        blocks.extend([Block::Heading("Checks of the model".to_owned()), Block::List(checks(&diff.checks))]);
    }
    for artifact in &diff.artifacts {
        if !artifact.checks.is_empty() {
            let heading = format!("Checks of {} that ended otherwise", artifact.name);
            blocks.extend([Block::Heading(heading), Block::List(checks(&artifact.checks))]);
        }
        for run in &artifact.runs {
            let of = |what: &str| format!("{what} in {}, {}", artifact.name, run.engine);
            blocks.extend(sentences(of("Newly wrong"), &run.newly_wrong));
            blocks.extend(sentences(of("Newly right"), &run.newly_right));
        }
    }
    blocks
}

fn words(text: String) -> Vec<Part> {
    vec![Part::Words(text)]
}

fn named((what, names): (&str, &Vec<String>)) -> Block {
    Block::Text(format!("{what}: {}.", names.join(", ")))
}

fn verdict(diff: &Diff) -> String {
    let figures = diff.artifacts.iter().flat_map(|a| &a.runs).flat_map(|run| &run.figures);
    let count = |change| figures.clone().filter(|figure| figure.change == change).count() as u64;
    let moved = format!("{} better, {} worse", counted(count(Change::Better), "figure"), count(Change::Worse));
    match diff.regressions.len() as u64 {
        0 => format!("Nothing that was good is broken: {moved}."),
        n => format!("{} against the rules: {moved}.", counted(n, "change")),
    }
}

/// Size and figures of an artifact, those that are equal left out.
fn rows(artifact: &ArtifactDiff) -> Vec<Vec<String>> {
    let [old, new] = artifact.bytes;
    let mut rows = Vec::new();
    let row = |engine: &str, figure: &str, old: String, new: String, change: &str| {
        vec![artifact.name.clone(), engine.to_owned(), figure.to_owned(), old, new, change.to_owned()]
    };
    let change = match new.cmp(&old) {
        std::cmp::Ordering::Less => "smaller",
        std::cmp::Ordering::Equal => "same",
        std::cmp::Ordering::Greater => "bigger",
    };
    rows.push(row("", "size", size(old), size(new), change));
    for run in &artifact.runs {
        let [was, is] = &run.versions;
        if was != is {
            rows.push(row(&run.engine, "version", was.clone(), is.clone(), ""));
        }
        for figure in run.figures.iter().filter(|figure| figure.change != Change::Same) {
            let shown = |measured| shown(figure.quantity, measured);
            let word = match (figure.quantity, figure.change) {
                (Quantity::FirstTokenMs | Quantity::TokensPerS, Change::Worse) => "slower",
                (Quantity::FirstTokenMs | Quantity::TokensPerS, Change::Better) => "faster",
                (_, change) => change.label(),
            };
            rows.push(row(&run.engine, figure.quantity.label(), shown(figure.old), shown(figure.new), word));
        }
    }
    let only = |names: &[String], old: &str, new: &str| -> Vec<Vec<String>> {
        names.iter().map(|name| row(name, "ran", old.to_owned(), new.to_owned(), "")).collect()
    };
    rows.extend(only(&artifact.added, "no", "yes"));
    rows.extend(only(&artifact.removed, "yes", "no"));
    rows
}

/// A figure with its interval.
fn shown(quantity: Quantity, measured: Option<Measured>) -> String {
    let number = |value: f64| match quantity {
        Quantity::Task(_) => format!("{value:.1}"),
        Quantity::Top1 => percent(value),
        Quantity::Endless => grouped(value as u64),
        Quantity::Kl | Quantity::FirstTokenMs | Quantity::TokensPerS | Quantity::PeakMb => three(value),
    };
    measured.map_or(String::new(), |one| match one.interval {
        Some([low, high]) => format!("{} ({} to {})", number(one.value), number(low), number(high)),
        None => number(one.value),
    })
}

fn check(change: &CheckChange) -> Vec<Part> {
    let word = |outcome: Option<Outcome>| match outcome {
        None => "not there",
        Some(Outcome::Passed) => "passed",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::NotRun) => "not run",
        Some(Outcome::Info) => "no limit",
        Some(Outcome::Undecided) => "undecided",
    };
    let (old, new) = (word(change.old), word(change.new));
    let what = shortened(&change.what, SENTENCE);
    let colon = if change.sentence.is_empty() { "" } else { ": " };
    words(format!("{}: {what}: {old}, now {new}{colon}{}", change.link, shortened(&change.sentence, SENTENCE)))
}

fn sentences(heading: String, all: &[Sentence]) -> Vec<Block> {
    if all.is_empty() {
        return Vec::new();
    }
    let said = |text: &str| Part::Said(shortened(text, OUTPUT));
    let plain = |text: &str| Part::Words(text.to_owned());
    let line = |one: &Sentence| {
        let [input, new, old, right] = [&one.input, &one.new, &one.old, &one.right].map(|text| said(text));
        let head = Part::Words(format!("{}: ", one.sample));
        vec![head, input, plain(": now "), new, plain(", before "), old, plain(", right is "), right]
    };
    let mut lines: Vec<Vec<Part>> = all.iter().take(SENTENCES).map(line).collect();
    if all.len() > SENTENCES {
        lines.push(words(format!("and {} more", grouped((all.len() - SENTENCES) as u64))));
    }
    vec![Block::Heading(format!("{heading}: {}", counted(all.len() as u64, "sentence"))), Block::List(lines)]
}
