use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

/// More than any of these children needs.
const LONG: Duration = Duration::from_secs(60);
/// Less than the children that hang would take, and more than a machine at work needs to start a shell.
const SHORT: Duration = Duration::from_secs(2);

fn patience(limit: Duration) -> Patience {
    Patience { start: limit, answer: limit, fetch: limit }
}

fn shell(script: &str, limit: Duration) -> Pipe {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Pipe::spawn("the child", "child", &mut command, patience(limit)).expect("a shell")
}

/// What a call says of a child, and how long it took to say so.
fn refusal(script: &str, limit: Duration) -> (String, Duration) {
    let start = Instant::now();
    let error = shell(script, limit).call::<Json>(&json!({}), Vec::new()).expect_err("refused");
    (error, start.elapsed())
}

/// Whether a process lives, which wrote its number to a file. What has ended and is not waited for does not.
fn lives(file: &Path) -> bool {
    let number = fs::read_to_string(file).expect("written by the child");
    let status = fs::read_to_string(format!("/proc/{}/status", number.trim())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Whether it is gone within a second.
fn is_gone(file: &Path) -> bool {
    let start = Instant::now();
    while lives(file) && start.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(10));
    }
    !lives(file)
}

#[test]
fn a_child_that_ends_is_told_by_signal_or_code_and_last_words() {
    let (error, _) = refusal("echo 'n_layer: assert' >&2; kill -ABRT $$", LONG);
    assert_eq!(error, "the child broke off: it ended with signal 6; its last words:\n  n_layer: assert");
    let (error, _) = refusal("read x; exit 7", LONG);
    assert_eq!(error, "the child broke off: it ended with exit code 7");
    let (error, _) = refusal("exec 1>&-; read x; sleep 100", LONG);
    assert_eq!(error, "the child broke off: it closed its output");
}

#[test]
fn a_child_that_hangs_is_ended_with_all_that_it_has_started() {
    let home = tempfile::tempdir().expect("temporary folder");
    let [leader, other] = ["leader", "other"].map(|name| home.path().join(name));
    let hangs = format!("echo $$ >{}; sleep 100 & echo $! >{}; wait", leader.display(), other.display());
    let (error, took) = refusal(&hangs, SHORT);
    assert_eq!(error, "the child broke off: no answer in 2 s; TREFOIL_ENGINE_SECONDS allows more");
    assert!(took < LONG, "{took:?}");
    assert!(is_gone(&leader) && is_gone(&other));
}

#[test]
fn a_grandchild_that_holds_the_pipes_keeps_nobody_waiting() {
    // In a group of its own, so that nothing ends it.
    let home = tempfile::tempdir().expect("temporary folder");
    let file = home.path().join("pid");
    let script = format!("setsid sh -c 'echo $$ >{}; exec sleep 20' & sleep 0.3; exit 3", file.display());
    let (error, took) = refusal(&script, LONG);
    assert_eq!(error, "the child broke off: it ended with exit code 3");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let number = fs::read_to_string(file).expect("written").trim().parse().expect("a number");
    let number = rustix::process::Pid::from_raw(number).expect("above 0");
    rustix::process::kill_process(number, rustix::process::Signal::KILL).expect("it still sleeps");
}

#[test]
fn a_child_that_does_not_read_keeps_nobody_waiting() {
    let values = vec![vec![0; 4 << 20]];
    let error = shell("sleep 100", SHORT).call::<Json>(&json!({}), values.clone()).expect_err("refused");
    assert!(error.contains("no answer in 2 s"), "{error}");
    let error = shell("exec 0<&-; sleep 100", LONG).call::<Json>(&json!({}), values).expect_err("refused");
    assert!(error.contains("it does not take requests: Broken pipe"), "{error}");
}

#[test]
fn a_child_that_talks_without_end_takes_no_memory() {
    let (error, _) = refusal("while :; do echo -n xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done; cat /dev/zero", LONG);
    assert!(error.contains("expected a line, found ") && error.contains(" bytes without an end"), "{error}");
}

#[test]
fn a_child_works_in_an_empty_folder_that_goes_with_it() {
    let script = r#"read x; touch "$TMPDIR/left"; echo "[\"$PWD\", \"$(ls | wc -l)\"]"; sleep 100"#;
    let mut pipe = shell(script, LONG);
    let [folder, files]: [String; 2] = pipe.call(&json!({}), Vec::new()).expect("answers");
    assert_eq!(files.trim(), "1", "what it has left itself");
    assert!(Path::new(&folder).is_dir() && Path::new(&folder) != std::env::current_dir().expect("one"));
    drop(pipe);
    assert!(!Path::new(&folder).exists());
}

#[test]
fn values_arrive_as_sent_in_any_number_of_parts() {
    // Whatever is sent comes back after a line, in parts that do not end where lines do.
    let mut pipe = shell(r#"read x; echo '{"a": 1}'; cat"#, LONG);
    let values: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let reply: Json = pipe.call(&json!({}), vec![values.clone(), b"rest".to_vec()]).expect("answers");
    assert_eq!(reply, json!({ "a": 1 }));
    assert_eq!(pipe.values(values.len(), "values").expect("sent"), values);
    assert_eq!(pipe.values(4, "values").expect("sent"), b"rest");
}

#[test]
fn the_options_say_how_long_an_answer_may_take() {
    let limit = Duration::from_millis(1500);
    let options = crate::runtime::Options { patience: Some(limit), ..crate::runtime::Options::DEFAULT };
    let Patience { start, answer, fetch } = Patience::of(&options).expect("sound");
    assert_eq!([start, answer, fetch], [limit; 3]);
}
