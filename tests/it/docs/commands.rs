//! docs/cli-reference.md, from `--help` of every command; and the commands that pages show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{bless_or_compare, text, trefoil};
use crate::fixture::repository;

const HEAD: &str = "# Command line reference\n\nWritten by the tests with `BLESS=1` from `--help` of every command. Exit codes: 0 \
passed, 1 a check failed, 2 could not run, 130 interrupted. Data goes to stdout, progress and errors to stderr.\n\n";

/// Pages whose commands a reader may type, all of them run by tests in the order in which they stand there.
const RUN: [&str; 2] = ["docs/tutorial.md", "docs/cookbook.md"];

fn help(words: &[String]) -> String {
    // As wide as a page, whatever terminal the tests run in.
    let output = trefoil().args(words).arg("--help").env("COLUMNS", "100").stdin(Stdio::null()).output();
    let output = output.expect("the binary starts");
    assert!(output.status.success(), "trefoil {words:?} --help: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The commands that a help lists: two spaces, a word, and what it does.
fn listed(help: &str) -> Vec<String> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let entries = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names = entries.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Help by command, each below the one that has it.
fn commands() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut next = vec![Vec::new()];
    while let Some(words) = next.pop() {
        let help = help(&words);
        next.extend(listed(&help).into_iter().rev().map(|name| [&words[..], &[name]].concat()));
        found.push((words, help));
    }
    found
}

#[test]
fn the_command_line_reference_is_that_of_the_program() {
    let section = |(words, help): &(Vec<String>, String)| {
        let name = [&["trefoil".to_owned()], &words[..]].concat().join(" ");
        format!("## `{name}`\n\n```text\n{help}```\n")
    };
    let sections = commands().iter().map(section).collect::<Vec<_>>().join("\n");
    bless_or_compare(&repository("docs/cli-reference.md"), &format!("{HEAD}{sections}"));
}

/// A ```sh block of a page.
struct Block {
    /// The line of the page on which it begins.
    line: usize,
    text: String,
}

impl Block {
    /// What its first line says that it needs: `# needs tools/setup.sh --all`.
    fn needs(&self) -> Option<&str> {
        self.text.lines().next()?.strip_prefix("# needs ")
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(Block { line: i + 1, text: String::new() }),
            (None, _) => {}
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => block.text.push_str(&format!("{line}\n")),
        }
    }
    assert!(open.is_none(), "a block of commands does not end");
    blocks
}

/// Commands of trefoil in a script, as words; a line that ends in `\` goes on.
fn invocations(script: &str) -> Vec<Vec<String>> {
    let joined = script.replace("\\\n", " ");
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let lines = joined.lines().map(words).filter(|words| words.first().is_some_and(|word| word == "trefoil"));
    lines.map(|words| words[1..].iter().take_while(|word| *word != "#").cloned().collect()).collect()
}

#[test]
fn commands_and_options_that_pages_show_exist() {
    let commands: BTreeMap<_, _> = commands().into_iter().collect();
    let mut seen = 0;
    let mut faults = Vec::new();
    for page in RUN.into_iter().chain(["README.md", "docs/troubleshooting.md"]) {
        let text = fs::read_to_string(repository(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        for block in blocks(&text) {
            for words in invocations(&block.text) {
                seen += 1;
                // `recipe check` before `recipe`.
                let known = (0..=words.len()).rev().find(|n| commands.contains_key(&words[..*n]));
                let n = known.expect("the program itself is listed");
                let help = &commands[&words[..n]];
                if n == 0 && !words.first().is_some_and(|word| word.starts_with("--")) {
                    faults.push(format!("{page}:{}: no command {words:?}", block.line));
                }
                for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                    let option = option.split('=').next().expect("a first part");
                    let has = |line: &str| line.split([' ', ',']).any(|word| word == format!("--{option}"));
                    if !help.lines().any(has) {
                        faults.push(format!("{page}:{}: {words:?} has no --{option}", block.line));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(seen >= 10, "pages show {seen} commands of trefoil");
}

/// Runs the commands of a page as one script in the root of the repository, where a reader types them.
fn run_page(page: &str, may_run: impl Fn(&Block) -> bool) {
    let text = fs::read_to_string(repository(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    let blocks: Vec<Block> = blocks(&text).into_iter().filter(may_run).collect();
    assert!(!blocks.is_empty(), "{page} shows no command");
    // The line stands in what the script says before it fails.
    let said = |block: &Block| format!("echo '{page}:{}' >&2\n{}", block.line, block.text);
    let script: String = blocks.iter().map(said).collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_trefoil")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("a PATH"));
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(repository(""))
        .env("PATH", path)
        .env("ORT_DISABLE_TELEMETRY", "1")
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn blocks_that_need_nothing_run_and_those_that_need_more_say_what() {
    let known = BTreeSet::from(["tools/setup.sh", "tools/setup.sh --all"]);
    for page in RUN {
        let text = fs::read_to_string(repository(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        for needs in blocks(&text).iter().filter_map(Block::needs) {
            assert!(known.contains(needs), "{page}: nothing is known of {needs}");
        }
        run_page(page, |block| block.needs().is_none());
    }
}

#[test]
#[ignore = "needs all engines: tools/setup.sh --all"]
fn every_command_of_the_tutorial_and_the_cookbook_runs() {
    for page in RUN {
        run_page(page, |_| true);
    }
}
