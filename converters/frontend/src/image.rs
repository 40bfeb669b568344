//! From an image file to what an image encoder is fed: the image processors of transformers 5.23, in their form for Pillow,
//! to the bit.

mod encoded;
mod error;
mod exif;
mod file;
mod jpeg;
mod parameters;
mod png;
mod raster;
mod resize;
mod settings;
mod step;
#[cfg(test)]
mod tests;

use std::path::Path;

use checkpoint::names::CONFIG;
use checkpoint::{CheckpointError, Files};
use graph::Tensor;
use serde_json::Value;

use crate::input::{Fill, Input};

use encoded::{Decoded, take};
pub use error::ImageError;
use parameters::Parameters;
use raster::Raster;
pub use resize::Library;
pub use settings::ImageSettings;

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

/// Reads images and makes pixels of the size and range that an encoder takes.
#[derive(Debug)]
pub struct ImageProcessor {
    parameters: Parameters,
    library: Library,
    settings: ImageSettings,
}

impl ImageProcessor {
    /// What the checkpoint or artifact in `dir` asks for.
    ///
    /// Errors: it has no preprocessor_config.json; keys that change the pixels and are not supported or not known, all of
    /// them; another size than the encoder of config.json takes.
    pub fn open(dir: &Path) -> Result<ImageProcessor, ImageError> {
        ImageProcessor::of(&Files::open(dir)?)
    }

    /// The same of a checkpoint's files.
    pub fn of(files: &Files) -> Result<ImageProcessor, ImageError> {
        let parameters = Parameters::of(files)?;
        check_encoder(files, parameters.shape)?;
        Ok(ImageProcessor { parameters, library: Library::default(), settings: ImageSettings::default() })
    }

    /// [channels, height, width] that a checkpoint's files ask for; `None` where no file says how images are resized.
    ///
    /// Errors: as those of [`ImageProcessor::of`].
    pub fn shape_of(files: &Files) -> Result<Option<[usize; 3]>, CheckpointError> {
        Ok(Parameters::given(files)?.map(|parameters| parameters.shape))
    }

    /// With what an application does before.
    pub fn with(self, settings: ImageSettings) -> ImageProcessor {
        ImageProcessor { settings, ..self }
    }

    /// Resizes and crops as another library does.
    pub fn like(self, library: Library) -> ImageProcessor {
        ImageProcessor { library, ..self }
    }

    /// [channels, height, width] of what comes out.
    pub fn shape(&self) -> [usize; 3] {
        self.parameters.shape
    }

    /// The pixels of a PNG or JPEG, turned as its Exif says.
    ///
    /// Errors: another format, more than 8 bits a channel, colours of printers, an animation, a file cut short or damaged,
    /// sides of 0 or above `checkpoint::limits::IMAGE_SIDE`, more pixels than so short a file may take memory for, an image
    /// that does not come out at the size.
    pub fn see(&self, image: &Path) -> Result<Pixels, ImageError> {
        let raster = self.bytes(image)?;
        Ok(Pixels(Tensor::f32(self.shape(), self.values(&raster))))
    }

    /// Height and width of an image, turned as its Exif says. Errors: as those of [`ImageProcessor::see`].
    pub fn size_of(&self, image: &Path) -> Result<[usize; 2], ImageError> {
        let result = self.shape().iter().map(|len| *len as u64).product::<u64>();
        let Decoded { raster, orientation, .. } = file::read(image, 8 * result)?;
        let [height, width] = raster.size();
        // From 5 on a turn by a quarter is part of it.
        Ok(if orientation > 4 { [width, height] } else { [height, width] })
    }

    /// Bytes of the size that the encoder takes; gray ones stand for three equal channels.
    fn bytes(&self, image: &Path) -> Result<Raster, ImageError> {
        // The result itself, as bytes and as floats, is no larger than the model.
        let result = self.shape().iter().map(|len| *len as u64).product::<u64>();
        let Decoded { raster, orientation, mut budget } = file::read(image, 8 * result)?;
        let size = raster.size();
        let raster = if self.parameters.on_white { raster.on_white() } else { raster.opaque() };
        let raster = if self.settings.gray || self.shape()[0] == 1 { raster.gray() } else { raster };
        if orientation > 1 {
            take(&mut budget, raster.bytes().len() as u64, image, size)?;
        }
        let fit = |message| {
            let [height, width] = size;
            ImageError::Fit { file: image.to_owned(), width, height, message }
        };
        let mut steps = self.parameters.steps.iter();
        steps.try_fold(raster.oriented(orientation), |raster, step| {
            step.apply(raster, self.library, &mut |bytes| budget.take(bytes)).map_err(fit)
        })
    }

    /// `(byte · scale - mean) / std` as transformers computes it: the product in f64, the rest in f32.
    fn values(&self, raster: &Raster) -> Vec<f32> {
        let Parameters { scale, mean, std, .. } = &self.parameters;
        let levels = |channel: usize| -> Vec<f32> {
            let scaled = (0..=255).map(|level| (f64::from(level) * scale) as f32);
            scaled.map(|value| (value - mean[channel]) / std[channel]).collect()
        };
        let channels = raster.channels();
        let mut values = Vec::with_capacity(self.shape().iter().product());
        for channel in 0..self.shape()[0] {
            let levels = levels(channel);
            let bytes = raster.bytes().iter().skip(channel % channels).step_by(channels);
            values.extend(bytes.map(|byte| levels[usize::from(*byte)]));
        }
        values
    }
}

/// Holds what comes out against what config.json says that the encoder takes, where it says so.
fn check_encoder(files: &Files, found: [usize; 3]) -> Result<(), CheckpointError> {
    let Some(config) = files.json::<Value>(CONFIG)? else { return Ok(()) };
    let encoder = &config["encoder"];
    let number = |value: &Value| value.as_u64().map(|n| n as usize);
    let channels = number(&encoder["num_channels"]).unwrap_or(found[0]);
    let size = match &encoder["image_size"] {
        Value::Array(sides) => sides.iter().map(number).collect::<Option<Vec<_>>>().unwrap_or_default(),
        side => number(side).map_or(found[1..].to_vec(), |side| vec![side, side]),
    };
    let expected = [&[channels][..], &size].concat();
    match expected == found {
        true => Ok(()),
        false => {
            let message = format!(
                "expected images of {expected:?} (channels, height, width) as the encoder of {CONFIG} takes them, found \
                 {found:?}"
            );
            Err(CheckpointError::malformed(&files.path(checkpoint::names::PREPROCESSOR_CONFIG), message))
        }
    }
}
