//! The page of reports that are rich, empty, broken and hostile.

mod made_up;

use made_up::report;
use report::html::page;
use report::{Check, Heading, Link, Metric, Outcome, Output, Report, ScoredLine};
use serde_json::Value;

/// Markup, an end of a script, a comment, an attribute's end, a turn of direction, a control character.
const HOSTILE: &str = "\"'></script><!--<img src=x onerror=alert(1)>&lt;\u{202e}\u{0}";

/// The data of the page's script.
fn island(page: &str) -> Value {
    let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("an island");
    serde_json::from_str(data).expect("JSON")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().expect("a list")
}

/// Every text of a report, but for the words of its types.
fn each_text(value: &mut Value, change: &dyn Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(all) => all.iter_mut().for_each(|one| each_text(one, change)),
        Value::Object(fields) => {
            let words = ["link", "stage", "metric", "metrics", "outcome"];
            fields
                .iter_mut()
                .filter(|(name, _)| !words.contains(&name.as_str()))
                .for_each(|(_, one)| each_text(one, change));
        }
        _ => {}
    }
}

#[test]
fn every_answer_is_in_the_file_and_the_first_fifty_that_differ_without_a_script() {
    let made_up = report();
    let page = page(&made_up);
    let data = island(&page);
    let answers: usize = made_up.artifacts.iter().map(|artifact| artifact.generations.len()).sum();
    assert_eq!(list(&data, "cards").len(), answers);
    // And ten of those without an end.
    assert_eq!(page.matches("<article class=\"card\">").count(), 60);
    let texts: Vec<&str> = list(&data, "texts").iter().filter_map(Value::as_str).collect();
    let last = made_up.artifacts[4].generations.last().expect("some");
    assert!(texts.contains(&last.input.as_str()) && texts.contains(&last.float.as_str()));
    assert!(page.len() < 6_000_000, "{} bytes", page.len());
}

#[test]
fn pictures_alone_are_files_without_variables_of_a_page() {
    for text in [made_up::crowded_scatter(), made_up::lines()] {
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert!(!text.contains("var(") && !text.contains("NaN"));
    }
}

#[test]
fn the_page_asks_for_nothing_and_is_the_same_each_time() {
    let text = page(&report());
    for outside in ["http://", "https://", "url(", "@import", " src=", "<iframe", "<object", "<base"] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert_eq!(text, page(&report()));
}

#[test]
fn no_text_of_a_report_becomes_markup_wherever_it_stands() {
    let clean = page(&report());
    let mut value: Value = serde_json::from_str(&report().to_json()).expect("JSON");
    each_text(&mut value, &|text| text.push_str(HOSTILE));
    let hostile: Report = serde_json::from_value(value).expect("still a report");
    let text = page(&hostile);
    for tag in ["<script", "</script", "<!--", "<details", "<style", "<section"] {
        assert_eq!(text.matches(tag).count(), clean.matches(tag).count(), "{tag}");
    }
    assert!(!text.contains("<img") && !text.contains('\u{202e}') && !text.contains('\u{0}'));
    assert!(text.contains("&lt;img src=x") && text.contains("\\u{202e}\\u{0}"));
    island(&text);
}

#[test]
fn a_megabyte_in_an_answer_is_shown_shortened_with_its_length() {
    let clean = page(&report()).len();
    let mut loud = report();
    loud.artifacts[0].generations[0].outputs[0] = Some("again ".repeat(200_000));
    loud.artifacts[0].generations[0].input = "é".repeat(1_000_000);
    let text = page(&loud);
    assert!(text.len() < clean + 20_000, "{} bytes more", text.len() - clean);
    assert!(
        text.contains("the first 500 of 1,200,000 characters")
            && text.contains("the first 500 of 1,000,000 characters")
    );
}

#[test]
fn figures_that_are_none_say_so() {
    let mut broken = report();
    let artifact = &mut broken.artifacts[0];
    artifact.bits_per_weight = f64::NAN;
    artifact.tensors[0].max_abs_error = f64::INFINITY;
    artifact.values[0].rel_l2 = f64::NAN;
    artifact.values[0].range = [f32::NEG_INFINITY, f32::NAN];
    artifact.runs[0].to_float.as_mut().expect("measured").kl = Some(f64::NAN);
    artifact.runs[0].score.as_mut().expect("scored").figures[0].points = f64::NAN;
    artifact.checks[0].value = None;
    let text = page(&broken);
    assert!(text.matches("not a number").count() >= 5, "{}", text.matches("not a number").count());
    for wrong in ["NaN", ">inf", "\"inf", "-inf"] {
        assert!(!text.contains(wrong), "{wrong}");
    }
}

