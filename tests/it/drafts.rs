//! Recipes that nobody wrote: `recipe new` and `convert` of a checkpoint.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::cli::{code, files, text, trefoil};
use crate::fixture::{fixture, fixtures, repository, sees};

/// In a folder of its own, where recipes are written.
fn run(dir: &Path, arguments: &[&str]) -> Output {
    trefoil().args(arguments).current_dir(dir).output().expect("the binary starts")
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_recipe_that_is_written_for_any_checkpoint_parses_and_plans() {
    for dir in fixtures() {
        let (home, model) = (home(), dir.display().to_string());
        let output = run(home.path(), &["recipe", "new", &model, "--output", "drafted.yaml"]);
        assert_eq!(code(&output), 0, "{model}: {}", text(&output.stderr));
        let written = fs::read_to_string(home.path().join("drafted.yaml")).expect("there");
        let printed = run(home.path(), &["recipe", "new", &model]);
        assert_eq!(text(&printed.stdout), written, "{model}");

        let output = run(home.path(), &["recipe", "check", "drafted.yaml", "--json"]);
        assert_eq!(code(&output), 0, "{model}: {}\n{written}", text(&output.stderr));
        let plans = json(&output);
        let plans = plans.as_array().expect("a list");
        let names: Vec<&str> = plans.iter().filter_map(|plan| plan["artifact"].as_str()).collect();
        // llama.cpp's t5 has a fixed `relative_attention_max_distance`, and this checkpoint another; no engine reads images from GGUF.
        let has_gguf = !model.ends_with("/t5-long") && !sees(&dir);
        let expected = match has_gguf {
            true => &["onnx", "gguf", "safetensors"][..],
            // transformers gives codes to no Conv1D.
            false if model.ends_with("/vit-gpt2") || model.ends_with("/florence2-microsoft") => &["onnx"],
            false => &["onnx", "safetensors"],
        };
        assert_eq!(names, expected, "{model}: {written}");
        assert_eq!(written.contains("# Left out: ggml: "), !has_gguf, "{model}: {written}");
        assert!(plans.iter().all(|plan| plan["cannot_be_made"].is_null()), "{model}: {plans:?}");
        assert!(plans.iter().all(|plan| plan["memory_bytes"].as_u64() > plan["bytes"].as_u64()), "{model}: {plans:?}");
    }
}

#[test]
fn every_word_of_for_is_an_artifact_that_can_be_planned() {
    let model = repository("models/g2p-t5").display().to_string();
    let data = repository("models/g2p-t5/data/test.jsonl").display().to_string();
    let words = [
        ("onnxruntime", "onnx"),
        ("optimum", "onnx"),
        ("transformers.js", "onnx"),
        ("npu", "npu"),
        ("llama.cpp", "gguf"),
        ("ggml", "gguf"),
        ("CrispASR", "gguf"),
        ("transformers", "safetensors"),
        ("ctranslate2", "ctranslate2"),
        ("qnn-htp-fp16", "npu"),
        ("qnn-htp-a16w8", "npu"),
        ("qnn-htp-a8w8", "npu"),
        ("openvino-npu", "npu"),
        ("ryzenai-bf16", "npu"),
        ("rknn-fp16", "npu"),
        ("rknn-w8a8", "npu"),
    ];
    for (word, format) in words {
        let home = home();
        let all = ["recipe", "new", &model, "--for", word, "--data", &data, "--output", "drafted.yaml"];
        let output = run(home.path(), &all);
        assert_eq!(code(&output), 0, "{word}: {}", text(&output.stderr));
        let output = run(home.path(), &["recipe", "check", "drafted.yaml", "--json"]);
        assert_eq!(code(&output), 0, "{word}: {}", text(&output.stderr));
        assert_eq!(json(&output)[0]["artifact"], format, "{word}");
        assert!(json(&output)[0]["bytes"].as_u64() > Some(1_000_000), "{word}: {}", json(&output)[0]["cannot_be_made"]);
    }
    let home = home();
    let output = run(home.path(), &["recipe", "new", &model, "--for", "tflite"]);
    assert_eq!(code(&output), 2);
    let listed = text(&output.stderr);
    assert!(words.iter().all(|(word, _)| listed.contains(word)), "{listed}");
}

#[test]
fn a_scheme_becomes_the_blocks_of_its_bits_and_samples_of_their_own_choose_the_codes() {
    let model = repository("models/g2p-t5").display().to_string();
    let [test, own] = ["test", "calibration"]
        .map(|name| repository(&format!("models/g2p-t5/data/{name}.jsonl")).display().to_string());
    let schemes = |more: &[&str]| -> Vec<String> {
        let home = home();
        let all = [&["recipe", "new", &model, "--output", "drafted.yaml"], more].concat();
        let output = run(home.path(), &all);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let output = run(home.path(), &["recipe", "check", "drafted.yaml", "--json"]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let plans = json(&output);
        let name = |plan: &Value| {
            let weights = plan["weights"].as_array().expect("a list");
            let query =
                weights.iter().find(|weight| weight["name"] == "encoder.block.0.layer.0.SelfAttention.q.weight");
            query.expect("a query")["scheme"].as_str().expect("a word").to_owned()
        };
        plans.as_array().expect("a list").iter().map(name).collect()
    };
    assert_eq!(schemes(&[]), ["int8", "q8_0", "int8"]);
    assert_eq!(
        schemes(&["--scheme", "int4-g32", "--data", &test, "--calibrate", &own]),
        ["int4-g32", "q4_k", "int4-g32"]
    );
    assert_eq!(schemes(&["--scheme", "q5_k", "--for", "ggml"]), ["q5_k"]);
    let home = home();
    let drafted = |more: &[&str]| run(home.path(), &[&["recipe", "new", model.as_str()], more].concat());
    let with_both = text(&drafted(&["--scheme", "int4-g32", "--data", &test, "--calibrate", &own]).stdout);
    assert!(
        with_both.contains("method: gptq")
            && with_both.contains("calibration.jsonl")
            && !with_both.contains("flatters"),
        "{with_both}"
    );
    let static_steps = text(&drafted(&["--for", "qnn-htp-a16w8", "--data", &test]).stdout);
    assert!(static_steps.contains("They are those that judge, too, which flatters the figures"), "{static_steps}");
    assert!(!text(&drafted(&["--data", &test]).stdout).contains("\ncalibrate:"));

    for (more, expected) in [
        (
            &["--scheme", "q5_k", "--for", "onnxruntime"][..],
            "cannot become what was asked for\nonnxruntime: q5_k is a type of GGUF",
        ),
        (&["--for", "qnn-htp-a16w8"], "qnn-htp-a16w8: it rounds activations to fixed steps; expected samples"),
        (&["--data", "absent.jsonl"], "absent.jsonl: No such file"),
    ] {
        let output = drafted(more);
        assert_eq!(code(&output), 2, "{more:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_program_is_asked_for_only_where_the_readme_says_that_it_runs_the_family() {
    let readme = fs::read_to_string(repository("README.md")).expect("there");
    let mut rows = readme
        .lines()
        .skip_while(|line| !line.starts_with("| `model_type`"))
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.split('|').map(str::trim).collect::<Vec<&str>>());
    let heads = rows.next().expect("a table");
    let rows: Vec<Vec<&str>> = rows.skip(1).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let family = row[1].trim_matches('`');
        let model = match family {
            "t5" => fixture("t5-rows-of-32"),
            "vision-encoder-decoder" => fixture("trocr-vit"),
            family => fixture(family),
        };
        let column = |head: &str| heads.iter().position(|column| column.starts_with(head)).expect("a column");
        // With a tokenizer, which the fixtures lack.
        for word in
            ["transcribe.cpp", "CrispASR", "whisper.cpp"].into_iter().filter(|word| row[column(word)].is_empty())
        {
            let output = run(home().path(), &["recipe", "new", &model.display().to_string(), "--for", word]);
            assert_eq!(code(&output), 2, "{family}, {word}");
        }
        for (word, head) in [
            ("optimum", "Optimum "),
            ("transformers.js", "transformers.js "),
            ("transformers", "transformers "),
            ("llama.cpp", "llama.cpp "),
            ("ctranslate2", "ctranslate2 "),
        ] {
            let runs = row[column(head)].starts_with("yes");
            let home = home();
            let output = run(home.path(), &["recipe", "new", &model.display().to_string(), "--for", word]);
            let stderr = text(&output.stderr);
            assert_eq!(code(&output), if runs { 0 } else { 2 }, "{family}, {word}: {stderr}");
            let is_refused = [format!("{word} is known to run "), format!("{family}: CTranslate2 opens ")];
            assert!(runs || is_refused.iter().any(|said| stderr.contains(said)), "{family}, {word}: {stderr}");
        }
    }
}

#[test]
fn a_checkpoint_without_a_recipe_is_converted_and_its_manifest_has_the_recipe_that_was_shown() {
    let (home, model) = (home(), fixture("t5-rows-of-32").display().to_string());
    let output = run(home.path(), &["convert", &model, "--for", "transformers", "--no-validate"]);
    let shown = text(&output.stderr);
    assert_eq!(code(&output), 0, "{shown}");
    let artifact = home.path().join("build/t5-rows-of-32/safetensors");
    let manifest: Value =
        serde_json::from_slice(&fs::read(artifact.join("trefoil.json")).expect("there")).expect("JSON");
    let recipe = manifest["recipe"]["text"].as_str().expect("a text");
    assert!(recipe.contains(&format!("\nmodel: {model}\nout: build/t5-rows-of-32\n")), "{recipe}");
    assert!(recipe.lines().all(|line| shown.contains(line)), "{shown}");
    assert_eq!(manifest["recipe"]["file"], "t5-rows-of-32.yaml");

    // That recipe, written down, makes the same bytes.
    fs::write(home.path().join("t5-rows-of-32.yaml"), recipe).expect("written");
    let before = files(&artifact);
    assert_eq!(code(&run(home.path(), &["convert", "t5-rows-of-32.yaml", "--no-validate"])), 0);
    assert!(files(&artifact) == before);
    assert_eq!(code(&run(home.path(), &["verify", "t5-rows-of-32.yaml"])), 0);
}

#[test]
fn a_lone_gguf_file_is_a_checkpoint_too() {
    let (home, model) = (home(), fixture("t5-rows-of-32").display().to_string());
    assert_eq!(code(&run(home.path(), &["convert", &model, "--for", "ggml", "--scheme", "keep", "--no-validate"])), 0);
    fs::rename(home.path().join("build/t5-rows-of-32/gguf/model.gguf"), home.path().join("moved.gguf")).expect("moved");
    let output = run(
        home.path(),
        &["convert", "moved.gguf", "--for", "onnxruntime", "--scheme", "keep", "--no-bench", "--offline"],
    );
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(home.path().join("build/moved/onnx/trefoil.json").is_file());
}

#[test]
fn what_is_neither_a_path_nor_a_name_is_told_both_readings() {
    let home = home();
    let refused = |arguments: &[&str], expected: &[&str]| {
        let mut command = trefoil();
        command.env("HF_HOME", home.path()).args(arguments).current_dir(home.path());
        let output = command.output().expect("the binary starts");
        let stderr = text(&output.stderr);
        assert_eq!(code(&output), 2, "{stderr}");
        assert!(expected.iter().all(|part| stderr.contains(part)), "{stderr}");
    };
    refused(
        &["convert", "no/such/folder"],
        &[
            "no/such/folder: expected a recipe, a checkpoint's folder, a GGUF file or `org/name` of the hub",
            "it is no `org/name`",
        ],
    );
    refused(
        &["convert", "clover/absent", "--offline"],
        &["there is no such file or folder, and clover/absent: expected it in ", "found no revision `main` of it"],
    );
    refused(&["convert", "absent/recipe.yaml"], &["absent/recipe.yaml: No such file"]);
    fs::write(home.path().join("recipe.yaml"), "model: m\nout: o\nartifacts: [{ onnx: {} }]\n").expect("written");
    refused(
        &["convert", "recipe.yaml", "--scheme", "int8"],
        &["--scheme: expected a checkpoint, found the recipe recipe.yaml, which says this itself"],
    );
    let model = fixture("bart").display().to_string();
    refused(&["convert", &model, "--model", "."], &["--model: expected a recipe, found the checkpoint "]);
    refused(&["recipe", "new", "recipe.yaml"], &["recipe new: expected a checkpoint, found the recipe recipe.yaml"]);
    let output = run(home.path(), &["recipe", "new", &model, "--output", "recipe.yaml"]);
    assert_eq!(code(&output), 2, "a recipe that is there is not replaced");
}
