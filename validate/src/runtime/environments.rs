//! Programs and libraries of others: where they may lie, and how Python is started.
//!
//! Nothing is looked for in the working folder, which may hold anybody's files: a program named `python3`, a module named
//! `json`. What a variable or an argument names there is the user's word.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An environment variable that names something.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// A variable that other programs set to a folder. They write absolute paths; another would mean another folder after
/// each change of the working folder.
pub(super) fn folder(name: &str) -> Option<PathBuf> {
    variable(name).filter(|path| path.is_absolute())
}

/// What a variable names, absolute, for it is used in another folder. Errors: a sentence when it is a bare word, which the
/// system would look for in places of its own.
pub(super) fn named(name: &str) -> Option<Result<PathBuf, String>> {
    let path = variable(name)?;
    let absolute = if bare(&path) { None } else { std::path::absolute(&path).ok() };
    let problem = || {
        let path = path.display();
        format!("{name} is {path}: expected a path with a folder, as ./{path} for one in the working folder")
    };
    Some(absolute.ok_or_else(problem))
}

fn bare(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.as_os_str().is_empty()) && !path.is_absolute()
}

/// A program as a user names it: a path, or a bare word that is looked for in `$PATH`.
pub(super) fn program(given: &Path) -> Option<PathBuf> {
    match bare(given) {
        true => in_path(given, &std::env::var_os("PATH")?),
        false => std::path::absolute(given).ok().filter(|program| program.exists()),
    }
}

/// The first of the absolute folders of `path` that has a program.
fn in_path(name: &Path, path: &OsStr) -> Option<PathBuf> {
    let runs = |program: &Path| {
        #[cfg(unix)]
        let allowed = |meta: &fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
        #[cfg(not(unix))]
        let allowed = |_: &fs::Metadata| true;
        fs::metadata(program).is_ok_and(|meta| meta.is_file() && allowed(&meta))
    };
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let mut name = name.as_os_str().to_owned();
    if !name.to_string_lossy().ends_with(std::env::consts::EXE_SUFFIX) {
        name.push(std::env::consts::EXE_SUFFIX);
    }
    folders.map(|folder| folder.join(&name)).find(|program| runs(program))
}

/// Python that sees neither the working folder nor the user's own modules nor variables that would name more: with an
/// environment's own packages and nothing else.
pub(super) fn isolated(python: &Path) -> Command {
    let mut command = Command::new(python);
    // For programs that it starts, too.
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("PYTHON")) {
        command.env_remove(name);
    }
    command.arg("-I");
    command
}

/// The Python of an environment.
pub(super) fn python_of(root: &Path) -> Option<PathBuf> {
    // The last is conda's on Windows.
    ["bin/python", "Scripts/python.exe", "python.exe"].map(|place| root.join(place)).into_iter().find(|p| p.exists())
}

/// `$VIRTUAL_ENV` and `$CONDA_PREFIX`.
pub(super) fn active() -> impl Iterator<Item = PathBuf> {
    ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(folder)
}

/// The environment of `python`, `$VIRTUAL_ENV` and `$CONDA_PREFIX`, in that order; absolute paths.
pub(super) fn roots(python: Option<&Path>) -> Vec<PathBuf> {
    // bin/python of the environment; what it links to is another's.
    let given = python.and_then(program).and_then(|python| Some(python.parent()?.parent()?.to_owned()));
    given.into_iter().chain(active()).collect()
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

/// The Python of the first environment that has a package.
pub(super) fn python_with(package: &str, roots: &[PathBuf]) -> Option<PathBuf> {
    let has = |root: &&PathBuf| packages(root).iter().any(|folder| folder.join(package).is_dir());
    roots.iter().filter(has).find_map(|root| python_of(root))
}

/// The version of a package beside it, as `onnxruntime-1.32.0.dist-info` has it.
pub(super) fn version(site_packages: &Path, package: &str) -> Option<String> {
    let names = fs::read_dir(site_packages).ok()?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let of = |name: String| Some(name.strip_prefix(package)?.strip_prefix('-')?.strip_suffix(".dist-info")?.to_owned());
    names.filter_map(of).next()
}

/// The Python that has a package: as the variable names it, then that of an environment. Errors: why there is none.
pub(super) fn python_named(
    package: &str,
    variable: &str,
    named: Option<PathBuf>,
    roots: &[PathBuf],
) -> Result<PathBuf, String> {
    match named {
        Some(named) => program(&named).ok_or_else(|| format!("{variable} is {}, which is not there", named.display())),
        None => python_with(package, roots).ok_or_else(|| {
            format!("not installed in the environment of --python, {variable}, $VIRTUAL_ENV or $CONDA_PREFIX")
        }),
    }
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
    #[cfg(unix)]
    #[test]
    fn a_program_is_looked_for_in_the_absolute_folders_of_path_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("temporary folder");
        let folders = ["plain", "right"].map(|name| home.path().join(name));
        for (folder, mode) in folders.iter().zip([0o644, 0o755]) {
            fs::create_dir(folder).expect("made");
            fs::write(folder.join("trefoil-python"), "").expect("written");
            fs::set_permissions(folder.join("trefoil-python"), fs::Permissions::from_mode(mode)).expect("changed");
        }
        let here = std::env::current_dir().expect("a folder");
        let relative = pathdiff(&here, &folders[1]);
        assert!(relative.join("trefoil-python").is_file() && relative.is_relative());
        let path = |folders: &[&Path]| std::env::join_paths(folders).expect("no colon");
        let find = |folders: &[&Path]| in_path(Path::new("trefoil-python"), &path(folders));
        assert_eq!(find(&[&relative, Path::new(""), Path::new(".")]), None);
        let expected = Some(folders[1].join("trefoil-python"));
        assert_eq!(find(&[&relative, Path::new(""), &folders[0], &folders[1]]), expected);
        assert_eq!(program(&relative.join("trefoil-python")), Some(here.join(&relative).join("trefoil-python")));
    }

    /// The way to a folder over the root.
    #[cfg(unix)]
    fn pathdiff(from: &Path, to: &Path) -> PathBuf {
        let up = from.components().skip(1).map(|_| "..");
        up.collect::<PathBuf>().join(to.strip_prefix("/").expect("absolute"))
    }
}
