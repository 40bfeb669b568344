//! Errors as programs read them, and as somebody meets them who is new here.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::cli::{Home, code, run, text};
use crate::fixture::{fixture, repository};

/// The object on stderr, which is its only line.
fn error(output: &Output) -> Value {
    let told = text(&output.stderr);
    assert_eq!((told.lines().count(), text(&output.stdout)), (1, String::new()), "{told}");
    let found: Value = serde_json::from_str(&told).expect("JSON");
    let keys: Vec<&String> = found["error"].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["message", "hint", "kind", "exit_code"]);
    assert_eq!(found["error"]["exit_code"], code(output));
    found["error"].clone()
}

#[test]
fn with_json_every_error_is_one_line_of_json_on_stderr_with_its_kind() {
    let home = Home::with("model: m\nout: o\nartifact:\n  - onnx: {}\n");
    let t5 = fixture("t5-v1.1").display().to_string();
    let folder = home.dir.path().display().to_string();
    let [recipe, absent, graph] = [home.recipe(), home.path("absent"), home.path("graphs/x.onnx")];
    fs::create_dir(home.path("graphs")).expect("made");
    fs::write(&graph, "no graph").expect("written");
    let config = repository("tests/fixtures/t5-v1.1/config.json").display().to_string();
    for (arguments, kind, message) in [
        // clap's own.
        (vec!["convrt"], "usage", "unrecognized subcommand 'convrt'"),
        (vec!["bench"], "usage", "the following required arguments were not provided"),
        (vec!["run", &t5, "5 1", "--threads", "0"], "usage", "invalid value '0' for '--threads <N>'"),
        (vec!["lint", "--profle", "x"], "usage", "unexpected argument '--profle' found"),
        (vec![], "usage", "expected a command or --list"),
        (vec!["--list", "all", "cache"], "usage", "--list stands alone"),
        // Every command's.
        (vec!["convert", &recipe], "recipe", "unknown key `artifact`; did you mean `artifacts`?"),
        (vec!["verify", &recipe], "recipe", "unknown key `artifact`"),
        (vec!["tune", &recipe], "recipe", "unknown key `artifact`"),
        (vec!["recipe", "check", &recipe], "recipe", "unknown key `artifact`"),
        (vec!["convert", &absent], "recipe", "absent: expected a recipe, a checkpoint's folder"),
        (vec!["validate", &folder, "--reference", &t5], "artifact", "expected a trefoil.json, found none"),
        (vec!["run", &absent, "5 1"], "file", "absent: no such file or folder"),
        (vec!["run", &t5, "five"], "data", "the text: "),
        (vec!["run", &t5, "5 1", "--engine", "onnxruntime"], "usage", "no engine named onnxruntime runs checkpoints"),
        (vec!["inspect", &config], "file", "expected a checkpoint"),
        (vec!["bench", &t5], "artifact", "expected an artifact, found a checkpoint"),
        (vec!["compare", &t5, &t5, "--data", &absent], "data", "absent: No such file or directory"),
        (vec!["lint", &folder, "--profile", "npu-portable"], "artifact", "expected *.onnx in it"),
        (vec!["lint", &graph, "--profile", "npu-portabel"], "usage", "did you mean npu-portable?"),
        (vec!["report", "show", &config], "artifact", "expected a report of trefoil"),
        (vec!["doctor", "--engine", "x"], "usage", "no engine is named x"),
        (vec!["man", &config], "file", "config.json: "),
        (vec!["cache", "--log", &folder], "usage", "--log "),
    ] {
        let found = error(&run(&[&arguments[..], &["--json"]].concat()));
        assert_eq!((&found["kind"], &found["exit_code"]), (&kind.into(), &2.into()), "{arguments:?}: {found:#}");
        assert!(found["message"].as_str().is_some_and(|told| told.contains(message)), "{arguments:?}: {found:#}");
    }
}

#[test]
fn hints_are_apart_from_the_message_for_programs_and_behind_it_for_people() {
    let home =
        Home::with(&format!("model: {}\nout: out\nartifacts:\n  - onnx: {{}}\n", fixture("t5-rows-of-32").display()));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let artifact = home.path("out/onnx");
    let arguments = ["run", &artifact, "5 1", "--offline"];
    let found = error(&run(&[&arguments[..], &["--json"]].concat()));
    assert_eq!(found["kind"], "engine_missing");
    let [message, hint] = ["message", "hint"].map(|key| found[key].as_str().expect("a text"));
    assert!(message.starts_with("onnxruntime is not available: ") && !message.contains("hint"), "{message}");
    assert!(hint.contains("pip install onnxruntime=="), "{hint}");
    assert_eq!(
        text(&run(&arguments).stderr).lines().skip(1).collect::<Vec<_>>().join("\n"),
        format!("error: {message}\nhint: {hint}")
    );
    let tip = error(&run(&["run", "a", "b", "--engin", "x", "--json"]));
    assert_eq!(tip["hint"], "tip: a similar argument exists: '--engine'");
    // What comes behind `--` are inputs.
    let output = run(&["run", "--nonsense", "--", "--json"]);
    assert!(text(&output.stderr).starts_with("error: unexpected argument '--nonsense' found"));
}

