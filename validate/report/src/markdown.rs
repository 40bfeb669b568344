//! The text for people: a verdict first, then one section an artifact; three digits are enough.

use std::collections::BTreeMap;
use std::fmt::Write;

use metrics::{Distances, Score, Spread, TaskMetric};

use crate::artifact::{ArtifactReport, Speed, TensorRow, worst};
use crate::check::{Check, Limit, Metric, Outcome};
use crate::report::{CalibrationReport, Report};

/// Tensors shown of each artifact.
const WORST_SHOWN: usize = 10;

/// The text of `report.md`.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "# {}\n", escaped(&report.model.name))?;
    writeln!(out, "**{}**\n", capitalized(&report.verdict()))?;
    let failed: Vec<_> = report.all_checks().filter(|(_, c)| c.outcome == Outcome::Failed).collect();
    for (artifact, check) in &failed {
        let of = artifact.map_or(String::new(), |a| format!(" of {}", a.name));
        writeln!(out, "- {}{of}: {} — {}", check.link, escaped(&check.what), escaped(&check.sentence))?;
    }
    if !failed.is_empty() {
        writeln!(out)?;
    }
    write_overview(out, report)?;
    write_model(out, report)?;
    if let Some(calibration) = &report.calibration {
        write_calibration(out, calibration)?;
    }
    for artifact in &report.artifacts {
        write_artifact(out, artifact)?;
    }
    write_not_run(out, report)?;
    write_others(out, report)?;
    writeln!(out, "## Made by\n")?;
    writeln!(out, "trefoil {}, recipe {}", report.trefoil, code(&report.recipe.about))?;
    if !report.recipe.text.is_empty() {
        writeln!(out, "\n```yaml\n{}\n```", report.recipe.text.trim_end())?;
    }
    Ok(())
}

/// One line an artifact: how large, how good, and did it pass.
fn write_overview(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.artifacts.is_empty() {
        return Ok(());
    }
    let metrics: Vec<&str> = report.data.metrics.iter().map(|metric| metric.label()).collect();
    writeln!(out, "| artifact | size | bits a weight | runs in | {} | top-1 | KL | verdict |", metrics.join(" | "))?;
    writeln!(out, "| --- | ---: | ---: | --- |{} ---: | ---: | --- |", " ---: |".repeat(metrics.len()))?;
    let points = scores(&report.data.metrics, report.model.score.as_ref());
    writeln!(out, "| float model | | | interpreter | {points} | | | |")?;
    for artifact in &report.artifacts {
        for (i, run) in artifact.runs.iter().enumerate() {
            let points = scores(&report.data.metrics, run.score.as_ref());
            let (size, bits, verdict) = match i {
                0 => (size(artifact.bytes), format!("{:.2}", artifact.bits_per_weight), verdict_of(&artifact.checks)),
                _ => Default::default(),
            };
            let name = if i == 0 { escaped(artifact.lies_in()) } else { String::new() };
            let top1 = run.to_float.and_then(|d| d.top1).map_or(String::new(), percent);
            let kl = run.to_float.map_or(String::new(), |d| figure(Metric::Kl, d.kl));
            writeln!(
                out,
                "| {name} | {size} | {bits} | {} {} | {points} | {top1} | {kl} | {verdict} |",
                run.engine.name, run.engine.version
            )?;
        }
        if artifact.runs.is_empty() {
            let verdict = verdict_of(&artifact.checks);
            writeln!(
                out,
                "| {} | {} | {:.2} | nothing |{} | | {verdict} |",
                escaped(artifact.lies_in()),
                size(artifact.bytes),
                artifact.bits_per_weight,
                " |".repeat(metrics.len())
            )?;
        }
    }
    writeln!(out)
}

/// What lies in the folder too.
fn write_others(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.others.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Also in the folder\n")?;
    for other in &report.others {
        writeln!(out, "- {}: {}", code(&other.about), escaped(&other.text))?;
    }
    writeln!(out)
}

