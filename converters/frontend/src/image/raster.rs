//! Pixels in memory.

/// Bytes row by row, the channels of a pixel side by side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Raster {
    /// [height, width].
    size: [usize; 2],
    /// 1 is gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    channels: usize,
    bytes: Vec<u8>,
}

impl Raster {
    pub(super) fn new(size: [usize; 2], channels: usize, bytes: Vec<u8>) -> Raster {
        debug_assert_eq!(bytes.len(), size[0] * size[1] * channels);
        Raster { size, channels, bytes }
    }

    /// [height, width].
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn has_alpha(&self) -> bool {
        self.channels.is_multiple_of(2)
    }

    /// Each pixel's first `kept` bytes as `pixel` leaves them, in place.
    fn mapped(mut self, kept: usize, pixel: impl Fn(&mut [u8])) -> Raster {
        for at in 0..self.size[0] * self.size[1] {
            let from = at * self.channels;
            pixel(&mut self.bytes[from..from + self.channels]);
            self.bytes.copy_within(from..from + kept, at * kept);
        }
        self.bytes.truncate(self.size[0] * self.size[1] * kept);
        self.bytes.shrink_to_fit();
        self.channels = kept;
        self
    }

    /// Without alpha, as if all were opaque.
    pub(super) fn opaque(self) -> Raster {
        let kept = self.channels - 1;
        if self.has_alpha() { self.mapped(kept, |_| ()) } else { self }
    }

    /// On a white ground, as Pillow's `alpha_composite` lays it.
    pub(super) fn on_white(self) -> Raster {
        let kept = self.channels - 1;
        if !self.has_alpha() {
            return self;
        }
        self.mapped(kept, |pixel| {
            let alpha = u32::from(pixel[kept]);
            for byte in &mut pixel[..kept] {
                *byte = over_255((u32::from(*byte) * alpha + 255 * (255 - alpha)) << 7);
            }
        })
    }

    /// Of RGB the luma of ITU-R 601, in Pillow's whole numbers.
    pub(super) fn gray(self) -> Raster {
        match self.channels {
            3 => self.mapped(1, |pixel| pixel[0] = luma([pixel[0], pixel[1], pixel[2]])),
            _ => self,
        }
    }

    /// The pixel at each place of a result of this size, as `from` names its row and column here; black where it names none.
    fn moved(&self, size: [usize; 2], from: impl Fn(usize, usize) -> Option<[usize; 2]>) -> Raster {
        let mut bytes = Vec::with_capacity(size[0] * size[1] * self.channels);
        for (y, x) in (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| (y, x))) {
            match from(y, x) {
                Some([y, x]) => {
                    bytes.extend_from_slice(&self.bytes[(y * self.size[1] + x) * self.channels..][..self.channels])
                }
                None => bytes.extend(std::iter::repeat_n(0, self.channels)),
            }
        }
        Raster::new(size, self.channels, bytes)
    }

    /// As Exif's orientation says that it is seen: 2 to 8; 1 and others leave it.
    pub(super) fn oriented(self, orientation: u16) -> Raster {
        let [height, width] = self.size;
        let (down, right) = (height - 1, width - 1);
        match orientation {
            2 => self.moved([height, width], |y, x| Some([y, right - x])),
            3 => self.moved([height, width], |y, x| Some([down - y, right - x])),
            4 => self.moved([height, width], |y, x| Some([down - y, x])),
            5 => self.moved([width, height], |y, x| Some([x, y])),
            6 => self.moved([width, height], |y, x| Some([down - x, y])),
            7 => self.moved([width, height], |y, x| Some([down - x, right - y])),
            8 => self.moved([width, height], |y, x| Some([x, right - y])),
            _ => self,
        }
    }

    /// A quarter to the right.
    pub(super) fn turned(self) -> Raster {
        self.oriented(6)
    }

    /// A rectangle of this size whose corner lies at `corner`, [row, column]; black where that is outside.
    pub(super) fn cut(self, corner: [i64; 2], size: [usize; 2]) -> Raster {
        if corner == [0, 0] && size == self.size {
            return self;
        }
        let inside =
            |at: usize, corner: i64, len: usize| usize::try_from(at as i64 + corner).ok().filter(|at| *at < len);
        self.moved(size, |y, x| Some([inside(y, corner[0], self.size[0])?, inside(x, corner[1], self.size[1])?]))
    }
}

/// `(19595 R + 38470 G + 7471 B) / 2^16`, rounded.
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + (1 << 15)) >> 16) as u8
}

/// A number of 7 bits behind the point over 255, rounded.
fn over_255(number: u32) -> u8 {
    let number = number + (0x80 << 7);
    ((((number >> 8) + number) >> 8) >> 7) as u8
}
