//! A column of one's own: scores that another judge gave to the outputs of a report.
//!
//! [`Report::outputs`] says what there is to judge, and [`Report::with_column`] takes the same lines back with a score each.

use std::collections::BTreeMap;

use metrics::Given;
use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactReport, Generation};
use crate::check::{Check, Link, Metric};
use crate::column::{Column, JudgedRun};
use crate::figures::counted;
use crate::report::Report;

/// Lines that an error names.
const NAMED: usize = 10;

/// What a column is called, and what it is held to.
#[derive(Clone, Debug)]
pub struct Heading {
    /// As [`Column::name`]. A column of this name is replaced.
    pub name: String,
    /// Whether more is better.
    pub rises: bool,
    /// File name of the scores.
    pub source: String,
    /// Of that file, in lowercase hexadecimal.
    pub sha256: String,
    /// How much of the mean an artifact may lose, in the judge's unit; a figure without a limit when absent.
    pub max_lost: Option<f64>,
}

/// One output to judge.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Output<'a> {
    /// The artifact's name; null for the float model.
    pub artifact: Option<&'a str>,
    /// The place of the run in the artifact's runs; null for the float model.
    pub run: Option<u64>,
    /// What ran it.
    pub engine: &'a str,
    /// Its place in the data, from 0.
    pub sample: u64,
    /// The input.
    pub input: &'a str,
    /// The right answer, if the data has one.
    pub target: Option<&'a str>,
    /// What was said.
    pub output: &'a str,
}

/// One score. Other keys of [`Output`] may stand beside them.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct ScoredLine {
    /// As [`Output::artifact`].
    #[serde(deserialize_with = "Option::deserialize")]
    pub artifact: Option<String>,
    /// As [`Output::run`].
    #[serde(deserialize_with = "Option::deserialize")]
    pub run: Option<u64>,
    /// As [`Output::sample`].
    pub sample: u64,
    /// Finite.
    pub score: f64,
}

/// Scores do not fit the outputs of a report.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{}\nhint: `trefoil report outputs` writes the lines that take a score each", .0.join("\n"))]
pub struct ColumnError(
    /// A sentence each.
    pub Vec<String>,
);

/// The float model, or a run of an artifact, by both their places.
type Place = Option<(usize, usize)>;
/// By sample.
type Scores = BTreeMap<u64, f64>;

impl Report {
    /// Every output that was made: the float model's first, then by artifact, run and sample.
    pub fn outputs(&self) -> impl Iterator<Item = Output<'_>> {
        places(self).into_iter().flat_map(move |place| {
            outputs_at(self, place).into_iter().map(move |(said, output)| Output {
                artifact: place.map(|(artifact, _)| self.artifacts[artifact].name.as_str()),
                run: place.map(|(_, run)| run as u64),
                engine: engine(self, place),
                sample: said.sample,
                input: &said.input,
                target: said.target.as_deref(),
                output,
            })
        })
    }

    /// The report with a column more, and with a check for each judged run where there is a limit: the quantized graph against the
    /// float model, an engine against the quantized graph.
    ///
    /// Errors, all at once: scores of nothing in the report, two of one output, none for some outputs of a run that has others, a
    /// score that is not finite, a limit without the float model's scores.
    pub fn with_column(mut self, heading: &Heading, lines: &[ScoredLine]) -> Result<Report, ColumnError> {
        let scores = sorted(&self, lines).map_err(ColumnError)?;
        let mut problems = incomplete(&self, &scores);
        if heading.max_lost.is_some() && !scores.contains_key(&None) {
            problems.push("a limit on what is lost needs the scores of the float model, and there are none".to_owned());
        }
        if !problems.is_empty() {
            return Err(ColumnError(problems));
        }
        self.remove_column(&heading.name);
        if let Some(limit) = heading.max_lost {
            let judged: Vec<(usize, Check)> =
                scores.keys().flatten().map(|at| (at.0, judged(&self, heading, limit, *at, &scores))).collect();
            judged.into_iter().for_each(|(artifact, check)| self.artifacts[artifact].checks.push(check));
        }
        let mean = |scores: &Scores| given(scores.values().copied(), heading.rises).mean();
        let of_run = |(place, scores): (&Place, &Scores)| {
            let (artifact, run) = (*place)?;
            Some(JudgedRun { artifact: self.artifacts[artifact].name.clone(), run: run as u64, score: mean(scores) })
        };
        let Heading { name, rises, source, sha256, .. } = heading.clone();
        let (float, runs) = (scores.get(&None).map(mean), scores.iter().filter_map(of_run).collect());
        self.columns.push(Column { name, rises, source, sha256, float, runs });
        Ok(self)
    }

    fn remove_column(&mut self, name: &str) {
        self.columns.retain(|column| column.name != name);
        let begin = what_of(name);
        for artifact in &mut self.artifacts {
            artifact.checks.retain(|check| check.metric != Metric::ScoreLost || !check.what.starts_with(&begin));
        }
    }
}

fn places(report: &Report) -> Vec<Place> {
    let of = |(i, artifact): (usize, &ArtifactReport)| (0..artifact.runs.len()).map(move |run| Some((i, run)));
    std::iter::once(None).chain(report.artifacts.iter().enumerate().flat_map(of)).collect()
}

