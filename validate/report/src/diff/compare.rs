//! Two reports, held beside each other.

use std::collections::BTreeMap;

use metrics::Score;

use super::found::*;
use super::rules::{Rules, failing};
use crate::artifact::{ArtifactReport, Generation, Run};
use crate::check::{Check, Link, Metric};
use crate::report::{InputFile, Report};
use crate::wrong::is_same;

/// Two reports are not of the same model on the same data.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error(
    "the reports cannot be compared:\n  {}\nhint: convert again with the old report's model, data and settings of `validate`",
    .differences.join("\n  ")
)]
pub struct Incomparable {
    /// Old and new, a line for each thing that differs.
    pub differences: Vec<String>,
}

/// What changed from one report to another. Errors: other models, data, samples or metrics, all that differ.
pub fn diff(old: &Report, new: &Report, rules: &Rules) -> Result<Diff, Incomparable> {
    let differences = differences(old, new);
    if !differences.is_empty() {
        return Err(Incomparable { differences });
    }
    let then = |artifact: &ArtifactReport| old.artifacts.iter().find(|one| one.name == artifact.name);
    let both = new.artifacts.iter().filter_map(|artifact| Some((then(artifact)?, artifact)));
    let artifacts: Vec<ArtifactDiff> = both.map(|(old, new)| of_artifact(old, new)).collect();
    let checks = changes(&keyed(&old.checks, &[]), &keyed(&new.checks, &[]));
    let of_model = checks.iter().filter_map(failing).map(|sentence| Regression { artifact: None, sentence });
    let regressions = of_model.chain(artifacts.iter().flat_map(|artifact| rules.broken(artifact))).collect();
    let names = |report: &Report| report.artifacts.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let (added, removed) = apart(&names(old), &names(new));
    Ok(Diff {
        model: new.model.name.clone(),
        trefoil: [old, new].map(|report| report.trefoil.clone()),
        verdicts: [old, new].map(Report::verdict),
        samples: new.data.samples,
        regressions,
        checks,
        artifacts,
        added,
        removed,
    })
}

/// Names that only the new one has, and those that only the old one has.
fn apart(old: &[String], new: &[String]) -> (Vec<String>, Vec<String>) {
    let without =
        |all: &[String], others: &[String]| all.iter().filter(|name| !others.contains(name)).cloned().collect();
    (without(new, old), without(old, new))
}

/// Why figures of the two do not stand beside each other.
fn differences(old: &Report, new: &Report) -> Vec<String> {
    let metrics = |report: &Report| report.data.metrics.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
    let of = |what: &str, [was, is]: [String; 2]| (was != is).then(|| format!("{what}: {was}, and now {is}"));
    let both = [old, new];
    let told = [
        of("family", both.map(|report| report.model.model_type.clone())),
        of("data", both.map(data)),
        of("samples", both.map(|report| report.data.samples.to_string())),
        of("target positions", both.map(|report| report.data.positions.to_string())),
        of("metrics", both.map(metrics)),
    ];
    told.into_iter().flatten().chain(inputs(&old.model.inputs, &new.model.inputs)).collect()
}

/// A file by its digest, drawn samples by how they were made.
fn data(report: &Report) -> String {
    let data = &report.data;
    if data.sha256.is_empty() { data.source.clone() } else { format!("{} (sha256 {})", data.source, data.sha256) }
}

/// Files of the checkpoint that differ.
fn inputs(old: &[InputFile], new: &[InputFile]) -> Vec<String> {
    let of = |files: &[InputFile]| -> BTreeMap<String, String> {
        files.iter().map(|file| (file.path.clone(), format!("sha256 {}", file.sha256))).collect()
    };
    let (old, new) = (of(old), of(new));
    let paths = old.keys().chain(new.keys().filter(|path| !old.contains_key(*path)));
    let digest =
        |files: &BTreeMap<String, String>, path| files.get(path).map_or("not there", String::as_str).to_owned();
    let changed = paths.filter(|path| old.get(*path) != new.get(*path));
    changed.map(|path| format!("model, {path}: {}, and now {}", digest(&old, path), digest(&new, path))).collect()
}

