//! Images, through a model that reads them: what transformers made of the same files with the same checkpoint.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{self, code, run, text, with_engines};
use crate::fixture::{copy, fixture, repository};

const MODEL: &str = "trocr-vit";

/// A PNG of the fixtures.
fn image(name: &str) -> String {
    repository(&format!("tests/fixtures/images/{name}")).display().to_string()
}

/// The tokens that transformers gave for each image, the start token first: in `colour`, or with colours taken away (`gray`).
fn recorded(kind: &str) -> Vec<(String, Vec<i64>)> {
    let file = fs::read(repository("tests/fixtures/images/read.json")).expect("recorded");
    let mut json: Value = serde_json::from_slice(&file).expect("JSON");
    let images: serde_json::Map<String, Value> = serde_json::from_value(json[kind].take()).expect("images");
    images.into_iter().map(|(name, tokens)| (name, serde_json::from_value(tokens).expect("ids"))).collect()
}

/// The prompt and the tokens that `trefoil run` answers, end to end.
fn answer(artifact: &Path, image: &str) -> Vec<i64> {
    let output =
        with_engines(&["run", &artifact.display().to_string(), image, "--json", "--offline", "--max-new-tokens", "12"]);
    assert_eq!(code(&output), 0, "{}: {}", artifact.display(), text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ids = |key: &str| -> Vec<i64> { serde_json::from_value(found[key].clone()).expect("ids") };
    [ids("prompt"), ids("tokens")].concat()
}

/// The model as artifacts, validated on images of a folder beside the data.
fn converted(settings: &str, kind: &str) -> TempDir {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(home.path().join("lines")).expect("a folder");
    let mut lines = String::new();
    for (name, tokens) in recorded(kind) {
        fs::copy(image(&format!("{name}.png")), home.path().join(format!("lines/{name}.png"))).expect("copied");
        let target: Vec<String> = tokens[1..].iter().map(i64::to_string).collect();
        lines += &format!("{}\n", json!({"input": format!("lines/{name}.png"), "target": target.join(" ")}));
    }
    fs::write(home.path().join("data.jsonl"), lines).expect("written");
    let recipe = format!(
        "model: {}\nout: out\n{settings}quantize: {{ scheme: keep }}\nartifacts:\n  - safetensors: {{}}\n  - onnx: {{}}\ndecode:\n  \
         max_new_tokens: 12\nvalidate:\n  data: data.jsonl\n  metric: character_error_rate\n",
        fixture(MODEL).display()
    );
    cli::converted(run, home.path(), &recipe);
    home
}

#[test]
fn an_image_is_read_as_transformers_reads_it_in_a_checkpoint() {
    for (name, tokens) in recorded("colour") {
        assert_eq!(answer(&fixture(MODEL), &image(&format!("{name}.png"))), tokens, "{name}");
    }
}

#[test]
#[ignore = "needs onnxruntime in $VIRTUAL_ENV; CI turns it on"]
fn artifacts_read_images_as_their_recipe_says_and_are_scored_by_characters() {
    for (settings, kind) in [("", "colour"), ("image: { gray: true }\n", "gray")] {
        let home = converted(settings, kind);
        let report = fs::read(home.path().join("out/report.json")).expect("there");
        let report: Value = serde_json::from_slice(&report).expect("JSON");
        assert_eq!(report["model"]["score"]["figures"][0]["points"], 0.0, "{kind}: {report}");
        let [codes, onnx] = ["out/safetensors", "out/onnx"].map(|folder| home.path().join(folder));
        assert!([&codes, &onnx].iter().all(|artifact| artifact.join("preprocessor_config.json").exists()));
        for (name, tokens) in recorded(kind) {
            assert_eq!(answer(&onnx, &image(&format!("{name}.png"))), tokens, "{kind}, {name}");
        }
    }
}

#[test]
fn images_of_a_file_are_found_beside_it() {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::copy(image("large.png"), home.path().join("large.png")).expect("copied");
    fs::copy(image("deep.png"), home.path().join("deep.png")).expect("copied");
    let file = home.path().join("pages.jsonl").display().to_string();
    fs::write(&file, "{\"input\": \"large.png\"}\n{\"input\": \"deep.png\"}\n{\"input\": \"absent.png\"}\n{\"input\": \"large.png\"}\n")
        .expect("written");
    let model = fixture(MODEL).display().to_string();
    let output = run(&["run", &model, "--file", &file, "--json", "--max-new-tokens", "12", "--batch", "4"]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let found: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (_, expected) = recorded("colour").into_iter().find(|(name, _)| name == "large").expect("recorded");
    assert_eq!(found[0]["tokens"], json!(expected[1..]));
    assert_eq!(found[0]["tokens"], found[3]["tokens"]);
    let refused = |at: usize| found[at]["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(refused(1).contains("deep.png: expected at most 8 bits a channel, found 16"), "{}", refused(1));
    assert!(refused(2).contains("absent.png: No such file"), "{}", refused(2));
}

#[test]
fn what_cannot_be_seen_is_an_error_that_says_why() {
    let message = |artifact: &Path, image: &str| {
        let output = run(&["run", &artifact.display().to_string(), image]);
        assert_eq!(code(&output), 2);
        text(&output.stderr)
    };
    let config = repository("tests/fixtures/whisper/config.json").display().to_string();
    let said = message(&fixture(MODEL), &config);
    assert!(said.contains("config.json: expected a PNG or a JPEG, found "), "{said}");
    let folder = copy(MODEL);
    fs::remove_file(folder.path().join("preprocessor_config.json")).expect("removed");
    let said = message(folder.path(), &image("large.png"));
    assert!(said.contains("expected preprocessor_config.json, which says how images are resized"), "{said}");
    let settings = r#"{"image_processor_type": "ViTImageProcessor", "size": 24, "resample": 0}"#;
    fs::write(folder.path().join("preprocessor_config.json"), settings).expect("written");
    let said = message(folder.path(), &image("large.png"));
    assert!(
        said.contains("preprocessor_config.json: resample = 0, expected 1 (Lanczos), 2 (bilinear) or 3 (bicubic)"),
        "{said}"
    );
    fs::write(folder.path().join("preprocessor_config.json"), settings.replace('0', "2")).expect("written");
    let said = message(folder.path(), &image("large.png"));
    assert!(
        said.contains("expected images of [3, 24, 40] (channels, height, width) as the encoder of config.json takes them, found [3, 24, 24]"),
        "{said}"
    );
}