/// By sample, whatever differs the most.
fn outputs_at(report: &Report, place: Place) -> Vec<(&Generation, &str)> {
    let said = |one: &'_ Generation| match place {
        None => true,
        Some((_, run)) => one.outputs.get(run).is_some_and(Option::is_some),
    };
    let artifact = report.artifacts.get(place.map_or(0, |(artifact, _)| artifact));
    let all = artifact.into_iter().flat_map(|artifact| &artifact.generations).filter(|one| said(one));
    let mut outputs: Vec<(&Generation, &str)> = all
        .map(|one| (one, place.map_or(one.float.as_str(), |(_, run)| one.outputs[run].as_deref().unwrap_or_default())))
        .collect();
    outputs.sort_by_key(|(one, _)| one.sample);
    outputs
}

fn engine(report: &Report, place: Place) -> &str {
    match place {
        None => report.compared_with(),
        Some((artifact, run)) => &report.artifacts[artifact].runs[run].engine.name,
    }
}

/// `onnx in onnxruntime`.
fn told(report: &Report, place: Place) -> String {
    let engine = engine(report, place);
    place.map_or(engine.to_owned(), |(artifact, _)| format!("{} in {engine}", report.artifacts[artifact].name))
}

/// Scores by what they are of. Errors: lines that are of nothing, of the same output, or no number.
fn sorted(report: &Report, lines: &[ScoredLine]) -> Result<BTreeMap<Place, Scores>, Vec<String>> {
    let known: BTreeMap<Place, Vec<u64>> = places(report)
        .into_iter()
        .map(|place| (place, outputs_at(report, place).iter().map(|(one, _)| one.sample).collect()))
        .collect();
    let mut scores: BTreeMap<Place, Scores> = BTreeMap::new();
    let mut problems = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let place = place_of(report, line)
            .filter(|place| known.get(place).is_some_and(|samples| samples.binary_search(&line.sample).is_ok()));
        let problem = match place {
            None => Some("the report has no such output"),
            _ if !line.score.is_finite() => Some("expected a finite score"),
            Some(place) => {
                scores.entry(place).or_default().insert(line.sample, line.score).map(|_| "a second score of one output")
            }
        };
        if let Some(problem) = problem {
            let of = line.artifact.as_deref().unwrap_or("the float model");
            let run = line.run.map_or(String::new(), |run| format!(", run {run}"));
            problems.push(format!("line {}: {of}{run}, sample {}: {problem}", i + 1, line.sample));
        }
    }
    let more = problems.len().saturating_sub(NAMED);
    problems.truncate(NAMED);
    if more > 0 {
        problems.push(format!("and {more} more lines"));
    }
    if lines.is_empty() {
        problems.push("expected a line an output, found none".to_owned());
    }
    if problems.is_empty() { Ok(scores) } else { Err(problems) }
}

/// What a line is of; `None` when its artifact is not in the report, or only one of its two names is null.
fn place_of(report: &Report, line: &ScoredLine) -> Option<Place> {
    match (&line.artifact, line.run) {
        (None, None) => Some(None),
        (Some(name), Some(run)) => {
            let artifact = report.artifacts.iter().position(|artifact| artifact.name == *name)?;
            Some(Some((artifact, usize::try_from(run).ok()?)))
        }
        _ => None,
    }
}

/// Runs of which some outputs have a score and others none.
fn incomplete(report: &Report, scores: &BTreeMap<Place, Scores>) -> Vec<String> {
    let missing = |(place, scores): (&Place, &Scores)| {
        let all = outputs_at(report, *place).len();
        let told =
            || format!("{}: {} of {} have a score", told(report, *place), scores.len(), counted(all as u64, "output"));
        (scores.len() < all).then(told)
    };
    scores.iter().filter_map(missing).collect()
}

fn given(scores: impl Iterator<Item = f64>, rises: bool) -> Given {
    Given::of(&scores.collect::<Vec<f64>>(), rises).expect("a run that is judged has a score")
}

fn what_of(name: &str) -> String {
    format!("{name} of ")
}

/// An engine is held to the quantized graph where that was judged, for what quantization lost is not the engine's.
fn judged(
    report: &Report,
    heading: &Heading,
    limit: f64,
    at: (usize, usize),
    scores: &BTreeMap<Place, Scores>,
) -> Check {
    let (artifact, run) = at;
    let quantized = Some((artifact, 0));
    let (link, against) = match run {
        0 => (Link::Quantization, None),
        _ if scores.contains_key(&quantized) => (Link::Runtime, quantized),
        _ => (Link::Runtime, None),
    };
    let (found, reference) = (&scores[&Some(at)], &scores[&against]);
    let both: Vec<[f64; 2]> =
        found.iter().filter_map(|(sample, score)| Some([*score, *reference.get(sample)?])).collect();
    let side = |side: usize| given(both.iter().map(|pair| pair[side]), heading.rises);
    let texts = counted(both.len() as u64, "output");
    let of_engine = if run == 0 { String::new() } else { format!(" in {}", engine(report, Some(at))) };
    let what = format!("{}{texts}{of_engine} against {}", what_of(&heading.name), told(report, against));
    let broken = match link {
        Link::Quantization => "try more bits, or a method that is calibrated",
        _ => "the engine computes something else than the quantized graph",
    };
    Check::lost(link, what, Metric::ScoreLost, &side(0).lost(&side(1)), limit, broken)
}
