//! What a build is told as: annotations, the summary, the page of a comment, reports for the test view.

use serde_json::{Value, json};

use super::{BROKEN, KEPT, Machine, good};
use crate::cli::text;

#[test]
fn shards_and_a_join_that_pass_leave_a_summary_and_no_annotation() {
    let machine = Machine::new();
    machine.recipe("good", KEPT);
    for shard in ["1/2", "2/2"] {
        assert_eq!(machine.shard(shard), 0);
        assert_eq!(machine.say(&[("SHARD", shard)]), "");
        assert!(!machine.path("summary.md").exists(), "the join says it");
    }
    assert_eq!(machine.build(&["--join"]), 0);
    assert_eq!(machine.say(&[]), "");
    let summary = machine.read("summary.md");
    assert!(summary.starts_with("<!-- trefoil build -->\n\n### `recipes/good.yaml`\n"), "{summary}");
    let first = machine.read("out/good/report.md").lines().next().map(|line| line.trim_start_matches('#').to_owned());
    assert!(summary.contains(&first.expect("a line")), "{summary}");
    assert!(summary.contains("report.html, report.json") && !summary.contains("](report."), "{summary}");
    let reports = ["html", "json", "md", "xml"].map(|ending| format!("report.{ending}"));
    for report in reports {
        let of_build = machine.read(&format!("out/good/{report}"));
        assert_eq!(machine.read(&format!("state/reports/recipes-good/{report}")), of_build);
    }
}

#[test]
fn the_cache_keeps_what_the_last_build_asked_for() {
    let machine = Machine::new();
    machine.recipe("one", KEPT);
    assert_eq!(machine.build(&[]), 0);
    assert_eq!(machine.kept(), 2);
    machine
        .write("recipes/one.yaml", machine.read("recipes/one.yaml").replace("scheme: int8", "scheme: int8, clip: mse"));
    assert_eq!(machine.build(&["--shard", "1/2"]), 0);
    assert_eq!(machine.kept(), 1, "what this shard made");
    assert_eq!(machine.build(&["--join"]), 2);
    let said = machine.say(&[]);
    assert!(said.starts_with("::error file=recipes/one.yaml,line=1,title=trefoil::"), "{said}");
    assert!(machine.read("summary.md").contains("could not be built:\n\n```text\n"));
}

#[test]
fn a_check_that_failed_is_an_annotation_where_its_artifact_begins() {
    let machine = Machine::new();
    machine.recipe("bad", BROKEN);
    machine.recipe("good", KEPT);
    assert_eq!(machine.shard("1/1"), 1);
    let said = machine.say(&[("SHARD", "1/1")]);
    assert!(said.contains("::error file=recipes/bad.yaml,line=8,title=trefoil%3A second::"), "{said}");

    assert_eq!(machine.build(&["--join"]), 1);
    let said = machine.say(&[]);
    assert!(said.lines().all(|line| line.starts_with("::error file=recipes/bad.yaml,line=")), "{said}");
    for (line, name) in [(6, "onnx"), (8, "second")] {
        let place = format!("::error file=recipes/bad.yaml,line={line},title=trefoil%3A {name}::quantization: ");
        let of_it = said.lines().find(|said| said.starts_with(&place)).unwrap_or_else(|| panic!("{place} in {said}"));
        assert!(of_it.contains(" (kl 0.00") && of_it.contains(", at most 1e-12): "), "{of_it}");
    }
    assert!(machine.read("state/reports/recipes-bad/report.xml").contains("<failure"));
    assert!(!machine.read("state/reports/recipes-good/report.xml").contains("<failure"));
}

