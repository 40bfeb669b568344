//! What a reader has to know beside the figures, a line each and few of them.

use std::fmt::{self, Write};

use metrics::Score;

use crate::artifact::{ArtifactReport, Note, Run};
use crate::check::{Check, Limit, Metric, Outcome};
use crate::escape::markdown::{code, escaped, quoted};
use crate::figures::{counted, figure, grouped, shortened};
use crate::report::Report;
use crate::wrong::{NewlyWrong, newly_wrong};

/// Checks of one outcome, at most.
const CHECKS: usize = 12;
/// Sentences that are newly wrong, of each artifact.
const SENTENCES: usize = 3;
/// Lines of any other list.
const LINES: usize = 12;
/// Characters of a sentence about a check.
const SENTENCE: usize = 400;
/// Characters of what a model was asked or said.
const OUTPUT: usize = 80;

/// Checks of one outcome under a heading, each sentence once: `onnx, runtime: logits of 500 samples and 1 more: …`.
pub fn write_checks(out: &mut String, report: &Report, heading: &str, outcome: Outcome) -> fmt::Result {
    let checks = report.all_checks().filter(|(_, check)| check.outcome == outcome);
    // A figure that nobody judges is only worth a line where there is something to say about it.
    let checks = checks.filter(|(_, check)| outcome != Outcome::Info || !check.sentence.is_empty());
    let mut told: Vec<(Option<&ArtifactReport>, &Check, usize)> = Vec::new();
    for (artifact, check) in checks {
        let name = |artifact: Option<&ArtifactReport>| artifact.map(|one| one.name.clone());
        let is_known = |known: &&mut (Option<&ArtifactReport>, &Check, usize)| {
            !check.sentence.is_empty() && known.1.sentence == check.sentence && name(known.0) == name(artifact)
        };
        match told.iter_mut().find(is_known) {
            Some((_, _, more)) => *more += 1,
            None => told.push((artifact, check, 0)),
        }
    }
    let line = |(artifact, check, more): &(Option<&ArtifactReport>, &Check, usize)| {
        let of = artifact.map_or(String::new(), |a| format!("{}, ", escaped(&a.name)));
        let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
        let what = shortened(&check.what, SENTENCE);
        let sentence = shortened(&check.sentence, SENTENCE);
        let colon = if sentence.is_empty() { "" } else { ": " };
        format!("{of}{}: {}{more}{}{colon}{}", check.link, escaped(&what), judged(check), escaped(&sentence))
    };
    list(out, heading, told.iter().map(line), CHECKS)
}

/// ` (KL 0.013, limit 0.01)`.
fn judged(check: &Check) -> String {
    match (check.limit, check.metric, check.outcome) {
        (None, ..) | (_, Metric::Works, _) | (_, _, Outcome::NotRun) => String::new(),
        (Some(Limit::AtMost(limit)), metric, _) => {
            format!(" ({} {}, limit ≤ {})", metric.label(), figure(metric, check.value), figure(metric, Some(limit)))
        }
        (Some(Limit::AtLeast(limit)), metric, _) => {
            format!(" ({} {}, limit ≥ {})", metric.label(), figure(metric, check.value), figure(metric, Some(limit)))
        }
    }
}

/// How many outputs ran to the limit of their length: of the float model where some did, and of runs where others did.
pub fn write_endless(out: &mut String, report: &Report) -> fmt::Result {
    let told = |name: &str, score: &Score| {
        let (count, texts) = (grouped(score.endless), counted(score.texts, "output"));
        format!("{}: {count} of {texts}", escaped(name.trim_end()))
    };
    let float = report.model.score.as_ref();
    let count = float.map_or(0, |score| score.endless);
    let runs = report.artifacts.iter().flat_map(|a| a.runs.iter().map(move |run| (a, run)));
    let line = |(artifact, run): (&ArtifactReport, &Run)| {
        let score = run.score.as_ref().filter(|score| score.endless != count)?;
        Some(told(&format!("{} in {} {}", artifact.name, run.engine.name, run.engine.version), score))
    };
    let of_float = float.filter(|score| score.endless > 0).map(|score| told("float model", score));
    list(out, "Ran to the limit of their length", of_float.into_iter().chain(runs.filter_map(line)), LINES)
}

/// A few sentences of each artifact that the float model has right, each answer once with all engines that gave it.
pub fn write_newly_wrong(out: &mut String, report: &Report) -> fmt::Result {
    let mut lines = Vec::new();
    for artifact in &report.artifacts {
        let mut answers: Vec<(NewlyWrong, Vec<&str>)> = Vec::new();
        for one in newly_wrong(artifact) {
            let engine = artifact.runs.get(one.run).map_or("", |run| run.engine.name.as_str());
            let sample = one.generation.sample;
            // Those of a sample come one after the other.
            let known = answers.iter_mut().rev().take_while(|(known, _)| known.generation.sample == sample);
            match known.into_iter().find(|(known, _)| known.output == one.output) {
                Some((_, engines)) => engines.push(engine),
                None => answers.push((one, vec![engine])),
            }
        }
        let name = escaped(&shortened(&artifact.name, OUTPUT));
        for (one, engines) in answers.iter().take(SENTENCES) {
            let [input, right, found] =
                [&one.generation.input, &one.generation.float, one.output].map(|text| quoted(&shortened(text, OUTPUT)));
            let engines = escaped(&shortened(&engines.join(", "), OUTPUT));
            lines.push(format!("{name} ({engines}): {input}: {found}, right is {right}"));
        }
        if answers.len() > SENTENCES {
            lines.push(format!("{name}: {} more", grouped((answers.len() - SENTENCES) as u64)));
        }
    }
    list(
        out,
        &format!("Newly wrong, right in {}", escaped(&shortened(report.compared_with(), OUTPUT))),
        lines.into_iter(),
        LINES,
    )
}

/// What lies in the folder too.
pub fn write_others(out: &mut String, report: &Report) -> fmt::Result {
    let line = |other: &Note| {
        format!("{}: {}", code(&shortened(&other.about, OUTPUT)), escaped(&shortened(&other.text, SENTENCE)))
    };
    list(out, "Also in the folder", report.others.iter().map(line), LINES)
}

/// Lines under a heading, the first of them; nothing where there are none.
fn list(out: &mut String, heading: &str, lines: impl Iterator<Item = String>, most: usize) -> fmt::Result {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "## {heading}\n")?;
    lines.iter().take(most).try_for_each(|line| writeln!(out, "- {line}"))?;
    if lines.len() > most {
        writeln!(out, "- and {} more", lines.len() - most)?;
    }
    writeln!(out)
}