fn of_artifact(old: &ArtifactReport, new: &ArtifactReport) -> ArtifactDiff {
    let [before, after] = [old, new].map(engines);
    let both = after.iter().filter_map(|(name, place)| Some((name.as_str(), [*before.get(name)?, *place])));
    let names = |engines: &BTreeMap<String, usize>| engines.keys().cloned().collect::<Vec<_>>();
    let (added, removed) = apart(&names(&before), &names(&after));
    ArtifactDiff {
        name: new.name.clone(),
        bytes: [old.bytes, new.bytes],
        bits_per_weight: [old.bits_per_weight, new.bits_per_weight],
        checks: changes(&keyed(&old.checks, &old.runs), &keyed(&new.checks, &new.runs)),
        runs: both.map(|(name, places)| of_run(name, [old, new], places)).collect(),
        added,
        removed,
    }
}

/// The places of runs by the names of their engines; the second of a name is `NAME 2`.
fn engines(artifact: &ArtifactReport) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (place, run) in artifact.runs.iter().enumerate() {
        let count = artifact.runs[..place].iter().filter(|other| other.engine.name == run.engine.name).count();
        let number = if count > 0 { format!(" {}", count + 1) } else { String::new() };
        found.insert(run.engine.name.clone() + &number, place);
    }
    found
}

fn of_run(name: &str, artifacts: [&ArtifactReport; 2], places: [usize; 2]) -> RunDiff {
    let runs = [&artifacts[0].runs[places[0]], &artifacts[1].runs[places[1]]];
    let mut quantities: Vec<Quantity> = Vec::new();
    let measured = [0, 1].map(|side| measured(artifacts[side], runs[side]));
    for (quantity, _) in measured.iter().flatten() {
        if !quantities.contains(quantity) {
            quantities.push(*quantity);
        }
    }
    let of = |quantity: Quantity| {
        let [old, new] = [0, 1].map(|side: usize| measured[side].iter().find(|(q, _)| *q == quantity).map(|(_, m)| *m));
        FigureDiff { quantity, old, new, change: change(quantity, old, new) }
    };
    let (newly_wrong, newly_right) = sentences(artifacts, places);
    RunDiff {
        engine: name.to_owned(),
        versions: runs.map(|run| run.engine.version.clone()),
        figures: quantities.into_iter().map(of).collect(),
        newly_wrong,
        newly_right,
    }
}

/// All figures of a run. What is not finite is left out.
fn measured(artifact: &ArtifactReport, run: &Run) -> Vec<(Quantity, Measured)> {
    let plain = |value| Measured { value, interval: None };
    let spread = |spread: metrics::Spread| Measured { value: spread.median, interval: Some([spread.low, spread.high]) };
    let score = |score: &Score| {
        let task = score.figures.iter().map(|figure| {
            (Quantity::Task(figure.metric), Measured { value: figure.points, interval: figure.interval })
        });
        task.chain([(Quantity::Endless, plain(score.endless as f64))]).collect::<Vec<_>>()
    };
    let mut found = run.score.as_ref().map(score).unwrap_or_default();
    let distances = run.to_float.as_ref();
    found.extend(distances.and_then(|d| d.kl).map(|kl| (Quantity::Kl, plain(kl))));
    found.extend(distances.and_then(|d| d.top1).map(|top1| (Quantity::Top1, plain(top1))));
    if let Some(speed) = artifact.speed.iter().find(|speed| speed.engine.name == run.engine.name) {
        found.push((Quantity::FirstTokenMs, spread(speed.first_token_ms)));
        found.extend(speed.tokens_per_s.map(|rate| (Quantity::TokensPerS, spread(rate))));
        found.extend(speed.peak_mb.map(|mb| (Quantity::PeakMb, plain(mb))));
    }
    found.retain(|(_, measured)| measured.value.is_finite());
    found
}

