//! An artifact against the float model in the same engine, for a report: few samples and few seconds.

use std::time::Instant;

use converters::Artifact;
use graph::Progress;
use graph::progress::Unit;

use super::course::{Course, Times};
use super::machine;
use super::measure::{Ran, interleaved};
use super::slow;
use crate::runtime::{Fit, Options, RUNTIMES, Runtime, Session};
use metrics::Spread;
use metrics::spread::DECIDING_ROUNDS;
use report::Engine;
use report::{AgainstFloat, Check, Link, Speed};

/// For all rounds of an artifact in an engine, beside the float model.
const SECONDS: f64 = 6.0;
/// Most samples that are timed.
pub const SAMPLES: usize = 4;
/// Formats of which a processor's time says nothing: their engines here stand for other hardware.
const NOT_TIMED: &[&str] = &["npu"];
/// No engine that anybody ships: it gives graphs their meaning.
const NO_ENGINE: &[&str] = &["interpreter"];

/// What an artifact is held against.
pub enum Float<'a> {
    /// The float model in the same format.
    Artifact(&'a Artifact),
    /// The artifact is in floats itself.
    Itself,
    /// There is none, for this reason.
    None(String),
}

/// What was found.
#[derive(Default)]
pub struct Compared {
    /// Of each engine.
    pub speeds: Vec<Speed>,
    /// That the limit is kept, where there is one.
    pub checks: Vec<Check>,
}

/// Whether a clock is run on artifacts of its format.
pub fn is_timed(artifact: &Artifact) -> bool {
    !NOT_TIMED.contains(&artifact.format)
}

/// Times an artifact in every engine that opens it. An engine that is not there or that fails has no speed: the chain says why.
///
/// `courses`: of the recipe's own samples, at least one. `limit`: of the speedup.
pub fn compare(
    artifact: &Artifact,
    float: &Float,
    courses: &[Course],
    limit: Option<f64>,
    options: &Options,
    progress: &dyn Progress,
) -> Compared {
    let mut found = Compared::default();
    if !is_timed(artifact) || courses.is_empty() {
        return found;
    }
    let options = Options { as_used: true, ..options.clone() };
    let timed = |runtime: &&&dyn Runtime| !NO_ENGINE.contains(&runtime.name()) && runtime.fit(artifact) == Fit::Runs;
    for runtime in RUNTIMES.iter().filter(timed) {
        progress.stage(&format!("speed in {}", runtime.name()), 0, Unit::Samples);
        if let Some(timed) = timed_in(*runtime, artifact, float, courses, limit.is_some(), &options, progress) {
            let (speed, ratios) = speed(timed, float, || slow::reason(artifact));
            found.checks.extend(limit.and_then(|limit| check(&speed, &ratios, float, limit)));
            found.speeds.push(speed);
        }
    }
    found
}

/// What the clock said: rounds of the artifact and of the float model.
struct Timed {
    engine: Engine,
    samples: usize,
    tokens: usize,
    ours: Vec<Vec<Times>>,
    float: Option<Vec<Vec<Times>>>,
    load: [Option<f64>; 2],
}

fn timed_in(
    runtime: &dyn Runtime,
    artifact: &Artifact,
    float: &Float,
    courses: &[Course],
    is_judged: bool,
    options: &Options,
    progress: &dyn Progress,
) -> Option<Timed> {
    let load = machine::load();
    let mut sessions: Vec<Box<dyn Session>> = vec![runtime.open(artifact, options).ok()?];
    if let Float::Artifact(float) = float {
        sessions.extend(runtime.open(float, options).ok());
    }
    let engine = sessions[0].engine();
    let limit = sessions.iter().filter_map(|session| session.limit_tokens()).min().unwrap_or(usize::MAX);
    let within = |course: &Course| Course { tokens: course.tokens.min(limit.max(1)), ..course.clone() };
    let courses: Vec<Course> = courses.iter().take(SAMPLES).map(within).collect();
    // The first run of each is slower than those that count, so that the estimate is on the safe side.
    let start = Instant::now();
    for session in &mut sessions {
        session.timed(&courses[0]).ok()?;
    }
    let (samples, rounds) = affordable(start.elapsed().as_secs_f64(), courses.len(), is_judged);
    let ran = interleaved(&mut sessions, rounds, |_, _| courses[..samples].to_vec(), || progress.advance(1));
    let mut rounds = ran.into_iter().map(|ran| match ran {
        Ran::Done(rounds) => Some(rounds),
        Ran::Failed(_) => None,
    });
    let ours = rounds.next()??;
    let tokens = courses[..samples].iter().map(|course| course.tokens).max().unwrap_or(0);
    Some(Timed { engine, samples, tokens, ours, float: rounds.next().flatten(), load: [load, machine::load()] })
}

