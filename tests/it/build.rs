//! `trefoil build`: what changed is made and nothing else, by one run or by many, and nothing half done is taken for done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{code, files, text, trefoil};
use crate::fixture::{copy, fixture, repository};

/// Two formats by nearest codes and one by samples.
const RECIPE: &str = "model: model\nout: out\ncalibrate: { data: data.jsonl }\nquantize: { scheme: int8 }\nartifacts:\n  - onnx: {}\n  \
                      - safetensors: {}\n  - name: sampled\n    onnx: {}\n    quantize: { scheme: int8, method: gptq }\nvalidate:\n  \
                      samples: 4\n  limits: { max_kl: 10.0, min_top1: 0.0 }\n";

/// A recipe with its checkpoint and its samples, and a cache.
struct Home {
    dir: TempDir,
    cache: PathBuf,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cache = dir.path().join("cache");
        Home::at(dir, cache)
    }

    /// With the cache of another one.
    fn sharing(other: &Home) -> Home {
        Home::at(tempfile::tempdir().expect("temporary folder"), other.cache.clone())
    }

    fn at(dir: TempDir, cache: PathBuf) -> Home {
        let model = copy("t5-rows-of-32");
        fs::create_dir(dir.path().join("model")).expect("made");
        for (path, bytes) in files(model.path()) {
            fs::write(dir.path().join("model").join(path.file_name().expect("named")), bytes).expect("written");
        }
        let line = |i: usize| format!("{{\"input\": \"{} {} 9 1\"}}\n", 3 + i, 5 + (i * 7) % 30);
        let home = Home { dir, cache };
        home.write("data.jsonl", &(0..4).map(line).collect::<String>());
        home.write("recipe.yaml", RECIPE);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = trefoil();
        command.arg("build").arg(self.path("recipe.yaml")).args(["--offline", "--no-bench", "--json"]);
        command.env("TREFOIL_CACHE", &self.cache).args(more);
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().expect("the binary starts")
    }

    /// What a build that ends well says.
    fn build(&self, more: &[&str]) -> Value {
        let output = self.run(more);
        assert_eq!(code(&output), 0, "{more:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
        json(&output)
    }

    /// Whence each artifact of a build came.
    fn came(&self, more: &[&str]) -> Vec<String> {
        came(&self.build(more))
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.path("recipe.lock")).expect("there")
    }

    /// Files of artifacts that lie in their places, by their paths there.
    fn made(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let out = self.path("out");
        let all = if out.exists() { files(&out) } else { BTreeMap::new() };
        let below = |path: PathBuf| path.strip_prefix(&out).expect("below").to_owned();
        all.into_iter().map(|(path, bytes)| (below(path), bytes)).filter(|(path, _)| path.iter().count() > 1).collect()
    }

    fn report(&self) -> Value {
        let mut report = json_of(&self.path("out/report.json"));
        // How it was called, and on what.
        report.as_object_mut().expect("a report").remove("made");
        report
    }

    /// Entries of the cache.
    fn entries(&self, kind: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.cache.join(kind))
            .map(|entries| entries.map(|entry| entry.expect("readable").path()).collect())
            .unwrap_or_default();
        found.sort();
        found
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).expect("there")).expect("JSON")
}

fn came(said: &Value) -> Vec<String> {
    let recipes = said["recipes"].as_array().expect("a list").iter();
    let artifacts = recipes.flat_map(|recipe| recipe["artifacts"].as_array().expect("a list"));
    artifacts
        .map(|one| format!("{} {}", one["name"].as_str().expect("named"), one["came"].as_str().expect("told")))
        .collect()
}

