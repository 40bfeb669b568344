//! Two reports of the same model on the same data.

use metrics::TaskMetric;
use report::diff::{Change, Diff, Quantity, Rules, diff, html, markdown};
use report::*;

use crate::made::{artifact, generation, good, hostile, nothing, run, score, speed};

fn of(old: &Report, new: &Report) -> Diff {
    diff(old, new, &Rules::default()).expect("of the same model and data")
}

fn sentences(diff: &Diff) -> Vec<String> {
    diff.regressions.iter().map(|one| one.sentence.clone()).collect()
}

#[test]
fn a_report_does_not_differ_from_itself() {
    for report in [good(), nothing(), Report { artifacts: vec![hostile().artifacts[0].clone()], ..hostile() }] {
        let found = of(&report, &report);
        assert_eq!((sentences(&found), found.checks.len()), (Vec::new(), 0));
        assert!(found.artifacts.iter().all(|one| one.checks.is_empty()), "{found:#?}");
        let figures = found.artifacts.iter().flat_map(|one| &one.runs).flat_map(|run| &run.figures);
        assert!(figures.clone().all(|figure| figure.change == Change::Same), "{found:#?}");
        let changed = found.artifacts.iter().flat_map(|one| &one.runs).any(|run| !run.newly_wrong.is_empty());
        assert!(!changed && markdown(&found).contains("Nothing that was good is broken"));
    }
}