/// Samples and rounds, of which the rounds come first: they decide, and where there is something to judge none is left out.
fn affordable(seconds_a_sample: f64, samples: usize, is_judged: bool) -> (usize, usize) {
    let runs = SECONDS / seconds_a_sample.max(1e-6);
    let rounds = (runs as usize).clamp(if is_judged { DECIDING_ROUNDS } else { 1 }, DECIDING_ROUNDS);
    let samples = ((runs / rounds as f64) as usize).clamp(1, samples.clamp(1, SAMPLES));
    (samples, rounds)
}

fn first_ms(round: &[Times]) -> f64 {
    round.iter().map(Times::first_token_ms).sum::<f64>() / round.len() as f64
}

fn later_ms(round: &[Times]) -> f64 {
    round.iter().map(Times::later_ms).sum()
}

/// The row of a report, and the speedup of each round.
fn speed(timed: Timed, float: &Float, reason: impl FnOnce() -> Option<String>) -> (Speed, Vec<f64>) {
    let Timed { engine, samples, tokens, ours, float: theirs, load } = timed;
    let tokens_per_s = |round: &Vec<Times>| {
        let later: usize = round.iter().map(|times| times.steps_ms.len().saturating_sub(1)).sum();
        (later > 0).then(|| later as f64 * 1e3 / later_ms(round))
    };
    let peak = |rounds: &[Vec<Times>]| {
        let memory = rounds.iter().flatten().filter_map(|times| times.memory);
        memory.map(|memory| memory.peak_bytes as f64).max_by(f64::total_cmp)
    };
    let pairs = || ours.iter().zip(theirs.iter().flatten());
    let ratios: Vec<f64> = pairs().map(|(ours, float)| later_ms(float) / later_ms(ours)).collect();
    let first_token = Spread::of(pairs().map(|(ours, float)| first_ms(ours) / first_ms(float)));
    let against_float = first_token.map(|first_token| AgainstFloat {
        speedup: Spread::of(ratios.iter().copied()),
        first_token,
        peak: peak(&ours).zip(theirs.as_deref().and_then(peak)).map(|(ours, float)| ours / float),
    });
    let speedup = against_float.as_ref().and_then(|against| against.speedup);
    let sentence = match (float, speedup) {
        // Where even the better quarter of the rounds is slower, it is no accident.
        (Float::Artifact(_), Some(speedup)) if speedup.high < 1.0 => {
            let unknown = "none of its nodes is of a kind that is known to be slow; a profile of the engine would tell";
            let reason = reason().unwrap_or_else(|| unknown.to_owned());
            format!("slower than the float model: {reason}")
        }
        (Float::Artifact(_), None) => "no ratio: the engine does not run the float model in this format".to_owned(),
        (Float::None(why), _) => format!("no ratio: {why}"),
        _ => String::new(),
    };
    let speed = Speed {
        engine,
        samples: samples as u64,
        rounds: ours.len() as u64,
        tokens: tokens as u64,
        first_token_ms: Spread::of(ours.iter().map(|round| first_ms(round))).unwrap_or(NOTHING),
        tokens_per_s: Spread::of(ours.iter().filter_map(tokens_per_s)),
        peak_mb: peak(&ours).map(|bytes| bytes / 1e6),
        against_float,
        machine_load: load,
        sentence,
    };
    (speed, ratios)
}

/// Of no rounds.
const NOTHING: Spread = Spread { median: 0.0, low: 0.0, high: 0.0 };

