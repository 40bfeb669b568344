//! Artifacts and engines in a table, and size against quality as a picture.

use metrics::{Figure, Mean, Score, TaskMetric};

use super::figure::both;
use super::markup::Html;
use super::outcome::State;
use crate::artifact::{ArtifactReport, Run, Speed};
use crate::chart::{Dot, Kind, Scatter};
use crate::check::{Check, Limit, Link, Metric};
use crate::column::Column;
use crate::figures::{between, bytes, counted, fixed, maybe, median, three};
use crate::report::Report;

/// An artifact in an engine.
struct Line<'a> {
    name: String,
    version: &'a str,
    run: Option<&'a Run>,
    speed: Option<&'a Speed>,
    checks: Vec<&'a Check>,
}

/// The section.
pub fn table(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"artifacts\"><h2>Artifacts</h2>");
    if report.artifacts.is_empty() {
        out.raw("<p class=\"nothing\">This report holds no artifact.</p></section>");
        return out;
    }
    out.raw("<p class=\"lead\">Each artifact in each engine that ran it. Intervals: 95 %. × float: against the float model in the same \
             format and engine. ~: rounds too far apart to be quoted.</p>");
    // Three figures with their intervals leave no room for more beside them.
    let is_wide = report.data.metrics.len() + report.columns.len() > 2;
    out.raw(if is_wide { "<table class=\"overview wide\">" } else { "<table class=\"overview\">" });
    out.raw(
        "<thead><tr><th>artifact<th class=\"n\">size<th class=\"n\">bits a weight<th>engine\
             <th class=\"n\">first token<th class=\"n\">tokens/s<th class=\"n\">memory<th class=\"n\">× float",
    );
    for metric in &report.data.metrics {
        out.within("<th class=\"n\">", metric.label(), "");
    }
    for column in &report.columns {
        out.within("<th class=\"n\" dir=\"auto\">", &column.name, "");
    }
    out.raw("<th class=\"n\">KL<th>limit<th>verdict</thead>");
    out.add(&float_row(report));
    for artifact in &report.artifacts {
        let lines = lines(artifact);
        out.raw("<tbody>");
        for (i, line) in lines.iter().enumerate() {
            out.add(&row(report, artifact, line, i == 0));
        }
        out.raw("</tbody>");
    }
    out.raw("</table>").add(&endless(report)).add(&pictures(report)).raw("</section>");
    out
}

fn lines(artifact: &ArtifactReport) -> Vec<Line<'_>> {
    let engines = artifact.runs.len().saturating_sub(1);
    let of_engine = |name: &str, only: bool| {
        let is_its = |c: &&Check| c.link == Link::Runtime && (only || c.what.contains(name));
        artifact.checks.iter().filter(is_its).collect::<Vec<&Check>>()
    };
    let mut lines = Vec::new();
    for (i, run) in artifact.runs.iter().enumerate() {
        let speed = artifact.speed.iter().find(|speed| i > 0 && speed.engine.name == run.engine.name);
        let checks = match i {
            0 => artifact.checks.iter().filter(|c| matches!(c.link, Link::Quantization | Link::Export)).collect(),
            _ => of_engine(&run.engine.name, engines == 1),
        };
        let name = if i == 0 { "quantized graph".to_owned() } else { run.engine.name.clone() };
        lines.push(Line { name, version: &run.engine.version, run: Some(run), speed, checks });
    }
    for speed in &artifact.speed {
        if !artifact.runs.iter().skip(1).any(|run| run.engine.name == speed.engine.name) {
            let (name, checks) = (speed.engine.name.clone(), of_engine(&speed.engine.name, false));
            lines.push(Line { name, version: &speed.engine.version, run: None, speed: Some(speed), checks });
        }
    }
    if lines.is_empty() {
        let checks = artifact.checks.iter().collect();
        lines.push(Line { name: "nothing ran".to_owned(), version: "", run: None, speed: None, checks });
    }
    lines
}

fn cell(out: &mut Html, open: &'static str, value: &str, more: &str) {
    // The style writes the mark of what is absent, and leaves such cells out on a phone.
    out.raw(open).within("<span>", value, "</span>");
    if !more.is_empty() {
        out.within("<small>", more, "</small>");
    }
    out.raw("</td>");
}

fn float_row(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<tbody><tr class=\"first\"><th scope=\"row\"><span dir=\"auto\">float model</span></th>");
    cell(&mut out, "<td class=\"n void\" data-name=\"size\">", "", "");
    cell(&mut out, "<td class=\"n void\" data-name=\"bits a weight\">", "", "");
    cell(&mut out, "<td data-name=\"engine\">", "interpreter", "");
    for _ in 0..4 {
        cell(&mut out, "<td class=\"n void\">", "", "");
    }
    scores(&mut out, report, report.model.score.as_ref());
    given(&mut out, report, |column| column.float.as_ref());
    cell(&mut out, "<td class=\"n void\">", "", "");
    cell(&mut out, "<td class=\"void\">", "", "");
    cell(&mut out, "<td class=\"void\">", "", "");
    out.raw("</tr></tbody>");
    out
}

