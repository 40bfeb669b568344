//! Why a command could not run, as people and programs are told.
//!
//! With `--json` it is one line on stderr: `{"error": {"message", "hint", "kind", "exit_code"}}`, the arguments' own mistakes
//! included. Without, `error: ` and the message, and a line that begins with `hint: ` where something is known to help.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use serde::Serialize;
use validate::RuntimeError;

use crate::build::error::PipelineError;
use crate::build::folder::hint_of_room;
use crate::command::bench::BenchError;
use crate::command::doctor::DoctorError;
use crate::command::inspect::InspectError;
use crate::command::lint::LintError;
use crate::command::man::ManError;
use crate::command::run::RunError;
use crate::show::terminal::printable;

/// What a failure is about, in a word that programs may rely on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The arguments.
    Usage,
    /// The recipe.
    Recipe,
    /// A checkpoint: its files, its family, its tokenizer.
    Checkpoint,
    /// An artifact, or a report.
    Artifact,
    /// Samples, texts, clips and images.
    Data,
    /// A file or folder that the system refuses.
    File,
    /// A full disk.
    NoRoom,
    /// The hub of checkpoints, or what it answers.
    Hub,
    /// An engine that is not on this machine.
    EngineMissing,
    /// An engine that refuses or breaks off.
    EngineFailed,
    /// The user's interrupt.
    Interrupted,
    /// Anything else.
    Other,
}

/// A command that could not run.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Message and hints in the order of their sentences, for people.
    #[serde(skip)]
    text: String,
    message: String,
    hint: Option<String>,
    kind: Kind,
    exit_code: u8,
}

/// What is wrong with arguments beyond what clap sees.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Neither.
    #[error("expected a command or --list")]
    Nothing,
    /// Both.
    #[error("--list stands alone")]
    ListAndCommand,
    /// The record cannot be kept there.
    #[error("--log {}: {source}", .file.display())]
    Log {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Of what could not run.
const COULD_NOT_RUN: u8 = 2;
/// Of what should have run and did not, where that was asked with `--strict`.
const FAILED: u8 = 1;

impl Failure {
    /// Of an error of a command. `strict`: a missing engine is a failed check.
    pub fn of(error: &anyhow::Error, strict: bool) -> Failure {
        let room = hint_of_room(&**error);
        let kind = if room.is_some() { Kind::NoRoom } else { kind(error) };
        // The messages of the crates carry their causes, and some of them their hints.
        let hinted = room.map_or(String::new(), |room| format!("\nhint: {room}"));
        let text = without_numbers(&error.to_string()) + &hinted;
        let (message, hints) = split(&text);
        let exit_code = if strict && kind == Kind::EngineMissing { FAILED } else { COULD_NOT_RUN };
        Failure { text, message, hint: (!hints.is_empty()).then(|| hints.join("\n")), kind, exit_code }
    }

    /// Of arguments that clap refuses: what is wrong, and its tips or else how the command is used.
    pub fn of_arguments(error: &clap::Error) -> Failure {
        let text = error.to_string();
        let (tips, rest): (Vec<&str>, Vec<&str>) =
            text.trim_end().split("\n\n").partition(|part| part.trim_start().starts_with("tip: "));
        let message = rest.first().map_or("", |part| part.strip_prefix("error: ").unwrap_or(part)).to_owned();
        let usage = rest.iter().find(|part| part.starts_with("Usage: ")).copied();
        let hint = tips.first().map(|tip| tip.trim()).or(usage).map(str::to_owned);
        Failure { text: message.clone(), message, hint, kind: Kind::Usage, exit_code: COULD_NOT_RUN }
    }

    /// Of an interrupt. `left`: what lies on the disk now.
    pub fn of_interrupt(left: &str, exit_code: u8) -> Failure {
        let message = format!("interrupted: {left}");
        Failure { text: message.clone(), message, hint: None, kind: Kind::Interrupted, exit_code }
    }

    /// For the system.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// For programs, a line.
    fn to_json(&self) -> String {
        serde_json::json!({ "error": self }).to_string()
    }

    /// Says it on stderr. A closed one leaves no place to say so.
    pub fn tell(&self, as_json: bool) {
        let text = if as_json { self.to_json() } else { format!("error: {}", self.text) };
        let _ = writeln!(io::stderr(), "{}", printable(&text));
    }
}

/// Whether clap's error is none: help, or the version.
pub fn is_asked_for(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// A message without its lines that begin with `hint: `, and these.
fn split(text: &str) -> (String, Vec<String>) {
    let (hints, message): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("hint: "));
    (message.join("\n"), hints.iter().map(|hint| hint["hint: ".len()..].to_owned()).collect())
}

/// `No such file or directory (os error 2)` without what says nothing to a person.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |before, part| match part.split_once(')') {
        Some((number, rest)) if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) => before + rest,
        _ => before + " (os error " + part,
    })
}

