//! `trefoil doctor`: what is here is told as it is, what is not with the sentences that a conversion has for it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::cli::{LOOSE, code, run, small, text, trefoil};

/// The program where no engine is but those that are compiled in.
fn alone() -> Command {
    let mut command = trefoil();
    for variable in ["TREFOIL_OPENVINO_PYTHON", "TREFOIL_RKNN_PYTHON", "TREFOIL_ONNXRUNTIME_QNN"] {
        command.env_remove(variable);
    }
    command.env("PATH", "");
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

fn engine<'v>(found: &'v Value, name: &str) -> &'v Value {
    let all = found["engines"].as_array().expect("a list");
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is not in {found:#}"))
}

#[test]
fn where_nothing_is_installed_every_missing_engine_has_its_reason_and_its_command() {
    let output = alone().args(["doctor", "--json"]).output().expect("the binary starts");
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    let found = json(&output);
    let external = [
        "onnxruntime",
        "htp-simulator",
        "openvino",
        "rknn-simulator",
        "transformers",
        "ctranslate2",
        "transcribe.cpp",
        "CrispASR",
        "whisper.cpp",
    ];
    for name in external {
        let engine = engine(&found, name);
        assert_eq!(engine["state"], "missing", "{engine:#}");
        assert!(engine["why"].as_str().is_some_and(|why| !why.is_empty()), "{engine:#}");
        assert!(engine["hint"].as_str().is_some_and(|hint| hint.contains("pip install ")), "{engine:#}");
    }
    let own = engine(&found, "interpreter");
    assert_eq!((&own["state"], &own["version"]), (&"here".into(), &env!("CARGO_PKG_VERSION").into()));
    for name in ["ggml", "llama.cpp"] {
        let engine = engine(&found, name);
        match cfg!(feature = "llama-cpp") {
            true => assert_eq!((&engine["state"], &engine["place"]), (&"here".into(), &"this program".into())),
            false => assert!(engine["hint"].as_str().is_some_and(|hint| hint.contains("--features llama-cpp"))),
        }
    }
    let machine = &found["machine"];
    assert!(machine["threads"].as_u64() > Some(0) && machine["kernel"].is_string(), "{machine:#}");
    if cfg!(target_os = "linux") {
        assert!(machine["memory_bytes"].as_u64() >= machine["available_memory_bytes"].as_u64(), "{machine:#}");
        assert!(machine["available_memory_bytes"].as_u64() > Some(0), "{machine:#}");
        assert!(machine["free"].as_array().is_some_and(|free| free.len() == 3), "{machine:#}");
    }
}

#[test]
fn every_engine_of_the_list_is_looked_for() {
    let listed: Value = serde_json::from_slice(&run(&["--list", "engines", "--json"]).stdout).expect("JSON");
    let found = json(&alone().args(["doctor", "--json"]).output().expect("the binary starts"));
    for listed in listed["engines"].as_array().expect("a list") {
        let name = listed["name"].as_str().expect("a name");
        assert_eq!(engine(&found, name)["runs"], listed["runs"], "{name}");
    }
}

#[test]
fn strict_fails_where_an_engine_is_missing_and_only_for_those_that_are_asked_for() {
    let doctor = |more: &[&str]| {
        let output = alone().arg("doctor").args(more).output().expect("the binary starts");
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    let (status, told, _) = doctor(&["--strict", "--engine", "interpreter", "--engine", "openvino"]);
    assert_eq!(status, 1);
    assert!(told.contains("openvino     npu   not here: no Python environment in "), "{told}");
    assert!(told.contains("what brings those that are not here\n  openvino\n    python3 -I -m venv "), "{told}");
    assert!(!told.contains("onnxruntime"), "{told}");
    assert_eq!(doctor(&["--engine", "openvino"]).0, 0);
    let (status, told, _) = doctor(&["--strict", "--engine", "interpreter", "--quiet"]);
    assert_eq!(status, 0);
    assert!(!told.contains("what brings"), "{told}");
    let (status, told, error) = doctor(&["--engine", "onnxrutime"]);
    assert_eq!((status, told.as_str()), (2, ""));
    assert!(error.starts_with("error: no engine is named onnxrutime; did you mean onnxruntime?"), "{error}");
}

#[test]
fn doctor_and_a_report_say_the_same_of_a_missing_engine() {
    let home = small(LOOSE);
    let converted = home.convert(&["--only", "safetensors", "--json"]);
    assert_eq!(code(&converted), 0, "{}", text(&converted.stderr));
    let doctor = json(&alone().args(["doctor", "--json", "--engine", "transformers"]).output().expect("it starts"));
    let missing = engine(&doctor, "transformers");
    let [why, hint] = ["why", "hint"].map(|key| missing[key].as_str().expect("a sentence"));
    let report = json(&converted);
    let checks = report["artifacts"][0]["checks"].as_array().expect("a list");
    let told = checks.iter().filter_map(|check| check["sentence"].as_str());
    let told = told.filter(|sentence| sentence.contains(why) && sentence.contains(hint)).count();
    assert!(told > 0, "{why}, {hint} in no sentence of {checks:#?}");
}

#[cfg(unix)]
#[test]
fn an_engine_that_is_there_and_does_not_start_is_broken_with_its_last_words() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("temporary folder");
    let python = home.path().join("python");
    fs::write(&python, "#!/bin/sh\necho 'no such thing as torch' >&2\nexit 3\n").expect("written");
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("changed");
    let mut command = alone();
    command.args(["doctor", "--json", "--strict", "--engine", "transformers"]).env("TREFOIL_PYTHON", &python);
    let output = command.output().expect("the binary starts");
    assert_eq!(code(&output), 1);
    let found = json(&output);
    let broken = engine(&found, "transformers");
    assert_eq!((&broken["state"], &broken["hint"]), (&"broken".into(), &Value::Null));
    assert!(broken["why"].as_str().is_some_and(|why| why.contains("no such thing as torch")), "{broken:#}");
}

/// What a machine for the tests has: onnxruntime of a virtual environment, loaded by a process of its own.
#[test]
fn an_engine_that_starts_has_its_version_and_its_place() {
    let Some(root) = std::env::var_os("VIRTUAL_ENV") else { return };
    let mut command = alone();
    command.args(["doctor", "--json", "--strict", "--engine", "onnxruntime"]).env("VIRTUAL_ENV", &root);
    let output = command.output().expect("the binary starts");
    let found = json(&output);
    let here = engine(&found, "onnxruntime");
    assert_eq!((code(&output), &here["state"]), (0, &"here".into()), "{here:#}");
    assert!(here["place"].as_str().is_some_and(|place| place.starts_with(&*root.to_string_lossy())), "{here:#}");
    assert!(here["version"].as_str().is_some_and(|version| version.starts_with("1.")), "{here:#}");
}