fn scores(out: &mut Html, report: &Report, score: Option<&Score>) {
    for metric in &report.data.metrics {
        out.raw("<td class=\"n\" data-name=\"").text(metric.label());
        let figure = figure(score, *metric);
        let points = figure.map_or(String::new(), |figure| fixed(figure.points, 1));
        let interval = figure.and_then(|figure| figure.interval).map_or(String::new(), |ends| between(ends, 1));
        cell(out, "\">", &points, &interval);
    }
}

/// What other judges gave.
fn given<'r>(out: &mut Html, report: &'r Report, of: impl Fn(&'r Column) -> Option<&'r Mean>) {
    for column in &report.columns {
        out.raw("<td class=\"n\" data-name=\"").text(&column.name);
        let mean = of(column);
        let interval = mean.and_then(|mean| mean.interval);
        let interval = interval.map_or(String::new(), |[low, high]| format!("{} to {}", three(low), three(high)));
        cell(out, "\">", &mean.map_or(String::new(), |mean| three(mean.mean)), &interval);
    }
}

fn figure(score: Option<&Score>, metric: TaskMetric) -> Option<&Figure> {
    score?.figures.iter().find(|figure| figure.metric == metric)
}

fn row(report: &Report, artifact: &ArtifactReport, line: &Line, is_first: bool) -> Html {
    let mut out = Html::default();
    if is_first {
        out.raw("<tr class=\"first\"><th scope=\"row\">").within("<span dir=\"auto\">", artifact.lies_in(), "</span>");
        out.within("<small>", &artifact.format, "</small></th>");
        cell(&mut out, "<td class=\"n\" data-name=\"size\">", &bytes(artifact.bytes as f64), "");
        cell(&mut out, "<td class=\"n\" data-name=\"bits a weight\">", &fixed(artifact.bits_per_weight, 2), "");
    } else {
        out.raw("<tr><th scope=\"row\" class=\"again\"><span dir=\"auto\">").text(artifact.lies_in());
        out.raw("</span></th><td class=\"n void\"></td><td class=\"n void\"></td>");
    }
    let part = line.run.and_then(|run| run.part_of(report.data.samples));
    let version = part.map_or(line.version.to_owned(), |few| format!("{}, {few} samples", line.version));
    cell(&mut out, "<td data-name=\"engine\">", &line.name, &version);
    speeds(&mut out, line.speed);
    scores(&mut out, report, line.run.and_then(|run| run.score.as_ref()));
    let place = line.run.and_then(|run| artifact.runs.iter().position(|one| std::ptr::eq(one, run)));
    given(&mut out, report, |column| column.of(artifact, place?));
    let kl = line.run.map_or(String::new(), |run| maybe(run.to_float.and_then(|to_float| to_float.kl)));
    cell(&mut out, "<td class=\"n\" data-name=\"KL\">", &kl, "");
    let (limit, of) = limit(&line.checks);
    cell(&mut out, "<td data-name=\"limit\">", &limit, of);
    out.raw("<td data-name=\"verdict\">").add(&State::of_all(line.checks.iter().copied()).badge()).raw("</td></tr>");
    out
}

fn speeds(out: &mut Html, speed: Option<&Speed>) {
    let against = speed.and_then(|speed| speed.against_float.as_ref());
    let times = |ratio: Option<String>| ratio.map_or(String::new(), |ratio| format!("× {ratio}"));
    let first = speed.map_or(String::new(), |speed| format!("{} ms", median(&speed.first_token_ms)));
    let tokens = speed.and_then(|speed| speed.tokens_per_s.as_ref()).map_or(String::new(), median);
    let memory = speed.and_then(|speed| speed.peak_mb).map_or(String::new(), |mb| bytes(mb * 1e6));
    let faster = times(against.and_then(|a| a.speedup.as_ref()).map(median));
    cell(out, "<td class=\"n\" data-name=\"first token\">", &first, &times(against.map(|a| median(&a.first_token))));
    cell(out, "<td class=\"n\" data-name=\"tokens/s\">", &tokens, "");
    cell(out, "<td class=\"n\" data-name=\"memory\">", &memory, &times(against.and_then(|a| a.peak).map(three)));
    cell(out, "<td class=\"n\" data-name=\"× float, tokens/s\">", &faster, "");
}

/// The bound of what matters most to those who use an artifact: points, else distributions, else whatever there is.
fn limit(checks: &[&Check]) -> (String, &'static str) {
    let rank = |check: &&&Check| match check.metric {
        Metric::MetricDrop => 0,
        Metric::ScoreLost => 1,
        Metric::Kl => 2,
        Metric::RelL2 => 3,
        _ => 4,
    };
    let check = checks.iter().filter(|check| check.limit.is_some()).min_by_key(rank);
    match check.and_then(|check| Some((check, check.limit?))) {
        None => (String::new(), ""),
        Some((check, Limit::AtMost(limit))) => (format!("≤ {}", three(limit)), check.metric.label()),
        Some((check, Limit::AtLeast(limit))) => (format!("≥ {}", three(limit)), check.metric.label()),
    }
}

