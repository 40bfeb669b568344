//! A commit that is killed, or fails, at each of its system calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::disk::faulty::{Fault, Faulty};
use super::*;

/// What a folder shows to whoever opens it: the text in each artifact, or of each file.
type Shown = BTreeMap<String, String>;

/// An artifact is whole when both of its files are of one generation.
fn shown(out: &Path) -> Shown {
    let mut shown = Shown::new();
    for entry in fs::read_dir(out).expect("listed").map(|entry| entry.expect("readable")) {
        let name = entry.file_name().into_string().expect("a plain name");
        if name == STATE {
            continue;
        }
        let text = match entry.path().is_dir() {
            false => fs::read_to_string(entry.path()).expect("read"),
            true => {
                let [a, b] = ["a", "part/b"].map(|file| fs::read_to_string(entry.path().join(file)).expect("whole"));
                assert_eq!(a, b, "{name} is of two generations");
                a
            }
        };
        shown.insert(name, text);
    }
    shown
}

fn artifact(dir: &Path, text: &str) {
    fs::create_dir_all(dir.join("part")).expect("made");
    fs::write(dir.join("a"), text).expect("written");
    fs::write(dir.join("part/b"), text).expect("written");
}

const PUT: [&str; 4] = ["gguf", "onnx", "safetensors.failed", "report.json"];
const REMOVE: [&str; 2] = ["safetensors", "onnx.failed"];

/// An out folder of an earlier run: two artifacts that are replaced, one that goes and one that stays, a report.
fn old(out: &Path) -> Shown {
    fs::create_dir_all(out).expect("made");
    for name in ["onnx", "onnx.failed", "safetensors", "stays"] {
        artifact(&out.join(name), "old");
    }
    fs::write(out.join("report.json"), "old").expect("written");
    fs::write(out.join("mine.txt"), "mine").expect("written");
    shown(out)
}

fn new() -> Shown {
    let pairs = [
        ("gguf", "new"),
        ("onnx", "new"),
        ("safetensors.failed", "new"),
        ("report.json", "new"),
        ("stays", "old"),
        ("mine.txt", "mine"),
    ];
    pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

fn stage_all(folder: &OutFolder) {
    for name in &PUT[..3] {
        artifact(&folder.stage(name).expect("staged"), "new");
    }
    fs::write(folder.staged(PUT[3]), "new").expect("written");
}

/// For a disk that two owners look at.
struct Shared(Arc<Faulty>);

impl Disk for Shared {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.write(file, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.0.exchange(a, b)
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.0.sync(path)
    }
    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.0.remove_file(file)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.remove_dir(dir)
    }
}

/// A commit on a faulty disk; what it said, and what it asked the disk for.
fn commit(out: &Path, at: usize, fault: Fault, exchanges: bool) -> (Result<(), FolderError>, Vec<String>) {
    let disk = Arc::new(Faulty::new(at, fault, exchanges));
    let folder = OutFolder::on(out, Box::new(Shared(disk.clone()))).expect("opened");
    stage_all(&folder);
    let done = folder.commit(&PUT, &REMOVE);
    (done, disk.calls())
}

/// What a program that is gone leaves: its lock is free, the files are there.
fn dead(out: &Path) {
    // `commit` let go of the lock as the system does; a killed program does not unlink it.
    if out.join(STATE).is_dir() {
        fs::write(out.join(STATE).join(LOCK), "process 1 on nowhere").expect("written");
    }
}

#[test]
fn all_names_change_together_and_nothing_else_does() {
    for exchanges in [true, false] {
        let home = tempfile::tempdir().expect("temporary folder");
        let out = home.path().join("a/out");
        old(&out);
        let (done, calls) = commit(&out, usize::MAX, Fault::Fails, exchanges);
        done.expect("committed");
        assert_eq!(shown(&out), new());
        assert!(!out.join(STATE).exists(), "nothing hidden stays");
        // One step a name where the file system can.
        let steps = calls.iter().filter(|call| call.starts_with("exchange") || call.starts_with("rename")).count();
        assert_eq!(steps, if exchanges { 1 + 4 + 2 } else { 1 + 4 + 2 + 2 }, "{calls:#?}");
    }
}

#[test]
fn a_run_killed_at_any_call_leaves_whole_artifacts_and_the_next_one_finishes_or_forgets_it() {
    for exchanges in [true, false] {
        let calls = {
            let home = tempfile::tempdir().expect("temporary folder");
            old(home.path());
            commit(home.path(), usize::MAX, Fault::Fails, exchanges).1.len()
        };
        assert!(calls > 40, "{calls}");
        let mut ends = [0, 0];
        for (at, fault) in (0..calls).flat_map(|at| [(at, Fault::Killed), (at, Fault::KilledAfter)]) {
            let home = tempfile::tempdir().expect("temporary folder");
            let out = home.path().join("out");
            let before = old(&out);
            let _ = commit(&out, at, fault, exchanges);
            dead(&out);
            // As it lies there: what stays is there, and each artifact is old or new; where the file system cannot exchange
            // names, one of them may be missing until the next run.
            let now = shown(&out);
            let missing = before.keys().filter(|name| !now.contains_key(*name) && new().contains_key(*name)).count();
            assert!(missing <= usize::from(!exchanges), "{fault:?} at {at}: {now:?}");
            // The next run, which makes nothing.
            settle(&out).expect("settled");
            drop(OutFolder::open(&out).expect("opened"));
            let end = shown(&out);
            assert!(end == before || end == new(), "{fault:?} at {at}: a mixture: {end:?}");
            ends[usize::from(end == new())] += 1;
            assert!(!out.join(STATE).exists(), "{fault:?} at {at}: leftovers");
        }
        assert!(ends[0] > 10 && ends[1] > 10, "{ends:?}");
    }
}