#[test]
fn strict_makes_a_missing_engine_exit_code_1_in_every_command_that_runs_one() {
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - onnx: {{}}\n  - safetensors: {{}}\n    quantize: {{ scheme: int8 }}\n",
        fixture("t5-rows-of-32").display()
    ));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let data = home.path("data.txt");
    fs::write(&data, "5 6 1\n").expect("written");
    let [onnx, safetensors] = ["out/onnx", "out/safetensors"].map(|name| home.path(name));
    let model = fixture("t5-rows-of-32").display().to_string();
    for (arguments, without) in [
        (vec!["run", &onnx, "5 1"], 2),
        (vec!["bench", &onnx], 2),
        (vec!["compare", &onnx, &safetensors, "--data", &data], 2),
        (vec!["compare", &onnx, &safetensors, "--data", &data, "--reference", &model, "--no-bench"], 0),
        (vec!["validate", &onnx, "--reference", &model, "--samples", "2"], 0),
    ] {
        for (more, expected) in [(&["--offline"][..], without), (&["--offline", "--strict"], 1)] {
            let output = run(&[&arguments[..], more].concat());
            assert_eq!(code(&output), expected, "{arguments:?} {more:?}: {}", text(&output.stderr));
        }
    }
    // A format of its own and a model that is not are no missing engine.
    let bart = Home::with(&format!("model: {}\nout: out\nartifacts:\n  - gguf: {{}}\n", fixture("bart").display()));
    assert_eq!(code(&bart.convert(&["--no-validate"])), 0);
    let artifact = bart.path("out/gguf");
    let few = ["--tokens", "2", "--runs", "1", "--batch", "1", "--source", "4", "--strict"];
    let output = run(&[&["bench", &artifact, "--engine", "interpreter", "--engine", "llama.cpp"], &few[..]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("llama.cpp: of encoder-decoders it knows"), "{}", text(&output.stderr));
}

#[test]
fn a_newcomer_is_told_what_is_wrong_in_plain_words() {
    let home = Home::with("model: m\nout: o\nartifacts:\n\t- onnx: {}\n");
    let folder = home.dir.path().display().to_string();
    let [recipe, absent, empty] = [home.recipe(), home.path("absent"), home.path("empty")];
    fs::create_dir(&empty).expect("made");
    let t5 = fixture("t5-v1.1").display().to_string();
    for (arguments, expected) in [
        (vec!["run", &absent, "hello"], format!("error: {absent}: no such file or folder\n")),
        (vec!["inspect", &absent], format!("error: {absent}: no such file or folder\n")),
        (vec!["bench", &absent], format!("error: {absent}: no such file or folder\n")),
        (
            vec!["bench", &recipe],
            format!("error: {recipe}: expected a folder, found a file; give the folder that it lies in\n"),
        ),
        (
            vec!["run", &recipe, "hello"],
            format!("error: {recipe}: expected a folder, found a file; give the folder that it lies in\n"),
        ),
        (
            vec!["convert", &recipe],
            "error: recipe: tabs disallowed within this context (block indentation)\n".to_owned(),
        ),
        (vec!["validate", &absent, "--reference", &t5], format!("error: {absent}: no such file or folder\n")),
        (
            vec!["validate", &folder, "--reference", &t5],
            format!("error: {folder}: expected a trefoil.json, found none"),
        ),
        (vec!["compare", &absent, &t5, "--data", &recipe], format!("error: {absent}: no such file or folder\n")),
        (vec!["inspect", &empty], format!("error: {empty}: expected a checkpoint (config.json and weights)")),
        (vec!["lint", &absent, "--profile", "npu-portable"], format!("error: {absent}: No such file or directory\n")),
        (vec!["report", "show", &absent], format!("error: {absent}: No such file or directory\n")),
        (vec!["report", "show", &folder], format!("error: {folder}/report.json: No such file or directory\n")),
    ] {
        let output = run(&arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(text(&output.stderr).starts_with(&expected), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn an_artifact_of_another_version_says_so() {
    let home =
        Home::with(&format!("model: {}\nout: out\nartifacts:\n  - gguf: {{}}\n", fixture("t5-rows-of-32").display()));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let [artifact, file] = ["out/gguf", "out/gguf/trefoil.json"].map(|name| home.path(name));
    let written = fs::read_to_string(&file).expect("there");
    let this = format!("\"trefoil\": \"{}\"", env!("CARGO_PKG_VERSION"));
    for (manifest, expected) in [
        (
            written.replacen(&this, "\"trefoil\": \"9.8.7\", \"invented\": 1", 1),
            "written by trefoil 9.8.7, which this one, ",
        ),
        (
            written.replacen(&this, &format!("{this}, \"invented\": 1"), 1),
            "not the expected JSON: unknown field `invented`",
        ),
    ] {
        assert_ne!(manifest, written);
        fs::write(&file, manifest).expect("written");
        let output = run(&["run", &artifact, "5 1"]);
        assert_eq!(code(&output), 2);
        assert!(text(&output.stderr).starts_with(&format!("error: {file}: {expected}")), "{}", text(&output.stderr));
    }
}
