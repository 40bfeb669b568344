//! What every front end answers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::input::Input;
use crate::text::Text;

/// An input before it became tensors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Original {
    /// A text.
    Text(String),
    /// The file of a clip.
    Clip(PathBuf),
    /// The file of an image.
    Image(PathBuf),
    /// There is none: the tensors were drawn.
    Drawn,
}

/// What a model is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    /// A text, or the path of a file.
    pub said: &'a str,
    /// What is asked of a file, where a model takes questions.
    pub prompt: Option<&'a str>,
}

impl<'a> From<&'a str> for Asked<'a> {
    fn from(said: &'a str) -> Asked<'a> {
        Asked { said, prompt: None }
    }
}

impl Asked<'_> {
    /// Errors: there is a prompt, and the model takes none, in words.
    pub(crate) fn without_prompt(&self) -> Result<(), String> {
        match self.prompt {
            None => Ok(()),
            Some(found) => Err(format!("this model takes no prompt, found {found:?}")),
        }
    }
}

/// Makes what an encoder is fed of one sample's input, and what the decoder should say of its target.
pub trait FrontEnd: Sync {
    /// `dir`: where a relative path begins. Errors: in words, without the input.
    fn input(&self, asked: Asked<'_>, dir: &Path) -> Result<Input, String>;

    /// Whether the encoder reads a prompt beside what it sees; else a prompt is what the decoder is fed first.
    fn reads_prompts(&self) -> bool {
        false
    }

    /// What a person has of the same: what engines with a front end of their own take.
    fn original(&self, said: &str, dir: &Path) -> Original;

    /// What an answer says beside its text, such as places in an image; `None` where there is no such thing.
    ///
    /// Errors: it cannot be read, in words.
    fn told(&self, _asked: Asked<'_>, _dir: &Path, _answer: &[i64]) -> Result<Option<Value>, String> {
        Ok(None)
    }

    /// Ids that the model should say, its end-of-sequence id included. Errors: the tokenizer's own words.
    fn target(&self, text: &str) -> Result<Vec<i64>, String>;

    /// What an error of [`FrontEnd::input`] begins with where nothing else names the input: a text has no name, and of a file
    /// the error says it.
    fn about(&self) -> &'static str;
}

/// Token ids, for models whose encoder reads tokens.
impl<T: Text> FrontEnd for T {
    fn input(&self, asked: Asked<'_>, _dir: &Path) -> Result<Input, String> {
        asked.without_prompt()?;
        match self.encode(asked.said)? {
            ids if ids.is_empty() => Err("it has no tokens".to_owned()),
            ids => Ok(Input::tokens(ids)),
        }
    }

    fn original(&self, said: &str, _dir: &Path) -> Original {
        Original::Text(said.to_owned())
    }

    fn target(&self, text: &str) -> Result<Vec<i64>, String> {
        self.encode_target(text)
    }

    fn about(&self) -> &'static str {
        "the text: "
    }
}