#[test]
fn a_call_that_fails_changes_nothing_or_is_finished_later() {
    for exchanges in [true, false] {
        let calls = {
            let home = tempfile::tempdir().expect("temporary folder");
            old(home.path());
            commit(home.path(), usize::MAX, Fault::Fails, exchanges).1.len()
        };
        for (at, fault) in (0..calls).flat_map(|at| [(at, Fault::Fails), (at, Fault::FailsFromHere)]) {
            let home = tempfile::tempdir().expect("temporary folder");
            let out = home.path().join("out");
            let before = old(&out);
            let (done, calls) = commit(&out, at, fault, exchanges);
            let now = shown(&out);
            let told = format!("{fault:?} at {at} ({}): {done:?}: {now:?}", calls[at.min(calls.len() - 1)]);
            match done {
                Ok(()) => assert_eq!(now, new(), "{told}"),
                Err(FolderError::Halfway { .. }) => {
                    assert_eq!(fault, Fault::FailsFromHere, "{told}");
                    settle(&out).expect("settled");
                    assert_eq!(shown(&out), new(), "{told}");
                }
                Err(error) => {
                    assert!(error.to_string().contains("planted"), "{told}");
                    assert_eq!(now, before, "{told}");
                }
            }
            drop(OutFolder::open(&out).expect("opened"));
            assert!(!out.join(STATE).exists(), "{told}");
        }
    }
}

#[test]
fn a_second_run_is_told_who_holds_the_folder_and_the_first_one_is_not_disturbed() {
    let home = tempfile::tempdir().expect("temporary folder");
    let first = OutFolder::open(home.path()).expect("opened");
    stage_all(&first);
    let error = OutFolder::open(home.path()).err().expect("refused");
    assert!(matches!(error, FolderError::Busy { .. }));
    let expected = format!("process {} on ", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    first.commit(&PUT, &[]).expect("committed");
    // The lock went with its file; another folder of state may be made now.
    drop(OutFolder::open(home.path()).expect("opened"));
    assert!(!home.path().join(STATE).exists());
}

#[test]
fn what_was_made_for_a_run_that_makes_nothing_goes_and_what_others_put_there_stays() {
    let home = tempfile::tempdir().expect("temporary folder");
    drop(OutFolder::open(&home.path().join("a/b/c")).expect("opened"));
    assert!(!home.path().join("a").exists());
    let folder = OutFolder::open(&home.path().join("a/b")).expect("opened");
    fs::write(home.path().join("a/mine"), "mine").expect("written");
    drop(folder);
    assert!(home.path().join("a/mine").exists() && !home.path().join("a/b").exists());
}

#[test]
fn a_state_that_trefoil_does_not_write_is_told_and_nothing_in_it_is_believed() {
    let inode = |path: &Path| Put::of("x", path).expect("there").inode;
    let out_of_bounds = |name: &str| format!(r#"{{"run":"run-a","put":[],"remove":["{name}"]}}"#);
    for (journal, expected) in [
        ("[".to_owned(), "EOF while parsing"),
        ("{}".to_owned(), "missing field `run`"),
        (out_of_bounds(".."), "expected names of things in one folder, found \"..\""),
        (out_of_bounds("/etc"), "expected names of things in one folder, found \"/etc\""),
        (out_of_bounds("a/../../b"), "expected names of things in one folder"),
        (r#"{"run":"..","put":[],"remove":[]}"#.to_owned(), "expected names of things in one folder"),
        (r#"{"run":"mine","put":[],"remove":[]}"#.to_owned(), "expected a run named run-…, found mine"),
    ] {
        let home = tempfile::tempdir().expect("temporary folder");
        let state = home.path().join(STATE);
        fs::create_dir(&state).expect("made");
        fs::write(state.join(journal::FILE), &journal).expect("written");
        let error = OutFolder::open(home.path()).err().expect("refused").to_string();
        assert!(error.contains(expected), "{journal}: {error}");
        assert!(state.join(journal::FILE).exists(), "it is there to be looked at");
    }

    let home = tempfile::tempdir().expect("temporary folder");
    fs::write(home.path().join(STATE), "a file").expect("written");
    assert!(OutFolder::open(home.path()).err().expect("refused").to_string().contains("expected a folder"));
    assert!(inode(home.path()).is_some() || cfg!(not(unix)));

    #[cfg(unix)]
    {
        // A lock that is a link would have its target emptied.
        let home = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(home.path().join(STATE)).expect("made");
        fs::write(home.path().join("precious"), "mine").expect("written");
        std::os::unix::fs::symlink("../precious", home.path().join(STATE).join(LOCK)).expect("linked");
        assert!(OutFolder::open(home.path()).is_err());
        assert_eq!(fs::read_to_string(home.path().join("precious")).expect("read"), "mine");
    }
}
