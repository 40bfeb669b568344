//! RIFF WAVE files ("Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft 1991; `mmreg.h` for
//! WAVE_FORMAT_EXTENSIBLE).
//!
//! The crate hound 3.5.1 reads neither a chunk of odd length, whose padding byte it takes for the next chunk, nor 24 valid
//! bits of 32, which it takes from the wrong end.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::error::AudioError;

/// The least and the most samples of a clip, each with its seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub least: usize,
    pub most: usize,
    /// Where the bounds come from and what to do.
    pub why: &'static str,
}

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;
/// The end of the GUID of a subformat whose first two bytes are a format of the list above.
const GUID_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/// How the bytes of one sample are a number.
#[derive(Clone, Copy)]
enum Sample {
    /// Unsigned, 128 is zero.
    U8,
    /// Signed, of so many bytes; fewer valid bits lie at the top.
    Int(usize),
    F32,
    F64,
}

impl Sample {
    fn bytes(self) -> usize {
        match self {
            Sample::U8 => 1,
            Sample::Int(bytes) => bytes,
            Sample::F32 => 4,
            Sample::F64 => 8,
        }
    }

    /// Integers over 2^(bits-1), so from -1 to below 1.
    fn value(self, bytes: &[u8]) -> f64 {
        match self {
            Sample::U8 => (f64::from(bytes[0]) - 128.0) / 128.0,
            Sample::Int(count) => {
                let mut wide = [0; 4];
                wide[4 - count..].copy_from_slice(bytes);
                f64::from(i32::from_le_bytes(wide)) / f64::from(1u32 << 31)
            }
            Sample::F32 => f64::from(f32::from_le_bytes(bytes.try_into().expect("four bytes"))),
            Sample::F64 => f64::from_le_bytes(bytes.try_into().expect("eight bytes")),
        }
    }
}

struct Format {
    sample: Sample,
    channels: usize,
    rate: u32,
}

struct Wav<R> {
    reader: R,
    /// Bytes of the file not yet read.
    left: u64,
}

/// The samples of a WAV at this rate, channels averaged.
pub(super) fn read(file: &Path, rate: u32, lengths: Lengths) -> Result<Vec<f32>, AudioError> {
    let io = |source| AudioError::Io { file: file.to_owned(), source };
    let opened = graph::open_file(file).map_err(io)?;
    let left = opened.metadata().map_err(io)?.len();
    decode(Wav { reader: BufReader::new(opened), left }, file, rate, lengths)
}

/// Memory grows with what the file holds, not with what it says.
fn decode(mut wav: Wav<impl Read + Seek>, file: &Path, rate: u32, lengths: Lengths) -> Result<Vec<f32>, AudioError> {
    let malformed = |message| AudioError::Malformed { file: file.to_owned(), message };
    let (format, data_bytes) = wav.header().map_err(malformed)?;
    if format.rate != rate {
        return Err(AudioError::Rate { file: file.to_owned(), expected: rate, found: format.rate });
    }
    let frame_bytes = format.channels * format.sample.bytes();
    if data_bytes > wav.left {
        return Err(malformed(format!("cut short: expected {data_bytes} bytes of samples, found {}", wav.left)));
    }
    if data_bytes % frame_bytes as u64 != 0 {
        return Err(malformed(format!("expected frames of {frame_bytes} bytes, found {data_bytes} bytes of samples")));
    }
    // At most the length of the file.
    let frames = (data_bytes / frame_bytes as u64) as usize;
    if frames == 0 {
        return Err(malformed("expected samples, found none".to_owned()));
    }
    if !(lengths.least..=lengths.most).contains(&frames) {
        let seconds = |samples: usize| samples as f64 / f64::from(rate);
        let expected = match frames > lengths.most {
            true => format!("at most {} s", seconds(lengths.most)),
            false => format!("at least {} s", seconds(lengths.least)),
        };
        let found_seconds = seconds(frames);
        return Err(AudioError::Length { file: file.to_owned(), expected, found_seconds, why: lengths.why });
    }
    let (mut samples, mut frame) = (Vec::with_capacity(frames), vec![0; frame_bytes]);
    for at in 0..frames {
        wav.take(&mut frame).map_err(malformed)?;
        let sum: f64 = frame.chunks(format.sample.bytes()).map(|bytes| format.sample.value(bytes)).sum();
        let mean = (sum / format.channels as f64) as f32;
        if !mean.is_finite() {
            return Err(malformed(format!(
                "expected finite samples, found {mean} at {:.4} s",
                at as f64 / f64::from(rate)
            )));
        }
        samples.push(mean);
    }
    Ok(samples)
}