/// A file with one bit of its middle flipped.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn only_what_changed_is_made() {
    let home = Home::new();
    assert_eq!(home.came(&[]), ["onnx made", "safetensors made", "sampled made"]);
    let (made, lock, report) = (home.made(), home.lock(), home.report());
    assert_eq!(home.came(&[]), ["onnx cached", "safetensors cached", "sampled cached"]);
    assert_eq!((&home.made(), &home.lock(), &home.report()), (&made, &lock, &report));

    // What an artifact of the cache says of its recipe is what the recipe says now.
    let commented = format!("# A comment.\n{RECIPE}");
    home.write("recipe.yaml", &commented);
    assert_eq!(home.came(&["--threads", "1"]), ["onnx cached", "safetensors cached", "sampled cached"]);
    assert_eq!(json_of(&home.path("out/onnx/trefoil.json"))["recipe"]["text"], commented);
    assert_eq!(home.lock(), lock);

    for (what, recipe, expected) in [
        ("limits", RECIPE.replace("10.0", "9.0"), ["onnx tested", "safetensors tested", "sampled tested"]),
        (
            "samples",
            RECIPE.replace("samples: 4", "samples: 3"),
            ["onnx tested", "safetensors tested", "sampled tested"],
        ),
        (
            "method",
            RECIPE.replace("method: gptq", "method: gptq, gptq: { damping: 0.02 }"),
            ["onnx cached", "safetensors cached", "sampled made"],
        ),
        (
            "option",
            RECIPE.replace("onnx: {}\n  -", "onnx: { compute: f32 }\n  -"),
            ["onnx made", "safetensors cached", "sampled cached"],
        ),
    ] {
        home.write("recipe.yaml", &recipe);
        assert_eq!(home.came(&[]), expected, "{what}");
        assert_eq!(home.came(&[]), ["onnx cached", "safetensors cached", "sampled cached"], "{what}, again");
    }
    home.write("recipe.yaml", RECIPE);
    home.write("data.jsonl", "{\"input\": \"4 5 6 1\"}\n");
    assert_eq!(home.came(&[]), ["onnx cached", "safetensors cached", "sampled made"]);
    // Another model than the one whose outputs are recorded.
    flip(&home.path("model/model.safetensors"));
    assert_eq!(home.came(&["--no-validate"]), ["onnx made", "safetensors made", "sampled made"]);
}

#[test]
fn artifacts_that_were_tested_anew_have_the_report_of_those_that_were_made() {
    let home = Home::new();
    home.build(&[]);
    let report = home.report();
    for entry in home.entries("validation") {
        fs::remove_file(entry).expect("removed");
    }
    assert_eq!(home.came(&[]), ["onnx tested", "safetensors tested", "sampled tested"]);
    assert_eq!(home.report(), report);
}

#[test]
fn the_same_bytes_come_of_clean_folders_on_any_number_of_threads_under_any_clock() {
    let [first, second] = [Home::new(), Home::new()];
    for (path, _) in files(second.dir.path()) {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().append(true).open(path).and_then(|file| file.set_modified(then)).expect("set");
    }
    first.build(&["--threads", "1"]);
    let mut command = second.command(&["--threads", "2"]);
    command.env("TZ", "Pacific/Kiritimati");
    // Another clock, where the library for it is.
    let clock = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1"];
    if let Some(library) = clock.iter().find(|library| Path::new(library).exists()) {
        command.env("LD_PRELOAD", library).env("FAKETIME", "-30y");
    }
    let output = command.output().expect("the binary starts");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let (a, b) = (first.made(), second.made());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(a.len() > 9, "{:?}", a.keys());
    for (path, bytes) in &a {
        assert!(*bytes == b[path], "{} differs", path.display());
    }
    assert_eq!(first.lock(), second.lock());
    // An engine's settings say how many threads it had.
    let [one, two] = [first, second].map(|home| home.report().to_string());
    let [one, two] =
        [(one, "CPU, 1 thread,"), (two, "CPU, 2 threads,")].map(|(said, threads)| said.replace(threads, ""));
    assert_eq!(one, two);
}

#[test]
fn shards_join_to_what_one_run_makes() {
    let one = Home::new();
    one.build(&[]);
    let shards = Home::new();
    assert_eq!(came(&shards.build(&["--shard", "1/2"])), ["onnx made", "sampled made"]);
    assert!(!shards.path("out").exists() && !shards.path("recipe.lock").exists());

    let output = shards.run(&["--join"]);
    assert_eq!(code(&output), 2);
    let said = text(&output.stderr);
    assert!(said.contains("recipe.yaml: safetensors: never came; expected what all shards made in "), "{said}");
    assert!(json(&output)["recipes"][0]["error"].as_str().is_some_and(|error| error.contains("never came")));
    assert!(shards.made().is_empty() && !shards.path("recipe.lock").exists());

    // Another machine, with the cache alone in common.
    let other = Home::sharing(&shards);
    assert_eq!(came(&other.build(&["--shard", "2/2"])), ["safetensors made"]);
    let third = Home::sharing(&shards);
    assert_eq!(third.came(&["--join"]), ["onnx cached", "safetensors cached", "sampled cached"]);
    assert_eq!((third.made(), third.report(), third.lock()), (one.made(), one.report(), one.lock()));
    assert_eq!(third.came(&["--shard", "4/9"]), Vec::<String>::new());
    // Nothing is left where shards worked.
    assert_eq!(third.entries("work"), Vec::<PathBuf>::new());
}

