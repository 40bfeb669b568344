//! `trefoil report`: pages of a report that exists, and what changed from one report to another.

use std::path::{Path, PathBuf};

use validate::report::Report;
use validate::report::diff::{self, Rules, diff};
use validate::report::{html, junit, markdown};

use crate::build::error::PipelineError;
use crate::build::places::REPORT_BYTES;
use crate::command::arguments::{Common, Verdict};
use crate::names::REPORT_JSON;
use crate::show::terminal::{print, printable};

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

fn percent(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|percent| percent.is_finite() && *percent >= 0.0);
    found.ok_or_else(|| format!("expected percent of at least 0, found {text}"))
}

/// `report`.
pub fn report(command: &ReportCommand, common: &Common) -> Result<Verdict, PipelineError> {
    match command {
        ReportCommand::Show(arguments) => show(arguments, common),
        ReportCommand::Diff(arguments) => changed(arguments, common),
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

fn printed(text: &str) -> Result<(), PipelineError> {
    print(text).map_err(PipelineError::io(Path::new("stdout")))
}

/// The report in a file, or in the `report.json` of a folder.
fn read(place: &Path) -> Result<Report, PipelineError> {
    let file = if place.is_dir() { place.join(REPORT_JSON) } else { place.to_owned() };
    let bytes = converters::limits::read(&file, REPORT_BYTES).map_err(PipelineError::io(&file))?;
    serde_json::from_slice(&bytes).map_err(|error| PipelineError::Report { file, message: error.to_string() })
}