/// Outputs that ran to the limit of their length, apart from the figures above.
fn endless(report: &Report) -> Html {
    let mut out = Html::default();
    let float = report.model.score.as_ref().map(|score| ("float model".to_owned(), score));
    let all: Vec<(String, &Score)> = float.into_iter().chain(report.artifacts.iter().flat_map(named_scores)).collect();
    let ran: Vec<_> = all.iter().filter(|(_, score)| score.endless > 0).collect();
    out.raw("<h3>Outputs without an end</h3>");
    if ran.is_empty() {
        let words = if all.is_empty() { "Nobody counted them." } else { "Every output came to an end by itself." };
        out.within("<p class=\"nothing\">", words, "</p>");
        return out;
    }
    out.raw("<p class=\"lead\">Loops that ran to the limit of their length. They are counted here, since one of them can drown the \
             figures of all others.</p><ul class=\"loops\">");
    for (name, score) in ran {
        out.raw("<li>").within("<b dir=\"auto\">", name, "</b> ");
        out.text(&format!("{} of {}", score.endless, counted(score.texts, "output")));
        for figure in &score.figures {
            if let Some(ended) = figure.ended {
                out.within(
                    "<small>",
                    &format!("{} without them: {}", figure.metric.label(), fixed(ended, 1)),
                    "</small>",
                );
            }
        }
        out.raw("</li>");
    }
    out.raw("</ul>");
    out
}

fn named_scores(artifact: &ArtifactReport) -> Vec<(String, &Score)> {
    let lies_in = artifact.lies_in();
    let name =
        |i: usize, run: &Run| if i == 0 { lies_in.to_owned() } else { format!("{lies_in}, {}", run.engine.name) };
    artifact.runs.iter().enumerate().filter_map(|(i, run)| Some((name(i, run), run.score.as_ref()?))).collect()
}

fn pictures(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<h3>Size against quality</h3><div class=\"pair\">");
    for metric in report.data.metrics.iter().take(1) {
        let better = if metric.rises() { "more is better" } else { "less is better" };
        let level =
            figure(report.model.score.as_ref(), *metric).map(|f| (f.points, format!("float {}", fixed(f.points, 1))));
        let dots = report.artifacts.iter().filter_map(|artifact| {
            let figure = figure(artifact.runs.first()?.score.as_ref(), *metric)?;
            Some(dot(artifact, figure.points, figure.interval, metric.label()))
        });
        let words = (format!("{}, points: {better}", metric.label()), Kind::Linear);
        out.add(&picture(&format!("Size and {}", metric.label()), words, dots.collect(), level));
    }
    let dots = report.artifacts.iter().filter_map(|artifact| {
        let kl = artifact.runs.first()?.to_float?.kl?;
        Some(dot(artifact, kl, None, "KL"))
    });
    let words = ("KL to the float model, nats: less is better".to_owned(), Kind::Log);
    out.add(&picture("Size and divergence", words, dots.collect(), None)).raw("</div>");
    out
}

fn dot(artifact: &ArtifactReport, figure: f64, reach: Option<[f64; 2]>, label: &str) -> Dot {
    Dot {
        at: [artifact.bytes as f64, figure],
        reach,
        label: Some(artifact.lies_in().to_owned()),
        about: format!("{}: {}, {label} {}", artifact.lies_in(), bytes(artifact.bytes as f64), three(figure)),
        series: State::of_all(&artifact.checks).series(),
    }
}

fn picture(title: &str, (words, kind): (String, Kind), dots: Vec<Dot>, level: Option<(f64, String)>) -> Html {
    let is_placed = |dot: &Dot| dot.at[1].is_finite() && (kind != Kind::Log || dot.at[1] > 0.0);
    let (dots, placeless): (Vec<Dot>, Vec<Dot>) = dots.into_iter().partition(is_placed);
    let mut out = Html::default();
    out.raw("<div>");
    if dots.is_empty() {
        out.within("<p class=\"nothing\">", &format!("{title}: no artifact has such a figure."), "</p></div>");
        return out;
    }
    let states = [State::Passed, State::Failed, State::Undecided, State::NotRun];
    let scatter = Scatter {
        title: title.to_owned(),
        across: ("bytes of all files".to_owned(), Kind::Linear, &crate::chart::tick_of_bytes),
        up: (words, kind, &crate::chart::tick),
        series: states.iter().map(|state| (state.series(), state.word().to_owned())).collect(),
        dots,
        trace: Vec::new(),
        level,
    };
    out.add(&both(|width| scatter.draw(width)));
    for dot in placeless {
        out.within("<p class=\"nothing\">Without a place on this axis: ", &dot.about, "</p>");
    }
    out.raw("</div>");
    out
}
