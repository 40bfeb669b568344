//! `trefoil report`: pages of a report that exists, and what changed from one report to another.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use validate::report::diff::{self, Rules, diff};
use validate::report::{Check, Heading, Metric, Outcome, Report, ScoredLine};
use validate::report::{html, junit, markdown};

use crate::build::error::PipelineError;
use crate::build::manifest::hex;
use crate::build::paged;
use crate::build::places::REPORT_BYTES;
use crate::command::arguments::{Common, Verdict};
use crate::names::REPORT_JSON;
use crate::show::terminal::{print, printable};

/// Lines of scores that an error names.
const NAMED_LINES: usize = 10;

/// What `report` does.
#[derive(clap::Subcommand)]
pub enum ReportCommand {
    /// Renders a report again from its JSON
    Show(Show),
    /// Says what changed from one report to another of the same model on the same data
    ///
    /// Exit code 1: a check fails that did not fail before, a task metric is worse beyond both intervals, or KL or size grew by more
    /// than the options allow. Exit code 2: the reports are of another model, other data, other samples or other metrics.
    Diff(Diff),
    /// Prints every output of a report, a line of JSON each, for another judge to score
    Outputs {
        /// A report.json, or the folder with it
        report: PathBuf,
    },
    /// Adds a column of scores that another judge gave, as COMET, to a report and its pages
    ///
    /// Exit code 1: an artifact loses more than `--max-lost`. Undecided is not broken.
    Column(Column),
}

/// Arguments of `report show`.
#[derive(clap::Args)]
pub struct Show {
    /// A report.json, or the folder with it
    report: PathBuf,
    /// As report.md [default]
    #[arg(long, group = "page")]
    markdown: bool,
    /// As report.html
    #[arg(long, group = "page")]
    html: bool,
    /// As report.xml
    #[arg(long, group = "page")]
    junit: bool,
}

/// Arguments of `report diff`.
#[derive(clap::Args)]
pub struct Diff {
    /// The report before: a report.json, or the folder with it
    old: PathBuf,
    /// The report now
    new: PathBuf,
    /// As Markdown [default]
    #[arg(long, group = "page")]
    markdown: bool,
    /// As a page of HTML
    #[arg(long, group = "page")]
    html: bool,
    /// How much the KL divergence from the float model may grow in any engine, in percent; the noise of f32 sums is no growth
    #[arg(long, value_name = "PERCENT", default_value_t = Rules::default().max_kl_growth, value_parser = percent)]
    max_kl_growth: f64,
    /// How much an artifact may grow, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = Rules::default().max_size_growth, value_parser = percent)]
    max_size_growth: f64,
}

/// Arguments of `report column`.
#[derive(clap::Args)]
pub struct Column {
    /// The folder with the report
    report: PathBuf,
    /// What the column is called; one of that name is replaced
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// The lines of `report outputs`, with a `score` in each
    #[arg(long, value_name = "FILE")]
    scores: PathBuf,
    /// Less is better
    #[arg(long)]
    lower_is_better: bool,
    /// How much of the mean an artifact may lose, in the unit of the scores; judged on pairs
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = finite)]
    max_lost: Option<f64>,
}

fn finite(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|found| found.is_finite()).ok_or_else(|| format!("expected a number, found {text}"))
}

fn percent(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|percent| percent.is_finite() && *percent >= 0.0);
    found.ok_or_else(|| format!("expected percent of at least 0, found {text}"))
}

/// `report`.
pub fn report(command: &ReportCommand, common: &Common) -> Result<Verdict, PipelineError> {
    match command {
        ReportCommand::Show(arguments) => show(arguments, common),
        ReportCommand::Diff(arguments) => changed(arguments, common),
        ReportCommand::Outputs { report } => outputs(report),
        ReportCommand::Column(arguments) => column(arguments, common),
    }
}