fn kind(error: &anyhow::Error) -> Kind {
    if let Some(error) = error.downcast_ref() {
        return of_pipeline(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_run(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_inspect(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_bench(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_lint(error);
    }
    let is_usage = error.is::<UsageError>()
        || error.downcast_ref().is_some_and(|error: &DoctorError| matches!(error, DoctorError::NoEngine { .. }));
    match is_usage {
        true => Kind::Usage,
        false if error.is::<io::Error>() || error.is::<ManError>() => Kind::File,
        false => Kind::Other,
    }
}

fn of_pipeline(error: &PipelineError) -> Kind {
    use PipelineError as E;
    match error {
        E::Recipe(_) | E::NoSource { .. } | E::Policy { .. } | E::Tune { .. } | E::Draft { .. } | E::Lock(_) => {
            Kind::Recipe
        }
        E::NoArtifact { .. } | E::NotAnId(_) | E::OtherSource { .. } | E::NotPortable { .. } => Kind::Usage,
        E::Places(_) | E::Folder(_) | E::Io { .. } | E::NotKept { .. } => Kind::File,
        E::Hub(_) => Kind::Hub,
        E::Room { .. } => Kind::NoRoom,
        E::Several(all) => all.first().map_or(Kind::Other, of_pipeline),
        E::Checkpoint(_) | E::Import(_) | E::Changed(_) | E::Decode { .. } | E::Tokenizer(_) | E::FrontEnd(_) => {
            Kind::Checkpoint
        }
        E::Data(_) | E::Calibrated(_) | E::Scores { .. } => Kind::Data,
        E::Export { .. } | E::Artifact { .. } | E::Report { .. } | E::Incomparable(_) | E::NeverCame { .. } => {
            Kind::Artifact
        }
        E::Runtime(error) => of_runtime(error),
        E::Pass(_) | E::Quant { .. } | E::NotExact { .. } | E::Calibration(_) | E::Chain(_) => Kind::Other,
    }
}

fn of_run(error: &RunError) -> Kind {
    match error {
        RunError::Inspect(error) => of_inspect(error),
        RunError::Pipeline(error) => of_pipeline(error),
        RunError::NoManifest(_) => Kind::Artifact,
        RunError::NoEngine { .. } | RunError::NothingDecodes { .. } | RunError::Decode(_) => Kind::Usage,
        RunError::Unavailable(_) => Kind::EngineMissing,
        RunError::Runtime(error) => of_runtime(error),
        RunError::Input(_) | RunError::Nothing { .. } => Kind::Data,
        RunError::Io { .. } => Kind::File,
    }
}

fn of_inspect(error: &InspectError) -> Kind {
    match error {
        InspectError::Unknown(_) | InspectError::Io { .. } => Kind::File,
        InspectError::NoEntry { .. } | InspectError::NoGraph { .. } => Kind::Usage,
        InspectError::Checkpoint(_) | InspectError::Import(_) => Kind::Checkpoint,
        InspectError::Export(_) => Kind::Artifact,
        InspectError::Pass(_) => Kind::Other,
    }
}

fn of_bench(error: &BenchError) -> Kind {
    match error {
        BenchError::Artifact { .. } => Kind::Artifact,
        BenchError::Inspect(error) => of_inspect(error),
        BenchError::NoEngine { is_missing: true, .. } => Kind::EngineMissing,
        BenchError::NoEngine { .. }
        | BenchError::OfPaperAlone(_)
        | BenchError::PaperEngine { .. }
        | BenchError::Sizes(_) => Kind::Usage,
        BenchError::Io { .. } => Kind::File,
    }
}

fn of_lint(error: &LintError) -> Kind {
    match error {
        LintError::Folder { .. } | LintError::Stdout(_) => Kind::File,
        LintError::NoProfile { .. } | LintError::Unnamed(_) | LintError::Several { .. } => Kind::Usage,
        _ => Kind::Artifact,
    }
}

fn of_runtime(error: &RuntimeError) -> Kind {
    match error {
        RuntimeError::Unavailable { .. } => Kind::EngineMissing,
        RuntimeError::Failed { .. } => Kind::EngineFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_apart_from_the_message_wherever_they_stand() {
        let (message, hints) = split("a is not available: x\nhint: get a\nb is not available: y\nhint: get b");
        assert_eq!(message, "a is not available: x\nb is not available: y");
        assert_eq!(hints, ["get a", "get b"]);
    }

    #[test]
    fn numbers_of_the_system_are_left_out_and_nothing_else() {
        assert_eq!(without_numbers("a: Not found (os error 2); b: no (os error 13)"), "a: Not found; b: no");
        assert_eq!(without_numbers("a (os error x) (os error"), "a (os error x) (os error");
    }

    #[test]
    fn a_missing_engine_is_a_failed_check_where_that_was_asked() {
        let error = || {
            let (why, install) = ("no library".to_owned(), "get it".to_owned());
            anyhow::Error::from(PipelineError::Runtime(RuntimeError::Unavailable { runtime: "x", why, install }))
        };
        assert_eq!([false, true].map(|strict| Failure::of(&error(), strict).exit_code()), [2, 1]);
        let failed = RuntimeError::Failed { runtime: "x", message: "no".to_owned() };
        assert_eq!(Failure::of(&anyhow::Error::from(PipelineError::Runtime(failed)), true).exit_code(), 2);
    }
}
