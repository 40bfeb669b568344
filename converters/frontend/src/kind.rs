//! The one place where a front end is chosen.

use checkpoint::Files;

use crate::audio::{FeatureExtractor, Features};
use crate::error::FrontEndError;
use crate::front_end::FrontEnd;
use crate::image::{ImageProcessor, ImageSettings};
use crate::images::{AskedImages, Images};
use crate::speech::Speech;
use crate::tasks::Tasks;
use crate::text::Text;

/// The front end of a family of models.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// Its encoder reads tokens.
    #[default]
    Text,
    /// Its encoder hears sound.
    Audio(Features),
    /// Its encoder sees an image, `pixel_values` f32[batch, channels, height, width].
    Image,
    /// Its encoder sees the same and reads, `input_ids` beside `pixel_values`.
    AskedImage,
}

impl Kind {
    /// The front end of a model.
    ///
    /// `files`: of the checkpoint or artifact, which may hold parameters; `text`: of what is said; `eos`: what ends a target
    /// that is spoken or read; `images`: what is done to them first. Errors: parameters that are not supported, or missing where they have no defaults.
    pub fn open<'a>(
        self,
        files: &Files,
        text: &'a dyn Text,
        eos: Option<i64>,
        images: ImageSettings,
    ) -> Result<Box<dyn FrontEnd + 'a>, FrontEndError> {
        Ok(match self {
            Kind::Text => Box::new(text),
            Kind::Audio(features) => Box::new(Speech { text, extractor: FeatureExtractor::of(files, features)?, eos }),
            Kind::AskedImage => {
                let (processor, tasks) = (ImageProcessor::of(files)?.with(images), Tasks::of(files)?);
                Box::new(AskedImages { text, processor, tasks })
            }
            Kind::Image => Box::new(Images { text, processor: ImageProcessor::of(files)?.with(images), eos }),
        })
    }

    /// Errors: what the encoder does but read text, in words.
    pub fn reads_text(self) -> Result<(), &'static str> {
        match self {
            Kind::Text => Ok(()),
            Kind::Audio(_) => Err("hears sound"),
            Kind::Image | Kind::AskedImage => Err("sees images"),
        }
    }
}