#[test]
fn a_judge_s_scores_hold_an_engine_to_the_quantized_graph_and_that_to_the_float_model() {
    let report = report();
    let heading = |max_lost, rises| Heading {
        name: "COMET".into(),
        rises,
        source: "scores.jsonl".into(),
        sha256: "00".repeat(32),
        max_lost,
    };
    // Of one artifact, the quantized graph is a tenth worse; its engines are as bad, but for the first, which is as good as the model.
    let of = |output: &Output| match (output.artifact, output.run) {
        (Some("onnx-int8"), Some(run)) if run != 1 => 0.7,
        _ => 0.8,
    };
    let line = |output: Output| ScoredLine {
        artifact: output.artifact.map(str::to_owned),
        run: output.run,
        sample: output.sample,
        score: of(&output) + (output.sample % 7) as f64 / 100.0,
    };
    let lines: Vec<ScoredLine> = report.outputs().map(line).collect();
    let failed = |rises| {
        let found = report.clone().with_column(&heading(Some(0.05), rises), &lines).expect("fits");
        let checks = found.artifacts.iter().flat_map(|artifact| &artifact.checks);
        let failed = checks.filter(|check| check.metric == Metric::ScoreLost && check.outcome == Outcome::Failed);
        failed.map(|check| check.link).collect::<Vec<Link>>()
    };
    assert_eq!(failed(true), [Link::Quantization], "nothing is blamed twice");
    assert_eq!(failed(false), [Link::Runtime], "by errors, the engine is worse than its graph");

    let twice = report.clone().with_column(&heading(None, true), &[lines.clone(), lines[..1].to_vec()].concat());
    assert_eq!(
        twice.expect_err("refused").0,
        [format!("line {}: the float model, sample 0: a second score of one output", lines.len() + 1)]
    );
    let partial = report.clone().with_column(&heading(None, true), &lines[1..]).expect_err("refused");
    assert_eq!(partial.0, ["the float model: 1999 of 2,000 outputs have a score"]);
}

fn empty() -> Report {
    Report { artifacts: Vec::new(), checks: Vec::new(), costs: Vec::new(), calibration: None, ..report() }
}

#[test]
fn nothing_is_told_in_sentences() {
    let text = page(&empty());
    for sentence in [
        "This report holds no artifact.",
        "No answers were kept",
        "Nobody looked at values",
        "Nobody measured layers alone",
        "No tensor was looked at.",
        "Nothing was checked.",
        "Everything that was planned ran.",
        "Nothing was exchanged",
    ] {
        assert!(text.contains(sentence), "{sentence}");
    }
    assert!(!text.contains("verdict good") && text.contains("<p class=\"word\">Not run</p>"));
}

#[test]
fn an_artifact_without_samples_runs_or_tensors_has_a_row_and_sentences() {
    let mut bare = report();
    bare.artifacts.truncate(1);
    let artifact = &mut bare.artifacts[0];
    (artifact.runs, artifact.speed, artifact.generations) = Default::default();
    (artifact.tensors, artifact.values, artifact.checks) = Default::default();
    let text = page(&bare);
    assert!(text.contains("nothing ran") && text.contains("No answers were kept"));
    assert!(text.contains("no artifact has such a figure"));
}

#[test]
fn what_did_not_run_or_is_undecided_is_never_passed() {
    let verdict = |checks: Vec<Check>| {
        let text = page(&Report { checks, ..empty() });
        let class = text.split("class=\"verdict ").nth(1).and_then(|rest| rest.split('"').next()).expect("a verdict");
        let word = text.split("<p class=\"word\">").nth(1).and_then(|rest| rest.split("</p>").next()).expect("a word");
        format!("{class}: {word}")
    };
    let passed = || Check::passed(Link::Export, "weights read back", "");
    let missing = || Check::missing(Link::Runtime, "logits", "no engine");
    let undecided = || Check { outcome: Outcome::Undecided, ..passed() };
    assert_eq!(verdict(vec![missing()]), "none: Not run");
    assert_eq!(verdict(vec![Check::seen(Link::Import, "names", "")]), "none: Nothing was held to a limit");
    assert_eq!(verdict(vec![passed(), undecided()]), "odd: Nothing failed, and not all is decided");
    assert_eq!(verdict(vec![passed(), missing()]), "good: Passed");
    assert_eq!(verdict(vec![undecided(), Check::failed(Link::Passes, "graph", "broken")]), "bad: Failed at passes");
}

#[test]
fn an_answer_is_told_apart_by_stage() {
    let mut split = report();
    split.artifacts.truncate(2);
    split.artifacts.remove(0);
    let artifact = &mut split.artifacts[0];
    artifact.generations.truncate(1);
    let one = &mut artifact.generations[0];
    one.float = "the old bridge".into();
    one.outputs = vec![Some("the old bridge".into()), Some("the new bridge".into())];
    one.partings.clear();
    let text = page(&split);
    assert!(text.contains("<b>quantization</b> same") && text.contains("<b>onnxruntime</b> parts"));
    assert!(text.contains("the <del>old</del><ins>new</ins> bridge"));
    assert!(text.contains("<small>= float model</small>"));
}

#[test]
fn a_simulator_that_was_asked_a_few_samples_says_how_many() {
    let mut report = made_up::report();
    let run = report.artifacts[0].runs.last_mut().expect("an engine");
    run.agreement.as_mut().expect("compared").sequences = 8;
    let (version, page, text) = (run.engine.version.clone(), page(&report), report::markdown::page(&report));
    assert_eq!(page.matches(&format!("<small>{version}, 8 samples</small>")).count(), 1);
    assert_eq!(text.matches(&format!("{version}, 8 samples |")).count(), 1, "{text}");
}
