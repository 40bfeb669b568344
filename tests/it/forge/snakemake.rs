//! The workflow of examples/snakemake, with Snakemake itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Machine, good};
use crate::cli::text;
use crate::fixture::repository;

/// Takes long enough to be killed in between.
const ARTIFACTS: usize = 6;

fn machine() -> Machine {
    let machine = Machine::new();
    let one = |i: usize| format!("  - name: a{i}\n    onnx: {{}}\n    quantize: {{ scheme: int4-g32, clip: mse }}\n");
    let artifacts: String = (0..ARTIFACTS).map(one).collect();
    let model = repository("models/g2p-t5");
    machine.write("recipes/many.yaml", format!("model: {}\nout: ../out\nartifacts:\n{artifacts}", model.display()));
    let config = json!({
        "recipes": ["recipes/many.yaml"], "shards": 2, "cache": "cache", "trefoil": env!("CARGO_BIN_EXE_trefoil"),
        "arguments": ["--offline", "--no-validate"], "threads": 1, "mem_mb": 1000, "runtime": 10,
    });
    machine.write("config.yaml", config.to_string());
    machine
}

fn snakemake(machine: &Machine, more: &[&str]) -> Command {
    let mut command = machine.command(".venv-snakemake/bin/snakemake");
    command
        .arg("--snakefile")
        .arg(repository("examples/snakemake/Snakefile"))
        .arg("--directory")
        .arg(machine.dir.path());
    command.args(["--cores", "2", "--keep-going"]).args(more);
    command
}

/// Names of artifacts that lie whole in the cache.
fn made(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(machine.path("cache/artifact")).into_iter().flatten();
    let sealed = entries.filter_map(|entry| fs::read_to_string(entry.expect("readable").path().join("entry")).ok());
    let named =
        |sealed: String| (0..ARTIFACTS).map(|i| format!("a{i}")).find(|name| sealed.contains(&format!("\"{name}\"")));
    sealed.filter_map(named).collect()
}

/// The process of a shard: trefoil itself, not the shell that started it.
fn process(machine: &Machine, shard: &str) -> Option<u32> {
    let cache = machine.path("cache");
    let is_shard = |pid: &u32| {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words[0] == env!("CARGO_BIN_EXE_trefoil").as_bytes() && words.contains(&shard.as_bytes())
    };
    let is_here = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cache.starts_with(cwd));
    let entries =
        fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.filter(is_shard).find(is_here)
}

/// Kills the first shard when it has made one of its artifacts and not all.
fn kill_first_shard(machine: &Machine, workflow: &mut Child) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(300), "too slow");
        assert!(workflow.try_wait().expect("asked").is_none(), "too fast");
        let own = made(machine).iter().filter(|name| ["a0", "a2", "a4"].contains(&name.as_str())).count();
        if let (1..=2, Some(pid)) = (own, process(machine, "1/2")) {
            let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            assert!(killed.expect("kill starts").success());
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn said(machine: &Machine, file: &str) -> Vec<Value> {
    let said: Value = serde_json::from_str(&machine.read(file)).expect("JSON");
    said["recipes"][0]["artifacts"].as_array().expect("a list").clone()
}

fn digests(artifacts: &[Value]) -> BTreeMap<String, Value> {
    let of = |one: &Value| (one["name"].as_str().expect("named").to_owned(), one["files"].clone());
    artifacts.iter().map(of).collect()
}

#[test]
#[ignore = "needs Snakemake: tools/setup.sh --all"]
fn a_shard_that_was_killed_goes_on_and_the_join_has_what_one_build_makes() {
    let machine = machine();
    let mut workflow =
        snakemake(&machine, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("installed");
    kill_first_shard(&machine, &mut workflow);
    let output = workflow.wait_with_output().expect("ended");
    assert!(
        !output.status.success() && text(&output.stderr).contains("Error in rule shard"),
        "{}",
        text(&output.stderr)
    );
    assert!(machine.path("built/shard-2.json").exists(), "the other shard ends: {}", text(&output.stderr));
    assert!(!machine.path("built/shard-1.json").exists() && !machine.path("out").exists());

    let rerun: Output = snakemake(&machine, &[]).output().expect("installed");
    good(rerun);
    let came: Vec<Value> = said(&machine, "built/shard-1.json").iter().map(|one| one["came"].clone()).collect();
    assert!(came.contains(&json!("cached")) && came.contains(&json!("made")), "{came:?}");

    let whole = self::machine();
    assert_eq!(whole.build(&["--no-validate"]), 0);
    let joined = digests(&said(&machine, "built/join.json"));
    assert_eq!(joined.len(), ARTIFACTS);
    assert_eq!(joined, digests(&said(&whole, "state/build.json")));
    assert!(Path::new(&machine.path("out/a5")).is_dir());

    // What is built is built; another recipe is another build.
    let again = good_errors(snakemake(&machine, &[]).output().expect("installed"));
    assert!(again.contains("Nothing to be done"), "{again}");
}

/// What a program that ended well said on stderr.
fn good_errors(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}
