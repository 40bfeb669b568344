//! The orientation of Exif 3.0, 4.6.4: a tag of the first directory of a TIFF.

const ORIENTATION: u16 = 0x0112;
/// A number of 16 bits.
const SHORT: u16 = 3;

/// How an image is to be turned, 1 to 8; 1, as it lies, where nothing readable says so.
pub(super) fn orientation(exif: &[u8]) -> u16 {
    find(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).filter(|found| (1..=8).contains(found)).unwrap_or(1)
}

fn find(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let entries = usize::from(short(directory)?);
    let mut places = (0..entries).map_while(|i| directory.checked_add(2 + 12 * i));
    let entry = places.find(|at| short(*at) == Some(ORIENTATION))?;
    (short(entry + 2)? == SHORT).then(|| short(entry + 8))?
}
