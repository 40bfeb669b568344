//! Pages, through a Donut that reads them: prompts of several tokens, and answers as fields, as transformers has them.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{code, run, text, trefoil};
use crate::fixture::{copy, repository};

/// A PNG of the fixtures.
fn image(name: &str) -> String {
    repository(&format!("tests/fixtures/images/{name}.png")).display().to_string()
}

/// What transformers recorded.
fn recorded() -> Vec<Value> {
    let file = fs::read(repository("tests/fixtures/pages/read.json")).expect("recorded");
    let json: Value = serde_json::from_slice(&file).expect("JSON");
    let pages = json["pages"].as_array().expect("pages").clone();
    assert!(pages.len() > 10, "{}", pages.len());
    pages
}

/// The one of an image after a prompt.
fn page(image: &str, prompt: &str) -> Value {
    let found = recorded().into_iter().find(|page| page["image"] == image && page["prompt"] == prompt);
    found.expect("recorded")
}

/// A question between marks.
const ASKED: &str = "<s_x><s_question>ab 12<s_total>";

/// The Donut among the fixtures, with a tokenizer.
fn donut() -> TempDir {
    let folder = copy("donut");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(repository(&format!("tests/fixtures/pages/{name}")), folder.path().join(name)).expect("copied");
    }
    folder
}

/// The program with the engines of `$VIRTUAL_ENV`.
fn with_engines(arguments: &[&str]) -> Output {
    let mut command = trefoil();
    command.args(arguments).envs(std::env::var_os("VIRTUAL_ENV").map(|root| ("VIRTUAL_ENV", root)));
    command.output().expect("the binary starts")
}

