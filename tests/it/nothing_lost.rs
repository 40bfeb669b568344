//! Nothing is lost, whoever ends the program, fills its disk or works in its folder; nothing foreign is replaced.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{Home, LOOSE, code, files, run, small, text, trefoil};
use crate::fixture::{copy, fixture, repository};

/// What a JSON file says.
fn json(file: impl AsRef<Path>) -> Value {
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.as_ref().display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Whether an artifact's files are those of its manifest; its scheme.
fn whole(dir: &Path) -> Result<String, String> {
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("trefoil.json")).map_err(|e| format!("{}: {e}", dir.display()))?)
            .map_err(|e| e.to_string())?;
    let listed = manifest["files"].as_array().ok_or("no files")?;
    for file in listed {
        let path = dir.join(file["path"].as_str().ok_or("no path")?);
        let found = converters::checkpoint::sha256(&path).map_err(|error| error.to_string())?;
        if file["sha256"] != found.as_str() {
            return Err(format!("{} has another digest", path.display()));
        }
    }
    let there: BTreeSet<_> = files(dir).into_keys().collect();
    // The manifest and the card, the statement and the bill.
    let beside = ["trefoil.json", "README.md", "provenance.intoto.json", "model.cdx.json"];
    if there.len() != listed.len() + beside.len() || !beside.iter().all(|name| there.contains(&dir.join(name))) {
        return Err(format!("{}: {there:?}", dir.display()));
    }
    Ok(manifest["recipe"]["text"].as_str().ok_or("no recipe")?.to_owned())
}

/// A recipe of one generation: the schemes tell them apart.
fn generation(model: &Path, scheme: &str) -> String {
    format!(
        "model: {}\nout: out\nquantize: {{ scheme: {scheme} }}\nartifacts:\n  - onnx: {{}}\n  - safetensors: {{}}\n\
         validate:\n  samples: 2\n  limits: {LOOSE}\n",
        model.display()
    )
}

#[cfg(unix)]
#[test]
fn killed_or_interrupted_at_any_moment_every_artifact_is_old_or_new_and_the_next_run_finishes() {
    let generations = ["int8", "f32"].map(|scheme| generation(&fixture("t5-rows-of-32"), scheme));
    let home = Home::with(&generations[0]);
    let out = home.dir.path().join("out");
    assert_eq!(code(&home.convert(&["--quiet"])), 0);
    let begun = Instant::now();
    assert_eq!(code(&home.convert(&["--quiet"])), 0);
    let takes = begun.elapsed();

    let mut seed = 2_463_534_242_u32;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        f64::from(seed) / f64::from(u32::MAX)
    };
    let mut ends = [0, 0];
    for attempt in 0..50 {
        fs::write(home.recipe(), &generations[attempt % 2]).expect("written");
        let had_state = out.join(".trefoil").exists();
        let mut child = trefoil();
        let child = child.args(["convert", &home.recipe(), "--offline", "--no-bench", "--quiet"]).stdout(Stdio::null());
        let child = child.stderr(Stdio::piped()).spawn().expect("the binary starts");
        // Half of them near the end, where names change.
        let share = if attempt % 4 < 2 { random() } else { 0.85 + 0.3 * random() };
        std::thread::sleep(takes.mul_f64(share));
        let signal = if random() < 0.5 { "-KILL" } else { "-INT" };
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
        let output = child.wait_with_output().expect("it ends");
        let told = format!("attempt {attempt}, {signal} at {share:.3}: {}", text(&output.stderr));
        let found =
            ["onnx", "safetensors"].map(|name| whole(&out.join(name)).unwrap_or_else(|e| panic!("{told}: {e}")));
        if signal == "-INT" && output.status.code() == Some(130) {
            // What one before it left that was killed may still be there.
            assert!(had_state || !out.join(".trefoil").exists(), "{told}");
            assert!(found[0] == found[1], "an interrupt waits until all names have changed: {told}");
        }
        // Whoever comes next finishes what was decided; here one that only looks.
        assert_eq!(code(&run(&["inspect", &out.join("onnx").display().to_string()])), 0);
        let found =
            ["onnx", "safetensors"].map(|name| whole(&out.join(name)).unwrap_or_else(|e| panic!("{told}: {e}")));
        assert!(found[0] == found[1], "{told}: two generations");
        let report = json(out.join("report.json"));
        assert_eq!(report["recipe"]["text"], found[0].as_str(), "{told}: the report is of another generation");
        ends[usize::from(found[0] == generations[attempt % 2])] += 1;
    }
    assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}: kills came always or never in time");
    // Nothing is in the way of the next run, and nothing of the dead ones stays.
    assert_eq!(code(&home.convert(&["--quiet"])), 0);
    let names: BTreeSet<String> = fs::read_dir(&out)
        .expect("listed")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    assert_eq!(
        names,
        ["onnx", "report.html", "report.json", "report.md", "report.xml", "safetensors"].map(str::to_owned).into()
    );
}

