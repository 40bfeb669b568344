//! `trefoil lint`: what an NPU toolchain will make of ONNX files.

use std::io::{self, Write};
use std::path::PathBuf;

use converters::ExportError;
use converters::export::npu::{PROFILES, Profile, Severity, profile};
use serde::Serialize;
use validate::lint::{Finding, Judged, count, lint};

use crate::yaml::nearest;
use crate::{Common, Verdict};

/// Arguments of `lint`.
#[derive(clap::Args)]
pub struct Lint {
    /// ONNX files, of any exporter; an encoder and its decoder are also compared with each other
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The toolchain: npu-portable, qnn-htp-a16w8; --list profiles shows all
    #[arg(long, value_name = "NAME")]
    profile: String,
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

/// Judges the files. Failed: there is an error among the findings.
pub fn run(arguments: &Lint, common: &Common) -> Result<Verdict, LintError> {
    let profile = named(&arguments.profile)?;
    let judged = lint(&arguments.files, profile)?;
    let [errors, warnings, infos] =
        [Severity::Error, Severity::Warning, Severity::Info].map(|severity| count(&judged, severity));
    let mut text = String::new();
    if common.json {
        let verdicts = Verdicts { profile: profile.name, files: &judged, errors, warnings };
        text = serde_json::to_string_pretty(&verdicts).expect("only JSON types") + "\n";
    } else {
        for Judged { file, findings } in &judged {
            text.push_str(&format!("{}\n", file.display()));
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
    io::stdout().write_all(text.as_bytes()).map_err(LintError::Stdout)?;
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
        format!("    {place}{}\n", finding.why)
    };
    let places: String = of_a_kind.iter().map(line).collect();
    format!("  {severity} {rule}: {fix}\n{places}")
}