fn show(arguments: &Show, common: &Common) -> Result<Verdict, PipelineError> {
    let report = read(&arguments.report)?;
    let text = match (common.json, arguments.html, arguments.junit) {
        (true, ..) => report.to_json(),
        (_, true, _) => html::page(&report),
        (.., true) => junit::page(&report),
        _ => printable(&markdown::page(&report)).into_owned(),
    };
    printed(&text)?;
    Ok(Verdict::Passed)
}

fn changed(arguments: &Diff, common: &Common) -> Result<Verdict, PipelineError> {
    let rules = Rules { max_kl_growth: arguments.max_kl_growth, max_size_growth: arguments.max_size_growth };
    let found = diff(&read(&arguments.old)?, &read(&arguments.new)?, &rules)?;
    let text = match (common.json, arguments.html) {
        (true, _) => found.to_json(),
        (_, true) => diff::html(&found),
        (_, false) => printable(&diff::markdown(&found)).into_owned(),
    };
    printed(&text)?;
    Ok(if found.regressions.is_empty() { Verdict::Passed } else { Verdict::Failed })
}

fn outputs(place: &Path) -> Result<Verdict, PipelineError> {
    let report = read(place)?;
    let line = |output| serde_json::to_string(&output).expect("an output has only JSON types") + "\n";
    printed(&report.outputs().map(line).collect::<String>())?;
    Ok(Verdict::Passed)
}

/// Exit code 1 is of this column's limit alone: what was failed before is told by who measured it.
fn column(arguments: &Column, common: &Common) -> Result<Verdict, PipelineError> {
    let Column { report: dir, name, scores: file, lower_is_better, max_lost } = arguments;
    if !dir.is_dir() {
        let message = "expected the folder with the report, whose pages are written again".to_owned();
        return Err(PipelineError::Artifact { dir: dir.clone(), message });
    }
    let bytes = converters::limits::read(file, REPORT_BYTES).map_err(PipelineError::io(file))?;
    let unfit = |message| PipelineError::Scores { file: file.clone(), message };
    let lines = score_lines(&bytes).map_err(unfit)?;
    let heading = Heading {
        name: name.clone(),
        rises: !lower_is_better,
        source: file.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
        sha256: hex(Sha256::new_with_prefix(&bytes)),
        max_lost: *max_lost,
    };
    let report = read(dir)?.with_column(&heading, &lines).map_err(|error| unfit(error.to_string()))?;
    paged::put(&report, dir)?;
    let page = if common.json { report.to_json() } else { printable(&markdown::page(&report)).into_owned() };
    printed(&page)?;
    let is_broken = |check: &Check| {
        check.metric == Metric::ScoreLost && check.outcome == Outcome::Failed && check.what.starts_with(name.as_str())
    };
    let any = report.all_checks().any(|(_, check)| is_broken(check));
    Ok(if any { Verdict::Failed } else { Verdict::Passed })
}

/// Errors: the first lines that are none of a score.
fn score_lines(bytes: &[u8]) -> Result<Vec<ScoredLine>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("expected UTF-8: {error}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (i, line) in lines {
        match serde_json::from_str(line) {
            Ok(line) => found.push(line),
            Err(error) if problems.len() < NAMED_LINES => problems.push(format!("line {}: {error}", i + 1)),
            Err(_) => {}
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems.join("\n  ")) }
}

fn printed(text: &str) -> Result<(), PipelineError> {
    print(text).map_err(PipelineError::io(Path::new("stdout")))
}

/// The report in a file, or in the `report.json` of a folder.
fn read(place: &Path) -> Result<Report, PipelineError> {
    let file = if place.is_dir() { place.join(REPORT_JSON) } else { place.to_owned() };
    let bytes = converters::limits::read(&file, REPORT_BYTES).map_err(PipelineError::io(&file))?;
    serde_json::from_slice(&bytes).map_err(|error| PipelineError::Report { file, message: error.to_string() })
}
