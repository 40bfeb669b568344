//! `NAME.lock` beside a recipe: what went in, what judged, and what came out, so that another run can be held to it.
//!
//! ```text
//! { "lock": 1, "trefoil": …, "recipe": { file, sha256 }, "inputs": [ … ], "data": [ … ], "engines": { name: version },
//!   "artifacts": [ { name, format, kernel, files: [ { path, bytes, sha256 } ] } ] }
//! ```
//!
//! The digest of a recipe is that of what it says, without comments, the order of its keys and where its model and its artifacts lie.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use converters::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use validate::report::{InputFile, OutputFile, Report};

use super::manifest::{Manifest, sha256};
use super::whole;
use crate::recipe::load::Loaded;
use crate::recipe::yaml;

/// Raised when what a lock says has another shape or another meaning.
const NUMBER: u64 = 1;
/// Of the files of locks.
const EXTENSION: &str = "lock";

/// What `NAME.lock` says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`NUMBER`].
    lock: u64,
    /// Version of trefoil.
    trefoil: String,
    recipe: RecipeDigest,
    /// The checkpoint's files.
    inputs: Vec<InputFile>,
    /// Files of samples.
    data: Vec<InputFile>,
    /// By name, the versions of engines that ran an artifact.
    engines: BTreeMap<String, String>,
    /// In the recipe's order.
    artifacts: Vec<Locked>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeDigest {
    file: String,
    sha256: String,
}

/// An artifact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    name: String,
    format: String,
    /// The kernel that its bytes depend on; none where they are the same on any processor.
    kernel: Option<String>,
    files: Vec<OutputFile>,
}

/// A lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is none.
    #[error("{}: expected the lock of the recipe for --locked, found none\nhint: `trefoil build` without --locked writes it", .file.display())]
    Missing {
        /// Where it would be.
        file: PathBuf,
    },
    /// It cannot be read, or is nothing that trefoil wrote.
    #[error("{}: expected a lock of trefoil, found something else: {message}\nhint: look at it, and remove it when nothing in it is missed", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong there.
        message: String,
    },
    /// Another version wrote it.
    #[error("{}: expected a lock of version {NUMBER}, found version {found}\nhint: `trefoil build` without --locked writes it anew", .file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u64,
    },
    /// It does not fit the recipe.
    #[error("{}: expected the lock of {recipe} as it is, found {found}\nhint: `trefoil build` without --locked writes it anew", .file.display())]
    Misfit {
        /// The file.
        file: PathBuf,
        /// The recipe's file name.
        recipe: String,
        /// Whose lock it is.
        found: String,
    },
    /// It cannot be written.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What of a lock is known before anything is made.
pub struct Going {
    inputs: Vec<InputFile>,
    data: Vec<InputFile>,
    recipe: RecipeDigest,
}

impl Going {
    /// Of a recipe. `inputs`: of its checkpoint. Errors: a file of samples cannot be read, with that file.
    pub fn of(recipe: &Path, loaded: &Loaded, inputs: &[InputFile]) -> Result<Going, LockError> {
        let calibrated = loaded.recipe.calibrate.as_ref().map(|wanted| &wanted.data);
        let files = calibrated.into_iter().chain(&loaded.recipe.validate.data);
        let input = |file: &PathBuf| {
            let failed = |source| LockError::Io { file: file.clone(), source };
            let bytes = fs::metadata(file).map_err(failed)?.len();
            let sha256 = converters::checkpoint::sha256(file);
            let sha256 = sha256.map_err(|error| failed(io::Error::other(error.to_string())))?;
            Ok(InputFile { path: name_of(file), bytes, sha256 })
        };
        let data = files.map(input).collect::<Result<_, LockError>>()?;
        Ok(Going { inputs: inputs.to_vec(), data, recipe: digest(recipe, &loaded.text) })
    }

    /// With what came out. `report`: of these artifacts.
    pub fn done(&self, artifacts: &[&Manifest], report: Option<&Report>) -> Lock {
        let runs = report.into_iter().flat_map(|report| &report.artifacts).flat_map(|one| one.runs.iter().skip(1));
        let locked = |made: &&Manifest| Locked {
            name: made.name.clone(),
            format: made.format.clone(),
            kernel: made.calibrated.as_ref().map(|calibrated| calibrated.kernel.clone()),
            files: made.files.clone(),
        };
        Lock {
            lock: NUMBER,
            trefoil: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: self.recipe.clone(),
            inputs: self.inputs.clone(),
            data: self.data.clone(),
            engines: runs.map(|run| (run.engine.name.clone(), run.engine.version.clone())).collect(),
            artifacts: artifacts.iter().map(locked).collect(),
        }
    }
}

impl Lock {
    /// Where the lock of a recipe lies.
    pub fn place(recipe: &Path) -> PathBuf {
        recipe.with_extension(EXTENSION)
    }

