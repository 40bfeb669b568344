//! What an NPU toolchain will make of an ONNX file, without the toolchain.
//!
//! A rule is a function over a [`Subject`] and a line of [`RULES`]; what differs between toolchains is in their
//! [`Profile`].

mod found;
mod mask;
mod norm;
mod quantized;
mod rules;
mod structure;
mod subject;
mod table;
mod together;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use converters::ExportError;
use converters::export::npu::{Evidence, Host, Profile, Severity};
use converters::export::onnx::OnnxFile;
use serde::Serialize;

use found::{Found, Founds};
use rules::Check::{Graph, Numbers, Together};
use subject::Subject;

pub use rules::{RULES, Rule};
pub use table::table;

/// What a rule says of a place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Of [`RULES`].
    pub rule: &'static str,
    /// What it means for this profile.
    pub severity: Severity,
    /// The node, by its name; where it has none, its op and its first result.
    pub node: Option<String>,
    /// The value.
    pub tensor: Option<String>,
    /// Expected and found.
    pub why: String,
    /// What to do.
    pub fix: &'static str,
}

/// What is said of a file, gravest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Judged {
    /// As it was given.
    pub file: PathBuf,
    /// Sorted by severity, then in the order of the rules and of the file.
    pub findings: Vec<Finding>,
}

/// Judges files that are to run together: rules about two graphs hold among all of them.
///
/// npu.json and calibration.json beside the files are read where they are. Errors: a file cannot be read.
pub fn lint(files: &[PathBuf], profile: &'static Profile) -> Result<Vec<Judged>, ExportError> {
    let models = files.iter().map(|file| OnnxFile::open(file)).collect::<Result<Vec<_>, _>>()?;
    let mut subjects = Vec::with_capacity(models.len());
    for model in &models {
        let dir = model.file.parent().unwrap_or(Path::new(""));
        subjects.push((Subject::new(model, profile, Evidence::read(dir)?)?, Host::read(dir)?));
    }
    let mut judged = Vec::with_capacity(files.len());
    for (i, (subject, host)) in subjects.iter().enumerate() {
        let mut findings = Vec::new();
        for rule in RULES {
            let Some(severity) = profile.level(rule.id, rule.severity) else { continue };
            let mut founds = Founds::new();
            match rule.check {
                Graph(check) => check(subject, &mut founds),
                Numbers(check) => check(subject, &mut founds)?,
                Together => {
                    together::past_and_present(subject, host.as_ref(), &mut founds);
                    for (_, (encoder, _)) in subjects.iter().enumerate().filter(|(j, _)| *j != i) {
                        together::across(encoder, subject, host.as_ref(), &mut founds);
                    }
                }
            }
            let finding =
                |Found { node, tensor, why }| Finding { rule: rule.id, severity, node, tensor, why, fix: rule.fix };
            findings.extend(founds.into_iter().map(finding));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        judged.push(Judged { file: files[i].clone(), findings });
    }
    Ok(judged)
}

/// The graphs that a folder holds, by name. Errors: it cannot be read.
pub fn graphs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let is_graph = |path: &PathBuf| path.extension().is_some_and(|end| end == "onnx");
    let mut graphs: Vec<PathBuf> = entries.into_iter().filter(is_graph).collect();
    graphs.sort();
    Ok(graphs)
}

/// How many findings have this severity.
pub fn count(judged: &[Judged], severity: Severity) -> usize {
    judged.iter().flat_map(|judged| &judged.findings).filter(|finding| finding.severity == severity).count()
}

#[cfg(test)]
mod tests;
