//! Images, for models that say what they show.

use std::path::Path;

use serde_json::Value;

use crate::front_end::{Asked, FrontEnd, Original};
use crate::image::ImageProcessor;
use crate::input::Input;
use crate::tasks::Tasks;
use crate::text::{Text, spoken_to_the_end};

/// For models that see: inputs are paths of images.
pub struct Images<'a> {
    /// Of what is said.
    pub text: &'a dyn Text,
    /// Of what is seen.
    pub processor: ImageProcessor,
    /// Ends what is said.
    pub eos: Option<i64>,
}

/// For models that are asked something about what they see: a prompt stands beside the path of an image.
pub struct AskedImages<'a> {
    /// Of what is asked and said.
    pub text: &'a dyn Text,
    /// Of what is seen.
    pub processor: ImageProcessor,
    /// What can be asked.
    pub tasks: Tasks,
}

impl FrontEnd for Images<'_> {
    fn input(&self, asked: Asked<'_>, dir: &Path) -> Result<Input, String> {
        asked.without_prompt()?;
        self.processor.see(&dir.join(asked.said)).map(Input::from).map_err(|error| error.to_string())
    }

    fn original(&self, said: &str, dir: &Path) -> Original {
        Original::Image(dir.join(said))
    }

    fn target(&self, text: &str) -> Result<Vec<i64>, String> {
        spoken_to_the_end(self.text, text, self.eos)
    }

    fn about(&self) -> &'static str {
        ""
    }
}

impl AskedImages<'_> {
    /// Errors: there is no prompt, in words.
    fn prompt<'p>(asked: Asked<'p>) -> Result<&'p str, String> {
        asked
            .prompt
            .ok_or_else(|| "this model is asked something about an image, as \"<CAPTION>\"; found no prompt".to_owned())
    }
}

impl FrontEnd for AskedImages<'_> {
    fn input(&self, asked: Asked<'_>, dir: &Path) -> Result<Input, String> {
        let prompt = self.tasks.sentence(AskedImages::prompt(asked)?)?;
        let ids = self.text.encode(&prompt).map_err(|why| format!("the prompt: {why}"))?;
        if ids.is_empty() {
            return Err("the prompt has no tokens".to_owned());
        }
        let pixels = self.processor.see(&dir.join(asked.said)).map_err(|error| error.to_string())?;
        Ok(Input::tokens(ids).beside(pixels.into()))
    }

    fn reads_prompts(&self) -> bool {
        true
    }

    fn original(&self, said: &str, dir: &Path) -> Original {
        Original::Image(dir.join(said))
    }

    fn told(&self, asked: Asked<'_>, dir: &Path, answer: &[i64]) -> Result<Option<Value>, String> {
        let size = self.processor.size_of(&dir.join(asked.said)).map_err(|error| error.to_string())?;
        let [height, width] = size;
        self.tasks.told(AskedImages::prompt(asked)?, &self.text.decode_whole(answer), [width, height])
    }

    /// With the special tokens around a text, of which the first is forced.
    fn target(&self, text: &str) -> Result<Vec<i64>, String> {
        self.text.encode_target(text)
    }

    fn about(&self) -> &'static str {
        ""
    }
}
