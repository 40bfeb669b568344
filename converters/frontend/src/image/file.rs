//! Files of images: which format, and what their headers say, before memory is taken.

use std::path::Path;

use checkpoint::limits::{self, Budget, IMAGE_BYTES, IMAGE_SIDE};

use super::error::ImageError;
use super::raster::Raster;
use super::{jpeg, png};

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

/// Reads an image. `more`: memory beyond what the length of the file allows. Errors: each of its own kind.
pub(super) fn read(file: &Path, more: u64) -> Result<Decoded, ImageError> {
    let bytes = limits::read(file, IMAGE_BYTES).map_err(|source| ImageError::Io { file: file.to_owned(), source })?;
    let encoded = Encoded { file, bytes: &bytes };
    let budget = Budget::share(bytes.len() as u64, 1).with(more);
    match Format::of(&bytes) {
        Format::Png => png::decode(&encoded, budget),
        Format::Jpeg => jpeg::decode(&encoded, budget),
        Format::Image(found) => {
            Err(ImageError::Format { file: file.to_owned(), found: found.to_owned(), is_image: true })
        }
        Format::Other => {
            let first = bytes[..bytes.len().min(8)].escape_ascii();
            let found = format!("{} bytes that begin with \"{first}\"", bytes.len());
            Err(ImageError::Format { file: file.to_owned(), found, is_image: false })
        }
    }
}

enum Format {
    Png,
    Jpeg,
    /// One that is not read.
    Image(&'static str),
    Other,
}

impl Format {
    fn of(bytes: &[u8]) -> Format {
        let at = |place: usize, magic: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(magic));
        match () {
            () if at(0, b"\x89PNG\r\n\x1a\n") => Format::Png,
            () if at(0, b"\xff\xd8\xff") => Format::Jpeg,
            () if at(0, b"GIF87a") || at(0, b"GIF89a") => Format::Image("a GIF, which may be an animation"),
            () if at(0, b"RIFF") && at(8, b"WEBP") => Format::Image("a WebP"),
            () if at(0, b"II*\0") || at(0, b"MM\0*") => Format::Image("a TIFF"),
            () if at(0, b"BM") && at(6, &[0; 4]) => Format::Image("a BMP"),
            () if at(4, b"ftypheic") || at(4, b"ftypmif1") => Format::Image("a HEIC"),
            () if at(4, b"ftypavif") => Format::Image("an AVIF"),
            () if at(0, b"%PDF-") => Format::Image("a PDF"),
            () => Format::Other,
        }
    }
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
