//! Resizing of bytes as the image libraries of Python do it: each axis by itself, in whole numbers, the result of the first
//! pass rounded to bytes. The crates that resize in floats differ by up to 33 of 255 at sharp strokes, since there the first
//! pass keeps what overshoots.

use std::ops::Range;

use super::raster::Raster;

/// How a pixel weighs in its neighbours' place: Pillow's filters, in its numbering 2, 3 and 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filter {
    /// A triangle.
    Bilinear,
    /// Keys 1981 with a = -0.5.
    Bicubic,
    /// `sinc(x) · sinc(x / 3)`.
    Lanczos,
}

/// Whose arithmetic on bytes is reproduced, to the bit. They differ by a level or two of 255 in few pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Library {
    /// Pillow up to version 12: weights of 22 bits, columns first.
    #[default]
    Pillow,
    /// Pillow 13, which takes the axis first that leaves less to do.
    Pillow13,
    /// torchvision 0.29 on bytes: weights of 16 bits, columns first.
    Torchvision,
}

impl Filter {
    /// Of Pillow's number.
    pub(super) fn of(number: u64) -> Option<Filter> {
        match number {
            1 => Some(Filter::Lanczos),
            2 => Some(Filter::Bilinear),
            3 => Some(Filter::Bicubic),
            _ => None,
        }
    }

    /// The distance from which on all weighs nothing.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match (self, x.abs()) {
            (Filter::Bilinear, x) if x < 1.0 => 1.0 - x,
            (Filter::Bicubic, x) if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            (Filter::Bicubic, x) if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            (Filter::Lanczos, _) if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { libm::sin(x) / x }
}

/// The most bytes that lie between the passes of [`resized`].
pub(super) fn between_bytes(from: [usize; 2], to: [usize; 2], channels: usize) -> u64 {
    let bytes = |height: usize, width: usize| (height as u64 * width as u64).saturating_mul(channels as u64);
    bytes(from[0], to[1]).max(bytes(to[0], from[1]))
}

/// An image of another size: `to` is [height, width], neither 0.
pub(super) fn resized(image: Raster, to: [usize; 2], filter: Filter, how: Library) -> Raster {
    let [height, width] = image.size();
    let columns = |image: Raster| match image.size() {
        [_, from] if from == to[1] => image,
        [_, from] => across(&image, &Axis::new(from, to[1], filter, how)),
    };
    let rows = |image: Raster| match image.size() {
        [from, _] if from == to[0] => image,
        [from, _] => down(&image, &Axis::new(from, to[0], filter, how)),
    };
    // python-pillow/Pillow#9549.
    let shrinks = |from: usize, to: usize| from as i64 - to as i64;
    let fewer_rows = shrinks(height, to[0]);
    match how == Library::Pillow13 && fewer_rows > 0 && fewer_rows > 2 * shrinks(width, to[1]) {
        true => columns(rows(image)),
        false => rows(columns(image)),
    }
}

/// What each place of a result is made of.
struct Axis {
    /// The first place of the source, and which weights.
    windows: Vec<(usize, Range<usize>)>,
    weights: Vec<i64>,
    /// Bits of the weights behind the point.
    bits: u32,
}

impl Axis {
    /// Windows are clipped at the edges, and weights have the sum 1.
    fn new(from: usize, to: usize, filter: Filter, how: Library) -> Axis {
        let scale = from as f64 / to as f64;
        let wide = scale.max(1.0);
        let (support, narrow) = (filter.support() * wide, 1.0 / wide);
        let (mut windows, mut exact) = (Vec::with_capacity(to), Vec::new());
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
            // Casts end at 0, as both libraries' windows do.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let start = exact.len();
            exact.extend((first..end).map(|x| filter.weight((x as f64 - center + 0.5) * narrow)));
            let sum: f64 = exact[start..].iter().sum();
            exact[start..].iter_mut().for_each(|weight| *weight /= sum);
            windows.push((first, start..exact.len()));
        }
        let bits = match how {
            Library::Pillow | Library::Pillow13 => 22,
            Library::Torchvision => bits_of_16(exact.iter().copied().fold(0.0, f64::max)),
        };
        let one = f64::from(1_u32 << bits);
        // Half away from zero.
        let weights = exact.iter().map(|weight| (weight * one).round() as i64).collect();
        Axis { windows, weights, bits }
    }

    fn byte(&self, sum: i64) -> u8 {
        ((sum + (1 << (self.bits - 1))) >> self.bits).clamp(0, 255) as u8
    }
}

/// The most bits, up to 22, with which the largest weight stays below 2^15.
fn bits_of_16(largest: f64) -> u32 {
    (1..22).find(|bits| largest * f64::from(1_u32 << (bits + 1)) + 0.5 >= 32_768.0).unwrap_or(22)
}

/// Each row by itself.
fn across(image: &Raster, axis: &Axis) -> Raster {
    let ([height, width], channels) = (image.size(), image.channels());
    let mut bytes = Vec::with_capacity(height * axis.windows.len() * channels);
    for row in image.bytes().chunks_exact(width * channels) {
        for (first, weights) in &axis.windows {
            let (weights, pixels) = (&axis.weights[weights.clone()], &row[first * channels..]);
            for channel in 0..channels {
                let line = pixels[channel..].iter().step_by(channels);
                bytes.push(axis.byte(line.zip(weights).map(|(pixel, weight)| i64::from(*pixel) * weight).sum()));
            }
        }
    }
    Raster::new([height, axis.windows.len()], channels, bytes)
}

/// Each column by itself; whole rows are added, as they lie.
fn down(image: &Raster, axis: &Axis) -> Raster {
    let ([_, width], channels) = (image.size(), image.channels());
    let mut bytes = Vec::with_capacity(axis.windows.len() * width * channels);
    let mut sums = vec![0; width * channels];
    for (first, weights) in &axis.windows {
        sums.fill(0);
        let rows = image.bytes().chunks_exact(width * channels).skip(*first);
        for (row, weight) in rows.zip(&axis.weights[weights.clone()]) {
            sums.iter_mut().zip(row).for_each(|(sum, pixel)| *sum += i64::from(*pixel) * weight);
        }
        bytes.extend(sums.iter().map(|sum| axis.byte(*sum)));
    }
    Raster::new([axis.windows.len(), width], channels, bytes)
}
