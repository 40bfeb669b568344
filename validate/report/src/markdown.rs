//! The text for a comment on a pull request: a verdict in words, one table, and what a reader has to know beside it.
//!
//! It is short whatever the report holds: lists end after some lines, texts after some characters. [`Report`] itself has the rest.

mod lists;
mod table;

use std::fmt::Write;

use crate::check::Outcome;
use crate::escape::markdown::{code, escaped};
use crate::figures::{capitalized, counted, shortened};
use crate::report::Report;

/// Bytes of the page, at most: GitHub takes a comment of 65,536 characters.
pub const MOST_BYTES: usize = 65_536;
/// Characters of a name.
const NAME: usize = 120;
/// What ends a page that was cut.
const CUT: &str = "\n\nCut here: report.json has the rest.\n";

/// The text of `report.md`.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut out, report);
    bounded(out)
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "# {}\n", escaped(&shortened(&report.model.name, NAME)))?;
    writeln!(out, "**{}**\n", escaped(&shortened(&capitalized(&report.verdict()), NAME)))?;
    table::write(out, report)?;
    write_data(out, report)?;
    lists::write_checks(out, report, "Failed", Outcome::Failed)?;
    lists::write_checks(out, report, "Undecided", Outcome::Undecided)?;
    lists::write_checks(out, report, "Not run", Outcome::NotRun)?;
    lists::write_checks(out, report, "Without a limit", Outcome::Info)?;
    lists::write_endless(out, report)?;
    lists::write_newly_wrong(out, report)?;
    lists::write_others(out, report)?;
    let recipe = code(&shortened(&report.recipe.about, NAME));
    let by = if recipe.is_empty() { String::new() } else { format!(" from {recipe}") };
    writeln!(
        out,
        "Made by trefoil {}{by}. All checks, tensors and outputs: [report.html](report.html), [report.json](report.json).",
        escaped(&report.trefoil)
    )
}

/// What the figures of the table are of.
fn write_data(out: &mut String, report: &Report) -> std::fmt::Result {
    let data = &report.data;
    if data.samples == 0 || report.artifacts.is_empty() {
        return Ok(());
    }
    let source = code(&shortened(&data.source, NAME));
    let (samples, positions) = (counted(data.samples, "sample"), counted(data.positions, "target position"));
    let against = escaped(&shortened(report.compared_with(), NAME));
    write!(out, "{samples} of {source}, {positions}; KL against {against}")?;
    let has_interval = |score: &metrics::Score| score.figures.iter().any(|figure| figure.interval.is_some());
    let runs = report.artifacts.iter().flat_map(|artifact| &artifact.runs);
    let mut scores = runs.filter_map(|run| run.score.as_ref()).chain(&report.model.score);
    if scores.any(has_interval) {
        write!(out, "; in parentheses 95 % intervals")?;
    }
    let speeds = report.artifacts.iter().flat_map(|artifact| &artifact.speed);
    if speeds.clone().next().is_some() {
        write!(
            out,
            "; speeds are medians, `~` where they scatter too much to be quoted, × is of tokens/s and {against}'s"
        )?;
    }
    writeln!(out, ".\n")
}

/// The page, cut between two lines where it is too long.
fn bounded(mut page: String) -> String {
    if page.len() > MOST_BYTES {
        let mut room = page.as_bytes()[..MOST_BYTES - CUT.len()].iter();
        page.truncate(room.rposition(|byte| *byte == b'\n').unwrap_or(0));
        page.push_str(CUT);
    }
    page
}
