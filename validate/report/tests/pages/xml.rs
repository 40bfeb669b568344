//! JUnit XML, read by a parser and held to the rules of `junit-10.xsd`.

use report::junit::page;
use report::*;
use roxmltree::{Document, Node};

use crate::made::{good, hostile, nothing};

/// Elements that may stand in another, and attributes that each must have and may have.
struct Rule {
    tag: &'static str,
    inside: &'static [&'static str],
    must: &'static [&'static str],
    may: &'static [&'static str],
}

const RULES: [Rule; 5] = [
    Rule {
        tag: "testsuites",
        inside: &["testsuite"],
        must: &[],
        may: &["name", "time", "tests", "failures", "disabled", "errors"],
    },
    Rule {
        tag: "testsuite",
        inside: &["properties", "testcase", "system-out", "system-err"],
        must: &["name", "tests"],
        may: &["failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package"],
    },
    Rule {
        tag: "testcase",
        inside: &["skipped", "error", "failure"],
        must: &["name"],
        may: &["assertions", "time", "classname", "status"],
    },
    Rule { tag: "failure", inside: &[], must: &[], may: &["type", "message"] },
    Rule { tag: "skipped", inside: &[], must: &[], may: &["type", "message"] },
];

fn follows_the_rules(node: Node) {
    let tag = node.tag_name().name();
    let Some(Rule { inside, must, may, .. }) = RULES.iter().find(|rule| rule.tag == tag) else { panic!("<{tag}>") };
    let found: Vec<&str> = node.attributes().map(|attribute| attribute.name()).collect();
    assert!(must.iter().all(|name| found.contains(name)), "<{tag}> has {found:?}");
    assert!(found.iter().all(|name| must.contains(name) || may.contains(name)), "<{tag}> has {found:?}");
    for child in node.children().filter(Node::is_element) {
        assert!(inside.contains(&child.tag_name().name()), "<{}> in <{tag}>", child.tag_name().name());
        follows_the_rules(child);
    }
}

/// The counts of a suite are those of its cases.
fn counts_are_right(document: &Document) {
    for suite in document.descendants().filter(|node| node.has_tag_name("testsuite")) {
        let cases = |with: &str| {
            let cases = suite.children().filter(|node| node.has_tag_name("testcase"));
            cases.filter(|case| with.is_empty() || case.children().any(|child| child.has_tag_name(with))).count()
        };
        for (attribute, with) in [("tests", ""), ("failures", "failure"), ("skipped", "skipped")] {
            assert_eq!(suite.attribute(attribute), Some(cases(with).to_string().as_str()), "{attribute}");
        }
    }
}

#[test]
fn suites_are_of_the_model_and_of_artifacts_and_cases_are_checks() {
    let mut report = good();
    let checks = &mut report.artifacts[0].checks;
    let limit = Limit::AtMost(0.1);
    checks.push(Check::judge(Link::Runtime, "logits", Metric::Kl, Some(0.3), limit, "first <line>\nsecond & \"last\""));
    checks.push(Check::not_run(Link::Runtime, "in rknn", "no library"));
    let undecided = Check::judge(Link::Runtime, "answers", Metric::MetricDrop, Some(0.5), limit, "30 samples decide");
    checks.push(Check { outcome: Outcome::Undecided, ..undecided });
    let text = page(&report);
    let document = Document::parse(&text).expect("well-formed");
    follows_the_rules(document.root_element());
    counts_are_right(&document);
    let suites: Vec<Option<&str>> =
        document.root_element().children().filter(Node::is_element).map(|s| s.attribute("name")).collect();
    assert_eq!(suites, [Some("leaf"), Some("leaf.onnx")]);
    let one = |tag: &str| document.descendants().filter(|node| node.has_tag_name(tag)).collect::<Vec<_>>();
    let [failure] = one("failure")[..] else { panic!("{text}") };
    assert_eq!(failure.attribute("message"), Some("first <line>"));
    assert_eq!(failure.text(), Some("KL 0.300, at most 0.100\nfirst <line>\nsecond & \"last\""));
    let case = failure.parent().expect("a case");
    assert_eq!((case.attribute("classname"), case.attribute("name")), (Some("leaf.onnx.runtime"), Some("logits: KL")));
    let skipped: Vec<_> = one("skipped").iter().map(|s| (s.attribute("message"), s.text())).collect();
    assert_eq!(skipped, [(Some("not run"), Some("no library")), (Some("undecided"), Some("30 samples decide"))]);
}

#[test]
fn any_text_is_well_formed_and_reads_back_but_for_what_xml_cannot_hold() {
    let mut report = hostile();
    report.artifacts.truncate(1);
    let text = page(&report);
    let document = Document::parse(&text).expect("well-formed");
    follows_the_rules(document.root_element());
    counts_are_right(&document);
    let name = document.root_element().attribute("name").expect("there");
    let expected: String = report
        .model
        .name
        .chars()
        .map(|c| if matches!(c, '\u{0}' | '\u{b}' | '\u{ffff}') { '\u{fffd}' } else { c })
        .collect();
    assert_eq!(name, expected);
    for report in [nothing(), good()] {
        follows_the_rules(Document::parse(&page(&report)).expect("well-formed").root_element());
    }
}
