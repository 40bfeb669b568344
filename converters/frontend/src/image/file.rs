//! Files of images, and which format they are.

use std::path::Path;

use checkpoint::limits::{self, Budget, IMAGE_BYTES};

use super::encoded::{Decoded, Encoded};
use super::error::ImageError;
use super::{jpeg, png};

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