impl<R: Read + Seek> Wav<R> {
    /// Reads up to the first sample. Returns the format and the bytes of samples that the header promises.
    fn header(&mut self) -> Result<(Format, u64), String> {
        let not_a_wav = |found: &str| format!("not a WAV: expected RIFF and WAVE, found {found}");
        if self.left < 12 {
            return Err(not_a_wav(&format!("{} bytes", self.left)));
        }
        let riff: [u8; 12] = self.array()?;
        if riff[..4] != *b"RIFF" || riff[8..] != *b"WAVE" {
            return Err(not_a_wav(&format!("\"{}\" and \"{}\"", riff[..4].escape_ascii(), riff[8..].escape_ascii())));
        }
        let mut format = None;
        loop {
            if self.left < 8 {
                return Err(format!(
                    "cut short: expected a chunk \"data\" after {}",
                    match format {
                        Some(_) => "\"fmt \"",
                        None => "a chunk \"fmt \"",
                    }
                ));
            }
            let name: [u8; 4] = self.array()?;
            let len = u64::from(u32::from_le_bytes(self.array()?));
            match &name {
                b"data" => return Ok((format.ok_or("expected a chunk \"fmt \" before \"data\", found none")?, len)),
                b"fmt " => {
                    let (found, read) = self.format(len)?;
                    format = Some(found);
                    self.skip(len - read + len % 2)?;
                }
                // Chunks start at even places.
                _ => self.skip(len + len % 2)?,
            }
        }
    }

    /// The chunk `fmt ` of this length, with the bytes read of it.
    fn format(&mut self, len: u64) -> Result<(Format, u64), String> {
        if len < 16 {
            return Err(format!("chunk \"fmt \": expected at least 16 bytes, found {len}"));
        }
        let mut tag = u16::from_le_bytes(self.array()?);
        let channels = u16::from_le_bytes(self.array()?);
        let rate = u32::from_le_bytes(self.array()?);
        let _bytes_a_second: [u8; 4] = self.array()?;
        let frame_bytes = u16::from_le_bytes(self.array()?);
        let bits = u16::from_le_bytes(self.array()?);
        let mut read = 16;
        if tag == EXTENSIBLE {
            if len < 40 {
                return Err(format!("chunk \"fmt \": expected 40 bytes of WAVE_FORMAT_EXTENSIBLE, found {len}"));
            }
            // Length of what follows, valid bits, which speakers.
            let _: [u8; 8] = self.array()?;
            tag = u16::from_le_bytes(self.array()?);
            read = 40;
            if self.array()? != GUID_TAIL {
                return Err(unsupported("a subformat of its own"));
            }
        }
        if channels == 0 || frame_bytes == 0 || frame_bytes % channels != 0 {
            return Err(format!("expected frames of whole samples, found {frame_bytes} bytes for {channels} channels"));
        }
        let bytes = usize::from(frame_bytes / channels);
        let sample = match (tag, bytes) {
            (PCM, 1) => Sample::U8,
            (PCM, 2..=4) => Sample::Int(bytes),
            (FLOAT, 4) => Sample::F32,
            (FLOAT, 8) => Sample::F64,
            _ => return Err(unsupported(&format!("format {tag} with {bytes} bytes a sample"))),
        };
        if usize::from(bits) > 8 * bytes || bits == 0 {
            return Err(format!("expected samples of 1 to {} bits, found {bits}", 8 * bytes));
        }
        Ok((Format { sample, channels: usize::from(channels), rate }, read))
    }

    fn take(&mut self, out: &mut [u8]) -> Result<(), String> {
        self.left = self.left.saturating_sub(out.len() as u64);
        self.reader.read_exact(out).map_err(|e| format!("cut short: {e}"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.left = self.left.saturating_sub(bytes);
        // At most 2^32, and past the end the next read fails.
        self.reader.seek(SeekFrom::Current(bytes as i64)).map_err(|e| e.to_string()).map(|_| ())
    }
}

fn unsupported(found: &str) -> String {
    format!("expected PCM of 8, 16, 24 or 32 bits or floats, found {found}\nhint: ffmpeg -i IN -c:a pcm_s16le OUT.wav")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use super::*;

    #[test]
    fn no_damaged_byte_makes_the_reader_panic() {
        let whole = Lengths { least: 1, most: usize::MAX, why: "" };
        let read = |bytes: &[u8]| {
            let wav = Wav { reader: Cursor::new(bytes), left: bytes.len() as u64 };
            decode(wav, Path::new("a.wav"), 16_000, whole)
        };
        for clip in ["pcm24-in-32", "f32-stereo", "pcm8"] {
            let file = format!("{}/../../tests/fixtures/audio/{clip}.wav", env!("CARGO_MANIFEST_DIR"));
            let bytes = fs::read(file).expect("a fixture");
            for at in 0..bytes.len() {
                read(&bytes[..at]).expect_err("cut short");
                for byte in 0..=255 {
                    let mut damaged = bytes.clone();
                    damaged[at] = byte;
                    // Samples may change unseen; the header may not lie.
                    if let Ok(samples) = read(&damaged) {
                        assert!(samples.len() <= bytes.len(), "{clip}, {byte} at {at}");
                    }
                }
            }
        }
    }
}
