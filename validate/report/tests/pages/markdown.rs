//! The short text.

use report::markdown::{MOST_BYTES, page};
use report::*;

use crate::made::{artifact, good, hostile, nothing};

#[test]
fn a_good_report_is_a_verdict_a_table_and_what_is_newly_wrong() {
    let text = page(&good());
    let expected = "# leaf

**Passed: 3 checks**

| artifact | engine | size | bits | first token, ms | tokens/s | × float | exact match | KL | verdict |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| float model | interpreter | | | | | | 75.0 (19.4 to 99.4) |  | |
| onnx | interpreter 1.2 | 4.50 MB | 8.06 |  |  |  | 75.0 (19.4 to 99.4) | 0.0100 | passed |
|  | onnxruntime 1.2 |  |  | 12.0 | 310 | 1.80 | 75.0 (19.4 to 99.4) | 0.0120 |  |

4 samples of `words.jsonl`, 20 target positions; KL against the float model; in parentheses 95 % intervals; speeds are medians, `~` where they scatter too much to be quoted, × is of tokens/s and the float model's.

## Newly wrong, right in the float model

- onnx (onnxruntime): `word 1`: `d`, right is `c`

Made by trefoil 0.1.0. All checks, tensors and outputs: [report.html](report.html), [report.json](report.json).
";
    assert_eq!(text, expected);
}

#[test]
fn what_failed_what_is_undecided_and_what_was_not_run_is_told_with_its_sentence() {
    let mut report = good();
    let checks = &mut report.artifacts[0].checks;
    let limit = Limit::AtMost(0.1);
    checks.push(Check::judge(Link::Runtime, "logits", Metric::Kl, Some(0.3), limit, "the engine computes otherwise"));
    let undecided = Check::judge(Link::Runtime, "answers", Metric::MetricDrop, Some(0.5), limit, "30 samples decide");
    checks.push(Check { outcome: Outcome::Undecided, ..undecided });
    for _ in 0..3 {
        checks.push(Check::missing(Link::Runtime, "in rknn", "no library; to run it: pip install it"));
    }
    checks.push(Check::seen(Link::Export, "names", "one was shortened"));
    report.artifacts[0].runs[1].score.as_mut().expect("there").endless = 2;
    let text = page(&report);
    for line in [
        "**Failed at runtime of onnx: 1 of 4 checks; 3 not run; 1 undecided**\n",
        "## Failed\n\n- onnx, runtime: logits (KL 0.300, limit ≤ 0.100): the engine computes otherwise\n",
        "## Undecided\n\n- onnx, runtime: answers (points lost 0.5, limit ≤ 0.1): 30 samples decide\n",
        "## Not run\n\n- onnx, runtime: in rknn and 2 more: no library; to run it: pip install it\n",
        "## Without a limit\n\n- onnx, export: names: one was shortened\n",
        "## Ran to the limit of their length\n\n- onnx in onnxruntime 1.2: 2 of 4 outputs\n",
        "| **failed** at runtime, 3 not run, 1 undecided |\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_comment_on_github_takes_it_whatever_the_report_holds() {
    let text = page(&hostile());
    assert!(text.len() <= MOST_BYTES && text.lines().count() < 400, "{} bytes", text.len());
    // One table, and no heading, call, or cell that the report's texts made; what stands between ticks is only shown.
    for line in text.lines() {
        assert!(!line.contains('\r') && !line.contains('\u{202e}'), "{line}");
        assert!(!line.starts_with("# heading") && !line.trim_start().starts_with("<script"), "{line}");
        assert!(line.contains('`') || !line.contains("@all"), "{line}");
    }
    assert!(text.lines().next().is_some_and(|title| title.contains("@\u{200b}all")), "{text}");
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let rows: Vec<usize> = text.lines().filter(|line| line.starts_with('|')).map(bars).collect();
    assert!(rows.len() > 100 && rows.iter().all(|count| *count == 11), "{rows:?}");
    // Cut where there are too many artifacts for the lines of one comment.
    let mut report = good();
    report.artifacts = (0..90).map(|i| artifact(&format!("{i}{}", "n".repeat(1500)))).collect();
    let text = page(&report);
    assert!(text.len() <= MOST_BYTES && text.ends_with("Cut here: report.json has the rest.\n"), "{}", text.len());
}

#[test]
fn a_report_of_nothing_says_so() {
    let expected = "# leaf\n\n**Nothing was checked**\n\nMade by trefoil 0.1.0. All checks, tensors and outputs: \
                    [report.html](report.html), [report.json](report.json).\n";
    assert_eq!(page(&nothing()), expected);
}
