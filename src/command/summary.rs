//! What commands print for people, and the JSON of what has no report.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quant::Plan;
use serde_json::json;
use validate::Report;
use validate::report::{Check, Limit, Outcome};

use crate::build::error::PipelineError;
use crate::build::manifest::Manifest;
use crate::command::arguments::{Common, Verdict};
use crate::names::REPORT_HTML;
use crate::show::table::{aligned, size};
use crate::show::terminal::{print, printable};

/// A line an artifact, the verdict, and where the whole report lies.
pub fn report(report: &Report, dir: Option<&Path>) -> String {
    let rows = report.artifacts.iter().map(|artifact| {
        let count = |outcome| artifact.checks.iter().filter(|c| c.outcome == outcome).count();
        let mut verdict = format!("{} passed", count(Outcome::Passed));
        for (outcome, word) in
            [(Outcome::Failed, "failed"), (Outcome::NotRun, "not run"), (Outcome::Undecided, "undecided")]
        {
            if count(outcome) > 0 {
                verdict.push_str(&format!(", {} {word}", count(outcome)));
            }
        }
        let engines: Vec<String> =
            artifact.runs.iter().skip(1).map(|run| format!("{} {}", run.engine.name, run.engine.version)).collect();
        vec![
            artifact.lies_in().to_owned(),
            size(artifact.bytes),
            format!("{:.2} bits per weight", artifact.bits_per_weight),
            verdict,
            engines.join(", "),
        ]
    });
    let mut text = aligned(0, &rows.collect::<Vec<_>>());
    for (artifact, check) in report.all_checks().filter(|(_, c)| c.outcome == Outcome::NotRun) {
        let of = artifact.map_or("model", |a| &a.name);
        text.push_str(&format!("not run: {of}: {}: {}\n", check.what, check.sentence));
    }
    for (artifact, speed) in report.artifacts.iter().flat_map(|a| a.speed.iter().map(move |speed| (a, speed))) {
        if let Some(speedup) = speed.against_float.as_ref().and_then(|against| against.speedup) {
            let figure = match speedup.is_wide() {
                true => format!("{:.2} to {:.2}", speedup.low, speedup.high),
                false => format!("{:.2}", speedup.median),
            };
            let colon = if speed.sentence.is_empty() { "" } else { ": " };
            text.push_str(&format!(
                "speed: {} in {}: {figure} times the float model's tokens per second{colon}{}\n",
                artifact.name, speed.engine.name, speed.sentence
            ));
        }
    }
    for other in &report.others {
        text.push_str(&format!("also there: {}: {}\n", other.about, other.text));
    }
    text.push_str(&format!("{}\n", report.verdict()));
    if let Some(dir) = dir {
        text.push_str(&format!("report: {}\n", dir.join(REPORT_HTML).display()));
    }
    text
}

/// A line for each failed check: the stage, what was found, and what to try.
pub fn failures(report: &Report, strict: bool) -> String {
    let is_broken = |check: &Check| check.outcome == Outcome::Failed || strict && check.engine_is_missing;
    let failed = report.all_checks().filter(|(_, check)| is_broken(check));
    failed
        .map(|(artifact, check)| {
            let of = artifact.map_or(String::new(), |a| format!(" of {}", a.name));
            let line = format!("failed: {}{of}: {}{}: {}\n", check.link, check.what, figure(check), check.sentence);
            printable(&line).into_owned()
        })
        .collect()
}

/// ` 0.013 KL, at most 0.01`.
fn figure(check: &Check) -> String {
    let bound = match check.limit {
        Some(Limit::AtMost(limit)) => format!(", at most {limit}"),
        Some(Limit::AtLeast(limit)) => format!(", at least {limit}"),
        None => return String::new(),
    };
    check.value.map_or(String::new(), |value| format!(": {} {value:.6}{bound}", check.metric.label()))
}

/// The artifacts of a conversion without validation.
pub fn written(artifacts: &[(PathBuf, &Manifest)], as_json: bool) -> String {
    if as_json {
        let row =
            |(dir, made): &(PathBuf, &Manifest)| json!({ "dir": dir, "files": made.files, "tensors": made.tensors });
        let rows: Vec<_> = artifacts.iter().map(row).collect();
        return serde_json::to_string_pretty(&rows).expect("only JSON types") + "\n";
    }
    let rows = artifacts.iter().map(|(dir, made)| {
        let bytes: u64 = made.files.iter().map(|file| file.bytes).sum();
        let of_weights: u64 = made.tensors.iter().map(|t| t.bytes).sum();
        let weights: usize = made.tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
        let bits = 8.0 * of_weights as f64 / weights.max(1) as f64;
        vec![dir.display().to_string(), size(bytes), format!("{bits:.2} bits per weight"), "not validated".to_owned()]
    });
    aligned(0, &rows.collect::<Vec<_>>())
}