#[test]
fn a_join_says_what_was_not_tested_and_takes_what_failed() {
    let home = Home::new();
    home.build(&["--shard", "1/1", "--no-validate"]);
    let said = text(&home.run(&["--join"]).stderr);
    for name in ["onnx", "safetensors", "sampled"] {
        assert!(said.contains(&format!("{name}: came, and what validation said of it never did")), "{said}");
    }
    home.write("recipe.yaml", &RECIPE.replace("max_kl: 10.0", "max_kl: 0.0"));
    for more in [["--shard", "1/1"].as_slice(), &["--join"]] {
        let output = home.run(more);
        assert_eq!(code(&output), 1, "{}", text(&output.stderr));
        assert_eq!(json(&output)["recipes"][0]["artifacts"][0]["verdict"], "failed");
        assert!(text(&output.stderr).contains("failed: quantization of onnx: "), "{}", text(&output.stderr));
    }
    assert!(home.path("out/onnx.failed/trefoil.json").exists() && !home.path("out/onnx").exists());
    assert!(!home.path("recipe.lock").exists(), "what failed is not what others are held to");
}

#[test]
fn an_entry_that_was_damaged_is_told_and_made_anew() {
    let home = Home::new();
    home.build(&[]);
    let (made, report) = (home.made(), home.report());
    let entry = home.entries("artifact").into_iter().find(|dir| dir.join("files/encoder_model.onnx").exists());
    let entry = entry.expect("an ONNX artifact");
    let damages: [(&str, &dyn Fn()); 4] = [
        ("encoder_model.onnx: expected SHA-256 ", &|| flip(&entry.join("files/encoder_model.onnx"))),
        ("encoder_model.onnx: ", &|| fs::remove_file(entry.join("files/encoder_model.onnx")).expect("removed")),
        ("entry: expected SHA-256 ", &|| flip(&entry.join("entry"))),
        ("entry: expected a digest and a text", &|| fs::write(entry.join("entry"), "").expect("written")),
    ];
    for (expected, damage) in damages {
        damage();
        let output = home.run(&["--join"]);
        assert_eq!(code(&output), 2, "{expected}");
        assert!(text(&output.stderr).contains(": its entry was damaged; expected "), "{}", text(&output.stderr));
        let damaged = json(&output)["damaged"].as_array().expect("a list").clone();
        let said = damaged[0].as_str().expect("a sentence");
        assert!(damaged.len() == 1 && said.contains(expected) && said.ends_with("; removed"), "{damaged:?}");
        assert!(!entry.exists());
        assert_eq!(home.came(&[]).iter().filter(|one| one.ends_with("cached")).count(), 2, "{expected}");
        assert_eq!((&home.made(), &home.report()), (&made, &report), "{expected}");
    }
    for entry in home.entries("validation") {
        flip(&entry);
    }
    let said = home.build(&[]);
    assert_eq!(came(&said), ["onnx tested", "safetensors tested", "sampled tested"]);
    assert_eq!(said["damaged"].as_array().map(Vec::len), Some(3), "{said}");
    assert_eq!(home.report(), report);
}

#[test]
fn a_lock_refuses_all_that_differs_at_once() {
    let home = Home::new();
    home.build(&[]);
    let (lock, made) = (home.lock(), home.made());
    assert_eq!(home.came(&["--locked"]), ["onnx cached", "safetensors cached", "sampled cached"]);

    home.write("data.jsonl", "{\"input\": \"4 5 6 1\"}\n");
    flip(&home.path("model/model.safetensors"));
    let output = home.run(&["--locked"]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let drift: Vec<String> =
        json(&output)["recipes"][0]["drift"].as_array().expect("a list").iter().map(Value::to_string).collect();
    assert_eq!(drift.len(), 2, "{drift:?}");
    for (row, file) in drift.iter().zip(["input: model.safetensors: expected ", "data: data.jsonl: expected "]) {
        assert!(row.contains(file) && row.matches(" bytes with SHA-256 ").count() == 2, "{row}");
        assert!(text(&output.stderr).contains(row.trim_matches('"')), "{}", text(&output.stderr));
    }
    assert_eq!((home.lock(), home.made()), (lock.clone(), made));

    // What comes out, where what goes in is the same.
    let other = Home::new();
    let mut said: Value = serde_json::from_str(&lock).expect("JSON");
    let onnx = said["artifacts"][0]["files"].as_array_mut().expect("a list");
    onnx[0]["sha256"] = Value::from("00");
    said["engines"]["abacus"] = Value::from("1.0");
    other.write("recipe.lock", &said.to_string());
    let output = other.run(&["--locked"]);
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("engine abacus: expected 1.0, found none") && stderr.contains("with SHA-256 00, found "),
        "{stderr}"
    );
    assert!(other.made().is_empty());
}

