//! What `bench` prints: a table for people, objects for machines, panels for a picture.

use serde_json::{Value as Json, json};
use validate::bench::picture::{Line, Panel};
use validate::bench::{Spread, machine};

use super::found::{Contender, Found, Row};
use crate::show::table::aligned;

/// Megabytes are millions of bytes.
const MB: f64 = 1e6;

/// The table, and below it what it stands on.
pub fn text(found: &Found) -> String {
    let heads = [
        "artifact",
        "engine",
        "source",
        "batch",
        "load ms",
        "first token ms",
        "encoder",
        "first step",
        "step ms",
        "tokens/s",
        "peak MB",
        "MB/token",
        "of bandwidth",
    ];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let mut failed = Vec::new();
    for row in &found.rows {
        let mut cells = vec![
            row.contender.subject.dir.display().to_string(),
            row.contender.engine.name.clone(),
            format!("{} {}", row.source, found.unit),
            row.batch.to_string(),
            shown(Spread::of(row.contender.load_ms.iter().copied())),
        ];
        match &row.measured {
            Ok(measured) => cells.extend([
                shown(Some(measured.first_token_ms)),
                shown(Some(measured.encoder_ms)),
                shown(Some(measured.first_step_ms)),
                shown(measured.step_ms),
                shown(measured.tokens_per_s),
                measured.memory.map_or(String::new(), |memory| format!("{:.0}", memory.peak_bytes as f64 / MB)),
                row.bytes_per_token.map_or(String::new(), |bytes| digits(bytes / MB)),
                share(found, row).map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
            ]),
            Err(why) => {
                cells.push("not measured".to_owned());
                failed.push(format!("{} in {}: {why}\n", cells[0], cells[1]));
            }
        }
        lines.push(cells);
    }
    let mut text = aligned(0, &lines);
    text.push('\n');
    for why in failed {
        text.push_str(&why);
    }
    let mut engines: Vec<String> = Vec::new();
    for Contender { engine, .. } in found.rows.iter().map(|row| row.contender) {
        let line = format!("{} {}: {}\n", engine.name, engine.version, engine.settings);
        if !engines.contains(&line) {
            engines.push(line);
        }
    }
    text.push_str(&engines.concat());
    let bandwidth = found.bandwidth.map_or("an unknown rate".to_owned(), |spread| {
        let [low, median, high] = [spread.low, spread.median, spread.high].map(|bytes| bytes / 1e9);
        let wide = if spread.is_wide() { "~" } else { "" };
        format!("{wide}{median:.1} GB/s ({low:.1} to {high:.1})")
    });
    let processor = machine::processor().map_or(String::new(), |name| format!("{name}, "));
    text.push_str(&format!("{processor}{} threads read memory at {bandwidth}\n", found.threads));
    let loads: Vec<f64> = found.rows.iter().flat_map(|row| row.load).flatten().collect();
    if let (Some(first), Some(last)) = (loads.first(), loads.last()) {
        text.push_str(&format!(
            "load of the machine {first:.2} before and {last:.2} after; an engine on {0} threads adds {0}\n",
            found.threads
        ));
    }
    text.push_str(&format!(
        "{} new tokens; medians of {} runs in turn, ± half the distance of the quartiles; `~`: they are more than a fifth of the \
         median apart, so it is not to be quoted\n",
        found.tokens, found.runs
    ));
    text
}

/// Of the bandwidth, that the bytes of all tokens take.
fn share(found: &Found, row: &Row) -> Option<f64> {
    let rate = row.measured.as_ref().ok()?.tokens_per_s?.median;
    Some(row.bytes_per_token? * rate / found.bandwidth?.median)
}

/// `37.1 ±0.4`, or `~37.1 ±9`.
fn shown(spread: Option<Spread>) -> String {
    spread.map_or(String::new(), |spread| {
        let wide = if spread.is_wide() { "~" } else { "" };
        format!("{wide}{} ±{}", digits(spread.median), digits((spread.high - spread.low) / 2.0))
    })
}

/// Three digits, and all of those before the point.
fn digits(value: f64) -> String {
    match value.abs() {
        x if x >= 100.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A list with an object for each artifact, engine, source and batch.
pub fn json(found: &Found) -> String {
    let rows: Vec<Json> = found.rows.iter().map(|row| object(found, row)).collect();
    serde_json::to_string_pretty(&rows).expect("only JSON types") + "\n"
}

fn object(found: &Found, row: &Row) -> Json {
    let contender = row.contender;
    let load = Spread::of(contender.load_ms.iter().copied());
    let mut object = json!({
        "artifact": contender.subject.dir.display().to_string(),
        "format": contender.subject.artifact.format,
        "file_mb": contender.subject.artifact.bytes().ok().map(|bytes| bytes as f64 / MB),
        "engine": contender.engine.name,
        "engine_version": contender.engine.version,
        "engine_settings": contender.engine.settings,
        "source": row.source,
        "source_unit": found.unit,
        "batch": row.batch,
        "tokens": found.tokens,
        "runs": found.runs,
        "threads": found.threads,
        "bytes_per_token": row.bytes_per_token,
        "bandwidth_bytes_per_s": found.bandwidth.map(|spread| spread.median),
        "bandwidth_share": share(found, row),
        "machine_load": row.load,
    });
    let mut put = |name: &str, spread: Option<Spread>| {
        object[name] = json!(spread.map(|spread| spread.median));
        object[format!("{name}_quartiles")] = json!(spread.map(|spread| [spread.low, spread.high]));
        object[format!("{name}_is_wide")] = json!(spread.map(|spread| spread.is_wide()));
    };
    put("load_ms", load);
    match &row.measured {
        Ok(measured) => {
            put("first_token_ms", Some(measured.first_token_ms));
            put("encoder_ms", Some(measured.encoder_ms));
            put("first_step_ms", Some(measured.first_step_ms));
            put("step_ms", measured.step_ms);
            put("tokens_per_s", measured.tokens_per_s);
            object["peak_rss_mb"] = json!(measured.memory.map(|memory| memory.peak_bytes as f64 / MB));
            object["rss_mb"] = json!(measured.memory.map(|memory| memory.resident_bytes as f64 / MB));
        }
        Err(why) => object["error"] = json!(why),
    }
    object
}

/// First token and tokens a second over the length of the source, a line for each artifact, engine and batch.
pub fn panels(found: &Found) -> Vec<Panel> {
    type Figure = fn(&validate::bench::measure::Measured) -> Option<Spread>;
    let figures: [(&str, Figure); 2] =
        [("first token, ms", |m| Some(m.first_token_ms)), ("tokens per second", |m| m.tokens_per_s)];
    let panel = |(title, figure): (&str, Figure)| {
        let mut lines: Vec<Line> = Vec::new();
        for row in &found.rows {
            let batch = if row.batch == 1 { String::new() } else { format!(", batch {}", row.batch) };
            let name = format!("{} in {}{batch}", row.contender.subject.dir.display(), row.contender.engine.name);
            let spread = row.measured.as_ref().ok().and_then(figure);
            let place = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
                lines.push(Line { name, points: Vec::new() });
                lines.len() - 1
            });
            lines[place].points.extend(spread.map(|spread| (row.source as f64, spread)));
        }
        Panel { title: title.to_owned(), across: format!("source, {}", found.unit), lines }
    };
    figures.into_iter().map(panel).collect()
}
