//! What pages quote and where they point.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::repository;

/// The files with an ending below a folder, in order.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let below = |path: PathBuf| match path.is_dir() {
        true => files(&path, ending),
        false if path.extension().is_some_and(|found| found == ending) => vec![path],
        false => Vec::new(),
    };
    paths.into_iter().flat_map(below).collect()
}

/// The texts in the sources, with strings in one piece that go on in the next line.
fn sources() -> String {
    let roots = ["src", "graph", "quant", "converters", "hub", "validate"].map(repository);
    let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let all: String = roots.iter().flat_map(|root| files(root, "rs")).map(read).collect();
    let mut pieces = all.split("\\\n");
    let first = pieces.next().expect("a piece").to_owned();
    pieces.fold(first, |text, piece| text + piece.trim_start()).replace("\\\"", "\"")
}

/// Sentences in docs/troubleshooting.md are quoted as headings of code; `…` stands for what differs from case to case.
#[test]
fn sentences_that_troubleshooting_quotes_stand_in_the_sources() {
    let page = fs::read_to_string(repository("docs/troubleshooting.md")).expect("there");
    let quoted: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    assert!(quoted.len() >= 15, "{quoted:?}");
    let sources = sources();
    let missing = |sentence: &&&str| sentence.split('…').any(|piece| !sources.contains(piece.trim()));
    let missing: Vec<_> = quoted.iter().filter(missing).collect();
    assert!(missing.is_empty(), "nothing in the sources says {missing:#?}");
}

/// Figures of the cookbook are those of docs/measurements.md, which says what was run and on what machine.
#[test]
fn figures_of_the_cookbook_stand_in_the_measurements() {
    let read = |page: &str| fs::read_to_string(repository(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    let measured = read("docs/measurements.md") + &read("docs/npu.md") + &read("docs/engine.md");
    let is_figure = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let mut seen = 0;
    let mut missing = Vec::new();
    for row in read("docs/cookbook.md").lines().filter(|line| line.starts_with('|')) {
        for figure in row.split([' ', '|', '/']).filter(is_figure) {
            seen += 1;
            if !measured.split([' ', '|', '/', ',', ';', '(', ')', '\n']).any(|word| word == figure) {
                missing.push(format!("{figure} in {row}"));
            }
        }
    }
    assert!(missing.is_empty(), "nobody measured\n{}", missing.join("\n"));
    assert!(seen >= 20, "the cookbook has {seen} figures");
}

/// What `tools/setup.sh` says before it downloads.
#[test]
fn every_list_of_packages_says_how_much_it_downloads_and_pins_all() {
    let lists = files(&repository("tools"), "txt");
    assert!(lists.len() >= 5, "{lists:?}");
    for list in lists {
        let text = fs::read_to_string(&list).expect("readable");
        let is_size = |line: &&str| line.starts_with("# download: ") && line.contains("on disk");
        assert_eq!(text.lines().filter(is_size).count(), 1, "{}", list.display());
        let packages = text.lines().filter(|line| !line.starts_with('#'));
        packages.for_each(|package| assert!(package.contains("=="), "{}: {package} is not pinned", list.display()));
    }
}
