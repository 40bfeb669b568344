//! One line an artifact and engine: how large, how fast, how good, and did it pass.

use std::fmt::Write;

use metrics::{Distances, Mean, Score, TaskMetric};

use crate::artifact::{ArtifactReport, Engine, Run, Speed};
use crate::check::{Check, Metric, Outcome};
use crate::column::Column;
use crate::escape::markdown::escaped;
use crate::figures::{ABSENT, figure, mean, median, of_metric, points, shortened, size};
use crate::report::Report;

/// Lines of the table, at most; what is longer is for the page and the JSON.
const LINES: usize = 100;
/// Characters of a name in the head.
const NAME: usize = 40;

/// Writes the table; nothing without artifacts.
pub fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.artifacts.is_empty() {
        return Ok(());
    }
    let metrics = &report.data.metrics;
    let own = report.columns.iter().map(|column| escaped(&shortened(&column.name, NAME)));
    let names = metrics.iter().map(|metric| metric.label().to_owned()).chain(own);
    let names: String = names.map(|name| format!("{name} | ")).collect();
    let against = if report.model.reference == Report::NO_FLOAT { report.compared_with() } else { "float" };
    let against = escaped(&shortened(against, NAME));
    writeln!(
        out,
        "| artifact | engine | size | bits | first token, ms | tokens/s | × {against} | {names}KL | verdict |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |{} ---: | --- |",
        " ---: |".repeat(metrics.len() + report.columns.len())
    )?;
    if report.model.reference != Report::NO_FLOAT {
        let float = scores(metrics, report.model.score.as_ref()) + &given(report, |column| column.float.as_ref());
        writeln!(out, "| float model | interpreter | | | | | | {float} | |")?;
    }
    let lines: Vec<String> = report.artifacts.iter().flat_map(|artifact| of_artifact(report, artifact)).collect();
    lines.iter().take(LINES).try_for_each(|line| writeln!(out, "{line}"))?;
    if lines.len() > LINES {
        writeln!(out, "\n{} more lines are in report.json.", lines.len() - LINES)?;
    }
    writeln!(out)
}

/// A line for each run, and one for each engine that was timed and did not run the data.
fn of_artifact(report: &Report, artifact: &ArtifactReport) -> Vec<String> {
    let mut engines: Vec<(&Engine, Option<&Run>)> = artifact.runs.iter().map(|run| (&run.engine, Some(run))).collect();
    for speed in &artifact.speed {
        if engines.iter().all(|(engine, _)| engine.name != speed.engine.name) {
            engines.push((&speed.engine, None));
        }
    }
    let told = |i: usize, engine: &str, speed: Option<&Speed>, run: Option<&Run>| {
        let head = match i {
            0 => [escaped(artifact.lies_in()), size(artifact.bytes), bits(artifact.bits_per_weight)],
            _ => Default::default(),
        };
        let verdict = if i == 0 { verdict_of(&artifact.checks) } else { String::new() };
        let [name, size, bits] = head;
        let against = speed.and_then(|speed| speed.against_float.as_ref()?.speedup.as_ref().map(median));
        let first = speed.map_or(String::new(), |speed| median(&speed.first_token_ms));
        let rate = speed.and_then(|speed| speed.tokens_per_s.as_ref().map(median)).unwrap_or_default();
        let place = run.and_then(|run| artifact.runs.iter().position(|one| std::ptr::eq(one, run)));
        let points = scores(&report.data.metrics, run.and_then(|run| run.score.as_ref()))
            + &given(report, |column| column.of(artifact, place?));
        let of = |to_float: Option<Distances>| to_float.map_or(ABSENT.to_owned(), |d| figure(Metric::Kl, d.kl));
        let kl = run.map_or(String::new(), |run| of(run.to_float));
        let against = against.unwrap_or_default();
        format!("| {name} | {engine} | {size} | {bits} | {first} | {rate} | {against} | {points}{kl} | {verdict} |")
    };
    if engines.is_empty() {
        return vec![told(0, "nothing", None, None)];
    }
    let line = |(i, (engine, run)): (usize, &(&Engine, Option<&Run>))| {
        let speed = artifact.speed.iter().find(|speed| speed.engine.name == engine.name);
        let part = run.and_then(|run| run.part_of(report.data.samples));
        let part = part.map_or(String::new(), |few| format!(", {few} samples"));
        told(i, &(escaped(&format!("{} {}", engine.name, engine.version)).trim_end().to_owned() + &part), speed, *run)
    };
    engines.iter().enumerate().map(line).collect()
}

/// Empty where the number of weights is not known.
fn bits(per_weight: f64) -> String {
    if per_weight > 0.0 { format!("{per_weight:.2}") } else { String::new() }
}

/// A cell for each metric, each with the bar behind it.
fn scores(metrics: &[TaskMetric], score: Option<&Score>) -> String {
    let cell = |metric: &TaskMetric| of_metric(score, *metric).map_or(String::new(), points) + " | ";
    metrics.iter().map(cell).collect()
}

/// A cell for each column of other judges, each with the bar behind it.
fn given<'r>(report: &'r Report, of: impl Fn(&'r Column) -> Option<&'r Mean>) -> String {
    report.columns.iter().map(|column| of(column).map_or(String::new(), mean) + " | ").collect()
}

/// What the checks of an artifact say, in a cell.
pub fn verdict_of(checks: &[Check]) -> String {
    let count = |outcome| checks.iter().filter(|c| c.outcome == outcome).count();
    let first = checks.iter().filter(|c| c.outcome == Outcome::Failed).min_by_key(|c| c.link);
    let told = |outcome, word: &str| match count(outcome) {
        0 => String::new(),
        n => format!(", {n} {word}"),
    };
    let skipped = told(Outcome::NotRun, "not run") + &told(Outcome::Undecided, "undecided");
    match first {
        Some(check) => format!("**failed** at {}{skipped}", check.link),
        None if count(Outcome::Passed) == 0 => format!("nothing checked{skipped}"),
        None => format!("passed{skipped}"),
    }
}