#[test]
fn a_lock_that_does_not_fit_is_told_by_its_own_sentence() {
    let home = Home::new();
    let output = home.run(&["--locked"]);
    assert_eq!(code(&output), 2);
    assert!(
        text(&output.stderr).contains("expected the lock of the recipe for --locked, found none"),
        "{}",
        text(&output.stderr)
    );
    home.build(&[]);
    let lock = home.lock();
    for (lock, recipe, expected) in [
        (
            lock.clone(),
            RECIPE.replace("method: gptq", "method: gptq, gptq: { damping: 0.02 }"),
            "expected the lock of recipe.yaml as it is, found that of what it said before",
        ),
        (
            lock.replace("recipe.yaml", "other.yaml"),
            RECIPE.to_owned(),
            "expected the lock of recipe.yaml as it is, found that of other.yaml",
        ),
        (
            lock.replace("\"lock\": 1", "\"lock\": 2"),
            RECIPE.to_owned(),
            "expected a lock of version 1, found version 2",
        ),
        (
            lock.replace("\"inputs\"", "\"input\""),
            RECIPE.to_owned(),
            "expected a lock of trefoil, found something else: unknown field `input`",
        ),
        (
            lock[..lock.len() / 2].to_owned(),
            RECIPE.to_owned(),
            "expected a lock of trefoil, found something else: not the expected JSON",
        ),
        ("{ \"version\": 1 }".to_owned(), RECIPE.to_owned(), "it has no `lock` and no `trefoil`"),
    ] {
        home.write("recipe.lock", &lock);
        home.write("recipe.yaml", &recipe);
        let output = home.run(&["--locked"]);
        assert_eq!(code(&output), 2, "{expected}");
        let said = text(&output.stderr);
        assert!(said.contains(expected) && said.contains("\"hint\":\""), "{expected}: {said}");
        assert_eq!(home.lock(), lock);
    }
    // What trefoil did not write is never replaced, and what it wrote is.
    assert_eq!(code(&home.run(&[])), 2);
    home.write("recipe.lock", &lock.replace("\"lock\": 1", "\"lock\": 2"));
    home.build(&[]);
    assert_eq!(home.lock(), lock);
}