/// What is answered, as JSON.
fn answer(artifact: &Path, page: &Value) -> Value {
    let (seen, prompt) = (image(page["image"].as_str().expect("a name")), page["prompt"].as_str().expect("a text"));
    let output = with_engines(&["run", &artifact.display().to_string(), &seen, "--prompt", prompt, "--json"]);
    assert_eq!(code(&output), 0, "{page}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The prompt and the tokens of an answer together.
fn sequence(answer: &Value) -> Vec<i64> {
    let ids = |key: &str| -> Vec<i64> { serde_json::from_value(answer[key].clone()).expect("ids") };
    [ids("prompt"), ids("tokens")].concat()
}

#[test]
fn a_page_is_read_after_a_prompt_and_its_fields_are_those_of_transformers() {
    let model = donut();
    for page in recorded() {
        let found = answer(model.path(), &page);
        assert_eq!(found["prompt"], page["prompt_ids"], "{page}");
        assert_eq!(json!(sequence(&found)), page["sequence"], "{page}");
        assert_eq!(found["fields"], page["fields"], "{page}");
    }
    // Fields are the answer where nobody asks for JSON, and the start token is a task.
    let page = page("tall", "<s_x>");
    let output = run(&["run", &model.path().display().to_string(), &image("tall")]);
    assert_eq!(text(&output.stdout), format!("{}\n", page["fields"]), "{}", text(&output.stderr));
}

#[test]
fn lines_of_a_file_have_prompts_of_their_own() {
    let (model, home) = (donut(), tempfile::tempdir().expect("temporary folder"));
    let lines: Vec<String> = recorded()
        .iter()
        .map(|page| {
            json!({"input": image(page["image"].as_str().expect("a name")), "prompt": page["prompt"]}).to_string()
        })
        .chain([json!({"input": image("tall"), "prompt": "<s_y>"}).to_string()])
        .collect();
    let file = home.path().join("pages.jsonl");
    fs::write(&file, lines.join("\n")).expect("written");
    let file = file.display().to_string();
    let model = model.path().display().to_string();
    for batch in ["1", "5"] {
        let output = run(&["run", &model, "--file", &file, "--json", "--batch", batch]);
        assert_eq!(code(&output), 1, "{}", text(&output.stderr));
        let found: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for (found, page) in found.iter().zip(recorded()) {
            assert_eq!(json!(sequence(found)), page["sequence"], "batch {batch}: {page}");
        }
        let refused = found[recorded().len()]["error"]["message"].as_str().expect("refused");
        assert!(refused.contains("found <s_y>, which is none"), "{refused}");
    }
}

#[test]
fn a_prompt_that_is_unknown_or_missing_is_an_error_that_names_those_there_are() {
    let model = donut();
    let said = |prompt: &[&str]| {
        let path = model.path().display().to_string();
        let output = run(&[&["run", &path, &image("tall")], prompt].concat());
        assert_eq!(code(&output), 2);
        text(&output.stderr)
    };
    let unknown = said(&["--prompt", "<s_x><s_question>a</s_question>"]);
    let expected = "prompt: expected tokens of the model, of which <s_menu>, <s_nm>, <s_price>, <s_question>, <s_total>, <s_x> begin a \
                    part; found </s_question>, which is none";
    assert!(unknown.contains(expected), "{unknown}");
    let long = said(&["--prompt", &"<s_x>".repeat(40)]);
    assert!(long.contains("prompt: expected at most 39 tokens, found 40"), "{long}");
    let empty = said(&["--prompt", ""]);
    assert!(empty.contains("prompt: expected a token, found none"), "{empty}");
    let file = model.path().join("generation_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    config["decoder_start_token_id"] = json!(0);
    fs::write(&file, config.to_string()).expect("written");
    let missing = said(&[]);
    let expected =
        "expected a prompt that names a task, found none; `--prompt` takes tokens of the model: <s_menu>, <s_nm>";
    assert!(missing.contains(expected), "{missing}");
}

#[test]
fn a_recipe_decodes_with_a_prompt_and_its_data_may_not_say_another() {
    let (model, home) = (donut(), tempfile::tempdir().expect("temporary folder"));
    let recipe = home.path().join("recipe.yaml");
    let check = |prompt: &str, of_line: &str| {
        let line = json!({"input": image("tall"), "prompt": of_line, "target": "<s_nm>a</s_nm>"});
        fs::write(home.path().join("pages.jsonl"), line.to_string()).expect("written");
        let written = format!(
            "model: {}\nout: out\nquantize: {{ scheme: keep }}\nartifacts:\n  - safetensors: {{}}\ndecode:\n  prompt: \"{prompt}\"\n\
             validate:\n  data: pages.jsonl\n",
            model.path().display()
        );
        fs::write(&recipe, written).expect("written");
        run(&["convert", &recipe.display().to_string(), "--offline", "--no-bench"])
    };
    let other = check("<s_menu>", "<s_x>");
    assert_ne!(code(&other), 0);
    let expected = "\"<s_x>\": expected the prompt of `decode` in the recipe, with which all samples are decoded";
    assert!(text(&other.stderr).contains(expected), "{}", text(&other.stderr));
    let unknown = check("<s_y>", "<s_y>");
    assert!(text(&unknown.stderr).contains("prompt: expected tokens of the model"), "{}", text(&unknown.stderr));
    let same = check(ASKED, ASKED);
    assert_eq!(code(&same), 0, "{}{}", text(&same.stdout), text(&same.stderr));
    // The artifact decodes as its recipe says.
    let output = run(&["run", &home.path().join("out/safetensors").display().to_string(), &image("tall"), "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json!(sequence(&found)), page("tall", ASKED)["sequence"]);
}

#[test]
#[ignore = "needs onnxruntime in $VIRTUAL_ENV; CI turns it on"]
fn engines_are_fed_a_prompt_as_the_graph_is() {
    let (model, home) = (donut(), tempfile::tempdir().expect("temporary folder"));
    let mut lines = String::new();
    for page in recorded().iter().filter(|page| page["prompt"] == ASKED) {
        let name = page["image"].as_str().expect("a name");
        fs::copy(image(name), home.path().join(format!("{name}.png"))).expect("copied");
        lines += &format!("{}\n", json!({"input": format!("{name}.png"), "prompt": page["prompt"]}));
    }
    fs::write(home.path().join("pages.jsonl"), lines).expect("written");
    let recipe = format!(
        "model: {}\nout: out\nquantize: {{ scheme: keep }}\nartifacts:\n  - onnx: {{}}\ndecode:\n  prompt: \"{ASKED}\"\n\
         validate:\n  data: pages.jsonl\n",
        model.path().display()
    );
    fs::write(home.path().join("recipe.yaml"), recipe).expect("written");
    let path = home.path().join("recipe.yaml").display().to_string();
    let output = with_engines(&["convert", &path, "--offline", "--no-bench"]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    for page in recorded() {
        let found = answer(&home.path().join("out/onnx"), &page);
        assert_eq!(json!(sequence(&found)), page["sequence"], "{page}");
        assert_eq!(found["fields"], page["fields"], "{page}");
    }
}
