//! JPEG (ITU-T T.81, JFIF): gray and YCbCr, baseline and progressive.
//!
//! Decoders of JPEG are free in the last level or two of their transforms, so that no two libraries give the same bytes.

use checkpoint::limits::Budget;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::encoded::{Decoded, Encoded, take};
use super::error::ImageError;
use super::exif;
use super::raster::Raster;

/// Bytes that a channel of a pixel may take while it is read: itself, and a coefficient of 16 bits of each scan.
const CHANNEL_BYTES: u64 = 3;
/// Most passes over an image; the programs that write them make about ten.
const SCANS: usize = 64;

/// The image.
pub(super) fn decode(encoded: &Encoded, mut budget: Budget) -> Result<Decoded, ImageError> {
    let side = usize::from(u16::MAX);
    // Strict: what is cut short is otherwise filled with gray.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(side)
        .set_max_height(side)
        .jpeg_set_max_scans(SCANS);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(encoded.bytes), options);
    let refused = |error: DecodeErrors| match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => encoded.malformed("cut short".to_owned()),
        DecodeErrors::ZeroError => encoded.malformed(format!("expected sides of 1 to {side} pixels, found 0")),
        error => encoded.malformed(format!("damaged: {error}")),
    };
    decoder.decode_headers().map_err(refused)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let size = encoded.check_sides(width as u64, height as u64)?;
    let (colours, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => (ColorSpace::RGB, 3),
        Some(other) => {
            return Err(ImageError::Colours { file: encoded.file.to_owned(), found: format!("{other:?}") });
        }
        None => return Err(encoded.malformed("damaged: no colours".to_owned())),
    };
    take(&mut budget, CHANNEL_BYTES * (size[0] * size[1] * channels) as u64, encoded.file, size)?;
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let bytes = decoder.decode().map_err(refused)?;
    if bytes.len() != size[0] * size[1] * channels {
        return Err(encoded.malformed(format!("damaged: {} bytes of pixels", bytes.len())));
    }
    let orientation = decoder.exif().map_or(1, |exif| exif::orientation(exif));
    Ok(Decoded { raster: Raster::new(size, channels, bytes), orientation, budget })
}