#[test]
fn a_build_that_was_killed_goes_on_where_it_was() {
    let home = Home::new();
    let artifacts = |count: usize| -> String {
        let one =
            |i: usize| format!("  - name: a{i}\n    onnx: {{}}\n    quantize: {{ scheme: int4-g32, clip: mse }}\n");
        (0..count).map(one).collect()
    };
    let model = repository("models/g2p-t5");
    home.write("recipe.yaml", &format!("model: {}\nout: out\nartifacts:\n{}", model.display(), artifacts(6)));
    let mut child = home
        .command(&["--no-validate"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    // One that is being written has another name.
    let is_whole = |dir: &&PathBuf| !dir.display().to_string().contains("/.partial-") && dir.join("entry").exists();
    let whole = || home.entries("artifact").iter().filter(is_whole).count();
    let start = Instant::now();
    while whole() < 2 {
        assert!(
            start.elapsed() < Duration::from_secs(120) && child.try_wait().expect("asked").is_none(),
            "too fast or too slow"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(home.made().iter().all(|(path, _)| path.starts_with(".trefoil")), "{:?}", home.made().keys());

    let came = home.came(&["--no-validate"]);
    let taken = came.iter().filter(|one| one.ends_with(" cached")).count();
    assert!((2..6).contains(&taken), "{came:?}");
    let clean = Home::new();
    clean.write("recipe.yaml", &fs::read_to_string(home.path("recipe.yaml")).expect("there"));
    clean.build(&["--no-validate"]);
    assert_eq!((home.made(), home.lock()), (clean.made(), clean.lock()));
}

#[test]
fn builds_at_once_share_a_cache_and_never_a_place() {
    let home = Home::new();
    let alone = Home::new();
    alone.build(&[]);
    let neighbour = Home::sharing(&home);
    let start = |home: &Home| {
        home.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let children = [start(&home), start(&home), start(&neighbour)];
    let outputs = children.map(|child| child.wait_with_output().expect("ended"));
    let codes = outputs.each_ref().map(code);
    assert!(codes[2] == 0 && codes[..2].contains(&0), "{codes:?}");
    for output in outputs.iter().filter(|output| code(output) != 0) {
        let said = text(&output.stderr);
        assert!(code(output) == 2 && said.contains("is working there; expected a folder for this run alone"), "{said}");
    }
    for built in [&home, &neighbour] {
        assert_eq!((built.made(), built.report(), built.lock()), (alone.made(), alone.report(), alone.lock()));
    }
    assert_eq!(home.entries("artifact").len(), 3);
}

#[test]
fn the_cache_is_bounded_and_a_place_without_one_costs_time_alone() {
    let home = Home::new();
    home.build(&["--cache-size", "1"]);
    // The last entry is what somebody waits for.
    assert_eq!(home.entries("artifact").len() + home.entries("validation").len(), 1);
    assert_eq!(home.made().len(), {
        home.build(&[]);
        home.made().len()
    });

    let nowhere = Home::new();
    nowhere.write("cache", "in the way");
    assert_eq!(nowhere.came(&[]), ["onnx made", "safetensors made", "sampled made"]);
    assert_eq!(nowhere.came(&[]), ["onnx made", "safetensors made", "sampled made"]);
    let output = nowhere.run(&["--shard", "1/2"]);
    assert_eq!(code(&output), 2);
    assert!(
        text(&output.stderr).contains("what this shard made cannot be kept for the join: "),
        "{}",
        text(&output.stderr)
    );
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_half_done() {
    let home = Home::new();
    home.build(&[]);
    let (made, lock, report) = (home.made(), home.lock(), home.report());
    home.write("recipe.yaml", &RECIPE.replace("onnx: {}\n  -", "onnx: { compute: f32 }\n  -"));
    let before = home.entries("artifact");
    // No file may have more than 8 blocks; a write beyond them fails as on a full disk.
    let whole = home.command(&[]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(whole.get_program())
        .args(whole.get_args());
    for (name, value) in whole.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.current_dir(std::env::temp_dir()).output().expect("bash starts");
    assert_eq!(code(&output), 2, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("File too large"), "{}", text(&output.stderr));
    assert_eq!((home.made(), home.lock(), home.report()), (made, lock, report));
    assert_eq!(home.entries("artifact"), before);
    assert_eq!(home.came(&[]), ["onnx made", "safetensors cached", "sampled cached"]);
}

#[test]
fn shards_of_a_search_measure_each_weight_once_and_the_search_goes_on_from_there() {
    let tune = |home: &Home, more: &[&str]| {
        let mut command = trefoil();
        command.arg("tune").arg(home.path("recipe.yaml")).args(["--json", "--only", "onnx", "--samples", "2"]);
        command.args(["--candidates", "int4-g32,int8"]).env("TREFOIL_CACHE", &home.cache).args(more);
        let output = command.output().expect("the binary starts");
        assert_eq!(code(&output), 0, "{more:?}: {}", text(&output.stderr));
        json(&output)
    };
    let lines = |home: &Home, kind: &str| -> Vec<String> {
        let files = home.entries("tune").into_iter().map(|file| fs::read_to_string(file).expect("there"));
        let mut found: Vec<String> = files
            .flat_map(|text| text.lines().filter(|line| line.starts_with(kind)).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        found.sort();
        found
    };
    let (one, shards) = (Home::new(), Home::new());
    let found = tune(&one, &[]);
    let weights = ["1/2", "2/2"].map(|shard| {
        let said = tune(&shards, &["--shard", shard]);
        (said["weights"].as_u64().expect("told"), said["of"].as_u64().expect("told"))
    });
    assert!(weights[0].1 > 9 && weights[0].0 + weights[1].0 == weights[0].1, "{weights:?}");
    assert!(!shards.path("out").exists() && lines(&shards, "{\"Whole\"").is_empty());
    let each = lines(&one, "{\"Each\"");
    assert_eq!(lines(&shards, "{\"Each\""), each);
    assert_eq!(tune(&shards, &[]), found);
    // Nothing was measured twice.
    assert_eq!(lines(&shards, "{\"Each\""), each);
}

/// The kernel that a manifest names.
fn kernel(home: &Home) -> String {
    json_of(&home.path("out/sampled/trefoil.json"))["calibrated"]["kernel"].as_str().expect("named").to_owned()
}

#[test]
fn what_is_portable_says_so_and_has_names_of_its_own() {
    let home = Home::new();
    home.build(&[]);
    assert_ne!(kernel(&home), "portable");
    assert_eq!(home.came(&["--portable"]), ["onnx cached", "safetensors cached", "sampled made"]);
    assert_eq!(kernel(&home), "portable");
    let lock = json_of(&home.path("recipe.lock"));
    let kernels: Vec<&Value> = lock["artifacts"].as_array().expect("a list").iter().map(|one| &one["kernel"]).collect();
    assert_eq!(kernels, [&Value::Null, &Value::Null, &Value::from("portable")]);
    assert_eq!(home.came(&["--portable", "--locked"]), ["onnx cached", "safetensors cached", "sampled cached"]);

    let again = Home::new();
    again.build(&["--portable", "--threads", "1"]);
    assert_eq!((again.made(), again.lock()), (home.made(), home.lock()));
    assert_eq!(code(&home.run(&["--join", "--portable"])), 0);
    assert_eq!(again.made(), home.made());

    // A model that is fed spectra, which the processor's vectors make.
    let clip = repository("tests/fixtures/audio/chirp.wav").display().to_string();
    home.write("data.jsonl", &format!("{{\"input\": \"{clip}\"}}\n"));
    home.write("recipe.yaml", &RECIPE.replace("model: model", &format!("model: {}", fixture("whisper").display())));
    let output = home.run(&["--portable", "--no-validate"]);
    assert_eq!(code(&output), 2, "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("--portable cannot hold for what clips make"), "{}", text(&output.stderr));
}

/// Valgrind's processor has AVX2 and no AVX-512, QEMU's Nehalem neither: programs choose other kernels there.
#[test]
#[ignore = "needs valgrind or qemu-user, and takes minutes"]
fn portable_bytes_are_the_same_on_another_processor() {
    let home = Home::new();
    home.build(&["--portable", "--no-validate"]);
    let (made, own) = (home.made(), graph::eval::kernel());
    let mut others = Vec::new();
    for emulator in [["valgrind", "--tool=none", "-q"].as_slice(), &["qemu-x86_64", "-cpu", "Nehalem"]] {
        if Command::new(emulator[0]).arg("--version").output().is_err() {
            continue;
        }
        let run = |more: &[&str]| {
            let elsewhere = Home::new();
            let whole = elsewhere.command(&[&["--no-validate", "--threads", "1"], more].concat());
            let mut command = Command::new(emulator[0]);
            command.args(&emulator[1..]).arg(whole.get_program()).args(whole.get_args());
            command.env("TREFOIL_CACHE", &elsewhere.cache).current_dir(std::env::temp_dir());
            let output = command.output().expect("the emulator starts");
            assert_eq!(code(&output), 0, "{emulator:?}: {}", text(&output.stderr));
            elsewhere
        };
        others.push(kernel(&run(&[])));
        assert_eq!(run(&["--portable"]).made(), made, "{emulator:?}");
    }
    assert!(others.iter().any(|other| *other != own), "no processor but {own}, on {others:?}");
}

#[test]
fn many_recipes_are_built_and_each_says_what_became_of_it() {
    let home = Home::new();
    let bart = fixture("bart-rows-of-32");
    home.write("other.yaml", &format!("model: {}\nout: other\nartifacts:\n  - gguf: {{}}\n", bart.display()));
    home.write("wrong.yaml", "model: nowhere\nout: wrong\nartifacts:\n  - onnx: {}\n");
    let paths = ["other.yaml", "wrong.yaml"].map(|name| home.path(name).display().to_string());
    let more = [&paths[0], &paths[1], "--no-validate"];
    let output = home.run(&more);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("nowhere"), "{}", text(&output.stderr));
    let said = json(&output);
    assert!(home.path("out/onnx").exists() && home.path("other/gguf").exists() && !home.path("wrong").exists());
    assert!(said["recipes"][2]["error"].is_string() && said["recipes"][1]["lock"].is_string(), "{said}");
    let digest = &said["recipes"][1]["artifacts"][0]["files"][0]["sha256"];
    assert_eq!(digest.as_str().map(str::len), Some(64));

    home.write("wrong.yaml", "artifacts: 3\n");
    home.write("other.yaml", "model: [\n");
    let said = text(&home.run(&more).stderr);
    assert!(said.contains("wrong.yaml") && said.contains("other.yaml"), "{said}");
}
