//! The report as JUnit XML, which the test views of CI services read: a suite for the model and one for each artifact, a case a check.
//!
//! Elements and attributes are those of Jenkins' `junit-10.xsd`. A figure without a limit is a case that passed; what was not run and
//! what is undecided is skipped, so that neither counts as passed.

use std::fmt::{self, Write};

use crate::check::{Check, Limit, Metric, Outcome};
use crate::escape::xml::{attribute, content};
use crate::figures::figure;
use crate::report::Report;

/// The text of `report.xml`.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    let all: Vec<&Check> = report.all_checks().map(|(_, check)| check).collect();
    let failed = all.iter().filter(|check| check.outcome == Outcome::Failed).count();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    let name = attribute(&report.model.name);
    writeln!(out, "<testsuites name=\"{name}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\">", all.len())?;
    write_suite(out, &report.model.name, &report.checks)?;
    for artifact in &report.artifacts {
        write_suite(out, &format!("{}.{}", report.model.name, artifact.name), &artifact.checks)?;
    }
    writeln!(out, "</testsuites>")
}

fn write_suite(out: &mut String, name: &str, checks: &[Check]) -> fmt::Result {
    let count = |is: fn(Outcome) -> bool| checks.iter().filter(|check| is(check.outcome)).count();
    let failed = count(|outcome| outcome == Outcome::Failed);
    let skipped = count(|outcome| matches!(outcome, Outcome::NotRun | Outcome::Undecided));
    let name = attribute(name);
    writeln!(
        out,
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\">",
        checks.len()
    )?;
    checks.iter().try_for_each(|check| write_case(out, &name, check))?;
    writeln!(out, "  </testsuite>")
}

/// `suite`: escaped.
fn write_case(out: &mut String, suite: &str, check: &Check) -> fmt::Result {
    let name = attribute(&match check.metric {
        Metric::Works => check.what.clone(),
        metric => format!("{}: {}", check.what, metric.label()),
    });
    write!(out, "    <testcase classname=\"{suite}.{}\" name=\"{name}\"", check.link)?;
    let (measured, sentence) = (attribute(&measured(check)), &check.sentence);
    match check.outcome {
        Outcome::Passed | Outcome::Info => writeln!(out, "/>"),
        Outcome::Failed => {
            let message = attribute(first_line(sentence));
            let text = content(&[measured.as_str(), sentence].join("\n"));
            let link = check.link;
            writeln!(out, ">\n      <failure type=\"{link}\" message=\"{message}\">{text}</failure>\n    </testcase>")
        }
        Outcome::NotRun => write_skipped(out, "not run", sentence),
        Outcome::Undecided => write_skipped(out, "undecided", sentence),
    }
}

fn write_skipped(out: &mut String, message: &str, sentence: &str) -> fmt::Result {
    let text = content(sentence);
    writeln!(out, ">\n      <skipped type=\"{message}\" message=\"{message}\">{text}</skipped>\n    </testcase>")
}

/// `KL 0.013, at most 0.01`; empty where nothing was measured.
fn measured(check: &Check) -> String {
    let limit = |limit| figure(check.metric, Some(limit));
    match (check.metric, check.limit) {
        (Metric::Works, _) => String::new(),
        (metric, None) => format!("{} {}", metric.label(), figure(metric, check.value)),
        (metric, Some(Limit::AtMost(most))) => {
            format!("{} {}, at most {}", metric.label(), figure(metric, check.value), limit(most))
        }
        (metric, Some(Limit::AtLeast(least))) => {
            format!("{} {}, at least {}", metric.label(), figure(metric, check.value), limit(least))
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
