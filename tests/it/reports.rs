//! Reports as a person and a CI service meet them: the files of a conversion, the commands that read them, and the cards of artifacts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use validate::report::diff::Diff;

use crate::cli::{Home, bless_or_compare, code, run, text, trefoil, with_engines};
use crate::fixture::{copy, fixture, repository};

/// A copy of a tiny checkpoint and a recipe for it.
fn small(more: &str) -> (Home, tempfile::TempDir) {
    let model = copy("t5-v1.1");
    let recipe = format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\n  - safetensors: {{}}\n{more}",
        model.path().display()
    );
    (Home::with(&recipe), model)
}

const LOOSE: &str = "validate:\n  samples: 3\n  limits: { max_kl: 10.0, min_top1: 0.0 }\n";

fn json(file: impl AsRef<Path>) -> Value {
    let bytes = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.as_ref().display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

fn card(home: &Home, name: &str) -> String {
    fs::read_to_string(home.path(&format!("out/{name}/README.md"))).expect("a card")
}

#[test]
fn the_pages_of_a_report_are_rendered_again_from_its_json() {
    let (home, _model) = small(LOOSE);
    assert_eq!(code(&home.convert(&[])), 0);
    for (option, file) in
        [("--html", "report.html"), ("--markdown", "report.md"), ("--junit", "report.xml"), ("--json", "report.json")]
    {
        for place in ["out", "out/report.json"] {
            let output = run(&["report", "show", &home.path(place), option]);
            assert_eq!(code(&output), 0, "{}", text(&output.stderr));
            assert_eq!(text(&output.stdout), fs::read_to_string(home.path(&format!("out/{file}"))).expect("there"));
        }
    }
    let short = fs::read_to_string(home.path("out/report.md")).expect("there");
    assert!(short.lines().count() < 60 && short.len() < 6000, "{short}");
    assert!(fs::read_to_string(home.path("out/report.xml")).expect("there").contains("<testsuite name=\""));

    // What is no report, and what is none of this version.
    fs::write(home.path("other.json"), "{\"coverage\": 1}").expect("written");
    for (place, expected) in [("other.json", "expected a report of trefoil"), ("nowhere", "nowhere: ")] {
        let output = run(&["report", "show", &home.path(place)]);
        assert_eq!((code(&output), text(&output.stdout)), (2, String::new()));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_difference_is_an_exit_code_and_other_data_is_refused() {
    let (home, _model) = small(LOOSE);
    assert_eq!(code(&home.convert(&["--only", "onnx"])), 0);
    let old = home.path("out");
    let same = run(&["report", "diff", &old, &old]);
    assert_eq!(code(&same), 0, "{}", text(&same.stderr));
    assert!(text(&same.stdout).contains("Nothing that was good is broken"), "{}", text(&same.stdout));

    // Half of the bits: other figures, and one that is against a rule.
    let recipe = fs::read_to_string(home.recipe()).expect("there");
    fs::write(home.recipe(), recipe.replace("scheme: int8", "scheme: int4").replace("out: out", "out: new"))
        .expect("written");
    assert_eq!(code(&home.convert(&["--only", "onnx"])), 0);
    let new = home.path("new");
    let worse = run(&["report", "diff", &old, &new, "--json"]);
    assert_eq!(code(&worse), 1, "{}", text(&worse.stderr));
    let found: Diff = serde_json::from_slice(&worse.stdout).expect("a difference");
    assert!(found.regressions.iter().any(|one| one.sentence.contains("KL")), "{found:#?}");
    assert!(found.artifacts.iter().all(|one| one.bytes[1] < one.bytes[0]), "{found:#?}");
    let allowed = run(&["report", "diff", &old, &new, "--max-kl-growth", "1e12", "--html"]);
    assert_eq!(code(&allowed), 0, "{}", text(&allowed.stdout));
    assert!(text(&allowed.stdout).starts_with("<!doctype html>") && text(&allowed.stdout).contains("smaller"));
    // The other way round, artifacts grow.
    let bigger = run(&["report", "diff", &new, &old]);
    assert_eq!(code(&bigger), 1);
    assert!(text(&bigger.stdout).contains("at most 1 % more"), "{}", text(&bigger.stdout));

    let mut other = json(home.path("new/report.json"));
    other["data"]["samples"] = json!(4);
    other["model"]["inputs"][0]["sha256"] = json!("00");
    fs::write(home.path("other.json"), other.to_string()).expect("written");
    let refused = run(&["report", "diff", &old, &home.path("other.json")]);
    assert_eq!((code(&refused), text(&refused.stdout)), (2, String::new()));
    let stderr = text(&refused.stderr);
    assert!(stderr.contains("samples: 3, and now 4") && stderr.contains("model, config.json: sha256 "), "{stderr}");
    for bad in ["-1", "inf", "x"] {
        assert_eq!(code(&run(&["report", "diff", &old, &new, "--max-size-growth", bad])), 2, "{bad}");
    }
}

#[test]
fn the_schema_of_a_difference_is_current() {
    bless_or_compare(&repository("docs/report-diff.schema.json"), &Diff::schema());
}

#[test]
fn an_artifact_has_a_card_that_says_what_is_known_and_no_more() {
    let (home, model) = small(LOOSE);
    assert_eq!(code(&home.convert(&[])), 0);
    let onnx = card(&home, "onnx");
    assert!(onnx.starts_with("---\ntags:\n- onnx\n- trefoil\n- t5\n---\n"), "{onnx}");
    for line in [
        "The checkpoint's folder names no license.",
        "ORTModelForSeq2SeqLM.from_pretrained",
        "| type | codes chosen by | tensors | size | bits |",
        "Verdict: passed.",
        "```yaml\nmodel: ",
    ] {
        assert!(onnx.contains(line), "{line} is not in\n{onnx}");
    }
    assert!(!onnx.contains("base_model"), "its name on the Hub is not known: {onnx}");
    let manifest = json(home.path("out/onnx/trefoil.json"));
    for file in manifest["files"].as_array().expect("a list") {
        assert!(onnx.contains(file["sha256"].as_str().expect("a digest")) && file["path"] != "README.md", "{file}");
    }
    assert!(
        card(&home, "safetensors")
            .starts_with("---\nlibrary_name: transformers\ntags:\n- safetensors\n- compressed-tensors\n")
    );

    // What the checkpoint says of itself is inherited; its own card is not taken over.
    let readme = "---\nlicense: cc-by-4.0\nlanguage: [en, no]\npipeline_tag: translation\n---\n# Mine\n";
    fs::write(model.path().join("README.md"), readme).expect("written");
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let onnx = card(&home, "onnx");
    let head = "---\npipeline_tag: translation\nlicense: cc-by-4.0\nlanguage:\n- en\n- \"no\"\ntags:\n";
    assert!(onnx.starts_with(head) && onnx.contains("Not validated.") && !onnx.contains("# Mine"), "{onnx}");
}

#[test]
fn a_card_is_none_of_the_bytes_that_are_held_to_and_none_is_lost() {
    let (home, model) = small(LOOSE);
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let first = card(&home, "onnx");
    fs::write(home.path("out/onnx/README.md"), "edited").expect("written");
    let verified = run(&["verify", &home.recipe()]);
    assert_eq!(code(&verified), 0, "{}{}", text(&verified.stdout), text(&verified.stderr));
    let onnx = home.path("out/onnx");
    let reference = model.path().display().to_string();
    let validated = run(&["validate", &onnx, "--reference", &reference, "--offline"]);
    assert_eq!(code(&validated), 0, "{}{}", text(&validated.stdout), text(&validated.stderr));
    // Written anew, it is the same to the byte.
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    assert_eq!(card(&home, "onnx"), first);
    // In an artifact that was made without one, a README.md is somebody's work.
    let manifest = home.path("out/onnx/trefoil.json");
    let mut older = json(&manifest);
    older.as_object_mut().expect("an object").remove("has_card");
    fs::write(&manifest, older.to_string()).expect("written");
    let refused = home.convert(&["--no-validate"]);
    assert_eq!(code(&refused), 2);
    assert!(text(&refused.stderr).contains("found also README.md"), "{}", text(&refused.stderr));
}

#[test]
fn costs_of_layers_are_those_of_the_same_checkpoint() {
    let (home, _model) = small(LOOSE);
    assert_eq!(code(&home.convert(&["--only", "onnx"])), 0);
    let first = json(home.path("out/report.json"));
    assert_eq!(first.get("costs"), None);
    let layer = json!({ "name": "encoder.block.0", "weights": 7, "kl": { "int8": 0.25 }, "bytes": { "int8": 640 } });
    let tuned = |inputs: &Value| json!({ "inputs": inputs, "layers": [layer] }).to_string();
    fs::write(home.path("out/tune.json"), tuned(&json!([]))).expect("written");
    // Beside the recipe lies the one of this checkpoint.
    fs::write(home.path("tune.json"), tuned(&first["model"]["inputs"])).expect("written");
    assert_eq!(code(&home.convert(&["--only", "onnx"])), 0);
    let expected = json!([{ "layer": "encoder.block.0", "scheme": "int8", "kl": 0.25, "bytes": 640 }]);
    assert_eq!(json(home.path("out/report.json"))["costs"], expected);
}

/// Two GGUF artifacts of a tiny checkpoint, in f16 and in 8 bits, and data of token ids.
#[cfg(feature = "llama-cpp")]
fn two() -> Home {
    let model = crate::fixture::fixture("t5-rows-of-32");
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - gguf: {{}}\n    name: a\n    quantize: {{ scheme: f16 }}\n  - gguf: {{}}\n    \
         name: b\n    quantize: {{ scheme: q8_0 }}\n",
        model.display()
    ));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    fs::write(home.path("data.jsonl"), "{\"input\":\"3 4 1\",\"target\":\"5 6 1\"}\n{\"input\":\"7 8 9 1\"}\n")
        .expect("written");
    home
}

#[cfg(feature = "llama-cpp")]
#[test]
fn two_artifacts_answer_the_same_questions_in_their_engines() {
    let home = two();
    let [a, b, data, out] = ["out/a", "out/b", "data.jsonl", "compared"].map(|name| home.path(name));
    let found = run(&["compare", &a, &b, "--data", &data, "--out", &out, "--offline", "--json"]);
    assert_eq!(code(&found), 0, "{}{}", text(&found.stdout), text(&found.stderr));
    let report: validate::Report = serde_json::from_slice(&found.stdout).expect("a report");
    let engines = |at: usize| report.artifacts[at].runs.iter().map(|run| run.engine.name.as_str()).collect::<Vec<_>>();
    assert_eq!((engines(0), engines(1)), (vec!["ggml", "llama.cpp"], vec!["ggml", "llama.cpp"]));
    let kl = |at: usize| report.artifacts[at].runs[0].to_float.expect("logits").kl.expect("a number");
    // What is compared with is asked again, and says the same.
    assert_eq!(kl(0), 0.0);
    assert!(kl(1) > 0.0 && kl(1) < 0.1, "{}", kl(1));
    assert!(report.artifacts.iter().all(|one| one.speed.len() == 2 && one.generations.len() == 2));
    assert_eq!(report.model.name, "a");
    for name in ["report.html", "report.json", "report.md", "report.xml"] {
        assert!(Path::new(&out).join(name).exists(), "{name}");
    }
    let short = fs::read_to_string(Path::new(&out).join("report.md")).expect("there");
    assert!(short.contains("KL against a") && !short.contains("float model"), "{short}");

    // With a float checkpoint, both are compared with that, and neither is equal to it.
    let model = crate::fixture::fixture("t5-rows-of-32").display().to_string();
    let found = run(&["compare", &a, &b, "--data", &data, "--reference", &model, "--offline", "--json", "--no-bench"]);
    assert_eq!(code(&found), 0, "{}{}", text(&found.stdout), text(&found.stderr));
    let report: validate::Report = serde_json::from_slice(&found.stdout).expect("a report");
    let kl = |at: usize| report.artifacts[at].runs[0].to_float.expect("logits").kl.expect("a number");
    assert!(0.0 < kl(0) && kl(0) < kl(1), "{} {}", kl(0), kl(1));
    assert!(report.model.parameters > 0 && report.artifacts.iter().all(|one| one.speed.is_empty()));
}

#[cfg(feature = "llama-cpp")]
#[test]
fn what_cannot_be_compared_is_a_sentence() {
    let home = two();
    let [a, b, data, words, other, empty] =
        ["out/a", "out/b", "data.jsonl", "words.txt", "ct2", "empty"].map(|name| home.path(name));
    fs::write(&words, "hello\n").expect("written");
    for dir in [&other, &empty] {
        fs::create_dir(dir).expect("made");
    }
    for name in ["model.bin", "config.json", "shared_vocabulary.json"] {
        fs::write(Path::new(&other).join(name), "{}").expect("written");
    }
    let refused = |a: &str, b: &str, data: &str, expected: &str| {
        let output = run(&["compare", a, b, "--data", data, "--offline", "--no-bench"]);
        assert_eq!((code(&output), text(&output.stdout)), (2, String::new()), "{expected}");
        assert!(text(&output.stderr).contains(expected), "{expected} is not in {}", text(&output.stderr));
    };
    refused(&a, &other, &data, "found a model of CTranslate2: no engine here opens it");
    refused(&a, &empty, &data, "empty");
    let byt5 = crate::fixture::fixture("byt5").display().to_string();
    refused(&a, &byt5, &data, "different vocabularies: expected 64 tokens as ");
    refused(&a, &b, &words, "no tokenizer here nor in ");
    refused(&a, &b, &empty, "empty: ");
    assert_eq!(code(&run(&["compare", &a, &b, "--data", &data, "--metric", "beauty"])), 2);
    // A report of somebody else is not replaced.
    fs::write(home.path("report.json"), "{}").expect("written");
    let output = run(&["compare", &a, &b, "--data", &data, "--out", &home.path(""), "--offline", "--no-bench"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("expected a report of trefoil or nothing"), "{}", text(&output.stderr));
}

/// A folder as CTranslate2's converters write it, without weights.
fn without_weights(home: &Home, spec: &str) -> String {
    let dir = home.path("ct2");
    fs::create_dir(&dir).expect("made");
    let length = u16::try_from(spec.len() + 1).expect("short").to_le_bytes();
    let head = [&6_u32.to_le_bytes()[..], &length, spec.as_bytes(), &[0]].concat();
    fs::write(Path::new(&dir).join("model.bin"), head).expect("written");
    fs::write(Path::new(&dir).join("config.json"), "{}").expect("written");
    let tokens: Vec<String> = (0..64).map(|id| format!("t{id}")).collect();
    fs::write(Path::new(&dir).join("shared_vocabulary.txt"), tokens.join("\n")).expect("written");
    dir
}

#[cfg(feature = "llama-cpp")]
#[test]
fn a_folder_of_ctranslate2_without_its_engine_is_not_run_and_is_no_baseline() {
    let home = two();
    let (a, data, other) = (home.path("out/a"), home.path("data.jsonl"), without_weights(&home, "TransformerSpec"));
    let ask = |arguments: &[&str]| {
        run(&[&["compare"], arguments, &["--data", &data, "--offline", "--no-bench", "--json"]].concat())
    };
    let found = ask(&[&a, &other]);
    assert_eq!(code(&found), 0, "{}", text(&found.stderr));
    let report: validate::Report = serde_json::from_slice(&found.stdout).expect("a report");
    let [check] = &report.artifacts[1].checks[..] else { panic!("{:?}", report.artifacts[1].checks) };
    assert!(check.engine_is_missing, "{check:?}");
    assert!(
        check.sentence.contains("; to run it: ") && check.sentence.contains("pip install ctranslate2==4.8.5"),
        "{}",
        check.sentence
    );
    assert_eq!(code(&ask(&[&a, &other, "--strict"])), 1);

    let refused = ask(&[&other, &a]);
    assert_eq!((code(&refused), text(&refused.stdout)), (2, String::new()));
    let expected =
        "gives no logits that others could be compared with: name it as B, or give a float checkpoint with --reference";
    assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
}

#[test]
#[ignore = "needs ctranslate2 in $VIRTUAL_ENV; CI turns it on"]
fn speech_in_ctranslate2_is_compared_by_its_logits() {
    let (model, clip) = (fixture("whisper"), repository("tests/fixtures/audio/chirp.wav"));
    let artifacts = "  - onnx: {}\n  - ctranslate2: {}\n";
    let home = Home::with(&format!("model: {}\nout: out\nartifacts:\n{artifacts}", model.display()));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let data = home.path("clips.jsonl");
    fs::write(&data, json!({ "input": clip.display().to_string() }).to_string()).expect("written");
    let [ours, theirs] = ["out/onnx", "out/ctranslate2"].map(|name| home.path(name));
    let output = with_engines(&["compare", &ours, &theirs, "--data", &data, "--offline", "--no-bench", "--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let report: validate::Report = serde_json::from_slice(&output.stdout).expect("a report");
    let run = report.artifacts[1].runs.first().unwrap_or_else(|| panic!("{:?}", report.artifacts[1].checks));
    assert_eq!((run.engine.name.as_str(), run.agreement.expect("compared").identical), ("ctranslate2", 1.0));
    assert!(run.to_float.and_then(|found| found.kl).is_some_and(|kl| kl < 1e-6), "{:?}", run.to_float);
}

/// The Python that has ctranslate2, and transformers for its converter.
fn with_ctranslate2() -> PathBuf {
    std::env::var_os("TREFOIL_CTRANSLATE2_PYTHON").map_or_else(|| repository(".venv/bin/python"), PathBuf::from)
}

#[test]
#[ignore = "needs ctranslate2 in .venv or in $TREFOIL_CTRANSLATE2_PYTHON; CI turns it on"]
fn ctranslate2_says_what_the_interpreter_does() {
    const WORDS: usize = 50;
    let (python, model) = (with_ctranslate2(), repository("models/g2p-t5"));
    let home = Home::with(&format!("model: {}\nout: out\nartifacts:\n  - onnx: {{}}\n", model.display()));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let [ours, theirs] = ["out/onnx", "ct2"].map(|name| home.path(name));
    let script = repository("tests/foreign/ctranslate2_convert.py");
    let made = Command::new(&python).arg(script).arg(&model).arg(&theirs).output().expect("Python starts");
    assert!(made.status.success(), "{}", text(&made.stderr));

    let (words, reference) = (WORDS.to_string(), model.display().to_string());
    let data = repository("models/g2p-t5/data/test.jsonl").display().to_string();
    // As B, and as A.
    for (sides, at) in [([&ours, &theirs], 1), ([&theirs, &ours], 0)] {
        let mut command = trefoil();
        command.env("TREFOIL_CTRANSLATE2_PYTHON", &python).args(["compare", sides[0], sides[1], "--data", &data]);
        command.args(["--reference", &reference, "--samples", &words, "--offline", "--no-bench", "--json"]);
        let found = command.output().expect("the binary starts");
        assert_eq!(code(&found), 0, "{}{}", text(&found.stdout), text(&found.stderr));
        let report: validate::Report = serde_json::from_slice(&found.stdout).expect("a report");
        let [ran] = &report.artifacts[at].runs[..] else { panic!("{:?}", report.artifacts[at].checks) };
        assert_eq!((ran.engine.name.as_str(), ran.engine.version.as_str()), ("ctranslate2", "4.8.5"));
        // It computes in floats of 32 bits what is stored in 16, as the interpreter does.
        assert!(ran.engine.settings.contains("float32"), "{}", ran.engine.settings);
        let answers = &report.artifacts[at].generations;
        assert_eq!(answers.len(), WORDS);
        let others: Vec<_> = answers.iter().filter(|one| one.outputs != [Some(one.float.clone())]).collect();
        assert!(others.is_empty(), "{others:?}");
        let agreement = ran.agreement.expect("answers");
        assert_eq!((agreement.tokens, agreement.identical), (1.0, 1.0));
        assert_eq!((ran.to_float, ran.score.is_some()), (None, true));
        let sentences: Vec<&str> = report.artifacts[at].checks.iter().map(|check| check.sentence.as_str()).collect();
        assert!(
            sentences.iter().any(|sentence| sentence.contains("gives no logits over the vocabulary")),
            "{sentences:?}"
        );
        assert!(sentences.iter().any(|sentence| sentence.starts_with("not timed: ")), "{sentences:?}");
    }
}

/// The lines of `report outputs`, scored by a judge that likes what the right answer says and dislikes what it does not.
fn judged(outputs: &str, of: impl Fn(&Value) -> Option<f64>) -> String {
    let line = |line: &str| {
        let mut output: Value = serde_json::from_str(line).expect("JSON");
        output["score"] = json!(of(&output)?);
        Some(output.to_string() + "\n")
    };
    outputs.lines().filter_map(line).collect()
}

#[test]
fn another_judge_s_scores_are_a_column_with_intervals_and_a_limit_on_pairs() {
    let (home, _model) = small(&LOOSE.replace("samples: 3", "samples: 8"));
    assert_eq!(code(&home.convert(&[])), 0);
    let dir = home.path("out");
    let outputs = run(&["report", "outputs", &dir]);
    assert_eq!(code(&outputs), 0, "{}", text(&outputs.stderr));
    let outputs = text(&outputs.stdout);
    let report = json(home.path("out/report.json"));
    let runs: usize =
        report["artifacts"].as_array().expect("two").iter().map(|a| a["runs"].as_array().expect("runs").len()).sum();
    assert_eq!(outputs.lines().count(), 8 * (1 + runs), "the float model and every run said something of each sample");

    // Every engine is as good as the float model but for the quantized graph of onnx, which loses 0.1 everywhere.
    let loses = |output: &Value| output["artifact"] == "onnx" && output["run"] == 0;
    let score = |output: &Value| {
        let of_sample = output["sample"].as_f64().expect("a number") / 10.0;
        Some(if loses(output) { of_sample - 0.1 } else { of_sample })
    };
    let scores = home.path("scores.jsonl");
    fs::write(&scores, judged(&outputs, score)).expect("written");
    let add =
        |more: &[&str]| run(&[&["report", "column", &dir, "--name", "CO<MET|", "--scores", &scores], more].concat());
    let plain = add(&[]);
    assert_eq!(code(&plain), 0, "{}", text(&plain.stderr));
    let report = json(home.path("out/report.json"));
    let column = &report["columns"][0];
    let means: Vec<f64> = column["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| run["score"]["mean"].as_f64().expect("mean"))
        .collect();
    assert!((column["float"]["mean"].as_f64().expect("mean") - 0.35).abs() < 1e-12);
    assert!((means[0] - 0.25).abs() < 1e-12 && means[1..].iter().all(|mean| (mean - 0.35).abs() < 1e-12), "{means:?}");
    assert!(!report.to_string().contains("score_lost"), "without a limit nothing is judged");
    let [html, markdown] =
        ["out/report.html", "out/report.md"].map(|file| fs::read_to_string(home.path(file)).expect("there"));
    assert!(html.contains("CO&lt;MET|") && !html.contains("CO<MET"), "in the table of the page, as a text");
    assert!(markdown.contains("0.250 (") && !markdown.contains("CO<MET|"), "{markdown}");

    // The quantized graph is worse than the float model, and its engines better than it: one is blamed, once.
    let limited = add(&["--max-lost", "0.05"]);
    assert_eq!(code(&limited), 1, "{}", text(&limited.stderr));
    let report = json(home.path("out/report.json"));
    assert_eq!(report["columns"].as_array().expect("columns").len(), 1, "it replaces the one of its name");
    let checks =
        report["artifacts"].as_array().expect("two").iter().flat_map(|a| a["checks"].as_array().expect("checks"));
    let of_judge: Vec<&Value> = checks.filter(|check| check["metric"] == "score_lost").collect();
    assert_eq!(of_judge.len(), runs);
    let failed: Vec<&Value> = of_judge.into_iter().filter(|check| check["outcome"] == "failed").collect();
    let [only] = failed[..] else { panic!("{failed:?}") };
    assert_eq!((&only["link"], &only["value"]), (&json!("quantization"), &json!(0.1)));
    // By errors it is the better one, and an engine, where there is one here, worse than it.
    let has_engine = report["artifacts"][0]["runs"].as_array().expect("runs").len() > 1;
    assert_eq!(code(&add(&["--max-lost", "0.05", "--lower-is-better"])), i32::from(has_engine));
    assert_eq!(code(&add(&["--max-lost", "0.1"])), 0);

    // Nothing is changed by scores that do not fit; all that does not is told.
    let before = fs::read(home.path("out/report.json")).expect("there");
    let refused = |lines: String, expected: &[&str]| {
        fs::write(&scores, lines).expect("written");
        let output = add(&[]);
        assert_eq!((code(&output), text(&output.stdout)), (2, String::new()));
        expected
            .iter()
            .for_each(|part| assert!(text(&output.stderr).contains(part), "{part}: {}", text(&output.stderr)));
        assert_eq!(fs::read(home.path("out/report.json")).expect("there"), before);
    };
    refused(judged(&outputs, |o| (o["sample"] != 3 || !loses(o)).then_some(0.5)), &["7 of 8 outputs have a score"]);
    refused(judged(&outputs, |_| Some(0.5)).repeat(2), &["a second score", "more lines"]);
    refused(
        judged(&outputs, score).replace("\"artifact\":\"onnx\"", "\"artifact\":\"tflite\""),
        &["tflite, run 0, sample 0: the report has no such output"],
    );
    refused(
        "{\"sample\": 0, \"score\": 1}\n\nnot JSON\n".to_owned(),
        &["line 1: missing field `artifact`", "line 3: "],
    );
    refused(String::new(), &["found none", "report outputs"]);
    refused(judged(&outputs, score).replace("0.3,", "1e999,").replace("0.3}", "1e999}"), &["line "]);
    fs::write(&scores, judged(&outputs, |o| o["artifact"].is_string().then_some(0.5))).expect("written");
    let without_float = add(&["--max-lost", "1"]);
    assert!(
        text(&without_float.stderr).contains("needs the scores of the float model"),
        "{}",
        text(&without_float.stderr)
    );
}
