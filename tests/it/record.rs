//! What a run tells of itself: the record, completions and manual pages.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::cli::{LOOSE, code, files, run, small, text, trefoil};
use crate::fixture::fixture;

#[test]
fn a_record_has_the_stages_the_engines_and_the_files_and_changes_neither_output_nor_artifacts() {
    let [plain, kept] = [small(LOOSE), small(LOOSE)];
    let log = kept.path("log.txt");
    let quiet = plain.convert(&["--only", "safetensors", "--no-validate"]);
    let recorded = kept.convert(&["--only", "safetensors", "--no-validate", "--log", &log]);
    assert_eq!((code(&quiet), code(&recorded)), (0, 0), "{}", text(&recorded.stderr));
    let of = |output: &[u8], home: &crate::cli::Home| text(output).replace(&home.dir.path().display().to_string(), "");
    assert_eq!(of(&quiet.stdout, &plain), of(&recorded.stdout, &kept));
    assert_eq!(of(&quiet.stderr, &plain), of(&recorded.stderr, &kept));
    let weights = |home: &crate::cli::Home| fs::read(home.path("out/safetensors/model.safetensors")).expect("there");
    assert!(weights(&plain) == weights(&kept));
    assert_eq!(files(kept.dir.path()).len(), files(plain.dir.path()).len() + 1);

    let told = fs::read_to_string(&log).expect("written");
    let model = fixture("t5-rows-of-32").display().to_string();
    for expected in [
        format!("  trefoil {} convert ", env!("CARGO_PKG_VERSION")),
        format!("  read {model}/model.safetensors, "),
        "  safetensors: write: took ".to_owned(),
        "  exit code 0; most memory of this process: ".to_owned(),
    ] {
        assert!(told.contains(&expected), "{expected} is not in\n{told}");
    }
    let seconds = told.lines().map(|line| line.split_once(" s  ").expect("a time").0.trim().parse::<f64>());
    let seconds: Vec<f64> = seconds.map(|at| at.expect("seconds")).collect();
    assert!(seconds.is_sorted(), "{seconds:?}");
    // A second run goes on where the first ended.
    assert_eq!(code(&run(&["cache", "--log", &log])), 0);
    let longer = fs::read_to_string(&log).expect("there");
    assert!(longer.starts_with(&told) && longer.contains("  trefoil 0.1.0 cache --log "), "{longer}");
}

#[test]
fn verbose_tells_on_stderr_once_the_course_and_twice_the_files() {
    let model = fixture("t5-v1.1").display().to_string();
    let told = |more: &[&str]| {
        let output = run(&[&["run", &model, "5 1", "--max-new-tokens", "2"], more].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (answer, none) = told(&["--quiet"]);
    let (same, once) = told(&["--quiet", "-v"]);
    let (_, twice) = told(&["--quiet", "-vv"]);
    assert_eq!((none.as_str(), &answer), ("", &same));
    assert!(once.contains("exit code 0") && !once.contains("config.json"), "{once}");
    assert!(twice.contains(&format!("read {model}/config.json, ")), "{twice}");
    // An error is the last line, also for programs.
    let output = run(&["run", &model, "five", "-v", "--json"]);
    let lines = text(&output.stderr);
    assert!(lines.lines().any(|line| line.starts_with("{\"error\":")), "{lines}");
}

#[test]
fn an_engine_that_is_started_is_recorded_with_its_command_line_and_the_time_to_its_first_answer() {
    let home = crate::cli::Home::with(&format!(
        "model: {}\nout: out\nartifacts:\n  - gguf: {{}}\n",
        fixture("bart").display()
    ));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let artifact = home.path("out/gguf");
    let few = ["--tokens", "2", "--runs", "1", "--batch", "1", "--source", "4", "-v"];
    let output = run(&[&["bench", &artifact, "--engine", "interpreter"], &few[..]].concat());
    let told = text(&output.stderr);
    assert_eq!(code(&output), 0, "{told}");
    let start = format!("  start interpreter: {} engine interpreter {artifact}\n", env!("CARGO_BIN_EXE_trefoil"));
    assert!(told.contains(&start), "{start} is not in\n{told}");
    assert!(told.contains("  the process of the engine ") && told.contains(" answers after "), "{told}");
}

/// The commands that `--help` shows.
fn commands() -> BTreeSet<String> {
    let help = text(&run(&["--help"]).stdout);
    let listed = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    // What goes on a line is indented further.
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_manual_page_and_hidden_ones_have_none() {
    let home = tempfile::tempdir().expect("temporary folder");
    let dir = home.path().join("man1").display().to_string();
    let output = run(&["man", &dir]);
    assert_eq!((code(&output), text(&output.stdout)), (0, String::new()), "{}", text(&output.stderr));
    let pages: BTreeSet<String> = files(home.path())
        .keys()
        .map(|file| file.file_name().expect("a file").to_string_lossy().into_owned())
        .collect();
    let shown = commands();
    assert!(shown.len() > 12 && shown.contains("doctor"), "{shown:?}");
    for command in shown.iter().filter(|command| *command != "help") {
        assert!(pages.contains(&format!("trefoil-{command}.1")), "{command} has no page: {pages:?}");
    }
    assert!(pages.contains("trefoil.1") && pages.contains("trefoil-recipe-check.1"), "{pages:?}");
    assert!(pages.iter().all(|page| !page.contains("engine") && !page.contains("help")), "{pages:?}");
    for (file, page) in files(home.path()) {
        let page = text(&page);
        assert!(
            page.contains(".TH ") && page.contains(".SH OPTIONS") || page.contains(".SH SUBCOMMANDS"),
            "{}",
            file.display()
        );
    }
    assert_eq!(text(&run(&["man"]).stdout), fs::read_to_string(format!("{dir}/trefoil.1")).expect("written"));
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
        let script = text(&output.stdout);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
    assert_eq!(code(&run(&["completions", "cmd"])), 2);
}

/// As a shell asks for it after `trefoil doc<TAB>`.
#[cfg(unix)]
#[test]
fn bash_completes_a_command_that_has_begun() {
    let home = tempfile::tempdir().expect("temporary folder");
    let script = home.path().join("trefoil.bash");
    fs::write(&script, run(&["completions", "bash"]).stdout).expect("written");
    let asks =
        "source \"$0\"; COMP_WORDS=(trefoil doc); COMP_CWORD=1; _trefoil trefoil doc trefoil; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", asks]).arg(&script).stderr(Stdio::piped()).output();
    let Ok(output) = output else { return };
    assert_eq!(text(&output.stdout), "doctor\n", "{}", text(&output.stderr));
}

#[test]
fn a_record_that_cannot_be_written_is_an_error_before_any_work() {
    let home = small(LOOSE);
    let output = trefoil().args(["convert", &home.recipe(), "--log", &home.path("none/log")]).output();
    let output = output.expect("the binary starts");
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).starts_with(&format!("error: --log {}: No such file", home.path("none/log"))));
    assert_eq!(home.names(), ["recipe.yaml"]);
}
