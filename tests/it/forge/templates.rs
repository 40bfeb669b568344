//! The templates as files: their schemas, what they call, and what they let in.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{KEPT, Machine, good};
use crate::cli::{code, text, trefoil};
use crate::fixture::repository;

const ACTION: &str = "ci/github/trefoil/action.yml";
const WORKFLOW: &str = "ci/github/workflow.yml";
const GITLAB: &str = "ci/gitlab/trefoil.gitlab-ci.yml";

fn read(file: &str) -> String {
    fs::read_to_string(repository(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn steps(action: &Value) -> &[Value] {
    action["runs"]["steps"].as_array().expect("a list")
}

/// Every `--option` of the lines that call `trefoil build`.
#[test]
fn options_in_templates_are_those_of_the_program() {
    let help = trefoil().args(["build", "--help"]).output().expect("the binary starts");
    let help = text(&help.stdout);
    let has = |option: &str| help.split([' ', ',', '\n', '[', '=', '.']).any(|word| word == option);
    let calls =
        ["trefoil build", "{params.trefoil:q} build", "more+=(", "/build.sh\"", "arguments", "--json --verbose"];
    let mut seen = 0;
    for file in
        [ACTION, WORKFLOW, GITLAB, "ci/build.sh", "examples/snakemake/Snakefile", "examples/snakemake/config.yaml"]
    {
        let text = read(file);
        for line in text.lines().filter(|line| calls.iter().any(|call| line.contains(call))) {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            for option in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                assert!(has(option), "{file}: `trefoil build` has no {option}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 12, "{seen} options");
}

/// What a stranger writes into a title or a branch is no code: expressions reach scripts as variables alone.
#[test]
fn scripts_of_the_action_hold_no_expression_and_its_actions_are_pinned() {
    let (action, workflow) = (yaml(ACTION), yaml(WORKFLOW));
    let scripts: Vec<&str> = steps(&action).iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(scripts.len() >= 4 && scripts.iter().all(|script| !script.contains("${{")), "{scripts:#?}");
    let jobs = workflow["jobs"].as_object().expect("jobs").values();
    let uses = steps(&action).iter().chain(jobs.flat_map(|job| job["steps"].as_array().expect("steps")));
    let uses: Vec<&str> = uses.filter_map(|step| step["uses"].as_str()).collect();
    assert!(uses.len() >= 9);
    for each in uses {
        let version = each.rsplit_once("@v").unwrap_or_else(|| panic!("{each} is not pinned")).1;
        assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{each}");
    }
}

#[test]
fn the_example_gives_the_action_what_it_takes() {
    let (action, workflow) = (yaml(ACTION), yaml(WORKFLOW));
    let inputs = action["inputs"].as_object().expect("inputs");
    for (name, job) in workflow["jobs"].as_object().expect("jobs") {
        let own = job["steps"].as_array().expect("steps").iter().find(|step| step["with"].is_object()).expect("a step");
        let with = own["with"].as_object().expect("inputs");
        assert!(with.keys().all(|input| inputs.contains_key(input)), "{name}: {with:?}");
        let required = inputs.iter().filter(|(_, input)| input["required"] == true);
        required.for_each(|(input, _)| assert!(with.contains_key(input), "{name}: no {input}"));
    }
    let used = read(ACTION);
    inputs.keys().for_each(|input| assert!(used.contains(&format!("inputs.{input}")), "{input} is used nowhere"));
}

/// The steps that name a part of the build and build it, with the variables that GitHub would make of their expressions.
#[test]
fn the_action_builds_shards_and_joins_them() {
    let machine = Machine::new();
    machine.recipe("good", KEPT);
    let action = yaml(ACTION);
    let script = |id: &str| {
        let step = steps(&action).iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step {id}"));
        step["run"].as_str().expect("a script").to_owned()
    };
    let place = repository("ci/github/trefoil");
    let run = |id: &str, variables: &[(&str, &str)]| {
        let mut command = Command::new("bash");
        machine.surround(&mut command);
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script(id)]);
        command.env("GITHUB_ACTION_PATH", &place).env("GITHUB_OUTPUT", machine.path("output"));
        command.env("RUNNER_TEMP", machine.dir.path()).env("NAME", "build").envs(variables.iter().copied());
        command.output().expect("bash starts")
    };
    let parts = [("1/2", "false", "build-shard-1-of-2"), ("2/2", "false", "build-shard-2-of-2"), ("", "true", "build")];
    for (shard, join, part) in parts {
        machine.write("output", "");
        good(run("names", &[("SHARD", shard)]));
        let state = machine.path("trefoil-build").display().to_string();
        assert_eq!(machine.read("output"), format!("part={part}\nstate={state}\n"));
        let variables = [("SHARD", shard), ("JOIN", join), ("LOCKED", "false"), ("STATE", &state)];
        let more = [("RECIPES", "recipes/*.yaml"), ("ARGUMENTS", "--offline  --no-bench")];
        let cache = format!("{state}/cache");
        if join == "true" {
            fs::rename(machine.path("cache"), &cache).expect("brought");
        }
        good(run("build", &[&variables[..], &more, &[("TREFOIL_CACHE", &cache)]].concat()));
        if join == "false" {
            machine.hand_over("trefoil-build/cache");
        }
    }
    assert!(machine.path("out/good/onnx").exists() && machine.path("out/good/report.xml").exists());
}

/// The jobs of GitLab, whose lines are one script.
#[test]
fn the_template_of_gitlab_builds_shards_and_joins_them() {
    let machine = Machine::new();
    machine.recipe("bad", super::BROKEN);
    let template = yaml(GITLAB);
    let install = template[".trefoil"]["before_script"][0].as_str().expect("a script");
    assert!(install.contains("sha256sum --check"));
    // As after `install`, whose release a test of the script of the action stands for.
    let run = |job: &str, node: &str| {
        let mut command = Command::new("bash");
        machine.surround(&mut command);
        command.args(["-eo", "pipefail", "-c", template[job]["script"][0].as_str().expect("a script")]);
        for (name, value) in template["variables"].as_object().expect("variables") {
            command.env(name, value.as_str().expect("a text"));
        }
        command.env("TREFOIL_CI", repository("ci")).env("TREFOIL_ARGUMENTS", "--offline --no-bench");
        command.env("CI_NODE_INDEX", node).env("CI_NODE_TOTAL", "2");
        command.env("TREFOIL_CACHE", machine.path(if node.is_empty() { "cache" } else { "elsewhere" }));
        code(&command.output().expect("bash starts"))
    };
    for node in ["1", "2"] {
        assert_eq!(run("trefoil:shard", node), 1);
        machine.hand_over("elsewhere");
    }
    assert_eq!(run("trefoil:join", ""), 1);
    assert!(machine.read(".trefoil/state/page.md").starts_with("<!-- trefoil build -->\n"));
    assert!(machine.read(".trefoil/state/reports/recipes-bad/report.xml").contains("<failure"));
}

#[test]
#[ignore = "needs check-jsonschema: tools/setup.sh --all"]
fn templates_are_as_the_schemas_of_their_services_say() {
    for (schema, file) in
        [("vendor.github-actions", ACTION), ("vendor.github-workflows", WORKFLOW), ("vendor.gitlab-ci", GITLAB)]
    {
        let check = |file: &std::path::Path| {
            let mut command = Command::new(repository(".venv-snakemake/bin/check-jsonschema"));
            command.args(["--builtin-schema", schema]).arg(file).output().expect("installed")
        };
        good(check(&repository(file)));
        // The schema is one that refuses.
        let machine = Machine::new();
        machine.write(
            "wrong.yml",
            read(file)
                .replace("  script:", "  scripts: 3\n  script:")
                .replace("runs-on:", "run-on:")
                .replace("using:", "user:"),
        );
        assert_eq!(code(&check(&machine.path("wrong.yml"))), 1, "{file}");
    }
}
