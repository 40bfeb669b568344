//! Every number that bounds what a file may make the program take, with its reason, and the one way to read a small file.
//!
//! Files come from outside, so what one of them says of a size is held against a number here before memory is taken. All of
//! them serve one rule: reading an input of `n` bytes takes at most [`memory`]`(n)`. The rule allows what published files
//! need; a file whose bytes are few and whose contents are many is refused.

use std::io::{self, Read};
use std::path::Path;

/// Longest config, list of settings or index; the largest published index has 2 MB, the largest tokenizer_config.json 1.2 MB.
pub const JSON_BYTES: u64 = 16 << 20;
/// Longest file of a vocabulary; the largest published tokenizer.json has 35 MB.
pub const VOCABULARY_BYTES: u64 = 128 << 20;
/// Longest header of a safetensors file, as the format has it.
pub const SAFETENSORS_HEADER_BYTES: u64 = 100_000_000;
/// Longest metadata and tensor table of a GGUF file that is read; the largest vocabularies in use take about 20 MB.
pub const GGUF_HEADER_BYTES: u64 = 64 << 20;
/// Longest key of GGUF's metadata, as the format has it.
pub const GGUF_KEY_BYTES: u64 = (1 << 16) - 1;
/// The longest line of a data file, so that a binary file is refused instead of read into memory.
pub const LINE_BYTES: u64 = 1 << 20;
/// Longest text that is tokenized, as it stands and as a normalizer makes it: each of its bytes may become a token, and a
/// token takes a few hundred bytes on its way. 30 thousand tokens, more than any family here has positions.
pub const TEXT_BYTES: usize = 1 << 17;
/// Longest word that is cut by merging all pairs of one kind at a time, which takes time for the square of its length.
pub const WORD_CHARS: usize = 1 << 12;
/// Most pieces of a vocabulary; the largest published one has 262 144.
pub const PIECES: usize = 1 << 20;
/// Longest piece; the longest in use are runs of some hundred spaces. Looking for pieces takes time for their length at each
/// byte of a text.
pub const PIECE_BYTES: usize = 1 << 10;
/// Times as many bytes as it replaces that a replacement of a normalizer has at most: NFKC writes a ligature of 3 bytes
/// (U+FDFA) in 33.
pub const REPLACEMENT_GROWTH: usize = 12;
/// Most steps of a stage of a tokenizer.json: normalizers, pre-tokenizers, what is put around, decoders. The longest published
/// stage has five.
pub const STAGE_STEPS: usize = 16;
/// Most regular expressions of a tokenizer.json; each may take 10 MB. The largest number published is three.
pub const REGEXES: usize = 4;
/// Longest text that stands for characters a tokenizer does not know, or that it puts before or after parts of a word. Each
/// character may be one of them.
pub const MARK_BYTES: usize = 16;
/// Most tokens that a tokenizer.json puts around a text.
pub const FRAME_TOKENS: usize = 64;
/// Longest word that WordPiece looks at: time for the cube of it.
pub const WORD_PIECE_CHARS: u64 = 1 << 10;
/// Larger than any id of a token, so that a table by id is bounded.
pub const TOKEN_ID: u64 = 1 << 24;
/// Most tokens that a setting adds to a vocabulary, such as sentinels.
pub const ADDED_TOKENS: u64 = 1 << 16;
/// Most rows of a table of positions that is computed and not stored; published configs say 1024 at most where tables are
/// computed.
pub const COMPUTED_POSITIONS: usize = 1 << 16;
/// Longest side of a window of places that attend to each other: scores take the square of the square of it. Published
/// models have 24 at most.
pub const WINDOW_SIDE: usize = 32;
/// Most patches of an image that no table of positions bounds; published models have 307,200.
pub const GRID_PLACES: usize = 1 << 20;
/// Deepest object of config.json that importers open, the file itself being 0: `encoder.text_config.rope_parameters` of
/// T5Gemma2 has objects inside.
pub const CONFIG_DEPTH: usize = 4;
/// Two hours at 16 kHz: longer than any clip.
pub const CLIP_SAMPLES: u64 = 2 * 3600 * 16_000;
/// Longest window of a spectrum; published front ends have 400 samples.
pub const WINDOW_SAMPLES: u64 = 1 << 12;
/// Most features of a clip; Whisper's largest have 384 thousand.
pub const CLIP_FEATURES: u64 = 1 << 21;
/// Longest file of an image: a page in colour at 600 dots an inch has 105 MB before it is compressed.
pub const IMAGE_BYTES: u64 = 128 << 20;
/// Longest side of an image, as JPEG has it.
pub const IMAGE_SIDE: u32 = (1 << 16) - 1;
/// Longest side of an image that a model is fed; the largest published ones have 2560.
pub const PIXELS_SIDE: u64 = 1 << 13;
/// Most numbers of an image that a model is fed; the largest published ones have 15 million.
pub const PIXEL_VALUES: u64 = 1 << 24;
/// Fewest tensors that a layer of any family has, so that a file of so many tensors bounds the layers that are written.
pub const LAYER_TENSORS: usize = 6;
/// Layers that are written whatever a file holds, so that what is missing of a small one is told by name.
pub const LAYERS_AT_LEAST: usize = 32;
/// Most layers of a stack that are written of a config without weights; the deepest published stacks have some hundred.
pub const LAYERS_OF_A_CONFIG: usize = 1 << 10;
/// Longest protobuf message, as the format has it.
pub const PROTOBUF_BYTES: u64 = (1 << 31) - 1;

