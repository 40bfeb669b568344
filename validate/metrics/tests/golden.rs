//! Figures, normalizers and statistics beside what the reference implementations say (`tests/fixtures/metrics/record.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use metrics::normalize::Rules;
use metrics::proportions::{Pairs, wilson};
use metrics::{Answer, Normalizer, Scored, Scoring, TaskMetric};
use serde_json::Value;

/// Sums of the same numbers in another order.
const F64_NOISE: f64 = 1e-12;
/// Both ends come from a search that stops at about this.
const SEARCHED: f64 = 1e-10;
/// Logarithms of factorials up to 410!, about 2000, lose so much.
const OF_LOGARITHMS: f64 = 1e-11;

fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/metrics").join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("a fixture")).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn near(found: f64, expected: f64, noise: f64) -> bool {
    (found - expected).abs() <= noise * expected.abs()
}

/// The figures of some pairs, by the name of the metric.
fn figures(pairs: &[Value]) -> BTreeMap<&'static str, f64> {
    let scoring = Scoring { metrics: TaskMetric::ALL.to_vec(), ..Scoring::default() };
    let answers = pairs.iter().map(|pair| Answer { found: text(&pair[0]), target: text(&pair[1]), is_endless: false });
    let score = Scored::of(&scoring, answers).expect("answers").score();
    score.figures.iter().map(|figure| (figure.metric.name(), figure.points)).collect()
}

fn differing(found: &BTreeMap<&str, f64>, expected: &Value, whose: &str) -> Vec<String> {
    let expected = expected.as_object().expect("figures").iter();
    let differing = expected.filter(|(name, expected)| !near(found[name.as_str()], number(expected), F64_NOISE));
    differing
        .map(|(name, expected)| format!("{whose}: {name} is {}, expected {expected}", found[name.as_str()]))
        .collect()
}

#[test]
fn figures_are_those_of_sacrebleu_rouge_score_and_jiwer() {
    let recorded = recorded("texts.json");
    let mut wrong = Vec::new();
    for corpus in list(&recorded["corpora"]) {
        let (name, pairs) = (text(&corpus["name"]), list(&corpus["pairs"]));
        assert_eq!(corpus["figures"].as_object().map(|figures| figures.len()), Some(TaskMetric::ALL.len() - 1));
        wrong.extend(differing(&figures(pairs), &corpus["figures"], name));
        for (pair, each) in pairs.iter().zip(list(&corpus["each"])) {
            wrong.extend(differing(&figures(std::slice::from_ref(pair)), each, &pair.to_string()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn signatures_are_those_of_sacrebleu() {
    let recorded = recorded("texts.json");
    for metric in [TaskMetric::Bleu, TaskMetric::Chrf] {
        let (signature, _version) = text(&recorded["signatures"][metric.name()]).rsplit_once('|').expect("a version");
        assert_eq!(metric.signature(), Some(signature));
    }
}

#[test]
fn normalizers_are_those_of_transformers() {
    let recorded = recorded("normalizers.json");
    let spellings: BTreeMap<String, String> = serde_json::from_value(recorded["spellings"].clone()).expect("words");
    let normalizers = [
        ("basic", Normalizer::new(Rules::WhisperBasic)),
        ("english", Normalizer::new(Rules::WhisperEnglish)),
        ("english_spelled", Normalizer::english(spellings)),
    ];
    let mut wrong = Vec::new();
    for case in list(&recorded["cases"]) {
        for (name, normalizer) in &normalizers {
            let (found, expected) = (normalizer.apply(text(&case["text"])), text(&case[name]));
            if found != expected {
                wrong.push(format!("{name} of {}: {found:?}, expected {expected:?}", case["text"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn intervals_and_tests_of_shares_are_those_of_statsmodels_and_scipy() {
    let recorded = recorded("statistics.json");
    for case in list(&recorded["wilson"]) {
        let found = wilson(number(&case["successes"]), number(&case["trials"]));
        for (found, expected) in found.iter().zip(list(&case["interval"])) {
            assert!(near(*found, number(expected), F64_NOISE), "{case}: {found}");
        }
    }
    for case in list(&recorded["paired"]) {
        let count = |name: &str| case[name].as_u64().expect("a count");
        let pairs = Pairs { worse: count("worse"), better: count("better"), all: count("pairs") };
        for (found, expected) in pairs.interval().iter().zip(list(&case["interval"])) {
            assert!((found - number(expected)).abs() <= SEARCHED, "{case}: {found}");
        }
        let (p, expected) = (pairs.mcnemar(), number(&case["mcnemar_p"]));
        assert!(near(p, expected, OF_LOGARITHMS), "{case}: p {p}");
    }
}