/// Judges the limit; `None` for a float artifact, which is as fast as itself.
fn check(speed: &Speed, ratios: &[f64], float: &Float, limit: f64) -> Option<Check> {
    let what = format!("{} {}: tokens per second against the float model", speed.engine.name, speed.engine.version);
    match float {
        Float::Itself => None,
        _ if ratios.is_empty() => Some(Check::not_run(Link::Runtime, what, speed.sentence.clone())),
        _ => {
            let fallback = "faster than the float model by less than the recipe asks for; lower `min_speedup`, or choose a \
                            scheme that the engine has faster kernels for";
            let broken = if speed.sentence.is_empty() { fallback } else { &speed.sentence };
            Some(Check::speedup(what, ratios, limit, broken))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::{Limit, Outcome};

    /// Rounds of one sample with so many ms a step.
    fn rounds(steps: &[f64]) -> Vec<Vec<Times>> {
        let times = |step: &f64| Times { encoder_ms: 10.0, steps_ms: vec![*step; 5], memory: None };
        steps.iter().map(|step| vec![times(step)]).collect()
    }

    fn timed(ours: &[f64], float: Option<&[f64]>) -> Timed {
        let engine = Engine { name: "e".into(), version: "1".into(), settings: String::new() };
        Timed { engine, samples: 1, tokens: 5, ours: rounds(ours), float: float.map(rounds), load: [None; 2] }
    }

    fn artifact() -> Artifact {
        Artifact { format: "onnx", dir: "nowhere".into(), files: Vec::new() }
    }

    #[test]
    fn a_quantized_artifact_that_is_slower_says_why_and_one_that_is_faster_says_nothing() {
        let artifact = artifact();
        let float = Float::Artifact(&artifact);
        let reason = || Some("a matrix is unpacked".to_owned());
        let (slower, _) = speed(timed(&[8.0; 5], Some(&[2.0; 5])), &float, reason);
        assert_eq!(slower.sentence, "slower than the float model: a matrix is unpacked");
        let against = slower.against_float.expect("both ran");
        assert_eq!(against.speedup.expect("several tokens").median, 0.25);
        assert_eq!(against.first_token.median, 18.0 / 12.0);
        let (faster, _) = speed(timed(&[1.0; 5], Some(&[2.0; 5])), &float, reason);
        assert_eq!((faster.sentence.as_str(), faster.tokens_per_s.expect("several").median), ("", 1000.0));
        // Rounds that fall to both sides of 1 are no reason to look for one.
        let (scattered, _) = speed(timed(&[1.0, 1.0, 3.0, 1.0, 3.0], Some(&[2.0; 5])), &float, reason);
        assert_eq!(scattered.sentence, "");
    }

    #[test]
    fn a_limit_is_judged_by_pairs_of_rounds_and_undecided_where_they_disagree() {
        let artifact = artifact();
        let float = Float::Artifact(&artifact);
        let judged = |ours: &[f64], float_ms: &[f64]| {
            let (speed, ratios) = speed(timed(ours, Some(float_ms)), &float, || None);
            check(&speed, &ratios, &float, 1.5).expect("a limit")
        };
        let passed = judged(&[1.0; 5], &[2.0; 5]);
        assert_eq!(
            (passed.outcome, passed.value, passed.limit),
            (Outcome::Passed, Some(2.0), Some(Limit::AtLeast(1.5)))
        );
        assert_eq!(judged(&[1.0; 5], &[1.2; 5]).outcome, Outcome::Failed);
        // The machine got slower for both at once: the pairs still agree.
        assert_eq!(judged(&[1.0, 4.0, 1.0, 9.0, 1.0], &[2.0, 8.0, 2.0, 18.0, 2.0]).outcome, Outcome::Passed);
        let undecided = judged(&[1.0, 1.0, 1.0, 1.0, 2.0], &[2.0; 5]);
        assert_eq!(undecided.outcome, Outcome::Undecided);
        assert!(undecided.sentence.starts_with("not decided by 5 rounds, half of them from 2.00 to 2.00"));
        assert_eq!(judged(&[1.0; 3], &[9.0; 3]).outcome, Outcome::Undecided);
    }

    #[test]
    fn without_a_float_model_a_limit_is_not_run_and_a_float_artifact_has_none() {
        let (none, ratios) = speed(timed(&[1.0; 5], None), &Float::None("too large".into()), || None);
        assert_eq!((none.sentence.as_str(), none.against_float.is_none()), ("no ratio: too large", true));
        let judged = check(&none, &ratios, &Float::None("too large".into()), 1.0).expect("told");
        assert_eq!(judged.outcome, Outcome::NotRun);
        let (itself, ratios) = speed(timed(&[1.0; 5], None), &Float::Itself, || None);
        assert_eq!((itself.sentence.as_str(), check(&itself, &ratios, &Float::Itself, 1.0).is_none()), ("", true));
    }

    #[test]
    fn rounds_come_before_samples_and_slow_engines_run_once() {
        assert_eq!(affordable(0.001, 4, false), (4, 5));
        assert_eq!(affordable(0.5, 4, false), (2, 5));
        assert_eq!(affordable(1.0, 4, false), (1, 5));
        assert_eq!(affordable(3.0, 4, false), (1, 2));
        assert_eq!(affordable(1000.0, 4, false), (1, 1));
        assert_eq!(affordable(0.001, 1, false), (1, 5));
        assert_eq!(affordable(1000.0, 4, true), (1, 5));
    }
}
