//! `trefoil run` with many inputs: of the arguments, of a file, of stdin. Answers come in order, a line each, and a broken line
//! takes none of the others with it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::cli::{code, run, text, trefoil};
use crate::fixture::{fixture, repository};

/// A tiny checkpoint without a tokenizer: its texts are token ids.
fn model() -> String {
    fixture("t5-v1.1").display().to_string()
}

/// `run` on the checkpoint with something on stdin.
fn asked(more: &[&str], stdin: &str) -> Output {
    let mut child = trefoil()
        .args(["run", &model(), "--max-new-tokens", "4"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What it answers to one input alone.
fn alone(input: &str) -> String {
    let output = run(&["run", &model(), "--max-new-tokens", "4", input]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    text(&output.stdout)
}

const INPUTS: [&str; 3] = ["5 6 9 1", "7 1", "20 21 22 23 24 1"];

#[test]
fn lines_of_stdin_arguments_and_files_are_answered_in_order_as_each_is_alone() {
    let expected: String = INPUTS.map(alone).concat();
    assert_eq!(expected.lines().count(), 3);
    let home = tempfile::tempdir().expect("temporary folder");
    let [plain, jsonl] = ["data.txt", "data.jsonl"].map(|name| home.path().join(name).display().to_string());
    fs::write(&plain, INPUTS.join("\n")).expect("written");
    fs::write(&jsonl, INPUTS.map(|input| json!({ "input": input }).to_string()).join("\n")).expect("written");
    let stdin = INPUTS.join("\n") + "\n";
    for (more, stdin) in [
        (&[][..], stdin.as_str()),
        (&["-"], &stdin),
        (&INPUTS[..], ""),
        (&["--file", &plain], ""),
        (&["--file", &jsonl], ""),
        (&["--batch", "2"], &stdin),
        (&["--batch", "7"], &stdin),
    ] {
        let output = asked(more, stdin);
        assert_eq!((code(&output), text(&output.stdout)), (0, expected.clone()), "{more:?} {}", text(&output.stderr));
    }
}

#[test]
fn a_broken_line_is_told_with_its_number_and_the_others_are_answered() {
    let stdin = "5 6 9 1\nfive six\n\n7 1\n";
    let output = asked(&[], stdin);
    assert_eq!(code(&output), 1);
    // A line for a line, so that inputs and answers stand side by side.
    assert_eq!(text(&output.stdout), format!("{}\n\n{}", alone("5 6 9 1"), alone("7 1")));
    let told = text(&output.stderr);
    assert!(told.starts_with("input 2: ") && told.contains("five"), "{told}");

    let output = asked(&["--json"], stdin);
    assert_eq!((code(&output), text(&output.stderr)), (1, String::new()));
    let found = lines(&output);
    let numbers: Vec<u64> = found.iter().filter_map(|line| line["number"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 4]);
    assert_eq!((&found[1]["input"], found[1].get("output")), (&json!("five six"), None));
    assert!(found[1]["error"]["message"].as_str().is_some_and(|message| message.contains("five")), "{}", found[1]);
    assert_eq!(found[2]["input_ids"], json!([7, 1]));

    let output = asked(&[], "five\nsix\n");
    assert_eq!((code(&output), text(&output.stdout)), (2, "\n\n".to_owned()));
    let told = text(&output.stderr);
    assert!(told.contains("\nerror: none of 2 inputs is answered; each says why\nhint: "), "{told}");
    assert!(
        told.ends_with(" has no tokenizer, so that texts are token ids; --tokenizer names the folder of one\n"),
        "{told}"
    );
    let output = asked(&[], "");
    assert_eq!((code(&output), text(&output.stdout)), (0, String::new()));
}

#[test]
fn an_input_that_the_model_refuses_takes_nothing_from_those_beside_it() {
    // Ids above the vocabulary of 40 or so are refused by the embedding, not by the tokenizer.
    let stdin = "5 6 9 1\n100000 1\n7 1\n";
    for more in [&["--json"][..], &["--json", "--batch", "3"]] {
        let output = asked(more, stdin);
        assert_eq!(code(&output), 1, "{}", text(&output.stderr));
        let found = lines(&output);
        assert_eq!(found.len(), 3);
        assert!(found[1]["error"]["message"].is_string(), "{}", found[1]);
        assert_eq!(found[0]["output"].as_str().map(|said| format!("{said}\n")), Some(alone("5 6 9 1")));
        assert_eq!(found[2]["output"].as_str().map(|said| format!("{said}\n")), Some(alone("7 1")));
    }
}

#[test]
fn answers_come_as_soon_as_their_line_does_and_nobody_computes_for_a_closed_pipe() {
    let mut child = trefoil()
        .args(["run", &model(), "--max-new-tokens", "4", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut answers = BufReader::new(child.stdout.take().expect("piped"));
    for input in INPUTS {
        writeln!(stdin, "{input}").expect("it reads");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("it answers");
        assert_eq!(answer, alone(input));
    }
    drop(answers);
    // It ends at the first answer that nobody reads, although lines would go on.
    let ended = (0..1_000_000).any(|_| writeln!(stdin, "7 1").is_err());
    drop(stdin);
    assert_eq!((ended, child.wait().expect("it ends").code()), (true, Some(0)));
}

#[test]
fn an_engine_that_is_missing_before_the_one_that_answers_fails_where_that_is_asked() {
    let model = fixture("t5-rows-of-32").display().to_string();
    let home = crate::cli::Home::with(&format!(
        "model: {model}\nout: out\nartifacts:\n  - safetensors: {{}}\n    quantize: {{ scheme: int8 }}\n"
    ));
    assert_eq!(code(&home.convert(&["--no-validate"])), 0);
    let artifact = home.path("out/safetensors");
    for (more, expected) in [(&[][..], 2), (&["--strict"], 1)] {
        let output = run(&[&["run", &artifact, "5 1"], more].concat());
        assert_eq!(code(&output), expected);
        assert!(text(&output.stderr).contains("error: transformers is not available: "), "{}", text(&output.stderr));
    }
}

#[test]
fn clips_of_a_file_are_found_beside_it() {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::copy(repository("tests/fixtures/audio/chirp.wav"), home.path().join("chirp.wav")).expect("copied");
    let file = home.path().join("clips.txt").display().to_string();
    fs::write(&file, "chirp.wav\nabsent.wav\nchirp.wav\n").expect("written");
    let whisper = fixture("whisper").display().to_string();
    let output = run(&["run", &whisper, "--file", &file, "--json", "--max-new-tokens", "3", "--batch", "3"]);
    let found = lines(&output);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(found[0]["tokens"].as_array().is_some_and(|tokens| tokens.len() == 3), "{}", found[0]);
    assert_eq!(found[0]["tokens"], found[2]["tokens"]);
    assert!(found[1]["error"]["message"].as_str().is_some_and(|why| why.contains("absent.wav: No such file")));
}