#[test]
fn what_keeps_a_build_from_running_is_an_annotation_at_its_line() {
    let machine = Machine::new();
    machine.write("recipes/broken.yaml", "model: ../model\nout: ../out\nartifacts: 3\n");
    assert_eq!(machine.build(&[]), 2);
    let said = machine.say(&[]);
    assert!(said.starts_with("::error file=recipes/broken.yaml,line=3,title=trefoil::"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(machine.read("summary.md").contains("trefoil could not run:"));

    machine.write("state/build.json", "");
    machine.write("state/errors.txt", "bash: trefoil: command not found\n");
    assert_eq!(machine.say(&[]), "::error title=trefoil::bash: trefoil: command not found\n");

    let none = machine.command("ci/build.sh").args(["other", "nowhere/*.yaml"]).output().expect("bash starts");
    assert_eq!(
        (none.status.code(), text(&none.stderr)),
        (Some(2), "build: no recipe is named by: nowhere/*.yaml\n".into())
    );
}

#[test]
fn what_differs_from_a_lock_is_an_annotation_at_the_lock() {
    let machine = Machine::new();
    machine.recipe("good", KEPT);
    assert_eq!(machine.build(&[]), 0);
    assert_eq!(machine.build(&["--locked"]), 0);
    machine.write("recipes/data.jsonl", "{\"input\": \"4 5 6 1\"}\n");
    assert_eq!(machine.build(&["--locked"]), 1);
    let said = machine.say(&[]);
    assert!(said.starts_with("::error file=recipes/good.lock,line=1,title=not as the lock says::"), "{said}");
    assert!(said.contains("data.jsonl"), "{said}");
}

/// A build that found so many things, told by the scripts.
fn told(machine: &Machine, recipes: &[Value], script: &str, more: &[&str]) -> String {
    machine.write("state/build.json", json!({ "recipes": recipes, "damaged": [] }).to_string());
    machine.write("state/errors.txt", "");
    let arguments = ["state/build.json", "state/errors.txt"];
    good(machine.command(script).args(arguments).args(more).output().expect("Python starts"))
}

fn failed(recipe: &str, error: &str) -> Value {
    let nothing: [Value; 0] = [];
    json!({
        "recipe": recipe, "out": null, "lock": null, "artifacts": nothing, "drift": nothing, "verdict": null, "error": error
    })
}

#[test]
fn texts_from_outside_end_no_fence_no_line_and_no_property() {
    let machine = Machine::new();
    let hostile = "a ``` b\n````\n<!-- --> @someone [x](https://example.org)\r\n::error::100%";
    let recipe = failed("recipes/a,b:`@someone`.yaml", hostile);
    let page = told(&machine, std::slice::from_ref(&recipe), "ci/comment.py", &["build"]);
    assert!(page.contains("\n### `recipes/a,b: @someone .yaml`\n"), "{page}");
    let (_, fenced) = page.split_once("\n`````text\n").expect("a fence that is longer than any in the text");
    assert_eq!(fenced.strip_suffix("\n`````\n"), Some(hostile), "{page}");

    let said = told(&machine, &[recipe], "ci/annotations.py", &[]);
    let place = "::error file=recipes/a%2Cb%3A`@someone`.yaml,line=1,title=trefoil::";
    let message = said.strip_prefix(place).unwrap_or_else(|| panic!("{said}")).strip_suffix('\n').expect("a line");
    assert!(!message.contains(['\n', '\r']) && message.ends_with("%0D%0A::error::100%25"), "{message}");

    let named = machine.command("ci/comment.py").args(["state/build.json", "state/errors.txt", "a --> b"]).output();
    assert_eq!(named.expect("Python starts").status.code(), Some(1));
}

#[test]
fn a_page_is_as_long_as_a_comment_may_be_and_says_what_it_leaves_out() {
    let machine = Machine::new();
    let recipes: Vec<Value> = (0..40).map(|i| failed(&format!("recipes/{i}.yaml"), &"ö".repeat(5000))).collect();
    let page = told(&machine, &recipes, "ci/comment.py", &["build"]);
    assert!((60_000..=65_536).contains(&page.chars().count()), "{}", page.chars().count());
    assert!(page.contains(" of 40 parts are too long for this place"), "{page}");
    let all = told(&machine, &recipes, "ci/comment.py", &["build", "1000000"]);
    assert!(all.contains("recipes/39.yaml") && !all.contains("too long for this place"));

    let said = told(&machine, &recipes, "ci/annotations.py", &[]);
    assert_eq!(said.lines().count(), 11);
    assert!(said.ends_with("::notice title=trefoil::30 more failures stand in the report\n"), "{said}");
}

#[test]
fn an_artifact_is_found_in_every_form_of_a_list() {
    let machine = Machine::new();
    for (recipe, line) in [
        ("artifacts:\n- onnx: {}\n- gguf:\n", 3),
        ("artifacts:\n  - onnx\n  # - gguf\n  - gguf\nmodel: x\n", 4),
        ("model: x\nartifacts:\n  - onnx: {}\n  - onnx: {}\n    quantize: [\n      - 3\n    ]\n    name: 'gguf'\n", 4),
        ("model: x\nartifacts: [onnx, gguf]\n", 2),
        ("model: x\n", 1),
    ] {
        machine.write("recipes/one.yaml", recipe);
        let mut row = failed("recipes/one.yaml", "");
        row["error"] = Value::Null;
        row["artifacts"] = json!([{ "name": "gguf", "came": "made", "verdict": "failed" }]);
        let said = told(&machine, &[row], "ci/annotations.py", &[]);
        let place = format!("::error file=recipes/one.yaml,line={line},title=trefoil%3A gguf::");
        assert!(said.starts_with(&place), "{recipe}\n{said}");
    }
}
