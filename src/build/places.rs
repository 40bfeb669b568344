//! What may not be replaced: the checkpoint, and whatever trefoil did not write.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::build::manifest::{self, Manifest};
use crate::names::failed;
use crate::pages;

/// A report of more is not one that this program wrote.
pub const REPORT_BYTES: u64 = 1 << 30;
/// Names that a sentence lists.
const NAMED: usize = 5;

/// Why artifacts of these names cannot be put into `out`, a sentence each. Looks at names and manifests, and changes nothing.
///
/// `model`: the checkpoint's folder or file.
pub fn problems(out: &Path, names: &[&str], model: &Path) -> Vec<String> {
    let names = names.iter().flat_map(|name| [(*name).to_owned(), failed(name)]);
    names.filter_map(|name| near(&out.join(&name), model).or_else(|| foreign(&out.join(name)))).collect()
}

/// Why a report of `convert` cannot be put into `dir`.
pub fn report_problem(dir: &Path) -> Option<String> {
    foreign_report(dir, &pages::names(), &["trefoil", "artifacts"])
}

/// Why files of these names are not replaced, the first of which holds JSON: one of them is there, and the first is not that
/// of trefoil, which has these keys.
pub fn foreign_report(dir: &Path, names: &[&str], keys: &[&str]) -> Option<String> {
    let json = dir.join(names[0]);
    let is_ours = || {
        let bytes = converters::limits::read(&json, REPORT_BYTES).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        Some(keys.iter().all(|key| value.get(key).is_some()))
    };
    let found = names.iter().map(|name| dir.join(name)).find(|file| fs::symlink_metadata(file).is_ok())?;
    match is_ours() {
        Some(true) => None,
        _ => Some(format!("{}: expected a report of trefoil or nothing, found something else", found.display())),
    }
}

/// Why a place and the checkpoint are too near to each other.
fn near(place: &Path, model: &Path) -> Option<String> {
    let (to, from) = (resolved(place), resolved(model));
    let how = if to == from {
        "is"
    } else if to.starts_with(&from) {
        "lies inside of"
    } else if from.starts_with(&to) {
        "holds"
    } else {
        return None;
    };
    Some(format!("{}: {how} the checkpoint {}; expected another place", place.display(), model.display()))
}

/// Why what stands at a place is not replaced.
fn foreign(place: &Path) -> Option<String> {
    let at = |text: String| Some(format!("{}: {text}", place.display()));
    match fs::symlink_metadata(place) {
        // A folder that cannot be made is told by who makes it.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return None,
        Err(error) => return at(error.to_string()),
        Ok(found) if found.is_dir() => {}
        Ok(found) => {
            let kind = if found.is_symlink() { "a link" } else { "a file" };
            return at(format!("expected an artifact of trefoil or nothing, found {kind}"));
        }
    }
    let files = match converters::Artifact::list("", place) {
        Ok(artifact) => artifact.files,
        Err(error) => return at(error.to_string()),
    };
    let manifest = match Manifest::read(place) {
        Ok(Some(manifest)) => manifest,
        Ok(None) if files.is_empty() => return None,
        Ok(None) => return at(format!("expected an artifact of trefoil or nothing, found no {}", manifest::FILE)),
        Err(error) => return at(format!("{} is not that of an artifact: {error}", manifest::FILE)),
    };
    let is_known = |file: &Path| {
        let mut beside = manifest.beside();
        beside.any(|name| Path::new(name) == file) || manifest.files.iter().any(|known| Path::new(&known.path) == file)
    };
    let others: Vec<String> = files.iter().filter(|file| !is_known(file)).map(|f| f.display().to_string()).collect();
    if others.is_empty() {
        return None;
    }
    let more = others.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    at(format!(
        "expected the files of its {} alone, found also {}{more}",
        manifest::FILE,
        others[..others.len().min(NAMED)].join(", ")
    ))
}

/// Whether two paths are of one place.
pub fn is_same(a: &Path, b: &Path) -> bool {
    resolved(a) == resolved(b)
}

/// A path without links and `..`, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = PathBuf::new();
    for ancestor in path.ancestors() {
        if let Ok(found) = ancestor.canonicalize() {
            let below = path.strip_prefix(ancestor).expect("an ancestor");
            rest = found;
            for part in below.components() {
                match part {
                    Component::ParentDir => drop(rest.pop()),
                    part => rest.push(part),
                }
            }
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("temporary folder");
        let model = home.path().join("m");
        fs::create_dir_all(model.join("part")).expect("made");
        (home, model)
    }

    #[test]
    fn an_artifact_is_never_put_where_the_checkpoint_is() {
        let (home, model) = home();
        let dir = home.path();
        let told = |out: &Path, name: &str| problems(out, &[name], &model).join("\n");
        assert!(told(dir, "m").contains(": is the checkpoint "), "{}", told(dir, "m"));
        assert!(told(&model, "onnx").contains(": lies inside of the checkpoint "));
        assert!(told(&dir.join("not/there/../../m"), "part").contains(": lies inside of the checkpoint "));
        assert!(
            told(dir.parent().expect("temporary"), &dir.file_name().expect("named").to_string_lossy())
                .contains(": holds ")
        );
        assert_eq!(told(dir, "m2"), "");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&model, dir.join("link")).expect("linked");
            assert!(told(&dir.join("link"), "onnx").contains(": lies inside of the checkpoint "));
            assert!(told(dir, "link").contains(": is the checkpoint "));
        }
        // What a failed artifact would be called.
        let failed = dir.join("x.failed");
        fs::create_dir(&failed).expect("made");
        assert!(problems(dir, &["x"], &failed).join("").contains(": is the checkpoint "));
    }

    #[test]
    fn what_trefoil_did_not_write_is_told_and_an_empty_folder_is_nothing() {
        let (home, model) = home();
        let dir = home.path();
        let told = |name: &str| problems(dir, &[name], &model).join("\n");
        fs::create_dir_all(dir.join("empty")).expect("made");
        assert_eq!(told("empty"), "");
        fs::write(dir.join("file"), "mine").expect("written");
        assert!(told("file").ends_with("found a file"), "{}", told("file"));
        fs::create_dir_all(dir.join("photos/2024")).expect("made");
        fs::write(dir.join("photos/2024/a.jpg"), "mine").expect("written");
        assert!(told("photos").ends_with("found no trefoil.json"), "{}", told("photos"));
        fs::write(dir.join("photos/trefoil.json"), "{}").expect("written");
        assert!(
            told("photos").contains("trefoil.json is not that of an artifact: not the expected JSON: missing field"),
            "{}",
            told("photos")
        );
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("empty", dir.join("link")).expect("linked");
            assert!(told("link").ends_with("found a link"), "{}", told("link"));
        }
    }

    #[test]
    fn a_report_of_something_else_is_not_replaced() {
        let (home, _) = home();
        assert_eq!(report_problem(home.path()), None);
        for (json, text, is_foreign) in [
            (Some(r#"{"trefoil":"0.1.0","artifacts":[]}"#), None, false),
            (Some(r#"{"trefoil":"0.1.0","artifacts":[]}"#), Some("# r"), false),
            (Some(r#"{"coverage":1}"#), None, true),
            (None, Some("# my report"), true),
        ] {
            for (name, text) in [("report.json", json), ("report.xml", text)] {
                let _ = fs::remove_file(home.path().join(name));
                text.inspect(|text| fs::write(home.path().join(name), text).expect("written"));
            }
            assert_eq!(report_problem(home.path()).is_some(), is_foreign, "{json:?} {text:?}");
        }
    }
}
