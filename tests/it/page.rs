//! What people look at, looked at as people do: in a browser, on a desk and on a phone, in the dark and on paper.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::repository;

#[path = "../../validate/report/tests/page/made_up.rs"]
mod made_up;

/// What a browser builds and reads before a page of two thousand samples of five artifacts is there. So large, it takes 0.4 to 0.9 s
/// on two busy cores.
const MOST_ELEMENTS: u64 = 12_000;
const MOST_BYTES: usize = 4_000_000;

/// Opens files in Chromium; what it found, once for all faults.
fn looked_at(folder: &Path, files: &[&str]) -> Value {
    let mut command = Command::new("node");
    command.arg(repository("tests/foreign/browser.mjs")).arg(folder);
    command.args(files.iter().map(|file| folder.join(file)));
    let output = command.output().expect("node starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
#[ignore = "needs Node and Chromium; CI turns it on"]
fn pages_and_pictures_fit_screens_and_paper_and_no_label_lies_on_another() {
    let home = tempfile::tempdir().expect("temporary folder");
    let files = [
        ("report.html", report::html::page(&made_up::report())),
        ("empty.html", report::html::page(&report::Report { artifacts: Vec::new(), ..made_up::report() })),
        ("scatter.svg", made_up::crowded_scatter()),
        ("lines.svg", made_up::lines()),
    ];
    for (name, text) in &files {
        std::fs::write(home.path().join(name), text).expect("temporary folder");
    }
    let found = looked_at(home.path(), &files.each_ref().map(|(name, _)| *name));
    let faults = found["faults"].as_array().expect("a list");
    assert!(faults.is_empty(), "{faults:#?}");
    let opened = &found["opened"]["report.html"];
    println!("opened: {opened}");
    assert!(opened["elements"].as_u64().expect("a number") <= MOST_ELEMENTS, "{opened}");
    assert!(files[0].1.len() <= MOST_BYTES, "{} bytes", files[0].1.len());
}