#[test]
fn two_runs_on_one_folder_do_not_disturb_each_other() {
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - onnx: {{}}\nvalidate: {{ data: {}, samples: 500 }}\n",
        repository("models/g2p-t5").display(),
        repository("models/g2p-t5/data/test.jsonl").display()
    ));
    // In a PID namespace of its own, where the machine has them, both runs have the same process id.
    let program = env!("CARGO_BIN_EXE_trefoil");
    let alone = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let has_namespaces =
        Command::new(alone[0]).args(&alone[1..]).arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let start = || {
        let recipe = home.recipe();
        let arguments = ["convert", &recipe, "--offline", "--no-bench", "--quiet"];
        let mut command = match has_namespaces {
            true => Command::new(alone[0]),
            false => Command::new(program),
        };
        if has_namespaces {
            command.args(&alone[1..]).arg(program);
        }
        let command = command.args(arguments).env("XDG_CACHE_HOME", home.path("cache"));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let mut first = start();
    let lock = home.path("out/.trefoil/lock");
    let begun = Instant::now();
    while fs::read_to_string(&lock).map_or(true, |words| words.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(120), "the folder is not locked");
        assert!(first.try_wait().expect("asked").is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = start().wait_with_output().expect("it ends");
    let words = text(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{words}");
    let holder = if has_namespaces { "process 1 on " } else { "process " };
    assert!(words.contains("out: ") && words.contains(holder) && words.contains("is working there"), "{words}");
    let first = first.wait_with_output().expect("it ends");
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    whole(Path::new(&home.path("out/onnx"))).expect("whole");
}

#[test]
fn the_checkpoint_and_what_is_not_ours_are_refused_before_any_work() {
    let model = copy("t5-v1.1");
    let recipe = |out: &Path, name: &str| {
        format!(
            "model: {}\nout: {}\nartifacts:\n  - onnx: {{}}\n    name: {name}\n",
            model.path().display(),
            out.display()
        )
    };
    let parent = model.path().parent().expect("temporary");
    let own = model.path().file_name().expect("named").to_string_lossy().into_owned();
    let before = files(model.path());
    let elsewhere = tempfile::tempdir().expect("temporary folder");
    for name in ["photos", "photos.failed", "notes"] {
        fs::create_dir(elsewhere.path().join(name)).expect("made");
        fs::write(elsewhere.path().join(name).join("a.jpg"), "mine").expect("written");
    }
    fs::write(elsewhere.path().join("report.md"), "# mine").expect("written");
    let others = files(elsewhere.path());
    // A name that a recipe may not give is refused by the recipe.
    let named = if own.starts_with('.') { "`" } else { "is the checkpoint" };
    for (recipe, expected) in [
        (recipe(parent, &own), vec![named]),
        (recipe(model.path(), "onnx"), vec!["onnx: lies inside of the checkpoint"]),
        (
            recipe(elsewhere.path(), "photos"),
            vec![
                "photos: expected an artifact of trefoil or nothing, found no trefoil.json",
                "photos.failed: ",
                "report.md: ",
            ],
        ),
    ] {
        let home = Home::with(&recipe);
        let output = home.convert(&[]);
        let stderr = text(&output.stderr);
        assert_eq!((code(&output), text(&output.stdout)), (2, String::new()), "{stderr}");
        assert!(expected.iter().all(|expected| stderr.contains(expected)), "{stderr}");
        assert!(!stderr.contains("import "), "no work was done: {stderr}");
        assert_eq!((files(model.path()), files(elsewhere.path())), (before.clone(), others.clone()));
    }
    // A file more in an artifact is somebody's work.
    let home = small(LOOSE);
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    fs::write(home.path("out/onnx/notes.txt"), "mine").expect("written");
    let output = home.convert(&["--no-validate"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("onnx: expected the files of its trefoil.json alone, found also notes.txt"));
    assert_eq!(fs::read_to_string(home.path("out/onnx/notes.txt")).expect("kept"), "mine");
    // Names that trefoil gives itself.
    for name in ["x.failed", "report.json"] {
        let output = Home::with(&recipe(elsewhere.path(), name)).convert(&[]);
        assert!(text(&output.stderr).contains("expected a name that trefoil does not give itself"));
    }
}

#[test]
fn a_failed_artifact_stands_beside_the_good_one_and_a_good_one_takes_its_place() {
    let home = small(LOOSE);
    assert_eq!(code(&home.convert(&[])), 0);
    let good = files(Path::new(&home.path("out/onnx")));
    let strict = |limits: &str| {
        let recipe = fs::read_to_string(home.recipe()).expect("there").replace(LOOSE, limits);
        fs::write(home.recipe(), recipe).expect("written");
    };
    strict("{ max_kl: 0.0, min_top1: 0.0 }");
    let output = home.convert(&["--only", "onnx"]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert_eq!(files(Path::new(&home.path("out/onnx"))), good, "the good one stays");
    assert_eq!(json(home.path("out/onnx.failed/trefoil.json"))["verdict"], "failed");
    assert_eq!(json(home.path("out/onnx/trefoil.json"))["verdict"], "passed");
    // The report speaks of the failed one, and of the others says who made them: another recipe.
    let report = json(home.path("out/report.json"));
    assert_eq!(report["artifacts"][0]["folder"], "onnx.failed");
    let others: Vec<&str> =
        report["others"].as_array().expect("a list").iter().map(|o| o["about"].as_str().expect("a name")).collect();
    assert_eq!(others, ["onnx", "safetensors"]);
    let markdown = fs::read_to_string(home.path("out/report.md")).expect("there");
    assert!(markdown.contains("onnx.failed") && markdown.contains("this report does not speak of it"), "{markdown}");
    let sizes = |report: &Value| -> u64 {
        report["artifacts"][0]["files"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|f| f["bytes"].as_u64().expect("a size"))
            .sum()
    };
    assert_eq!(report["artifacts"][0]["bytes"], sizes(&report));

    let recipe = fs::read_to_string(home.recipe()).expect("there").replace("max_kl: 0.0", "max_kl: 10.0");
    fs::write(home.recipe(), recipe).expect("written");
    assert_eq!(code(&home.convert(&[])), 0);
    assert!(!Path::new(&home.path("out/onnx.failed")).exists());
    assert_eq!(json(home.path("out/report.json")).get("others"), None);
}

#[test]
fn an_engine_that_is_missing_fails_when_that_is_asked_for() {
    let home = small(LOOSE);
    let output = home.convert(&["--strict", "--only", "safetensors"]);
    let stderr = text(&output.stderr);
    assert_eq!(code(&output), 1, "{stderr}");
    assert!(stderr.contains("failed: runtime of safetensors: the artifact in transformers: "), "{stderr}");
    // Data without targets is no missing engine.
    assert!(!stderr.contains("the data has no targets"), "{stderr}");
    assert_eq!(json(home.path("out/safetensors.failed/trefoil.json"))["verdict"], "failed");
}

#[test]
fn a_report_speaks_of_what_lies_there() {
    let home = small(LOOSE);
    assert_eq!(code(&home.convert(&[])), 0);
    let names = |report: &Value| -> Vec<String> {
        report["artifacts"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|a| a["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    // One artifact anew: what was found of the other stays.
    assert_eq!(code(&home.convert(&["--only", "safetensors"])), 0);
    let report = json(home.path("out/report.json"));
    assert_eq!(names(&report), ["onnx", "safetensors"]);
    // Without validation: the old figures are of something else.
    assert_eq!(code(&home.convert(&["--only", "onnx", "--no-validate"])), 0);
    let report = json(home.path("out/report.json"));
    assert_eq!(names(&report), ["safetensors"]);
    assert_eq!(report["others"][0]["about"], "onnx");
    assert!(report["others"][0]["text"].as_str().is_some_and(|text| text.contains("without validation")));
    assert_eq!(json(home.path("out/onnx/trefoil.json"))["verdict"], "not_validated");
    // Of none of what lies there: no report.
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    assert!(!Path::new(&home.path("out/report.json")).exists() && !Path::new(&home.path("out/report.md")).exists());
    // A report in a folder of its own.
    let elsewhere = home.path("reports");
    assert_eq!(code(&home.convert(&["--report-dir", &elsewhere])), 0);
    assert_eq!(names(&json(Path::new(&elsewhere).join("report.json"))), ["onnx", "safetensors"]);
    assert!(!Path::new(&home.path("out/report.json")).exists());
    assert!(!Path::new(&elsewhere).join(".trefoil").exists());
}

#[test]
fn a_checkpoint_that_changes_while_it_is_read_is_an_error() {
    let model = copy("t5-rows-of-32");
    let home = Home::with(&format!(
        "model: {}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\nvalidate: {{ samples: 1200, limits: {LOOSE} }}\n",
        model.path().display()
    ));
    let mut child = trefoil();
    let child = child.args(["convert", &home.recipe(), "--offline", "--no-bench", "--quiet"]).stderr(Stdio::piped());
    let mut child = child.spawn().expect("started");
    let begun = Instant::now();
    while fs::read_to_string(home.path("out/.trefoil/lock")).map_or(true, |words| words.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(120) && child.try_wait().expect("asked").is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    // In place, with the same length: another training run saves into the same folder.
    let file = model.path().join("model.safetensors");
    let last = *fs::read(&file).expect("there").last().expect("not empty");
    // Not cut first, as `fs::write` does: a reader in between would find it short, which is another error.
    let mut open = fs::OpenOptions::new().write(true).open(&file).expect("opened");
    open.seek(SeekFrom::End(-1)).expect("a place");
    open.write_all(&[last ^ 1]).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("changed while it was read: model.safetensors was written or replaced"), "{stderr}");
    assert_eq!(home.names(), ["recipe.yaml"]);
}

#[test]
fn a_calibrated_artifact_is_validated_against_its_own_weights() {
    let data = repository("models/g2p-t5/data");
    let home = Home::with(&format!(
        "model: {}\nout: out\ncalibrate: {{ data: {}, samples: 8 }}\n\
         quantize: {{ scheme: int8, method: gptq, activations: {{ static: {{ bits: 8 }} }}, equalize: {{ smoothquant: {{}} }} }}\nartifacts:\n  - onnx: {{}}\n",
        repository("models/g2p-t5").display(),
        data.join("calibration.jsonl").display(),
    ));
    let output = home.convert(&["--no-validate", "--quiet"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let manifest = json(home.path("out/onnx/trefoil.json"));
    let calibrated = &manifest["calibrated"];
    assert!(calibrated["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("rten-gemm ")), "{calibrated}");
    assert!(calibrated["weights"].as_array().is_some_and(|weights| weights.len() > 20));
    assert!(calibrated["decided"]["steps"].as_object().is_some_and(|steps| steps.len() > 5), "{calibrated}");

    // Another processor's last bits: codes that are one step away, in a file whose manifest says so.
    let file = home.path("out/onnx/model.onnx_data");
    let mut bytes = fs::read(&file).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] = bytes[middle].wrapping_add(1);
    fs::write(&file, &bytes).expect("written");
    let model = repository("models/g2p-t5").display().to_string();
    let artifact = home.path("out/onnx");
    let validate = || run(&["validate", &artifact, "--reference", &model, "--offline", "--json", "--samples", "2"]);
    let export = |report: &Value| -> Vec<(String, String)> {
        let checks = report["artifacts"][0]["checks"].as_array().expect("a list");
        let of = |check: &Value, key: &str| check[key].as_str().expect("a text").to_owned();
        checks.iter().filter(|c| c["link"] == "export").map(|c| (of(c, "outcome"), of(c, "sentence"))).collect()
    };
    let output = validate();
    let found = export(&serde_json::from_slice(&output.stdout).expect("JSON"));
    assert!(found[1].0 == "failed" && found[1].1.contains("model.onnx_data has another SHA-256"), "{found:?}");
    let digest = converters::checkpoint::sha256(Path::new(&file)).expect("read");
    let files = manifest["files"].as_array().expect("a list");
    let old =
        files.iter().find(|f| f["path"] == "model.onnx_data").expect("named")["sha256"].as_str().expect("a digest");
    let path = home.path("out/onnx/trefoil.json");
    fs::write(&path, fs::read_to_string(&path).expect("there").replace(old, &digest)).expect("written");
    let output = validate();
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(export(&report).iter().all(|(outcome, _)| outcome == "passed"), "{:?}", export(&report));
}

#[test]
fn what_a_format_cannot_hold_is_told_of_all_artifacts_before_calibration() {
    let data = repository("models/g2p-t5/data/calibration.jsonl");
    let home = Home::with(&format!(
        "model: {}\nout: out\ncalibrate: {{ data: {} }}\nartifacts:\n  - gguf: {{}}\n    quantize: {{ scheme: q8_0, method: gptq }}\n  \
         - gguf: {{}}\n    name: b\n    quantize: {{ scheme: int4, method: gptq }}\n  \
         - safetensors: {{}}\n    quantize: {{ scheme: q4_0 }}\n",
        fixture("t5-v1.0").display(),
        data.display()
    ));
    let output = home.convert(&[]);
    let stderr = text(&output.stderr);
    assert_eq!(code(&output), 2, "{stderr}");
    for artifact in ["gguf: ", "b: ", "safetensors: "] {
        assert!(stderr.contains(artifact), "{artifact}{stderr}");
    }
    assert!(stderr.contains("cannot become q8_0: rows of "), "{stderr}");
    assert!(!stderr.contains("calibrat") || !stderr.contains("samples"), "nothing ran: {stderr}");
    assert_eq!(home.names(), ["recipe.yaml"]);
}

/// A checkpoint of an embedding of `rows`, in a file that takes no room.
fn sparse(rows: usize) -> tempfile::TempDir {
    let model = copy("t5-v1.1");
    let config = json(model.path().join("config.json"));
    let (d_model, vocabulary) = (config["d_model"].as_u64().expect("a number"), config["vocab_size"].clone());
    let file = model.path().join("model.safetensors");
    let bytes = fs::read(&file).expect("there");
    let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).expect("JSON");
    let mut end = 0_u64;
    let mut wider = serde_json::Map::new();
    for (name, tensor) in header.as_object().expect("a map").iter().filter(|(name, _)| *name != "__metadata__") {
        let mut shape: Vec<u64> = serde_json::from_value(tensor["shape"].clone()).expect("a shape");
        if shape.first() == vocabulary.as_u64().as_ref() {
            shape[0] = rows as u64;
        }
        let len = 2 * shape.iter().product::<u64>();
        wider.insert(
            name.clone(),
            serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [end, end + len] }),
        );
        end += len;
    }
    assert!(end > d_model);
    let header = Value::Object(wider).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    fs::write(&file, &out).expect("written");
    fs::File::options().write(true).open(&file).expect("there").set_len(out.len() as u64 + end).expect("grown");
    let mut config = config;
    config["vocab_size"] = rows.into();
    fs::write(model.path().join("config.json"), config.to_string()).expect("written");
    model
}

#[test]
fn a_model_that_an_npu_file_cannot_hold_is_refused_before_it_is_read() {
    let model = sparse(20_000_000);
    let home = Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - npu: {{ profile: npu-portable, source: [16], target: 8 }}\n",
        model.path().display()
    ));
    let begun = Instant::now();
    let output = home.convert(&["--no-validate"]);
    let stderr = text(&output.stderr);
    assert_eq!(code(&output), 2, "{stderr}");
    assert!(
        stderr.contains("npu-portable takes at most 2147483647 in a file") && stderr.contains("hint: "),
        "{stderr}"
    );
    assert!(begun.elapsed() < Duration::from_secs(60), "it was read");
    assert_eq!(home.names(), ["recipe.yaml"]);
}

#[test]
fn names_from_files_do_not_reach_a_terminal_and_a_closed_pipe_is_quiet() {
    let model = copy("t5-v1.1");
    let config = model.path().join("config.json");
    let hostile = fs::read_to_string(&config).expect("there").replacen('{', "{\"\\u001b[2J\\u009b31m\\u202e\": 1,", 1);
    fs::write(&config, hostile).expect("written");
    let dir = model.path().display().to_string();
    let output = run(&["inspect", &dir]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("\\u{1b}[2J\\u{9b}31m\\u{202e}"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{said:?}");

    let mut child = trefoil();
    let child = child.args(["inspect", &repository("models/g2p-t5").display().to_string()]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let mut words = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut words).expect("read");
    assert_eq!((child.wait().expect("it ends").code(), words), (Some(0), String::new()));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "mounts a small disk: needs root, or user namespaces"]
fn a_disk_that_is_full_is_told_with_its_place_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("temporary folder");
    let recipe = home.path().join("recipe.yaml");
    let model = repository("models/g2p-t5");
    let disk = home.path().join("disk");
    fs::create_dir(&disk).expect("made");
    fs::write(
        &recipe,
        format!(
            "model: {}\nout: {}/out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - onnx: {{}}\n",
            model.display(),
            disk.display()
        ),
    )
    .expect("written");
    // Too small by what is known before, and by a little that is not.
    for (kilobytes, expected) in [(4000, "expected room for about "), (9300, "No space left")] {
        let script = format!(
            "mount -t tmpfs -o size={kilobytes}k none {disk} && {program} convert {recipe} --offline --quiet --no-validate; \
             code=$?; find {disk} -mindepth 1 >&2; exit $code",
            disk = disk.display(),
            program = env!("CARGO_BIN_EXE_trefoil"),
            recipe = recipe.display()
        );
        let output = Command::new("unshare").args(["--map-root-user", "--mount", "sh", "-c", &script]).output();
        let output = output.expect("unshare is part of util-linux");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("disk"), "{stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with(&disk.display().to_string())).count(), 0, "{stderr}");
    }
}
