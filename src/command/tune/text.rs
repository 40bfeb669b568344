//! What `tune` writes for people, and recipes as YAML.

use std::path::Path;

use serde_json::{Value, json};

use super::found::{Found, Group};
use crate::command::shard::Shard;
use crate::show::table::{aligned, size};

/// Weights that the summary names as the most sensitive.
const NAMED: usize = 5;

/// A block of YAML 1.2 that means the same as the JSON value. Strings are quoted as in JSON, which YAML contains.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&format!("{pad}{key}:"));
                after(value, indent + 2, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    // A short mapping stays on one line, which is how rules are written.
                    Value::Object(map) if map.values().all(|v| !v.is_object() && !v.is_array()) => {
                        out.push_str(&format!("{pad}- {}\n", flow(item)));
                    }
                    Value::Object(_) => {
                        let mut inner = String::new();
                        block(item, indent + 2, &mut inner);
                        out.push_str(&format!("{pad}- {}", &inner[indent + 2..]));
                    }
                    _ => out.push_str(&format!("{pad}- {}\n", flow(item))),
                }
            }
        }
        _ => out.push_str(&format!("{pad}{}\n", flow(value))),
    }
}

fn after(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        _ => out.push_str(&format!(" {}\n", flow(value))),
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        // Words of the schema need no quotes; whatever YAML could read as something else keeps them.
        Value::String(word) if is_plain(word) => word.clone(),
        other => other.to_string(),
    }
}

fn is_plain(word: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'.');
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(letters)
        && !reserved.contains(&word.to_lowercase().as_str())
}

fn kl(value: f64) -> String {
    format!("{value:.2e}")
}

/// What a shard did, for the terminal or for machines. `measured`: weights of its own, and all.
pub fn part(shard: Shard, [measured, all]: [usize; 2], as_json: bool) -> String {
    match as_json {
        true => format!("{}\n", json!({ "shard": shard.to_string(), "weights": measured, "of": all })),
        false => {
            format!("shard {shard}: {measured} of {all} weights are measured; `trefoil tune` without --shard goes on\n")
        }
    }
}

/// For the terminal: the plans that were measured, the weights that cost most, where the rest lies.
pub fn summary(found: &Found, report: &Path, saved: Option<&Path>) -> String {
    let rows = found.measured.iter().enumerate().map(|(i, whole)| {
        let lost = whole.points_lost.map_or(String::new(), |lost| format!("{lost:.1} points lost"));
        let mark = if found.chosen == Some(i) { "<- chosen" } else { "" };
        vec![whole.label.clone(), size(whole.bytes), format!("KL {}", kl(whole.kl)), lost, mark.to_owned()]
    });
    let mut text = aligned(0, &rows.collect::<Vec<_>>());
    let mut worst: Vec<(&str, &str, f64)> = Vec::new();
    for row in &found.sensitivity {
        if let Some((scheme, kl)) = row.kl.iter().max_by(|a, b| a.1.total_cmp(b.1)) {
            worst.push((&row.name, scheme, *kl));
        }
    }
    worst.sort_by(|a, b| b.2.total_cmp(&a.2));
    text.push_str("most sensitive:\n");
    let rows = worst
        .iter()
        .take(NAMED)
        .map(|(name, scheme, value)| vec![(*name).to_owned(), format!("{scheme} alone"), format!("KL {}", kl(*value))]);
    text.push_str(&aligned(2, &rows.collect::<Vec<_>>()));
    text.push_str(&format!("report: {}\n", report.display()));
    if let Some(file) = saved {
        text.push_str(&format!("recipe: {}\n", file.display()));
    }
    text
}

/// tune.md.
pub fn markdown(found: &Found) -> String {
    let mut out = format!(
        "# What {} may lose as {}\n\nArtifact `{}`, method `{}`. KL is the divergence of the next token's distribution from the \
         float model's, in nats, mean over the positions of {} samples of `{}`; bytes are those of the weights below, codes, \
         scales and zeros.\n\n![plans](tune.svg)\n\n",
        found.model,
        found.format,
        found.artifact,
        found.method.name(),
        found.samples,
        found.calibration
    );
    out.push_str(
        "## Plans measured as a whole\n\n| plan | bytes | KL | points lost | |\n| --- | ---: | ---: | ---: | --- |\n",
    );
    for (i, whole) in found.measured.iter().enumerate() {
        let lost = whole.points_lost.map_or(String::new(), |lost| format!("{lost:.2}"));
        let mark = if found.chosen == Some(i) { "chosen" } else { "" };
        out.push_str(&format!("| {} | {} | {} | {lost} | {mark} |\n", whole.label, whole.bytes, kl(whole.kl)));
    }
    let mut schemes: Vec<&str> = Vec::new();
    for row in &found.sensitivity {
        schemes.extend(row.kl.keys().map(String::as_str).filter(|s| !schemes.contains(s)).collect::<Vec<_>>());
    }
    let cells = |of: &std::collections::BTreeMap<String, f64>| {
        schemes.iter().map(|s| of.get(*s).map_or(String::new(), |v| kl(*v))).collect::<Vec<_>>().join(" | ")
    };
    let rule = |n: usize| " ---: |".repeat(n);
    let group = |out: &mut String, title: &str, groups: &[Group]| {
        out.push_str(&format!(
            "\n## {title}\n\n| | weights | {} |\n| --- | ---: |{}\n",
            schemes.join(" | "),
            rule(schemes.len())
        ));
        for group in groups {
            out.push_str(&format!("| `{}` | {} | {} |\n", group.name, group.weights, cells(&group.kl)));
        }
    };
    group(&mut out, "By what weights do (sums of single weights)", &found.kinds);
    group(&mut out, "By layer (sums of single weights)", &found.layers);
    out.push_str(&format!(
        "\n## Each weight alone, all others exact\n\n| weight | {} | chosen |\n| --- |{} --- |\n",
        schemes.join(" | "),
        rule(schemes.len())
    ));
    for row in &found.sensitivity {
        out.push_str(&format!("| `{}` | {} | {} |\n", row.name, cells(&row.kl), row.chosen.as_deref().unwrap_or("")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_reads_back_as_it_was() {
        let value = json!({
            "model": "../models/x",
            "calibrate": { "data": "a b.jsonl", "samples": 12 },
            "artifacts": [{ "name": "no", "onnx": {}, "quantize": {
                "scheme": "int4-g32", "gptq": { "damping": 0.01, "act_order": true },
                "rules": [{ "match": "a.[0].weight", "scheme": "int8" }, { "match": "yes", "scheme": "int8" }],
            } }],
            "validate": { "limits": { "max_kl": 1e-4 } },
        });
        let text = yaml(&value);
        assert_eq!(crate::recipe::yaml::parse::<Value>(&text, "recipe").expect("YAML"), value, "{text}");
        assert!(text.contains("      - { match: \"a.[0].weight\", scheme: int8 }\n"), "{text}");
    }
}