    /// The lock beside a recipe, which fits it. Errors: there is none, it cannot be read, or it does not fit.
    pub fn of(recipe: &Path, going: &Going) -> Result<Lock, LockError> {
        let file = Lock::place(recipe);
        let value = read(&file)?.ok_or_else(|| LockError::Missing { file: file.clone() })?;
        let number = value["lock"].as_u64().unwrap_or_default();
        if number != NUMBER {
            return Err(LockError::Version { file, found: number });
        }
        let lock: Lock = serde_json::from_value(value)
            .map_err(|error| LockError::Unreadable { file: file.clone(), message: error.to_string() })?;
        let misfit = |found: String| LockError::Misfit { file, recipe: going.recipe.file.clone(), found };
        if lock.recipe.file != going.recipe.file {
            return Err(misfit(format!("that of {}", lock.recipe.file)));
        }
        if lock.recipe.sha256 != going.recipe.sha256 {
            return Err(misfit("that of what it said before".to_owned()));
        }
        Ok(lock)
    }

    /// Errors: something lies in the lock's place that trefoil did not write.
    pub fn may_be_written(recipe: &Path) -> Result<(), LockError> {
        read(&Lock::place(recipe)).map(drop)
    }

    /// Puts the lock beside a recipe; one that says the same stays as it is.
    pub fn write(&self, recipe: &Path) -> Result<(), LockError> {
        let file = Lock::place(recipe);
        let text = serde_json::to_string_pretty(self).expect("only JSON types") + "\n";
        if fs::read(&file).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(());
        }
        whole::write(&file, text.as_bytes()).map_err(|source| LockError::Io { file, source })
    }

    /// What goes in otherwise than this says, a sentence each.
    pub fn drift_of_inputs(&self, going: &Going) -> Vec<String> {
        let version = env!("CARGO_PKG_VERSION");
        let mut told = Vec::new();
        if self.trefoil != version {
            told.push(format!("trefoil: expected {}, found {version}", self.trefoil));
        }
        for (what, then, now) in [("input", &self.inputs, &going.inputs), ("data", &self.data, &going.data)] {
            let row = |file: &InputFile| (file.path.clone(), (file.bytes, file.sha256.clone()));
            told.extend(differences(what, &then.iter().map(row).collect(), &now.iter().map(row).collect()));
        }
        told
    }

    /// What came out otherwise than this says, a sentence each. `is_whole`: all artifacts of the recipe were asked for.
    pub fn drift_of_results(&self, now: &Lock, is_whole: bool) -> Vec<String> {
        let mut told = Vec::new();
        for (name, version) in &self.engines {
            match now.engines.get(name) {
                Some(found) if found == version => {}
                Some(found) => told.push(format!("engine {name}: expected {version}, found {found}")),
                None if is_whole => told.push(format!("engine {name}: expected {version}, found none")),
                None => {}
            }
        }
        let more = now.engines.iter().filter(|(name, _)| !self.engines.contains_key(*name));
        told.extend(more.map(|(name, version)| format!("engine {name}: expected none, found {version}")));
        for made in &now.artifacts {
            let Some(then) = self.artifacts.iter().find(|one| one.name == made.name) else {
                told.push(format!("artifact {}: expected none, found one", made.name));
                continue;
            };
            let row = |file: &OutputFile| (file.path.clone(), (file.bytes, file.sha256.clone()));
            let [expected, found] = [then, made].map(|one| one.files.iter().map(row).collect());
            let kernels = match (&then.kernel, &made.kernel) {
                (Some(then), Some(now)) if then != now => format!("; made with {then}, and this is {now}"),
                _ => String::new(),
            };
            let rows = differences(&format!("artifact {}", made.name), &expected, &found);
            told.extend(rows.into_iter().map(|row| row + &kernels));
        }
        told
    }
}

/// Sizes and digests by path.
type Files = BTreeMap<String, (u64, String)>;

fn differences(what: &str, then: &Files, now: &Files) -> Vec<String> {
    let told = |file: Option<&(u64, String)>| match file {
        Some((bytes, sha256)) => format!("{bytes} bytes with SHA-256 {sha256}"),
        None => "none".to_owned(),
    };
    let names: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let differing = names.into_iter().filter(|name| then.get(*name) != now.get(*name));
    differing
        .map(|name| format!("{what}: {name}: expected {}, found {}", told(then.get(name)), told(now.get(name))))
        .collect()
}

/// The JSON of a lock of any version, if there is a file. Errors: it is something else.
fn read(file: &Path) -> Result<Option<Value>, LockError> {
    let unreadable = |message: String| LockError::Unreadable { file: file.to_owned(), message };
    match limits::read_json::<Value>(file) {
        Ok(value) if value.get("lock").is_some() && value.get("trefoil").is_some() => Ok(Some(value)),
        Ok(_) => Err(unreadable("it has no `lock` and no `trefoil`".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn name_of(file: &Path) -> String {
    file.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

fn digest(recipe: &Path, text: &str) -> RecipeDigest {
    let mut said: Value = yaml::parse(text, "").unwrap_or_default();
    if let Some(said) = said.as_object_mut() {
        said.remove("model");
        said.remove("out");
    }
    said.sort_all_objects();
    RecipeDigest { file: name_of(recipe), sha256: sha256(&said.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_recipe_is_of_what_it_says() {
        let of = |text: &str| digest(Path::new("a/r.yaml"), text);
        let plain = of("model: m\nout: o\nquantize: { scheme: int8, clip: mse }\n");
        assert_eq!(of("# x\nout: p\nmodel: ../m\nquantize:\n  clip: mse\n  scheme: int8\n"), plain);
        assert_ne!(of("model: m\nout: o\nquantize: { scheme: int4, clip: mse }\n"), plain);
    }
}