/// Bytes of memory for each byte of an input, beside [`MEMORY_BYTES`].
const MEMORY_PER_BYTE: u64 = 64;
/// What any input may take.
const MEMORY_BYTES: u64 = 64 << 20;

/// Bytes of memory that reading an input of so many bytes takes at most.
pub const fn memory(input_bytes: u64) -> u64 {
    input_bytes.saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_BYTES)
}

/// The bytes of a regular file of at most `most` bytes. Errors: those of [`graph::open_file`], and `InvalidData` for a longer
/// file.
pub fn read(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let opened = graph::open_file(file)?;
    let len = opened.metadata()?.len();
    if len > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("expected at most {most} bytes, found {len}")));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // A file that grows meanwhile ends where it ended.
    opened.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a regular file of at most [`JSON_BYTES`]: a recipe, a manifest. Errors: those of [`read`]; not UTF-8.
pub fn read_text(file: &Path) -> io::Result<String> {
    String::from_utf8(read(file, JSON_BYTES)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// JSON of a regular file of at most [`JSON_BYTES`] as a value or a type that is as large. Errors: those of [`read`], and
/// `InvalidData` with what the parser or [`check_json`] says.
pub fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> io::Result<T> {
    let bytes = read(file, JSON_BYTES)?;
    let parsed = check_json(&bytes, 1).and_then(|()| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
    parsed.map_err(|message| io::Error::new(io::ErrorKind::InvalidData, format!("not the expected JSON: {message}")))
}

/// What is left of the memory that an input may take.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    whole: u64,
}

impl Budget {
    /// A share of [`memory`], for readers that take the rest otherwise.
    pub fn share(input_bytes: u64, divisor: u64) -> Budget {
        let whole = memory(input_bytes) / divisor;
        Budget { left: whole, whole }
    }

    /// More, for what published files are known to take.
    pub fn with(self, more: u64) -> Budget {
        Budget { left: self.left.saturating_add(more), whole: self.whole.saturating_add(more) }
    }

    /// Takes some. Errors: there is not enough left, in words.
    pub fn take(&mut self, bytes: u64) -> Result<(), String> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!(
                "expected contents that take at most {} MB of memory, found more in fewer bytes than a published file has",
                self.whole >> 20
            )),
        }
    }
}

/// A `serde_json::Value`, once in its list and once more while the list grows.
const JSON_VALUE_BYTES: u64 = 144;
/// What a list or an object has beside its values: room for four.
const JSON_CONTAINER_BYTES: u64 = 320;
/// A key, its place in the index, and the least that a string takes.
const JSON_KEY_BYTES: u64 = 192;

/// Deeper than parsers go: what comes then is never read.
const JSON_DEPTH: u32 = 128;

/// Whether JSON can be held `copies` times as values. Errors: it is so dense that it takes more than [`memory`] allows.
///
/// `[0],[0],` is a hundred times as large in memory, and a parser takes that before anybody can look.
pub fn check_json(text: &[u8], copies: u64) -> Result<(), String> {
    let mut budget = Budget::share(text.len() as u64, copies);
    let (mut rest, mut depth) = (text.iter(), 0_u32);
    while let Some(byte) = rest.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH {
            return Ok(());
        }
        budget.take(match byte {
            b'[' | b'{' => JSON_CONTAINER_BYTES,
            b',' => JSON_VALUE_BYTES,
            b':' => JSON_KEY_BYTES,
            b'"' => {
                let mut len = 32;
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(rest.next()),
                        _ => {}
                    }
                    len += 1;
                }
                len
            }
            _ => 0,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_its_limit_is_not_read() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("a.json");
        std::fs::write(&file, "12345").expect("written");
        assert_eq!(read(&file, 5).expect("as long as allowed"), b"12345");
        assert_eq!(read(&file, 4).expect_err("longer").to_string(), "expected at most 4 bytes, found 5");
    }

    #[test]
    fn what_published_files_hold_passes_and_what_is_dense_does_not() {
        let published = format!("[{}]", vec!["[\"\u{2581}piece\", -11.123456]"; 300_000].join(", "));
        check_json(published.as_bytes(), 2).expect("a vocabulary of 300 thousand");
        let dense = format!("[{}[0]]", "[0],".repeat(1 << 20));
        let refused = check_json(dense.as_bytes(), 1).expect_err("4 MB that take 600");
        assert!(refused.starts_with("expected contents that take at most 320 MB of memory"), "{refused}");
        check_json(b"\"[[[[\\\"[[\"", 1).expect("brackets in a string are text");
        // What is no JSON is the parser's to refuse.
        check_json(b"\"\\", 1).expect("cut off");
    }
}
