//! From an image file to what an image encoder is fed: `ViTImageProcessor` and its kin of transformers 5.23.

mod error;

use graph::Tensor;

use crate::input::{Fill, Input};

pub use error::ImageError;

/// What an encoder is fed for one image: f32[channels, height, width].
#[derive(Clone, PartialEq, Debug)]
pub struct Pixels(pub Tensor);

/// The port of images.
pub(crate) const PIXEL_VALUES: &str = "pixel_values";

impl From<Pixels> for Input {
    fn from(pixels: Pixels) -> Input {
        Input::new(PIXEL_VALUES, pixels.0, Fill::Never)
    }
}
