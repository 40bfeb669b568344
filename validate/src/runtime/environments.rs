//! Python environments in which libraries of engines may lie.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// An environment variable that names something.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// `site-packages` of the environment of `python`, `$VIRTUAL_ENV`, `.venv` here and `$CONDA_PREFIX`, in that order.
pub(super) fn site_packages(python: Option<&Path>) -> Vec<PathBuf> {
    // bin/python of the environment; what it links to is another's.
    let given = python.and_then(|python| Some(python.parent()?.parent()?.to_owned()));
    let roots = [given, variable("VIRTUAL_ENV"), Some(PathBuf::from(".venv")), variable("CONDA_PREFIX")];
    let mut out = Vec::new();
    for root in roots.into_iter().flatten() {
        // lib/python3.12/site-packages; Windows has Lib/site-packages.
        let mut pythons: Vec<PathBuf> = fs::read_dir(root.join("lib"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        pythons.sort();
        pythons.push(root.join("Lib"));
        out.extend(pythons.into_iter().map(|python| python.join("site-packages")));
    }
    out
}

/// The version of a package beside it, as `onnxruntime-1.32.0.dist-info` has it.
pub(super) fn version(site_packages: &Path, package: &str) -> Option<String> {
    let names = fs::read_dir(site_packages).ok()?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let of = |name: String| Some(name.strip_prefix(package)?.strip_prefix('-')?.strip_suffix(".dist-info")?.to_owned());
    names.filter_map(of).next()
}
