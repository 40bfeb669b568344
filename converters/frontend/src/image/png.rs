//! PNG (W3C, third edition): gray, palettes and colours of up to 8 bits, with or without alpha, interlaced or not.

use std::io::Cursor;

use checkpoint::limits::Budget;
use png::{DecodingError, Transformations};

use super::encoded::{Decoded, Encoded, take};
use super::error::ImageError;
use super::exif;
use super::raster::Raster;

/// Signature, length and name of the first chunk.
const HEADER: usize = 16;

/// The image. Colour profiles and gamma are left aside, as image processors leave them.
pub(super) fn decode(encoded: &Encoded, mut budget: Budget) -> Result<Decoded, ImageError> {
    let size = check_header(encoded)?;
    let refused = |error: DecodingError| match error {
        DecodingError::IoError(error) => encoded.malformed(format!("cut short: {error}")),
        error => encoded.malformed(format!("damaged: {error}")),
    };
    let mut decoder = png::Decoder::new(Cursor::new(encoded.bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(refused)?;
    if let Some(animation) = reader.info().animation_control().filter(|animation| animation.num_frames > 1) {
        return Err(ImageError::Animated { file: encoded.file.to_owned(), frames: animation.num_frames });
    }
    let channels = reader.output_color_type().0.samples();
    let len = size[0] * size[1] * channels;
    take(&mut budget, len as u64, encoded.file, size)?;
    let mut bytes = vec![0; len];
    reader.next_frame(&mut bytes).map_err(refused)?;
    reader.finish().map_err(refused)?;
    let orientation = reader.info().exif_metadata.as_deref().map_or(1, exif::orientation);
    Ok(Decoded { raster: Raster::new(size, channels, bytes), orientation, budget })
}

/// [height, width]. Errors: what no memory is taken for.
fn check_header(encoded: &Encoded) -> Result<[usize; 2], ImageError> {
    let header: Option<&[u8; 9]> = encoded.bytes.get(HEADER..).and_then(|rest| rest.first_chunk());
    let &[w0, w1, w2, w3, h0, h1, h2, h3, depth] =
        header.ok_or_else(|| encoded.malformed(format!("cut short: found {} bytes", encoded.bytes.len())))?;
    let [width, height] = [[w0, w1, w2, w3], [h0, h1, h2, h3]].map(|side| u64::from(u32::from_be_bytes(side)));
    let size = encoded.check_sides(width, height)?;
    match depth {
        16 => Err(ImageError::Deep { file: encoded.file.to_owned() }),
        _ => Ok(size),
    }
}
