//! Checkpoints of the hub: what is brought, what is continued, what is refused, and what lies in the cache afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{code, files, text, trefoil};
use crate::fixture::{fixture, repository};
use crate::loopback::{COMMIT, Fault, Loopback, NAME};

/// A user with a cache of the hub and a recipe.
struct User {
    home: TempDir,
    endpoint: String,
}

impl User {
    fn of(hub: &Loopback) -> User {
        let user = User { home: tempfile::tempdir().expect("temporary folder"), endpoint: hub.endpoint() };
        user.recipe(&format!("hub:{NAME}"));
        user
    }

    fn recipe(&self, model: &str) {
        let recipe =
            format!("model: {model}\nout: out\nquantize: {{ scheme: int8 }}\nartifacts:\n  - safetensors: {{}}\n");
        fs::write(self.home.path().join("recipe.yaml"), recipe).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = trefoil();
        for variable in [
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(variable);
        }
        command.env("HF_HOME", self.home.path().join("hf")).env("HF_ENDPOINT", &self.endpoint);
        command.args(arguments).current_dir(self.home.path());
        command
    }

    fn convert(&self, more: &[&str]) -> Output {
        let output = self.command(&["convert", "recipe.yaml", "--no-validate"]).args(more).output();
        output.expect("the binary starts")
    }

    /// The repository's folder in the cache.
    fn cache(&self) -> PathBuf {
        self.home.path().join("hf/hub/models--clover--small-t5")
    }

