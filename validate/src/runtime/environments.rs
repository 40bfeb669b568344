//! Python environments in which engines may lie.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// An environment variable that names something.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// The environment of `python`, `$VIRTUAL_ENV`, `.venv` here and `$CONDA_PREFIX`, in that order.
pub(super) fn roots(python: Option<&Path>) -> Vec<PathBuf> {
    // bin/python of the environment; what it links to is another's.
    let given = python.and_then(|python| Some(python.parent()?.parent()?.to_owned()));
    let roots = [given, variable("VIRTUAL_ENV"), Some(PathBuf::from(".venv")), variable("CONDA_PREFIX")];
    roots.into_iter().flatten().collect()
}

/// `site-packages` of the same.
pub(super) fn site_packages(python: Option<&Path>) -> Vec<PathBuf> {
    roots(python).iter().flat_map(|root| packages(root)).collect()
}

/// `site-packages` of one environment.
fn packages(root: &Path) -> Vec<PathBuf> {
    // lib/python3.12/site-packages; Windows has Lib/site-packages.
    let mut pythons: Vec<PathBuf> = fs::read_dir(root.join("lib"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    pythons.sort();
    pythons.push(root.join("Lib"));
    pythons.into_iter().map(|python| python.join("site-packages")).collect()
}

/// The Python of the first environment that has a package; an absolute path.
pub(super) fn python_with(package: &str, roots: &[PathBuf]) -> Option<PathBuf> {
    roots.iter().filter(|root| packages(root).iter().any(|folder| folder.join(package).is_dir())).find_map(|root| {
        // The last is conda's on Windows.
        let places = ["bin/python", "Scripts/python.exe", "python.exe"].map(|place| root.join(place));
        let python = places.into_iter().find(|python| python.exists())?;
        Some(std::path::absolute(&python).unwrap_or(python))
    })
}

/// The version of a package beside it, as `onnxruntime-1.32.0.dist-info` has it.
pub(super) fn version(site_packages: &Path, package: &str) -> Option<String> {
    let names = fs::read_dir(site_packages).ok()?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let of = |name: String| Some(name.strip_prefix(package)?.strip_prefix('-')?.strip_suffix(".dist-info")?.to_owned());
    names.filter_map(of).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_the_package_or_without_a_python_is_passed_over() {
        let home = tempfile::tempdir().expect("temporary folder");
        let roots = ["bare", "broken", "whole", "later"].map(|name| home.path().join(name));
        for (root, package, python) in
            [(0, "other", true), (1, "openvino", false), (2, "openvino", true), (3, "openvino", true)]
        {
            fs::create_dir_all(roots[root].join("lib/python3.11/site-packages").join(package)).expect("made");
            fs::create_dir_all(roots[root].join("bin")).expect("made");
            if python {
                fs::write(roots[root].join("bin/python"), "").expect("written");
            }
        }
        assert_eq!(python_with("openvino", &roots), Some(roots[2].join("bin/python")));
        assert_eq!(python_with("rknn", &roots), None);
    }
}
