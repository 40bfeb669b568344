//! `trefoil lint`: what an NPU toolchain will make of ONNX files.

use std::io;
use std::path::{Path, PathBuf};

use converters::ExportError;
use converters::export::npu::{Host, PROFILES, Profile, Severity, profile};
use serde::Serialize;
use validate::lint::{Finding, Judged, count, graphs, lint};

use crate::command::arguments::{Common, Verdict};
use crate::recipe::yaml::nearest;
use crate::show::terminal::{one_line, print};

/// Arguments of `lint`.
#[derive(clap::Args)]
pub struct Lint {
    /// ONNX files of any exporter, or folders of them; an encoder and its decoder are also compared with each other
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The toolchain: npu-portable, qnn-htp-a16w8; --list profiles shows all [default: that of the npu.json beside the files]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// A file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// No profile of that name.
    #[error("unknown profile {found}{}; expected one of {}", .nearest.map_or(String::new(), |word| format!("; did you mean {word}?")), .known.join(", "))]
    NoProfile {
        /// What was asked for.
        found: String,
        /// What it most likely stands for.
        nearest: Option<&'static str>,
        /// Every profile.
        known: Vec<&'static str>,
    },
    /// A folder without a graph.
    #[error("{}: expected *.onnx in it, found none", .0.display())]
    NoGraph(PathBuf),
    /// No profile is given.
    #[error("{}: expected a npu.json beside it, which names a profile, found none\nhint: name one with --profile", .0.display())]
    Unnamed(PathBuf),
    /// Files for several toolchains.
    #[error("{}: expected a file for {first}, as the first is, found one for {found}\nhint: name one with --profile", .file.display())]
    Several {
        /// The file.
        file: PathBuf,
        /// Its profile.
        found: String,
        /// That of the first file.
        first: String,
    },
    /// A folder cannot be read.
    #[error("{}: {source}", .dir.display())]
    Folder {
        /// Which.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("stdout: {0}")]
    Stdout(io::Error),
    /// A file cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
}

#[derive(Serialize)]
struct Verdicts<'a> {
    profile: &'static str,
    files: &'a [Judged],
    errors: usize,
    warnings: usize,
}

fn named(found: &str) -> Result<&'static Profile, LintError> {
    profile(found).ok_or_else(|| {
        let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        LintError::NoProfile { found: found.to_owned(), nearest: nearest(found, &known), known }
    })
}

/// The files, and those of folders.
fn files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, LintError> {
    let mut files = Vec::new();
    for path in arguments {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match graphs(path).map_err(|source| LintError::Folder { dir: path.clone(), source })? {
            none if none.is_empty() => return Err(LintError::NoGraph(path.clone())),
            some => files.extend(some),
        }
    }
    Ok(files)
}

/// The profile that the npu.json beside all files names.
fn written_for(files: &[PathBuf]) -> Result<String, LintError> {
    let mut first: Option<String> = None;
    for file in files {
        let host = Host::read(file.parent().unwrap_or(Path::new("")))?;
        let found = host.ok_or_else(|| LintError::Unnamed(file.clone()))?.profile;
        match &first {
            Some(first) if *first != found => {
                return Err(LintError::Several { file: file.clone(), found, first: first.clone() });
            }
            _ => first = Some(found),
        }
    }
    Ok(first.expect("at least one file is required"))
}

/// Judges the files. Failed: there is an error among the findings.
pub fn run(arguments: &Lint, common: &Common) -> Result<Verdict, LintError> {
    let files = files(&arguments.files)?;
    let profile = match &arguments.profile {
        Some(name) => named(name)?,
        None => named(&written_for(&files)?)?,
    };
    let judged = lint(&files, profile)?;
    let [errors, warnings, infos] =
        [Severity::Error, Severity::Warning, Severity::Info].map(|severity| count(&judged, severity));
    let mut text = String::new();
    if common.json {
        let verdicts = Verdicts { profile: profile.name, files: &judged, errors, warnings };
        text = serde_json::to_string_pretty(&verdicts).expect("only JSON types") + "\n";
    } else {
        for Judged { file, findings } in &judged {
            text.push_str(&format!("{}\n", one_line(&file.display().to_string())));
            for of_a_kind in findings.chunk_by(|a, b| a.rule == b.rule) {
                text.push_str(&lines(of_a_kind));
            }
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        text.push_str(&format!("{}: {}, {}", profile.name, counted(errors, "error"), counted(warnings, "warning")));
        text.push_str(&if infos > 0 {
            format!(", {} not checked\n", counted(infos, "thing"))
        } else {
            "\n".to_owned()
        });
    }
    print(&text).map_err(LintError::Stdout)?;
    Ok(if errors == 0 { Verdict::Passed } else { Verdict::Failed })
}

/// Findings of one rule: what to do, then a line a place.
fn lines(of_a_kind: &[Finding]) -> String {
    let Finding { rule, severity, fix, .. } = &of_a_kind[0];
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let line = |finding: &Finding| {
        let place = match (&finding.node, &finding.tensor) {
            (Some(node), Some(tensor)) if node != tensor => format!("{node}: {tensor}: "),
            (Some(place), _) | (None, Some(place)) => format!("{place}: "),
            (None, None) => String::new(),
        };
        format!("    {}\n", one_line(&format!("{place}{}", finding.why)))
    };
    let places: String = of_a_kind.iter().map(line).collect();
    format!("  {severity} {rule}: {fix}\n{places}")
}
