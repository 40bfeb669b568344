//! The verdict in words, the model and the data.

use super::markup::Html;
use super::outcome::State;
use crate::check::{Check, Outcome};
use crate::figures::{counted, grouped};
use crate::report::Report;

/// Failed checks that are named on top.
const NAMED: usize = 6;

/// Everything above the table.
pub fn head(report: &Report) -> Html {
    let state = State::of_all(report.all_checks().map(|(_, check)| check));
    let mut out = Html::default();
    out.raw("<header class=\"top\"><p class=\"over\">Accuracy report</p>");
    out.within("<h1 dir=\"auto\">", name(report), "</h1>");
    out.raw(match state {
        State::Passed => "<div class=\"verdict good\"><span class=\"sign\" aria-hidden=\"true\">✓</span><div>",
        State::Failed => "<div class=\"verdict bad\"><span class=\"sign\" aria-hidden=\"true\">✕</span><div>",
        State::Undecided => "<div class=\"verdict odd\"><span class=\"sign\" aria-hidden=\"true\">?</span><div>",
        State::NotRun | State::NoLimit => {
            "<div class=\"verdict none\"><span class=\"sign\" aria-hidden=\"true\">–</span><div>"
        }
    });
    out.within("<p class=\"word\">", &headline(report, state), "</p>");
    out.within("<p>", &tally(report), "</p>");
    out.add(&reasons(report, state)).raw("</div></div>");
    out.add(&facts(report)).raw("</header>");
    out
}

/// What the page is called.
pub fn name(report: &Report) -> &str {
    if report.model.name.is_empty() { "A model without a name" } else { &report.model.name }
}

/// `Failed at quantization of onnx`: the first broken link, since what comes after it stands on it.
pub fn headline(report: &Report, state: State) -> String {
    let first = report.all_checks().filter(|(_, c)| c.outcome == Outcome::Failed).min_by_key(|(_, c)| c.link);
    match (state, first) {
        (_, Some((None, check))) => format!("Failed at {}", check.link),
        (_, Some((Some(artifact), check))) => format!("Failed at {} of {}", check.link, artifact.name),
        (State::Passed, None) => "Passed".to_owned(),
        (State::Undecided, None) => "Nothing failed, and not all is decided".to_owned(),
        (State::NoLimit, None) => "Nothing was held to a limit".to_owned(),
        (_, None) => "Not run".to_owned(),
    }
}

fn tally(report: &Report) -> String {
    let count = |outcome| report.all_checks().filter(|(_, c)| c.outcome == outcome).count() as u64;
    let kinds = [
        (Outcome::Failed, "failed"),
        (Outcome::Undecided, "undecided"),
        (Outcome::Passed, "passed"),
        (Outcome::NotRun, "not run"),
        (Outcome::Info, "without a limit"),
    ];
    let told = kinds.iter().filter(|(outcome, _)| count(*outcome) > 0);
    let told: Vec<String> = told.map(|(outcome, word)| format!("{} {word}", grouped(count(*outcome)))).collect();
    let all = report.all_checks().count() as u64;
    if told.is_empty() {
        "Nothing was checked.".to_owned()
    } else {
        format!("{}: {}.", counted(all, "check"), told.join(", "))
    }
}

/// What failed, or what could not be decided.
fn reasons(report: &Report, state: State) -> Html {
    let mut out = Html::default();
    let wanted = if state == State::Failed { Outcome::Failed } else { Outcome::Undecided };
    let told: Vec<_> = report.all_checks().filter(|(_, check)| check.outcome == wanted).collect();
    if told.is_empty() {
        return out;
    }
    out.raw("<ul dir=\"auto\">");
    for (artifact, check) in told.iter().take(NAMED) {
        let of = artifact.map_or(String::new(), |artifact| format!("{}, ", artifact.name));
        out.raw("<li>").within("<b>", &format!("{of}{}", check.link), "</b>: ").text(&sentence(check)).raw("</li>");
    }
    if told.len() > NAMED {
        out.within("<li>", &format!("and {} more, below", told.len() - NAMED), "</li>");
    }
    out.raw("</ul>");
    out
}

fn sentence(check: &Check) -> String {
    if check.sentence.is_empty() { check.what.clone() } else { format!("{} — {}", check.what, check.sentence) }
}

fn facts(report: &Report) -> Html {
    let (model, data) = (&report.model, &report.data);
    let mut out = Html::default();
    out.raw("<dl class=\"facts\">");
    let mut fact = |name: &'static str, value: &str, more: &str| {
        if !value.is_empty() {
            out.raw("<div><dt>").raw(name).raw("</dt><dd dir=\"auto\">").text(value);
            if !more.is_empty() {
                out.within("<small>", more, "</small>");
            }
            out.raw("</dd></div>");
        }
    };
    fact("Model", &model.model_type, &format!("{} parameters", grouped(model.parameters)));
    let samples = match data.samples {
        0 => "no sample was measured".to_owned(),
        n => format!("{}, {}", counted(n, "sample"), counted(data.positions, "target position")),
    };
    fact("Data", if data.source.is_empty() { "none" } else { &data.source }, &samples);
    let metrics: Vec<&str> = data.metrics.iter().map(|metric| metric.label()).collect();
    fact("Judged by", &metrics.join(", "), &data.targets);
    fact("Reference", &model.reference, &model.decoding);
    fact("Made by", &format!("trefoil {}", report.trefoil), &report.made.processor);
    out.raw("</dl>");
    out
}
