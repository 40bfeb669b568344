//! Every check with its limit, and what was exchanged or not run.

use super::markup::Html;
use super::outcome::State;
use crate::artifact::Note;
use crate::check::{Check, Limit, Metric, Outcome};
use crate::figures::{ABSENT, counted, fixed, percent, three};
use crate::report::Report;

/// The sections.
pub fn checks(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"checks\"><h2>Checks</h2>");
    if report.all_checks().next().is_none() {
        out.raw("<p class=\"nothing\">Nothing was checked.</p>");
    }
    group(&mut out, "The model itself", &report.checks);
    for artifact in &report.artifacts {
        group(&mut out, artifact.lies_in(), &artifact.checks);
    }
    out.raw("</section>").add(&not_run(report)).add(&substitutions(report));
    out
}

fn group(out: &mut Html, name: &str, checks: &[Check]) {
    if checks.is_empty() {
        return;
    }
    let state = State::of_all(checks);
    out.raw(if state == State::Passed { "<details>" } else { "<details open>" });
    out.within("<summary><span dir=\"auto\">", name, "</span>").add(&state.badge());
    out.within("<small>", &counted(checks.len() as u64, "check"), "</small></summary>");
    out.raw("<table class=\"checks\"><thead><tr><th>stage<th>compared<th class=\"n\">measured<th class=\"n\">limit<th>outcome</thead><tbody>");
    for check in checks {
        out.add(&row(check));
    }
    out.raw("</tbody></table></details>");
}

fn row(check: &Check) -> Html {
    let mut out = Html::default();
    out.within("<tr class=\"first\"><td data-name=\"stage\">", &check.link.to_string(), "</td>");
    out.within("<td class=\"what\" data-name=\"compared\"><span dir=\"auto\">", &check.what, "</span>");
    if !check.sentence.is_empty() {
        out.within("<small dir=\"auto\">", &check.sentence, "</small>");
    }
    out.raw("</td><td class=\"n\" data-name=\"measured\">");
    if check.metric == Metric::Works {
        out.raw(ABSENT);
    } else {
        out.within("<span>", &measured(check), "</span>");
        out.within("<small>", check.metric.label(), "</small>");
        if let Some([low, high]) = check.interval {
            let ends = [low, high].map(|end| figure(check.metric, end));
            out.within("<small>", &format!("{} to {}", ends[0], ends[1]), "</small>");
        }
        if let Some(samples) = check.samples {
            out.within("<small>", &counted(samples, "sample"), "</small>");
        }
    }
    let limit = match check.limit {
        Some(Limit::AtMost(limit)) => format!("≤ {}", figure(check.metric, limit)),
        Some(Limit::AtLeast(limit)) => format!("≥ {}", figure(check.metric, limit)),
        None => ABSENT.to_owned(),
    };
    out.within("</td><td class=\"n\" data-name=\"limit\">", &limit, "</td><td data-name=\"outcome\">");
    out.add(&State::of(check.outcome).badge()).raw("</td></tr>");
    out
}

/// What was measured and is absent was no number.
fn measured(check: &Check) -> String {
    match (check.value, check.outcome) {
        (Some(value), _) => figure(check.metric, value),
        (None, Outcome::NotRun) => ABSENT.to_owned(),
        (None, _) => figure(check.metric, f64::NAN),
    }
}

fn figure(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Top1 | Metric::TokenAgreement | Metric::SameAnswers | Metric::DifferingWords => percent(value),
        Metric::Sqnr => fixed(value, 1),
        Metric::MetricDrop | Metric::EndlessRise => fixed(value, 2),
        Metric::DifferingWeights => fixed(value, 0),
        Metric::Speedup => fixed(value, 2),
        Metric::RelL2 | Metric::Kl | Metric::ScoreLost | Metric::Works => three(value),
    }
}

fn not_run(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"not-run\"><h2>Not run</h2>");
    let all: Vec<_> = report.all_checks().filter(|(_, check)| check.outcome == Outcome::NotRun).collect();
    if all.is_empty() {
        out.raw("<p class=\"nothing\">Everything that was planned ran.</p></section>");
        return out;
    }
    out.raw("<ul class=\"sentences\">");
    for (artifact, check) in all {
        let of = artifact.map_or(String::new(), |artifact| format!("{}, ", artifact.lies_in()));
        out.within("<li dir=\"auto\"><b>", &format!("{of}{}", check.link), "</b>: ").text(&check.what);
        if !check.sentence.is_empty() {
            out.within("<small>", &check.sentence, "</small>");
        }
        out.raw("</li>");
    }
    out.raw("</ul></section>");
    out
}

fn substitutions(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"substitutions\"><h2>Substitutions</h2>");
    let all: Vec<(&str, &Note)> =
        report.artifacts.iter().flat_map(|a| a.substitutions.iter().map(move |note| (a.lies_in(), note))).collect();
    if all.is_empty() {
        out.raw("<p class=\"nothing\">Nothing was exchanged for something else.</p></section>");
        return out;
    }
    out.raw("<ul class=\"sentences\">");
    for (artifact, note) in all {
        out.within("<li dir=\"auto\"><b>", artifact, "</b>: ");
        if !note.about.is_empty() {
            out.within("<code>", &note.about, "</code> ");
        }
        out.text(&note.text).raw("</li>");
    }
    out.raw("</ul></section>");
    out
}
