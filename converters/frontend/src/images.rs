//! Images, for models that say what they show.

use std::path::Path;

use crate::front_end::{FrontEnd, Original};
use crate::image::ImageProcessor;
use crate::input::Input;
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

impl FrontEnd for Images<'_> {
    fn input(&self, said: &str, dir: &Path) -> Result<Input, String> {
        self.processor.see(&dir.join(said)).map(Input::from).map_err(|error| error.to_string())
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