#[test]
fn what_is_better_worse_bigger_slower_newly_wrong_and_newly_right_is_told() {
    let (old, mut new) = (good(), good());
    let one = &mut new.artifacts[0];
    one.bytes = 5_000_000;
    one.runs[1].engine.version = "1.3".to_owned();
    one.runs[1].score = Some(score(10.0, Some([1.0, 19.0])));
    one.runs[0].to_float.as_mut().expect("there").kl = Some(0.02);
    one.speed = vec![Speed {
        tokens_per_s: speed("").tokens_per_s.map(|_| metrics::Spread { median: 100.0, low: 90.0, high: 110.0 }),
        ..speed("onnxruntime")
    }];
    one.checks[0] = Check { outcome: Outcome::Failed, sentence: "too far".to_owned(), ..one.checks[0].clone() };
    // Sorted otherwise: sentences are found by their samples.
    one.generations = vec![
        generation(1, Some("c"), "c", ["d", "c"]),
        generation(0, Some("a b"), "a b", ["a  b", "b"]),
        generation(2, Some("e"), "x", ["x", "y"]),
    ];
    new.artifacts.push(artifact("gguf"));
    let found = of(&old, &new);
    assert_eq!(
        sentences(&found),
        [
            "fails at quantization: logits: too far",
            "5.00 MB, 11.1 % more than 4.50 MB; at most 1 % more",
            "in interpreter: KL 0.0200, 100 % more than 0.0100; at most 10 % more",
            "in onnxruntime: exact match 10.0 (1.0 to 19.0), worse than 75.0 (19.4 to 99.4) beyond both intervals",
        ]
    );
    assert_eq!((&found.added, found.removed.len()), (&vec!["gguf".to_owned()], 0));
    let engine = &found.artifacts[0].runs[1];
    assert_eq!((engine.engine.as_str(), &engine.versions), ("onnxruntime", &["1.2".to_owned(), "1.3".to_owned()]));
    let samples = |all: &[report::diff::Sentence]| all.iter().map(|one| one.sample).collect::<Vec<_>>();
    assert_eq!((samples(&engine.newly_wrong), samples(&engine.newly_right)), (vec![0], vec![1]));
    let change = |quantity| engine.figures.iter().find(|f| f.quantity == quantity).map(|f| f.change);
    assert_eq!(change(Quantity::TokensPerS), Some(Change::Worse));
    assert_eq!(change(Quantity::Task(TaskMetric::ExactMatch)), Some(Change::Worse));
    assert_eq!(change(Quantity::Kl), Some(Change::Same));
    let text = markdown(&found);
    for line in [
        "4 changes against the rules: 0 figures better, 3 worse.\n",
        "| onnx |  | size | 4.50 MB | 5.00 MB | bigger |\n",
        "| onnx | onnxruntime | tokens/s | 310 (294 to 326) | 100 (90.0 to 110) | slower |\n",
        "| onnx | onnxruntime | version | 1.2 | 1.3 |  |\n",
        "- quantization: logits: passed, now failed: too far\n",
        "## Newly wrong in onnx, onnxruntime: 1 sentence\n\n- 0: `word 0`: now `b`, before `a b`, right is `a b`\n",
        "## Newly right in onnx, onnxruntime: 1 sentence\n\n- 1: `word 1`: now `c`, before `d`, right is `c`\n",
        "New artifacts: gguf.\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // The other way round nothing is against the rules, and the artifact that is gone is told.
    let back = of(&new, &old);
    assert_eq!((sentences(&back), &back.removed), (Vec::new(), &vec!["gguf".to_owned()]));
}

#[test]
fn intervals_that_meet_decide_nothing_and_a_figure_without_one_is_its_own() {
    let with = |points, interval| {
        let mut report = good();
        report.artifacts[0].runs[1].score = Some(score(points, interval));
        report
    };
    let change = |old: &Report, new: &Report| {
        let found = of(old, new);
        (found.artifacts[0].runs[1].figures[0].change, found.regressions.len())
    };
    assert_eq!(change(&with(50.0, Some([40.0, 60.0])), &with(45.0, Some([35.0, 55.0]))), (Change::WithinIntervals, 0));
    assert_eq!(change(&with(50.0, Some([40.0, 60.0])), &with(35.0, Some([30.0, 39.0]))), (Change::Worse, 1));
    assert_eq!(change(&with(50.0, None), &with(49.0, None)), (Change::Worse, 1));
    assert_eq!(change(&with(50.0, None), &with(51.0, None)), (Change::Better, 0));
}

#[test]
fn growth_is_refused_beyond_its_rule_and_noise_is_no_growth() {
    let with = |kl, bytes| {
        let mut report = good();
        report.artifacts[0].runs = vec![run("interpreter", kl)];
        report.artifacts[0].bytes = bytes;
        report
    };
    let broken =
        |old: &Report, new: &Report, rules: Rules| diff(old, new, &rules).expect("comparable").regressions.len();
    assert_eq!(broken(&with(0.1, 1000), &with(0.109, 1010), Rules::default()), 0);
    assert_eq!(broken(&with(0.1, 1000), &with(0.111, 1011), Rules::default()), 2);
    assert_eq!(broken(&with(0.1, 1000), &with(0.111, 1011), Rules { max_kl_growth: 20.0, max_size_growth: 2.0 }), 0);
    assert_eq!(broken(&with(1e-9, 1), &with(9e-7, 1), Rules::default()), 0);
    assert_eq!(broken(&with(0.0, 1), &with(2e-6, 1), Rules::default()), 1);
}

#[test]
fn a_check_is_the_same_one_in_another_version_of_its_engine() {
    let with = |version: &str, outcome| {
        let mut report = good();
        report.artifacts[0].runs[1].engine.version = version.to_owned();
        let what = format!("onnxruntime {version}: logits");
        report.artifacts[0].checks.push(Check { outcome, ..Check::passed(Link::Runtime, what, "") });
        report
    };
    let found = of(&with("1.2", Outcome::Passed), &with("1.3", Outcome::Passed));
    assert_eq!(found.artifacts[0].checks, []);
    let found = of(&with("1.2", Outcome::Passed), &with("1.3", Outcome::Failed));
    assert_eq!(sentences(&found), ["fails at runtime: onnxruntime 1.3: logits"]);
    // What failed before is no news.
    assert_eq!(sentences(&of(&with("1.2", Outcome::Failed), &with("1.3", Outcome::Failed))).len(), 0);
}

#[test]
fn other_models_data_samples_and_metrics_are_refused_all_at_once() {
    let (old, mut new) = (good(), good());
    new.model.model_type = "bart".to_owned();
    new.model.inputs = vec![InputFile { path: "model.safetensors".to_owned(), bytes: 1, sha256: "cd".to_owned() }];
    new.data.sha256 = "ef".to_owned();
    new.data.samples = 5;
    new.data.metrics.push(TaskMetric::WordErrorRate);
    let error = diff(&old, &new, &Rules::default()).expect_err("refused").to_string();
    for line in [
        "the reports cannot be compared:\n  family: , and now bart\n",
        "\n  data: words.jsonl (sha256 abab",
        "\n  samples: 4, and now 5\n",
        "\n  metrics: exact_match, and now exact_match, word_error_rate\n",
        "\n  model, model.safetensors: not there, and now sha256 cd\n",
    ] {
        assert!(error.contains(line), "{line} is not in\n{error}");
    }
}

#[test]
fn any_text_is_shown_and_not_obeyed() {
    let (mut old, new) = (hostile(), hostile());
    for artifact in &mut old.artifacts {
        artifact.generations.iter_mut().for_each(|one| one.outputs = vec![Some("right".to_owned()); 2]);
        artifact.checks.truncate(3);
    }
    let found = of(&old, &new);
    assert!(!found.regressions.is_empty());
    let page = html(&found);
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script") && !page.contains('\u{0}'));
    let tags = ["<ul>", "<table>", "<h2>", "<code>"];
    assert!(tags.iter().all(|tag| page.matches(tag).count() == page.matches(&tag.replace('<', "</")).count()));
    let text = markdown(&found);
    assert!(text.lines().all(|line| !line.starts_with("# heading") && !line.starts_with("<script")));
    // What JSON holds is all of it.
    let read: Diff = serde_json::from_str(&found.to_json()).expect("its own JSON");
    assert!(read == found && found.to_json().len() > 1_000_000);
}