fn write_model(out: &mut String, report: &Report) -> std::fmt::Result {
    let (model, data) = (&report.model, &report.data);
    writeln!(out, "## Float model\n")?;
    writeln!(out, "- {} with {} parameters", escaped(&model.model_type), grouped(model.parameters))?;
    writeln!(out, "- reference: {}; logit scale: {}", escaped(&model.reference), escaped(&model.logit_scale))?;
    if !model.decoding.is_empty() {
        writeln!(out, "- decoding: {}", escaped(&model.decoding))?;
    }
    for assumed in &model.assumes {
        writeln!(out, "- assumes: {}", escaped(assumed))?;
    }
    if data.samples > 0 {
        let hash =
            if data.sha256.is_empty() { String::new() } else { format!(", sha256 {}", code(short(&data.sha256))) };
        writeln!(
            out,
            "- measured on {} samples of {}{hash}: {} target positions, teacher-forced with {}; metric {}",
            grouped(data.samples),
            code(&data.source),
            grouped(data.positions),
            escaped(&data.targets),
            data.metrics.iter().map(|metric| code(metric.name())).collect::<Vec<_>>().join(", ")
        )?;
    }
    writeln!(out)?;
    write_checks(out, &report.checks)?;
    if !model.inputs.is_empty() {
        writeln!(out, "| read | bytes | sha256 |\n| --- | ---: | --- |")?;
        for input in &model.inputs {
            writeln!(out, "| {} | {} | {} |", code(&input.path), grouped(input.bytes), code(short(&input.sha256)))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_calibration(out: &mut String, seen: &CalibrationReport) -> std::fmt::Result {
    writeln!(out, "## Calibration\n")?;
    writeln!(
        out,
        "- {} samples of {}, sha256 {}: {} target positions, decoders fed with {}",
        grouped(seen.samples),
        code(&seen.source),
        code(short(&seen.sha256)),
        grouped(seen.positions),
        escaped(&seen.prefixes)
    )?;
    if let Some(loss) = seen.loss {
        writeln!(out, "- loss of the data's targets under the float model: {} nats a token", three(loss))?;
    }
    if let Some(largest) = &seen.largest {
        let near = match seen.near_overflow_count {
            0 => "no value is above half of 65504, so float16 holds them all".to_owned(),
            count => format!("{count} values are above half of 65504, where float16 ends"),
        };
        writeln!(out, "- largest activation: {} in {}; {near}", three(largest.max_abs.into()), code(&largest.value))?;
    }
    if !seen.near_overflow.is_empty() {
        writeln!(out, "\n| near the end of float16 | largest magnitude |\n| --- | ---: |")?;
        for value in &seen.near_overflow {
            writeln!(out, "| {} | {} |", code(&value.value), three(value.max_abs.into()))?;
        }
    }
    writeln!(out)
}

/// Where a method measured what it did to the outputs of each Linear, against rounding to nearest.
fn write_methods(out: &mut String, tensors: &[TensorRow]) -> std::fmt::Result {
    let measured: Vec<&TensorRow> = tensors.iter().filter(|t| t.output_sqnr_db.is_some()).collect();
    if !measured.is_empty() {
        writeln!(
            out,
            "<details><summary>Outputs of {} Linears on the calibration samples</summary>\n",
            measured.len()
        )?;
        writeln!(out, "| weight | type | method | nearest codes | this method | gain |")?;
        writeln!(out, "| --- | --- | --- | ---: | ---: | ---: |")?;
        let decibels = |db: Option<f64>| db.map_or(String::new(), |db| format!("{db:.1} dB"));
        for t in measured {
            let gain = t.output_sqnr_db.zip(t.nearest_output_sqnr_db).map(|(ours, nearest)| ours - nearest);
            let (nearest, ours, gain) =
                (decibels(t.nearest_output_sqnr_db), decibels(t.output_sqnr_db), decibels(gain));
            writeln!(out, "| {} | {} | {} | {nearest} | {ours} | {gain} |", code(&t.name), t.type_name, t.method)?;
        }
        writeln!(out, "\n</details>\n")?;
    }
    let noted: Vec<&TensorRow> = tensors.iter().filter(|t| !t.notes.is_empty()).collect();
    if !noted.is_empty() {
        writeln!(out, "Out of the ordinary:\n")?;
        for t in noted {
            writeln!(out, "- {}: {}", code(&t.name), escaped(&t.notes.join("; ")))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_artifact(out: &mut String, artifact: &ArtifactReport) -> std::fmt::Result {
    writeln!(out, "## {}\n", escaped(&artifact.name))?;
    let files = artifact.files.len();
    writeln!(
        out,
        "{}, {} in {files} {}, {:.2} bits a weight: {}\n",
        capitalized(&artifact.format),
        size(artifact.bytes),
        if files == 1 { "file" } else { "files" },
        artifact.bits_per_weight,
        verdict_of(&artifact.checks)
    )?;
    for run in &artifact.runs {
        let settings =
            if run.engine.settings.is_empty() { String::new() } else { format!(": {}", run.engine.settings) };
        write!(out, "- {} {}{}", run.engine.name, run.engine.version, escaped(&settings))?;
        match &run.agreement {
            Some(a) => writeln!(
                out,
                "; against the float model {} of outputs identical, {} of tokens, {} before the first difference; {} end by themselves (float {})",
                percent(a.identical),
                percent(a.tokens),
                percent(a.prefix),
                percent(a.ended),
                percent(a.reference_ended)
            )?,
            None => writeln!(out)?,
        }
    }
    if !artifact.runs.is_empty() {
        writeln!(out)?;
    }
    write_checks(out, &artifact.checks)?;
    write_speed(out, &artifact.speed)?;
    if !artifact.substitutions.is_empty() {
        writeln!(out, "Substitutions:\n")?;
        for note in &artifact.substitutions {
            let about = if note.about.is_empty() { String::new() } else { format!("{}: ", code(&note.about)) };
            writeln!(out, "- {about}{}", escaped(&note.text))?;
        }
        writeln!(out)?;
    }
    write_tensors(out, &artifact.tensors)?;
    write_methods(out, &artifact.tensors)?;
    write_generations(out, artifact)
}

fn write_checks(out: &mut String, checks: &[Check]) -> std::fmt::Result {
    if checks.is_empty() {
        return Ok(());
    }
    writeln!(out, "| stage | compared | measured | limit | | also |\n| --- | --- | ---: | ---: | --- | --- |")?;
    for check in checks {
        let measured = match check.metric {
            Metric::Works => String::new(),
            metric => format!("{} {}", metric.label(), figure(metric, check.value)),
        };
        let limit = match check.limit {
            Some(Limit::AtMost(limit)) => format!("≤ {}", figure(check.metric, Some(limit))),
            Some(Limit::AtLeast(limit)) => format!("≥ {}", figure(check.metric, Some(limit))),
            None => String::new(),
        };
        writeln!(
            out,
            "| {} | {} | {measured} | {limit} | {} | {} |",
            check.link,
            escaped(&check.what),
            word(check.outcome),
            check.distances.map_or(String::new(), |d| also(check.metric, &d))
        )?;
    }
    writeln!(out)?;
    write_remarks(out, checks)
}

/// What is said of checks that neither failed nor were left out, each sentence once.
fn write_remarks(out: &mut String, checks: &[Check]) -> std::fmt::Result {
    let mut remarks: Vec<(&str, &str, usize)> = Vec::new();
    for check in checks.iter().filter(|c| is_remarked(c.outcome) && !c.sentence.is_empty()) {
        match remarks.iter_mut().find(|(_, sentence, _)| *sentence == check.sentence) {
            Some((_, _, more)) => *more += 1,
            None => remarks.push((&check.what, &check.sentence, 0)),
        }
    }
    for (what, sentence, more) in &remarks {
        let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(out, "- {}{more}: {}", escaped(what), escaped(sentence))?;
    }
    if remarks.is_empty() { Ok(()) } else { writeln!(out) }
}

fn is_remarked(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Passed | Outcome::Info | Outcome::Undecided)
}

/// What an engine's users wait for.
fn write_speed(out: &mut String, speeds: &[Speed]) -> std::fmt::Result {
    if speeds.is_empty() {
        return Ok(());
    }
    writeln!(out, "| speed in | first token | tokens/s | peak memory | × float: first token | tokens/s | memory |")?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for speed in speeds {
        let against = speed.against_float.as_ref();
        writeln!(
            out,
            "| {} {} | {} ms | {} | {} | {} | {} | {} |",
            speed.engine.name,
            speed.engine.version,
            spread(Some(speed.first_token_ms)),
            spread(speed.tokens_per_s),
            speed.peak_mb.map_or(String::new(), |mb| size((mb * 1e6) as u64)),
            spread(against.map(|against| against.first_token)),
            spread(against.and_then(|against| against.speedup)),
            against.and_then(|against| against.peak).map_or(String::new(), three),
        )?;
    }
    writeln!(out)?;
    for speed in speeds {
        let load = speed.machine_load.map(|load| load.map_or("?".to_owned(), |load| format!("{load:.1}")));
        let settings = escaped(&speed.engine.settings);
        writeln!(
            out,
            "- {}: {settings}; {}, one at a time, up to {} tokens each, medians of {} with their quartiles (`~`: too far apart to be \
             quoted), load of the machine {} before and {} after",
            speed.engine.name,
            counted(speed.samples, "sample"),
            speed.tokens,
            counted(speed.rounds, "round"),
            load[0],
            load[1]
        )?;
        if !speed.sentence.is_empty() {
            writeln!(out, "- {}: {}", speed.engine.name, escaped(&speed.sentence))?;
        }
    }
    writeln!(out)
}

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `37.1 (36.8 to 37.5)`.
fn spread(spread: Option<Spread>) -> String {
    spread.map_or(String::new(), |spread| {
        let wide = if spread.is_wide() { "~" } else { "" };
        format!("{wide}{} ({} to {})", three(spread.median), three(spread.low), three(spread.high))
    })
}

/// The distances that the check did not judge.
fn also(judged: Metric, d: &Distances) -> String {
    let mut parts = Vec::new();
    if let Some(max) = d.max_abs {
        parts.push(format!("max abs {}", three(max)));
    }
    if judged != Metric::RelL2 && d.rel_l2.is_some() {
        parts.push(format!("relative L2 {}", figure(Metric::RelL2, d.rel_l2)));
    }
    match (d.sqnr_db, d.rel_l2) {
        (Some(_), _) if judged == Metric::Sqnr => {}
        (Some(db), _) => parts.push(format!("{db:.0} dB")),
        (None, Some(0.0)) => parts.push("equal".to_owned()),
        (None, _) => {}
    }
    if judged != Metric::Kl && d.kl.is_some() {
        parts.push(format!("KL {}", figure(Metric::Kl, d.kl)));
    }
    if judged != Metric::Top1
        && let Some(top1) = d.top1
    {
        parts.push(format!("top-1 {}", percent(top1)));
    }
    parts.join(", ")
}

fn write_tensors(out: &mut String, tensors: &[TensorRow]) -> std::fmt::Result {
    let mut types: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for tensor in tensors {
        let (count, bytes) = types.entry(&tensor.type_name).or_default();
        *count += 1;
        *bytes += tensor.bytes;
    }
    if types.is_empty() {
        return Ok(());
    }
    let list: Vec<String> =
        types.iter().map(|(name, (n, bytes))| format!("{n} as {name} ({})", size(*bytes))).collect();
    writeln!(out, "{} tensors: {}\n", tensors.len(), list.join(", "))?;
    let worst = worst(tensors, WORST_SHOWN);
    if worst.is_empty() {
        writeln!(out, "All equal the checkpoint's.\n")?;
        return Ok(());
    }
    writeln!(out, "| worst tensors | role | type | shape | relative L2 | SQNR | max abs |")?;
    writeln!(out, "| --- | --- | --- | --- | ---: | ---: | ---: |")?;
    for t in worst {
        let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            code(&t.name),
            escaped(&t.role),
            t.type_name,
            shape.join(" x "),
            three(t.rel_l2),
            t.sqnr_db.map_or(String::new(), |db| format!("{db:.1} dB")),
            three(t.max_abs_error)
        )?;
    }
    writeln!(out)
}

fn write_generations(out: &mut String, artifact: &ArtifactReport) -> std::fmt::Result {
    if artifact.generations.is_empty() {
        return Ok(());
    }
    let differing = artifact.generations.iter().filter(|g| g.differs()).count();
    let shown = artifact.generations.len();
    match differing {
        0 => writeln!(out, "<details><summary>{shown} outputs side by side, all equal</summary>\n")?,
        n => writeln!(out, "<details><summary>{shown} outputs side by side, {n} of them differing</summary>\n")?,
    }
    let names: Vec<String> = artifact.runs.iter().map(|r| escaped(&r.engine.name)).collect();
    writeln!(out, "| input | target | float | {} |", names.join(" | "))?;
    writeln!(out, "| --- | --- | --- |{}", " --- |".repeat(names.len()))?;
    for g in &artifact.generations {
        let target = g.target.as_deref().map_or(String::new(), escaped);
        let shown = |output: &Option<String>| match output {
            Some(output) if *output == g.float => "=".to_owned(),
            Some(output) => escaped(output),
            None => String::new(),
        };
        let outputs: Vec<String> = g.outputs.iter().map(shown).collect();
        writeln!(out, "| {} | {target} | {} | {} |", escaped(&g.input), escaped(&g.float), outputs.join(" | "))?;
    }
    writeln!(out, "\n</details>\n")
}

fn write_not_run(out: &mut String, report: &Report) -> std::fmt::Result {
    let not_run: Vec<_> = report.all_checks().filter(|(_, c)| c.outcome == Outcome::NotRun).collect();
    if not_run.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Not run\n")?;
    for (artifact, check) in not_run {
        let of = artifact.map_or(String::new(), |a| format!("{}, ", escaped(&a.name)));
        writeln!(out, "- {of}{}: {} — {}", check.link, escaped(&check.what), escaped(&check.sentence))?;
    }
    writeln!(out)
}

fn verdict_of(checks: &[Check]) -> String {
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

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "**failed**",
        Outcome::NotRun => "not run",
        Outcome::Info => "no limit",
        Outcome::Undecided => "undecided",
    }
}

/// A cell for each metric: the figure, and its interval where there is one.
fn scores(metrics: &[TaskMetric], score: Option<&Score>) -> String {
    let cell = |metric: &TaskMetric| {
        let figure = score.and_then(|score| score.figures.iter().find(|figure| figure.metric == *metric));
        figure.map_or(String::new(), |figure| match figure.interval {
            Some([low, high]) => format!("{:.1} ({low:.1} to {high:.1})", figure.points),
            None => format!("{:.1}", figure.points),
        })
    };
    metrics.iter().map(cell).collect::<Vec<_>>().join(" | ")
}

fn figure(metric: Metric, value: Option<f64>) -> String {
    match (metric, value) {
        (Metric::Works, _) => String::new(),
        (_, None) => "not a number".to_owned(),
        (Metric::Top1 | Metric::TokenAgreement, Some(share)) => percent(share),
        (Metric::Sqnr, Some(db)) => format!("{db:.1}"),
        (Metric::MetricDrop | Metric::EndlessRise, Some(points)) => {
            format!("{:.1}", if points == 0.0 { 0.0 } else { points })
        }
        (Metric::DifferingWeights, Some(count)) => format!("{count:.0}"),
        (Metric::Speedup, Some(ratio)) => format!("{ratio:.2}"),
        (Metric::RelL2 | Metric::Kl, Some(value)) => three(value),
    }
}

/// A share as percent; what is not all is never shown as 100 %.
fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    match text.as_str() {
        "100.0" if share < 1.0 => "> 99.9 %".to_owned(),
        "100.0" => "100 %".to_owned(),
        _ => format!("{text} %"),
    }
}

/// Two or three significant digits.
fn three(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        x if !(1e-3..1e4).contains(&x) => format!("{value:.1e}"),
        x => {
            let decimals = (2 - x.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{} kB", three(b / 1e3)),
        b if b < 1e9 => format!("{} MB", three(b / 1e6)),
        b => format!("{} GB", three(b / 1e9)),
    }
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// Text from outside in a table cell: one line, no links, no HTML.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '<' | '[' | ']' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn code(text: &str) -> String {
    let inner: String = text.chars().map(|c| if c == '`' || c == '|' || c.is_control() { ' ' } else { c }).collect();
    if inner.trim().is_empty() { String::new() } else { format!("`{inner}`") }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_never_flatter() {
        assert_eq!(
            [three(0.0), three(1.23456e-7), three(0.0123456), three(12.3456), three(1234.5)].join(" "),
            "0 1.2e-7 0.0123 12.3 1234"
        );
        assert_eq!(
            [percent(1.0), percent(0.99999), percent(0.5541), percent(0.0)].join(" "),
            "100 % > 99.9 % 55.4 % 0.0 %"
        );
        assert_eq!([size(999), size(4_500_000), size(12_300)].join(" "), "999 B 4.50 MB 12.3 kB");
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)].join(" "), "0 999 1,234,567");
    }

    #[test]
    fn text_from_outside_cannot_break_a_table() {
        assert_eq!(escaped("a|b\n<c>*"), "a\\|b \\<c>\\*");
        assert_eq!(code("a`|\n"), "`a   `");
    }
}
