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

/// Commands of trefoil that a page shows, as words: lines of blocks, where a line that ends in `\` goes on, and code in sentences.
fn shown(page: &str) -> Vec<Vec<String>> {
    let joined: String = blocks(page).iter().map(|block| block.text.replace("\\\n", " ")).collect();
    // What stands between two backticks has an odd place among the pieces; a fence is three of them.
    let spans = page.split('`').skip(1).step_by(2);
    let invocation = |text: &str| -> Option<Vec<String>> {
        let words = text.strip_prefix("trefoil ")?.split_whitespace();
        Some(words.take_while(|word| *word != "#").map(str::to_owned).collect())
    };
    joined.lines().chain(spans).filter_map(invocation).collect()
}

/// What is wrong with a command that a page shows.
fn faults(words: &[String], commands: &BTreeMap<Vec<String>, String>) -> Vec<String> {
    // `recipe check` before `recipe`.
    let known = (0..=words.len()).rev().find(|n| commands.contains_key(&words[..*n]));
    let n = known.expect("the program itself is listed");
    if n == 0 && !words[0].starts_with("--") {
        return vec![format!("no command {words:?}")];
    }
    let help = &commands[&words[..n]];
    let options = words.iter().filter_map(|word| word.strip_prefix("--")).filter_map(|word| word.split('=').next());
    let has = |option: &str| help.split([' ', ',', '\n']).any(|word| word == format!("--{option}"));
    options.filter(|option| !has(option)).map(|option| format!("{words:?} has no --{option}")).collect()
}

#[test]
fn commands_and_options_that_pages_show_exist() {
    let commands: BTreeMap<_, _> = commands().into_iter().collect();
    let mut wrong = Vec::new();
    for page in RUN.into_iter().chain(["README.md", "docs/troubleshooting.md"]) {
        let text = fs::read_to_string(repository(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        let shown = shown(&text);
        assert!(shown.len() >= 4, "{page} shows {shown:?}");
        let faults = shown.iter().flat_map(|words| faults(words, &commands));
        wrong.extend(faults.map(|fault| format!("{page}: {fault}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
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
