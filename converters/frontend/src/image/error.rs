//! What can be wrong with an image.

use std::io;
use std::path::PathBuf;

use checkpoint::CheckpointError;
use checkpoint::limits::IMAGE_SIDE;

/// An image cannot be read or is not what a model takes.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The image.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else, or an image in another format.
    #[error("{}: expected a PNG or a JPEG, found {found}{}", .file.display(), converted(*.is_image, .file, ""))]
    Format {
        /// The file.
        file: PathBuf,
        /// What its first bytes are.
        found: String,
        /// Whether it can be converted.
        is_image: bool,
    },
    /// The file is damaged, or not a whole one.
    #[error("{}: {message}", .file.display())]
    Malformed {
        /// The image.
        file: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// Channels of two bytes, which libraries bring to one byte each in its own way.
    #[error("{}: expected at most 8 bits a channel, found 16{}", .file.display(), converted(true, .file, "-depth 8 "))]
    Deep {
        /// The image.
        file: PathBuf,
    },
    /// Colours of a printer.
    #[error("{}: expected gray or RGB, found {found}{}", .file.display(), converted(true, .file, "-colorspace sRGB "))]
    Colours {
        /// The image.
        file: PathBuf,
        /// As `CMYK`.
        found: String,
    },
    /// Several images in one file.
    #[error(
        "{}: expected one image, found an animation of {frames}\nhint: magick '{}[0]' still.png",
        .file.display(), .file.display()
    )]
    Animated {
        /// The image.
        file: PathBuf,
        /// Images in it.
        frames: u32,
    },
    /// Sides that are no image's.
    #[error("{}: expected sides of 1 to {IMAGE_SIDE} pixels, found {width} x {height}", .file.display())]
    Sides {
        /// The image.
        file: PathBuf,
        /// Across.
        width: u64,
        /// Down.
        height: u64,
    },
    /// More pixels than so few bytes may take memory for.
    #[error(
        "{}: {width} x {height} pixels: {message}{}",
        .file.display(), converted(true, .file, "-resize '4096x4096>' ")
    )]
    Pixels {
        /// The image.
        file: PathBuf,
        /// Across.
        width: usize,
        /// Down.
        height: usize,
        /// Expected and found.
        message: String,
    },
    /// It does not come out at the size that the model takes.
    #[error("{}: {width} x {height} pixels: {message}", .file.display())]
    Fit {
        /// The image.
        file: PathBuf,
        /// Across.
        width: usize,
        /// Down.
        height: usize,
        /// Why.
        message: String,
    },
    /// preprocessor_config.json cannot be read or asks for something else.
    #[error(transparent)]
    Parameters(#[from] CheckpointError),
}

/// How ImageMagick makes a file that is read.
fn converted(can_be: bool, file: &std::path::Path, how: &str) -> String {
    if can_be { format!("\nhint: magick {} {how}read.png", file.display()) } else { String::new() }
}