    fn manifest(&self) -> Value {
        let text = fs::read(self.home.path().join("out/safetensors/trefoil.json")).expect("there");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Nothing that a reader would take for the whole checkpoint.
    fn has_nothing_that_looks_done(&self) {
        assert!(!self.cache().join("refs/main").exists());
        assert!(!self.cache().join("snapshots").join(COMMIT).join("model.safetensors").exists());
        assert!(!self.home.path().join("out").exists());
        let output = self.convert(&["--offline"]);
        assert_eq!(code(&output), 2, "{}", text(&output.stdout));
    }
}

fn served(fault: Fault) -> Loopback {
    Loopback::of(&fixture("t5-rows-of-32"), fault)
}

#[test]
fn a_checkpoint_comes_from_the_hub_once_and_its_manifest_says_which_commit() {
    let hub = served(Fault::Nothing);
    let user = User::of(&hub);
    let output = user.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));

    let manifest = user.manifest();
    assert_eq!(manifest["model"]["hub"], serde_json::json!({ "repository": NAME, "commit": COMMIT }));
    let snapshot = user.cache().join("snapshots").join(COMMIT);
    let weights = fs::read_link(snapshot.join("model.safetensors")).expect("a link");
    let digest = weights.file_name().expect("a blob").to_string_lossy().into_owned();
    let inputs = manifest["model"]["inputs"].as_array().expect("a list");
    assert!(
        inputs.iter().any(|one| one["path"] == "model.safetensors" && one["sha256"] == digest.as_str()),
        "{inputs:?}"
    );
    let card = fs::read_to_string(user.home.path().join("out/safetensors/README.md")).expect("there");
    assert!(card.contains(&format!("[{NAME}](https://huggingface.co/{NAME})")) && card.contains(COMMIT), "{card}");

    assert_eq!(weights, Path::new("../../blobs").join(&digest));
    assert_eq!(fs::read_to_string(user.cache().join("refs/main")).expect("there"), COMMIT);
    // Only what an importer reads: the recording of the fixture stays where it is.
    let mut names: Vec<PathBuf> =
        files(&snapshot).into_keys().map(|path| path.file_name().expect("a file").into()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors"].map(PathBuf::from));
    for (name, bytes) in
        ["config.json", "model.safetensors"].map(|name| (name, fs::read(snapshot.join(name)).expect("there")))
    {
        assert!(bytes == fs::read(fixture("t5-rows-of-32").join(name)).expect("there"), "{name}");
    }

    let before = hub.asked().len();
    let first = files(&user.home.path().join("out"));
    let output = user.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(hub.asked().len(), before + 1, "one question, whether `main` is another commit: {:?}", hub.asked());
    drop(hub);
    let output = user.convert(&["--offline"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(files(&user.home.path().join("out")) == first);
}

#[test]
fn shards_that_an_index_names_come_too_and_the_token_goes_to_the_hub() {
    let hub = Loopback::of(&fixture("t5-sharded"), Fault::Nothing);
    let user = User::of(&hub);
    user.recipe(&format!("hub:{NAME}@{COMMIT}"));
    fs::create_dir(user.home.path().join("hf")).expect("made");
    fs::write(user.home.path().join("hf/token"), "hf_of_the_file\n").expect("written");
    let output = user.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    // Files lie elsewhere, and what lies elsewhere is asked without the token.
    let is_told = |line: &String| line.ends_with("as bearer hf_of_the_file") != line.contains(" /cdn/");
    assert!(hub.asked().iter().all(is_told), "{:?}", hub.asked());
    let output =
        user.command(&["convert", "recipe.yaml", "--no-validate"]).env("HF_TOKEN", "hf_of_the_variable").output();
    assert_eq!(code(&output.expect("starts")), 0);
    assert!(hub.asked().last().is_some_and(|line| line.ends_with("hf_of_the_variable")), "{:?}", hub.asked());
    assert!(!user.cache().join("refs").exists(), "a commit is its own name");
    let output = user.command(&["convert", "recipe.yaml", "--no-validate"]).env("HF_HUB_OFFLINE", "1").output();
    assert_eq!(code(&output.expect("starts")), 0);
}

#[test]
fn a_download_that_is_cut_off_is_continued_where_it_ended() {
    let length = fs::metadata(fixture("t5-rows-of-32").join("model.safetensors")).expect("there").len();
    for fault in [Fault::Cut(2), Fault::CutWithoutRanges(1)] {
        let hub = served(fault);
        let user = User::of(&hub);
        let output = user.convert(&[]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let from = format!(" from {}-", length / 2);
        assert!(hub.asked().iter().any(|line| line.contains("/cdn/") && line.ends_with(&from)), "{:?}", hub.asked());
    }
}

#[test]
fn what_stays_cut_off_is_kept_and_the_next_run_continues_there() {
    // Without ranges no attempt comes further than the one before.
    let hub = served(Fault::CutWithoutRanges(usize::MAX));
    let user = User::of(&hub);
    let output = user.convert(&[]);
    let stderr = text(&output.stderr);
    assert_eq!(code(&output), 2, "{stderr}");
    assert!(stderr.contains("error: clover/small-t5: expected 97072 bytes of model.safetensors, found 48536 when the connection ended, 4 times in a row"), "{stderr}");
    assert!(stderr.contains("hint: what came is kept; the same command continues there"), "{stderr}");
    user.has_nothing_that_looks_done();

    let healthy = served(Fault::Nothing);
    let user = User { endpoint: healthy.endpoint(), ..user };
    let output = user.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(
        healthy.asked().iter().any(|line| line.ends_with("/cdn/model.safetensors HTTP/1.1 from 48536-")),
        "{:?}",
        healthy.asked()
    );
}

#[test]
fn what_an_earlier_download_left_of_another_file_is_thrown_away() {
    let hub = served(Fault::Nothing);
    let user = User::of(&hub);
    assert_eq!(code(&user.convert(&[])), 0);
    let blobs = user.cache().join("blobs");
    let snapshot = user.cache().join("snapshots").join(COMMIT);
    let weights = snapshot.join("model.safetensors").canonicalize().expect("there");
    let digest = weights.file_name().expect("a name").to_string_lossy().into_owned();
    fs::remove_file(snapshot.join("model.safetensors")).expect("removed");
    fs::remove_file(weights).expect("removed");
    fs::write(blobs.join(format!("{digest}.incomplete")), vec![7; 5000]).expect("written");
    let output = user.convert(&[]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is of another file: again from its start"), "{}", text(&output.stderr));
}

#[test]
fn each_fault_of_a_hub_is_a_sentence_and_leaves_nothing_that_looks_done() {
    for (fault, model, expected) in [
        (Fault::Flipped, "", "clover/small-t5: expected model.safetensors with the digest "),
        (
            Fault::Missing("model.safetensors"),
            "",
            "clover/small-t5: expected the file model.safetensors at c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00, found none\nhint: the upload may be incomplete",
        ),
        (Fault::Nothing, "@v9", "clover/small-t5: expected the revision `v9`, found none of this name\nhint: see http"),
        (
            Fault::Refuses(403, "GatedRepo"),
            "",
            "clover/small-t5: expected access, found a gated repository, and no token was sent\nhint: accept its terms at http",
        ),
        (Fault::Refuses(401, "RepoNotFound"), "", "clover/small-t5: expected a repository of models on http"),
        (
            Fault::Refuses(401, ""),
            "",
            "/api/models/clover/small-t5/revision/main: expected access, found status 401; no token was sent\nhint: set HF_TOKEN",
        ),
        (
            Fault::Refuses(500, ""),
            "",
            "/revision/main: expected the hub to answer, found status 500\nhint: it is in trouble",
        ),
        (
            Fault::Refuses(429, ""),
            "",
            "/revision/main: expected the hub to answer, found status 429\nhint: it was asked too often",
        ),
        (Fault::Garbage, "", "/revision/main: expected JSON about a repository, found \"<!doctype html>"),
        (Fault::EvilEtag, "", "/config.json: expected an etag that is a digest, found \"\\\"../../../../evil\\\"\""),
    ] {
        let hub = served(fault);
        let user = User::of(&hub);
        user.recipe(&format!("hub:{NAME}{model}"));
        let output = user.convert(&[]);
        let stderr = text(&output.stderr);
        assert_eq!(code(&output), 2, "{fault:?}: {stderr}");
        let error = &stderr[stderr.find("error: ").unwrap_or_else(|| panic!("{fault:?}: {stderr}"))..];
        assert!(error.contains(expected), "{fault:?}: {stderr}");
        assert!(text(&output.stdout).is_empty(), "{fault:?}");
        user.has_nothing_that_looks_done();
        let left = files(user.home.path());
        assert!(left.keys().all(|path| !path.ends_with("evil")), "{left:?}");
    }
}

#[test]
fn without_a_hub_or_with_an_empty_or_damaged_cache_it_is_said_what_is_missing() {
    let hub = served(Fault::Nothing);
    let user = User::of(&hub);
    let refused = |user: &User, more: &[&str], expected: &str| {
        let output = user.convert(more);
        assert_eq!(code(&output), 2, "{}", text(&output.stdout));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    };
    refused(
        &user,
        &["--offline"],
        "found no revision `main` of it, and --offline or HF_HUB_OFFLINE forbids to download\nhint: run it once without",
    );
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    assert_eq!(code(&user.convert(&[])), 0);

    let away = User { endpoint: "http://127.0.0.1:9".to_owned(), ..user };
    refused(&away, &[], "http://127.0.0.1:9: expected the hub, found no connection: ");
    let config = away.cache().join("snapshots").join(COMMIT).join("config.json").canonicalize().expect("there");
    fs::write(&config, "{}").expect("written");
    refused(&away, &["--offline"], "hint: the cache was damaged; remove this file and run it again");

    away.recipe("hub:not an id");
    refused(&away, &[], "model: expected `hub:org/name` or `hub:org/name@revision`, found `hub:not an id`");
}

/// Requests but those of Python's telemetry.
fn asked_of_models(hub: &Loopback) -> Vec<String> {
    hub.asked().into_iter().filter(|line| line.contains(NAME) || line.contains("/cdn/")).collect()
}

/// Python of the tests' environment, which has transformers and so `huggingface_hub`.
fn python(user: &User, code: &str) -> String {
    let home = std::env::var("VIRTUAL_ENV").expect("VIRTUAL_ENV names an environment with transformers");
    let mut python = Command::new(Path::new(&home).join("bin/python"));
    python
        .env("HF_HOME", user.home.path().join("hf"))
        .env("HF_ENDPOINT", &user.endpoint)
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1");
    let output = python.args(["-c", code]).output().expect("Python starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
#[ignore = "needs Python with huggingface_hub"]
fn pythons_client_reads_what_we_cached_and_we_read_what_it_cached() {
    let hub = Loopback::of(&repository("models/g2p-t5"), Fault::Nothing);
    let ours = User::of(&hub);
    assert_eq!(code(&ours.convert(&[])), 0);
    let asked = asked_of_models(&hub);
    let read = format!(
        "from huggingface_hub import hf_hub_download, scan_cache_dir\n\
         for name in ['config.json', 'model.safetensors', 'tokenizer.json']:\n    \
             print(hf_hub_download('{NAME}', name, local_files_only=True))\n\
         found = scan_cache_dir()\n\
         print(len(found.warnings), [len(r.files) for repo in found.repos for r in repo.revisions])"
    );
    let found = python(&ours, &read);
    assert!(found.lines().take(3).all(|line| line.contains(COMMIT)), "{found}");
    assert!(found.trim().ends_with("0 [7]"), "{found}");
    assert_eq!(asked_of_models(&hub), asked);

    let theirs = User::of(&hub);
    let names = [
        "README.md",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "spiece.model",
    ];
    for name in names.iter().chain(&["model.safetensors"]) {
        python(&theirs, &format!("from huggingface_hub import hf_hub_download\nhf_hub_download('{NAME}', '{name}')"));
    }
    let asked = hub.asked();
    let output = theirs.convert(&["--offline"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(hub.asked(), asked);
    assert_eq!(theirs.manifest()["model"], ours.manifest()["model"]);
}
