//! `trefoil bench`: what is asked for is measured and told. No test depends on how long anything took.

use std::fs;

use serde_json::Value;

use crate::cli::{Home, code, fetching, run, text};
use crate::fixture::fixture;

/// An artifact that needs no engine but this program: the interpreter runs it.
fn gguf(model: &str, recipe: &str) -> Home {
    let home = Home::with(&format!("model: {}\nout: out\n{recipe}", fixture(model).display()));
    let output = home.convert(&["--quiet", "--no-validate"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    home
}

const KEPT: &str = "artifacts:\n  - gguf: {}\n";

fn rows(arguments: &[&str]) -> Vec<Value> {
    let output =
        run(&[&["bench", "--json", "--engine", "interpreter", "--tokens", "3", "--runs", "2"], arguments].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row:#}"))
}

#[test]
fn every_source_and_batch_of_every_artifact_is_a_row_with_all_figures() {
    let home = gguf("bart", KEPT);
    let artifact = home.path("out/gguf");
    let picture = home.path("picture.svg");
    let rows = rows(&[&artifact, &artifact, "--source", "4,6", "--batch", "1,3", "--svg", &picture]);
    let told: Vec<(u64, u64)> =
        rows.iter().map(|row| (number(row, "source") as u64, number(row, "batch") as u64)).collect();
    assert_eq!(told, [(4, 1), (4, 1), (6, 1), (6, 1), (4, 3), (4, 3), (6, 3), (6, 3)]);
    for row in &rows {
        for key in
            ["load_ms", "first_token_ms", "encoder_ms", "first_step_ms", "step_ms", "tokens_per_s", "peak_rss_mb"]
        {
            assert!(number(row, key) > 0.0, "{key} of {row:#}");
        }
        assert!(number(row, "bytes_per_token") > 0.0 && number(row, "bandwidth_share") > 0.0, "{row:#}");
        assert_eq!(row["engine"], "interpreter");
    }
    assert!(fs::read_to_string(&picture).expect("written").starts_with("<svg"));
}

#[test]
fn weights_are_read_once_for_a_batch_and_caches_grow_with_the_source() {
    let home = gguf("bart-rows-of-32", "quantize: { scheme: q8_0 }\nartifacts:\n  - gguf: {}\n");
    let float = gguf("bart-rows-of-32", KEPT);
    let of = |home: &Home, source: &str, batch: &str| {
        let rows = rows(&[&home.path("out/gguf"), "--source", source, "--batch", batch]);
        number(&rows[0], "bytes_per_token")
    };
    let (one, three, longer) = (of(&home, "4", "1"), of(&home, "4", "3"), of(&home, "8", "1"));
    assert!(three < one && one < longer, "{three} {one} {longer}");
    assert!(of(&float, "4", "1") > one);
}

#[test]
fn sound_is_measured_in_seconds() {
    let home = gguf("moonshine", KEPT);
    let rows = rows(&[&home.path("out/gguf"), "--source", "1", "--batch", "2"]);
    assert_eq!((rows[0]["source_unit"].as_str(), rows.len()), (Some("s"), 1));
    let output = run(&["bench", &home.path("out/gguf"), "--engine", "interpreter", "--source", "65"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("expected 1 to 64 s, found 65 s"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let home = gguf("bart", KEPT);
    let other = gguf("t5-rows-of-32", KEPT);
    let [artifact, foreign] = [&home, &other].map(|home| home.path("out/gguf"));
    let checkpoint = fixture("bart").display().to_string();
    for (arguments, expected) in [
        (vec![checkpoint.as_str()], "expected an artifact, found a checkpoint"),
        (vec![artifact.as_str(), &foreign], "give artifacts of one model"),
        (vec![artifact.as_str(), "--engine", "onnxruntime"], "no engine opens"),
        (vec![artifact.as_str(), "--engine", "interpreter", "--source", "0"], "expected at least one token"),
        (vec!["no-such-folder"], "no-such-folder"),
    ] {
        let output = run(&[&["bench"], &arguments[..]].concat());
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_source_that_an_engine_does_not_take_fails_alone() {
    let home = gguf("bart", KEPT);
    let positions = 512;
    let sources = format!("4,{positions}");
    let output = run(&[
        "bench",
        "--json",
        "--engine",
        "interpreter",
        "--tokens",
        "2",
        "--runs",
        "1",
        "--batch",
        "1",
        "--source",
        &sources,
        &home.path("out/gguf"),
    ]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(rows[0]["error"].is_null() && rows[1]["error"].is_string(), "{rows:#?}");
}

#[test]
fn a_speedup_that_was_not_measured_is_not_run_and_no_failure() {
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - gguf: {{}}\nvalidate:\n  samples: 2\n  limits: {{ min_speedup: 1000.0 }}\n",
        fixture("bart").display()
    ));
    let output = home.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let report: Value =
        serde_json::from_str(&fs::read_to_string(home.path("out/report.json")).expect("read")).expect("JSON");
    let checks = report["artifacts"][0]["checks"].as_array().expect("checks");
    let check =
        checks.iter().find(|check| check["what"].as_str().is_some_and(|what| what.contains("tokens per second")));
    assert_eq!(check.expect("told")["outcome"], "not_run");
    assert!(report["artifacts"][0]["speed"].is_null());
}

#[cfg(feature = "llama-cpp")]
#[test]
fn a_conversion_times_its_artifacts_beside_the_float_model_and_leaves_nothing_of_it() {
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - gguf: {{}}\n    quantize: {{ scheme: f16 }}\nvalidate:\n  samples: 2\n  \
         limits: {{ max_kl: 10.0, min_top1: 0.0, min_speedup: 0.0 }}\n",
        fixture("t5-rows-of-32").display()
    ));
    let output = run(&["convert", &home.recipe(), "--offline"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let report = fs::read_to_string(home.path("out/report.json")).expect("read");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let speeds = report["artifacts"][0]["speed"].as_array().expect("measured");
    let engines: Vec<&str> = speeds.iter().filter_map(|speed| speed["engine"]["name"].as_str()).collect();
    assert_eq!(engines, ["ggml", "llama.cpp"]);
    let speed = &speeds[0];
    assert!(number(&speed["first_token_ms"], "median") > 0.0 && number(speed, "samples") >= 1.0, "{speed:#}");
    assert!(number(&speed["against_float"]["first_token"], "median") > 0.0, "{speed:#}");
    let text = fs::read_to_string(home.path("out/report.md")).expect("read");
    let timed = text.lines().filter(|line| line.contains("| ggml ") || line.contains("| llama.cpp "));
    let figures: Vec<Vec<&str>> = timed.map(|line| line.split('|').skip(5).take(3).map(str::trim).collect()).collect();
    assert!(figures.len() == 2 && figures.iter().flatten().all(|figure| !figure.is_empty()), "{text}");
    let left: Vec<String> = fs::read_dir(home.path("out"))
        .expect("listed")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| {
            !name.starts_with('.')
                && !["gguf", "report.html", "report.json", "report.md", "report.xml"].contains(&name.as_str())
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_comparison_of_the_paper_takes_the_sizes_of_a_config_and_names_its_engine() {
    let config = fixture("mt5").join("config.json").display().to_string();
    let engines: &[&str] = if cfg!(feature = "llama-cpp") { &["onnxruntime", "ggml"] } else { &["onnxruntime"] };
    for engine in engines {
        let asked = ["bench", "--paper", "--config", &config, "--source", "3,5", "--tokens", "2", "--runs", "1"];
        let output = fetching(&[&asked[..], &["--engine", engine, "--precision", "f32", "--json"]].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(rows.iter().map(|row| number(row, "source")).collect::<Vec<_>>(), [3.0, 5.0]);
        for row in &rows {
            assert_eq!((row["engine"]["name"].as_str(), row["computes"].as_str()), (Some(*engine), Some("f32")));
            assert_eq!(row["config"].as_str(), Some(config.as_str()));
            assert!(row["peak_rss_mb"][0].as_f64().is_some_and(|peak| peak > 0.0), "{row:#}");
        }
    }
}

#[test]
fn the_table_of_the_paper_says_engine_precision_and_whose_blocks_they_are() {
    let config = fixture("t5-rows-of-32").join("config.json").display().to_string();
    let asked = ["bench", "--paper", "--config", &config, "--source", "3", "--tokens", "2", "--runs", "1"];
    let engines: &[_] = if cfg!(feature = "llama-cpp") {
        &[("onnxruntime", "int8: weights with a scale a row"), ("ggml", "q8_0: weights of 8 bits")]
    } else {
        &[("onnxruntime", "int8: weights with a scale a row")]
    };
    for (engine, precision) in engines {
        let output = fetching(&[&asked[..], &["--threads", "1", "--engine", engine]].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let told = text(&output.stdout);
        for part in [engine, precision, "1 thread", "the blocks of both are Mu's with these sizes: width"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn what_the_paper_cannot_be_compared_with_is_refused_with_the_reason() {
    let checkpoint = fixture("mt5").display().to_string();
    let whisper = fixture("whisper").join("config.json").display().to_string();
    for (arguments, expected) in [
        (vec!["--paper", "--engine", "llama.cpp"], "expected onnxruntime or ggml with --paper, found llama.cpp; give"),
        (vec!["--paper", "--engine", "ggml", "--engine", "onnxruntime"], "found ggml, onnxruntime"),
        (
            vec![checkpoint.as_str(), "--config", &whisper],
            "config.json: expected --paper beside it, found artifacts; give",
        ),
        (
            vec![checkpoint.as_str(), "--precision", "f32"],
            "--precision: expected --paper beside it, found artifacts; give",
        ),
        (vec!["--paper", "--config", &whisper], "expected an encoder-decoder of text, found whisper"),
        (vec!["--paper", "--config", "no-such-file"], "no-such-file"),
    ] {
        let output = run(&[&["bench"], &arguments[..]].concat());
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}
