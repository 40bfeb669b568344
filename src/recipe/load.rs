//! A recipe from its file.

use std::io;
use std::path::{Path, PathBuf};

use crate::names::MANIFEST;
use crate::recipe::schema::Recipe;
use crate::recipe::yaml;

/// A recipe with its text, its paths resolved.
pub struct Loaded {
    /// What it says; `model`, if it is a path, `out` and `validate.data` are relative to the working folder or absolute.
    pub recipe: Recipe,
    /// Its text.
    pub text: String,
}

/// A recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The recipe.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not YAML, or not the YAML of a recipe: the place, the line with a caret, and what would be valid.
    #[error("{0}")]
    Yaml(String),
    /// It reads well and asks for what cannot be.
    #[error("{}: {}", .file.display(), .problems.join("\n  "))]
    Invalid {
        /// The recipe.
        file: PathBuf,
        /// One sentence each, with its place.
        problems: Vec<String>,
    },
}

impl Loaded {
    /// Reads a recipe and resolves its paths against its folder.
    pub fn read(path: &Path) -> Result<Loaded, RecipeError> {
        let text =
            converters::limits::read_text(path).map_err(|source| RecipeError::Io { file: path.to_owned(), source })?;
        Loaded::parse(path, text)
    }

    /// The recipe whose text is in the manifest of the artifact in `dir`; its paths mean nothing there.
    pub fn of_artifact(dir: &Path, text: &str) -> Result<Loaded, RecipeError> {
        Loaded::parse(&dir.join(MANIFEST), text.to_owned())
    }

    /// A recipe that is in no file; its paths are relative to the working folder. `name`: as errors call it.
    pub fn of_draft(name: &Path, text: String) -> Result<Loaded, RecipeError> {
        Loaded::parse(name, text)
    }

    fn parse(path: &Path, text: String) -> Result<Loaded, RecipeError> {
        let mut recipe: Recipe = yaml::parse(&text, &path.display().to_string()).map_err(RecipeError::Yaml)?;
        for target in &mut recipe.artifacts {
            target.quantize.get_or_insert_with(|| recipe.quantize.clone());
        }
        let problems = recipe.problems();
        if !problems.is_empty() {
            return Err(RecipeError::Invalid { file: path.to_owned(), problems });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        if !is_on_hub(&recipe.model) {
            recipe.model = folder.join(&recipe.model);
        }
        recipe.out = folder.join(&recipe.out);
        if let Some(calibrate) = &mut recipe.calibrate {
            calibrate.data = folder.join(&calibrate.data);
        }
        recipe.validate.data = recipe.validate.data.map(|data| folder.join(data));
        Ok(Loaded { recipe, text })
    }

    /// Another checkpoint and another folder for the artifacts, from the command line.
    pub fn replace(&mut self, model: Option<&Path>, out: Option<&Path>) {
        self.recipe.model = model.map_or(std::mem::take(&mut self.recipe.model), Path::to_owned);
        self.recipe.out = out.map_or(std::mem::take(&mut self.recipe.out), Path::to_owned);
    }
}

/// Whether a recipe names a checkpoint of the hub.
pub fn is_on_hub(model: &Path) -> bool {
    model.to_str().is_some_and(|text| text.starts_with(hub::PREFIX))
}
