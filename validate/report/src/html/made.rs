//! How to have the same again: the call, the recipe, versions, digests, the machine.

use super::markup::Html;
use crate::artifact::Engine;
use crate::figures::{counted, grouped, maybe, three};
use crate::report::{CalibrationReport, Report};

/// The section.
pub fn made(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<section id=\"again\"><h2>How to reproduce it</h2>");
    out.add(&call(report)).add(&facts(report));
    if let Some(calibration) = &report.calibration {
        out.add(&calibrated(calibration));
    }
    out.add(&assumed(report)).add(&digests(report)).add(&others(report)).raw("</section>");
    out
}

fn call(report: &Report) -> Html {
    let mut out = Html::default();
    if !report.made.command.is_empty() {
        let words: Vec<String> = report.made.command.iter().map(|word| quoted(word)).collect();
        out.within("<h3>Command</h3><pre><code>", &words.join(" "), "</code></pre>");
    }
    out.within("<h3>Recipe <small>", &report.recipe.about, "</small></h3>");
    match report.recipe.text.trim() {
        "" => out.raw("<p class=\"nothing\">It was called without a recipe.</p>"),
        text => out.raw("<pre><code>").lines(text).raw("</code></pre>"),
    };
    out
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn facts(report: &Report) -> Html {
    let made = &report.made;
    let mut out = Html::default();
    out.raw("<h3>Versions and machine</h3><dl class=\"facts\">");
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            out.within("<div><dt>", name, "</dt><dd dir=\"auto\">").text(value).raw("</dd></div>");
        }
    };
    fact("trefoil", &report.trefoil);
    for engine in engines(report) {
        fact(&engine.name, &format!("{} {}", engine.version, engine.settings));
    }
    fact("processor", &made.processor);
    fact("threads", &if made.threads > 0 { grouped(made.threads) } else { String::new() });
    fact("system", &made.system);
    fact("kernel", &made.kernel);
    out.raw("</dl>");
    out
}

fn engines(report: &Report) -> Vec<&Engine> {
    let mut all: Vec<&Engine> = Vec::new();
    for artifact in &report.artifacts {
        let runs = artifact.runs.iter().map(|run| &run.engine).chain(artifact.speed.iter().map(|speed| &speed.engine));
        runs.for_each(|engine| {
            if !all.contains(&engine) {
                all.push(engine)
            }
        });
    }
    all
}

fn calibrated(seen: &CalibrationReport) -> Html {
    let mut out = Html::default();
    out.raw("<h3>Calibration</h3><ul class=\"sentences\">");
    let samples = format!(
        "{} of {}, {}",
        counted(seen.samples, "sample"),
        seen.source,
        counted(seen.positions, "target position")
    );
    out.within("<li dir=\"auto\">", &samples, "; decoders fed with ").text(&seen.prefixes).raw("</li>");
    if seen.loss.is_some() {
        out.within("<li>loss of the data's targets under the float model: ", &maybe(seen.loss), " nats a token</li>");
    }
    if let Some(largest) = &seen.largest {
        let about = format!("{} in {}", three(largest.max_abs.into()), largest.value);
        out.within("<li>largest activation: ", &about, "</li>");
    }
    let near = match seen.near_overflow_count {
        0 => "no value is above half of 65504, where float16 ends".to_owned(),
        n => format!("{} above half of 65504, where float16 ends", counted(n, "value")),
    };
    out.within("<li>", &near, "</li>");
    for value in &seen.near_overflow {
        out.within("<li>", &value.value, ": ").text(&three(value.max_abs.into())).raw("</li>");
    }
    out.raw("</ul>");
    out
}

fn assumed(report: &Report) -> Html {
    let mut out = Html::default();
    let model = &report.model;
    let all: Vec<String> = [("logit scale", &model.logit_scale), ("decoding", &model.decoding)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name}: {text}"))
        .chain(model.assumes.iter().cloned())
        .collect();
    if !all.is_empty() {
        out.raw("<h3>What the graph takes for granted</h3><ul class=\"sentences\">");
        for sentence in &all {
            out.within("<li dir=\"auto\">", sentence, "</li>");
        }
        out.raw("</ul>");
    }
    out
}

fn digests(report: &Report) -> Html {
    let mut out = Html::default();
    out.raw("<h3>Digests</h3><details><summary>Files read and written, sha256</summary>");
    out.raw("<table class=\"digests\"><thead><tr><th>file<th class=\"n\">bytes<th>sha256</thead><tbody>");
    let mut row = |path: &str, bytes: &str, sha256: &str| {
        out.within("<tr><td><code>", path, "</code></td>").within("<td class=\"n\">", bytes, "</td>");
        out.within("<td><code>", sha256, "</code></td></tr>");
    };
    for input in &report.model.inputs {
        row(&input.path, &grouped(input.bytes), &input.sha256);
    }
    if !report.data.sha256.is_empty() {
        row(&report.data.source, "", &report.data.sha256);
    }
    if let Some(seen) = &report.calibration {
        row(&seen.source, "", &seen.sha256);
    }
    for artifact in &report.artifacts {
        for file in &artifact.files {
            row(&format!("{}/{}", artifact.lies_in(), file.path), &grouped(file.bytes), &file.sha256);
        }
    }
    out.raw("</tbody></table></details>");
    out
}

fn others(report: &Report) -> Html {
    let mut out = Html::default();
    if !report.others.is_empty() {
        out.raw("<h3>Also in the folder</h3><ul class=\"sentences\">");
        for other in &report.others {
            out.within("<li dir=\"auto\"><b>", &other.about, "</b>: ").text(&other.text).raw("</li>");
        }
        out.raw("</ul>");
    }
    out
}
