//! What image processors do to bytes, each a step.

use std::cmp::Ordering;

use super::raster::{Raster, luma};
use super::resize::{Filter, Library, between_bytes, resized};

/// A step. Sizes are [height, width].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// To this size, whatever the aspect.
    Resize([usize; 2], Filter),
    /// Keeps the aspect; the longer side is rounded down.
    ResizeShortestEdge(usize, Filter),
    /// Makes what is larger smaller, keeping the aspect.
    Fit([usize; 2], Filter),
    /// The same with a filter of its own, as Nougat's.
    FitPage([usize; 2]),
    /// The middle; what is smaller is black around.
    Crop([usize; 2]),
    /// Black around what is no larger.
    Pad([usize; 2]),
    /// A quarter to the right where the long axis is not that of the size.
    AlignLongAxis([usize; 2]),
    /// Cuts off what is around all that is dark.
    TrimMargin,
}

/// Darker is no margin, of levels stretched to 0 to 255 (Nougat).
const MARGIN_LEVEL: f64 = 200.0;

impl Step {
    /// Errors: the image cannot be brought to the size; `take`'s, which is asked for memory in bytes; in words.
    pub(super) fn apply(
        self,
        image: Raster,
        how: Library,
        take: &mut impl FnMut(u64) -> Result<(), String>,
    ) -> Result<Raster, String> {
        let [height, width] = image.size();
        match self {
            Step::Resize(size, filter) => sized(image, size, filter, how, take),
            Step::ResizeShortestEdge(edge, filter) => {
                let size = match width <= height {
                    true => [edge * height / width, edge],
                    false => [edge, edge * width / height],
                };
                sized(image, size, filter, how, take)
            }
            Step::FitPage(size) => {
                let smaller = fitting([height, width], size);
                // Pillow's `reducing_gap` of 2.
                let is_reduced = height >= 4 * smaller[0].max(1) || width >= 4 * smaller[1].max(1);
                if is_reduced && how != Library::Torchvision {
                    let why = "so long that Pillow resizes it in two steps, which is not reproduced; cut it in pages";
                    return Err(why.to_owned());
                }
                sized(image, smaller, Filter::Bicubic, how, take)
            }
            Step::Fit(size, filter) => sized(image, fitting([height, width], size), filter, how, take),
            Step::Crop(size) => {
                let corner = [(height, size[0]), (width, size[1])].map(|(found, size)| middle(found, size, how));
                Ok(image.cut(corner, size))
            }
            Step::Pad(size) if height > size[0] || width > size[1] => {
                Err(format!("expected at most {} x {} to be filled up, which resizing did not reach", size[1], size[0]))
            }
            Step::Pad(size) => {
                let corner = [(size[0], height), (size[1], width)].map(|(size, found)| -(((size - found) / 2) as i64));
                Ok(image.cut(corner, size))
            }
            Step::AlignLongAxis([of_height, of_width]) => {
                let turns = (of_width < of_height && width > height) || (of_width > of_height && width < height);
                if !turns {
                    return Ok(image);
                }
                take(image.bytes().len() as u64)?;
                Ok(image.turned())
            }
            Step::TrimMargin => {
                take(image.bytes().len() as u64)?;
                Ok(trimmed(image))
            }
        }
    }
}

/// The size at which an image fits into another.
fn fitting([height, width]: [usize; 2], into: [usize; 2]) -> [usize; 2] {
    let least = [height.min(into[0]), width.min(into[1])];
    match (least == [height, width], height.cmp(&width)) {
        (true, _) | (_, Ordering::Equal) => least,
        (_, Ordering::Greater) => [least[0], width * least[0] / height],
        (_, Ordering::Less) => [height * least[1] / width, least[1]],
    }
}

/// Where the middle begins. Of an odd difference, more is cut below and on the right; more is filled above and on the left, by
/// the processors for torchvision on the other sides.
fn middle(found: usize, size: usize, how: Library) -> i64 {
    let more = found as i64 - size as i64;
    if how == Library::Torchvision { more / 2 } else { more.div_euclid(2) }
}

fn sized(
    image: Raster,
    size: [usize; 2],
    filter: Filter,
    how: Library,
    take: &mut impl FnMut(u64) -> Result<(), String>,
) -> Result<Raster, String> {
    if size == image.size() {
        return Ok(image);
    }
    if size.contains(&0) {
        return Err("so long that its short side is resized to nothing; cut it in parts".to_owned());
    }
    take(between_bytes(image.size(), size, image.channels()))?;
    take((size[0] as u64).saturating_mul(size[1] as u64).saturating_mul(image.channels() as u64))?;
    Ok(resized(image, size, filter, how))
}

/// Of an image of one colour, all of it.
fn trimmed(image: Raster) -> Raster {
    let [height, width] = image.size();
    let levels = |pixel: &[u8]| if let [r, g, b] = *pixel { luma([r, g, b]) } else { pixel[0] };
    let grays = || image.bytes().chunks_exact(image.channels()).map(levels);
    let (darkest, lightest) = (grays().min().unwrap_or(0), grays().max().unwrap_or(0));
    let range = f64::from(lightest) - f64::from(darkest);
    let is_dark = |gray: u8| (f64::from(gray - darkest) / range * 255.0) < MARGIN_LEVEL;
    let dark = || grays().enumerate().filter(|(_, gray)| is_dark(*gray)).map(|(at, _)| [at / width, at % width]);
    if range == 0.0 {
        return image;
    }
    let bounds = dark().fold([[height, width], [0, 0]], |[least, most], [y, x]| {
        [[least[0].min(y), least[1].min(x)], [most[0].max(y), most[1].max(x)]]
    });
    let [least, most] = bounds;
    image.cut(least.map(|at| at as i64), [most[0] + 1 - least[0], most[1] + 1 - least[1]])
}
