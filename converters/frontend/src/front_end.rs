//! What every front end answers.

use std::path::{Path, PathBuf};

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

/// Makes what an encoder is fed of one sample's input, and what the decoder should say of its target.
pub trait FrontEnd: Sync {
    /// `said`: a text, or the path of a file; `dir`: where a relative path begins. Errors: in words, without the input.
    fn input(&self, said: &str, dir: &Path) -> Result<Input, String>;

    /// What a person has of the same: what engines with a front end of their own take.
    fn original(&self, said: &str, dir: &Path) -> Original;

    /// Ids that the model should say, its end-of-sequence id included. Errors: the tokenizer's own words.
    fn target(&self, text: &str) -> Result<Vec<i64>, String>;

    /// What an error of [`FrontEnd::input`] begins with where nothing else names the input: a text has no name, and of a file
    /// the error says it.
    fn about(&self) -> &'static str;
}

/// Token ids, for models whose encoder reads tokens.
impl<T: Text> FrontEnd for T {
    fn input(&self, said: &str, _dir: &Path) -> Result<Input, String> {
        match self.encode(said)? {
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