fn change(quantity: Quantity, old: Option<Measured>, new: Option<Measured>) -> Change {
    let (Some(old), Some(new)) = (old, new) else { return Change::Unknown };
    let ([old_low, old_high], [new_low, new_high]) = (old.range(), new.range());
    match quantity.rises() {
        _ if old.value == new.value => Change::Same,
        true if new_low > old_high => Change::Better,
        true if new_high < old_low => Change::Worse,
        false if new_high < old_low => Change::Better,
        false if new_low > old_high => Change::Worse,
        _ => Change::WithinIntervals,
    }
}

/// Outputs that became wrong, and those that became right, by sample.
fn sentences(artifacts: [&ArtifactReport; 2], places: [usize; 2]) -> (Vec<Sentence>, Vec<Sentence>) {
    let by_sample = |generations: &[Generation]| -> BTreeMap<u64, usize> {
        generations.iter().enumerate().map(|(place, one)| (one.sample, place)).collect()
    };
    let [before, after] = artifacts.map(|artifact| by_sample(&artifact.generations));
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for (sample, new_place) in &after {
        let Some(old_place) = before.get(sample) else { continue };
        let (then, now) = (&artifacts[0].generations[*old_place], &artifacts[1].generations[*new_place]);
        let said = |generation: &Generation, run: usize| generation.outputs.get(run).cloned().flatten();
        let (Some(old), Some(new)) = (said(then, places[0]), said(now, places[1])) else { continue };
        let expected = now.target.clone().unwrap_or_else(|| now.float.clone());
        let [was, is] = [is_same(&old, &expected), is_same(&new, &expected)];
        let sentence = || Sentence {
            sample: *sample,
            input: now.input.clone(),
            right: expected.clone(),
            old: old.clone(),
            new: new.clone(),
        };
        match (was, is) {
            (true, false) => wrong.push(sentence()),
            (false, true) => right.push(sentence()),
            _ => {}
        }
    }
    (wrong, right)
}

/// What tells a check from others: its stage, what it compares whatever the version of an engine, its metric, and its number among equals.
type Key = (Link, String, &'static str, usize);

fn keyed<'c>(checks: &'c [Check], runs: &[Run]) -> Vec<(Key, &'c Check)> {
    let mut found: Vec<(Key, &Check)> = Vec::new();
    for check in checks {
        let mut what = check.what.clone();
        for run in runs.iter().filter(|run| !run.engine.version.is_empty()) {
            what = what.replace(&format!("{} {}", run.engine.name, run.engine.version), &run.engine.name);
        }
        let key = |number| (check.link, what.clone(), Metric::label(check.metric), number);
        let number = (0..).find(|number| found.iter().all(|(known, _)| *known != key(*number)));
        found.push((key(number.expect("fewer than there are numbers")), check));
    }
    found
}

/// Checks that ended otherwise, those of the new report first.
fn changes(old: &[(Key, &Check)], new: &[(Key, &Check)]) -> Vec<CheckChange> {
    let of = |then: Option<&Check>, now: Option<&Check>| {
        let shown = now.or(then)?;
        let outcome = |check: Option<&Check>| check.map(|check| check.outcome);
        (outcome(then) != outcome(now)).then(|| CheckChange {
            link: shown.link,
            what: shown.what.clone(),
            old: outcome(then),
            new: outcome(now),
            sentence: shown.sentence.clone(),
        })
    };
    let find = |checks: &[(Key, &'_ Check)], key: &Key| checks.iter().position(|(known, _)| known == key);
    let now = new.iter().filter_map(|(key, check)| of(find(old, key).map(|at| old[at].1), Some(check)));
    let gone = old.iter().filter(|(key, _)| find(new, key).is_none()).filter_map(|(_, check)| of(Some(check), None));
    now.chain(gone).collect()
}
