//! An image in a file and out of it, and what a header may say before memory is taken.

use std::path::Path;

use checkpoint::limits::{Budget, IMAGE_SIDE};

use super::error::ImageError;
use super::raster::Raster;

/// An image as its file holds it.
pub(super) struct Decoded {
    /// With alpha, if it has some.
    pub raster: Raster,
    /// Of Exif: 1 to 8.
    pub orientation: u16,
    /// What is left of the memory that the file may take.
    pub budget: Budget,
}

/// A file in memory, whose errors name it.
pub(super) struct Encoded<'a> {
    pub file: &'a Path,
    pub bytes: &'a [u8],
}

impl Encoded<'_> {
    pub(super) fn malformed(&self, message: String) -> ImageError {
        ImageError::Malformed { file: self.file.to_owned(), message }
    }

    /// Errors: an image without pixels, or with longer sides than any has.
    pub(super) fn check_sides(&self, width: u64, height: u64) -> Result<[usize; 2], ImageError> {
        let known = 1..=u64::from(IMAGE_SIDE);
        match known.contains(&width) && known.contains(&height) {
            true => Ok([height as usize, width as usize]),
            false => Err(ImageError::Sides { file: self.file.to_owned(), width, height }),
        }
    }
}

/// Takes memory for an image. Errors: the length of its file does not allow it.
pub(super) fn take(
    budget: &mut Budget,
    bytes: u64,
    file: &Path,
    [height, width]: [usize; 2],
) -> Result<(), ImageError> {
    budget.take(bytes).map_err(|message| ImageError::Pixels { file: file.to_owned(), width, height, message })
}