/// What an artifact takes, in bytes and about.
pub struct Taken {
    /// Its weights.
    pub artifact: u64,
    /// Codes that wait on the disk while it is made.
    pub scratch: u64,
    /// While it is made and validated.
    pub memory: u64,
}

/// What a recipe takes.
pub struct Sizes<'a> {
    /// Of each artifact, or why it cannot be made.
    pub taken: Vec<Result<Taken, String>>,
    /// Bytes that validation keeps on the disk meanwhile.
    pub beside: u64,
    /// Where it is written.
    pub out: &'a Path,
    /// Bytes that are free there, where the system says.
    pub free: Option<u64>,
}

impl Sizes<'_> {
    fn text(&self, names: &[&str]) -> String {
        let row = |(name, taken): (&&str, &Result<Taken, String>)| match taken {
            Ok(taken) => {
                let [artifact, scratch, memory] = [taken.artifact, taken.scratch, taken.memory].map(size);
                vec![(*name).to_owned(), artifact, format!("scratch {scratch}"), format!("memory {memory}")]
            }
            Err(why) => vec![(*name).to_owned(), format!("cannot be made: {why}")],
        };
        let rows: Vec<_> = names.iter().zip(&self.taken).map(row).collect();
        let made = self.taken.iter().flatten();
        let need: u64 = made.map(|taken| taken.artifact + taken.scratch).sum::<u64>() + self.beside;
        let free = self.free.map_or(String::new(), |free| format!(", {} free", size(free)));
        format!("sizes, about\n{}  room for {} in {}{free}\n", aligned(2, &rows), size(need), self.out.display())
    }
}

/// What becomes of every weight of every artifact, who decided, and what it takes.
pub fn planned(plans: &[(&str, Plan)], sizes: &Sizes, as_json: bool) -> String {
    if as_json {
        let weights = |plan: &Plan| -> Vec<serde_json::Value> {
            let row = |w: &quant::Planned| {
                let by = w.decided_by.to_string();
                json!({ "name": w.name, "role": w.role, "scheme": w.scheme, "clip": w.clip, "decided_by": by })
            };
            plan.weights.iter().map(row).collect()
        };
        let row = |((name, plan), taken): (&(&str, Plan), &Result<Taken, String>)| match taken {
            Ok(Taken { artifact, scratch, memory }) => json!({
                "artifact": name, "bytes": artifact, "scratch_bytes": scratch, "memory_bytes": memory, "weights": weights(plan)
            }),
            Err(why) => json!({ "artifact": name, "cannot_be_made": why, "weights": weights(plan) }),
        };
        let rows: Vec<_> = plans.iter().zip(&sizes.taken).map(row).collect();
        return serde_json::to_string_pretty(&rows).expect("only JSON types") + "\n";
    }
    let mut text = String::new();
    for (name, plan) in plans {
        let rows = plan.weights.iter().map(|w| {
            let clip = if w.clip == quant::Clip::Mse { " clip mse" } else { "" };
            vec![w.name.clone(), w.role.to_string(), format!("{}{clip}", w.scheme), w.decided_by.to_string()]
        });
        text.push_str(&format!("{name}\n{}", aligned(2, &rows.collect::<Vec<_>>())));
    }
    text + &sizes.text(&plans.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// Prints the report or its summary, and failed checks on stderr. `is_good`: no check of this run failed.
pub fn told(
    report: &Report,
    is_good: bool,
    dir: Option<&Path>,
    strict: bool,
    common: &Common,
) -> Result<Verdict, PipelineError> {
    let text = match common.json {
        true => report.to_json(),
        false => printable(&self::report(report, dir)).into_owned(),
    };
    print(&text).map_err(PipelineError::io(Path::new("stdout")))?;
    if is_good {
        return Ok(Verdict::Passed);
    }
    // A closed stderr leaves no place to say so.
    let _ = io::stderr().write_all(failures(report, strict).as_bytes());
    Ok(Verdict::Failed)
}
