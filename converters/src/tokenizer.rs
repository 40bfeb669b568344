//! Text to token ids and back, and the vocabulary that GGUF wants.

mod bytes;
mod charsmap;
mod json;
mod sentencepiece;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use bytes::ByteTokenizer;

/// The tokenizer of a checkpoint.
#[derive(Debug)]
pub struct Tokenizer(Kind);

#[derive(Debug)]
enum Kind {
    Pipeline(Box<Pipeline>),
    Bytes(ByteTokenizer),
}

#[derive(Debug)]
struct Pipeline {
    file: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    /// The end of a sequence, when no post-processor appends it.
    append: Option<u32>,
    /// `clean_up_tokenization_spaces` of tokenizer_config.json.
    clean_up: bool,
    vocabulary: Result<Vocabulary, String>,
}

/// SentencePiece's word for what a piece is, with the numbers that its file and GGUF share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceType {
    /// Learned from text.
    Normal = 1,
    /// Stands for whatever no other piece fits.
    Unknown = 2,
    /// Never matches text; skipped when decoding: padding, the end of a sequence, sentinels.
    Control = 3,
    /// Always one token wherever it stands in a text.
    UserDefined = 4,
    /// In the vocabulary for its place only.
    Unused = 5,
    /// A byte, `<0x00>` to `<0xFF>`.
    Byte = 6,
}

/// A SentencePiece Unigram vocabulary (Kudo, arXiv 1804.10959).
#[derive(Clone, PartialEq, Debug)]
pub struct Vocabulary {
    /// By id; a space is `▁`.
    pub pieces: Vec<String>,
    /// Log probabilities, by id.
    pub scores: Vec<f32>,
    /// By id.
    ///
    /// tokenizer.json knows no types. What it lists as added is taken for control (special) or user defined; an unused
    /// piece, or a byte of a vocabulary whose byte fallback is off, is normal there and keeps its type in spiece.model.
    pub types: Vec<PieceType>,
    /// The normalizer's compiled replacements, as SentencePiece stores them; empty when there are none.
    pub charsmap: Vec<u8>,
    /// Whether a text begins with a space of its own.
    pub add_space_prefix: bool,
    /// Whether runs of spaces are one space.
    pub remove_extra_whitespaces: bool,
    /// The end of a sequence.
    pub eos: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

impl Vocabulary {
    /// The id of the unknown piece.
    pub fn unknown(&self) -> Option<u32> {
        let at = self.types.iter().position(|kind| *kind == PieceType::Unknown);
        at.map(|id| u32::try_from(id).expect("a vocabulary has fewer than 2^32 pieces"))
    }
}

/// A tokenizer cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder has none.
    #[error(
        "{}: expected tokenizer.json, spiece.model, or a tokenizer_config.json with tokenizer_class ByT5Tokenizer, \
         found none", .dir.display()
    )]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its name says, or holds what is not supported.
    #[error("{}: {message}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where, expected, found.
        message: String,
    },
    /// A text does not tokenize, or ids do not decode.
    #[error("{}: {message}", .file.display())]
    Failed {
        /// The tokenizer's file.
        file: PathBuf,
        /// The tokenizer's own words.
        message: String,
    },
}

/// What tokenizer_config.json says, as far as it matters here.
struct Settings {
    json: Value,
}

impl Settings {
    fn read(dir: &Path) -> Result<Settings, TokenizerError> {
        let file = dir.join("tokenizer_config.json");
        let json = match read_if_there(&file)? {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| TokenizerError::Malformed { file, message: error.to_string() })?,
        };
        Ok(Settings { json })
    }

    /// The text of a special token: a string, or an object with `content`.
    fn token(&self, key: &str, default: &str) -> String {
        let value = self.json.get(key);
        let text = value.and_then(|v| v.get("content").unwrap_or(v).as_str());
        text.unwrap_or(default).to_owned()
    }
}

fn read_if_there(file: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Io { file: file.to_owned(), source }),
    }
}

impl Tokenizer {
    /// Opens the tokenizer of a checkpoint folder: tokenizer.json, else spiece.model, else ByT5's bytes.
    ///
    /// spiece.model means what SentencePiece makes of it: pieces that the user defined are text, and byte fallback is on
    /// where the file says so. transformers 5 builds its T5Tokenizer without byte fallback, and takes every token that
    /// tokenizer_config.json lists as special out of decoded text.
    pub fn open(dir: &Path) -> Result<Tokenizer, TokenizerError> {
        let settings = Settings::read(dir)?;
        for (name, read) in [
            ("tokenizer.json", json::read as fn(&[u8], &Settings) -> Result<json::Opened, String>),
            ("spiece.model", sentencepiece::read),
        ] {
            let file = dir.join(name);
            let Some(bytes) = read_if_there(&file)? else { continue };
            let opened =
                read(&bytes, &settings).map_err(|message| TokenizerError::Malformed { file: file.clone(), message })?;
            let clean_up = settings.json.get("clean_up_tokenization_spaces") == Some(&Value::Bool(true));
            let json::Opened { tokenizer, append, vocabulary } = opened;
            return Ok(Tokenizer(Kind::Pipeline(Box::new(Pipeline { file, tokenizer, append, clean_up, vocabulary }))));
        }
        match settings.json.get("tokenizer_class").and_then(Value::as_str) {
            Some("ByT5Tokenizer") => match ByteTokenizer::new(&settings) {
                Ok(tokenizer) => Ok(Tokenizer(Kind::Bytes(tokenizer))),
                Err(message) => Err(TokenizerError::Malformed { file: dir.join("tokenizer_config.json"), message }),
            },
            _ => Err(TokenizerError::Missing { dir: dir.to_owned() }),
        }
    }

    /// The ids of a text, with the end of the sequence, as transformers' `tokenizer(text).input_ids`.
    ///
    /// Errors: the tokenizer has no token for some part and no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TokenizerError> {
        match &self.0 {
            Kind::Bytes(tokenizer) => Ok(tokenizer.encode(text)),
            Kind::Pipeline(pipeline) => {
                let encoding = pipeline.tokenizer.encode(text, true).map_err(|error| pipeline.failed(&*error))?;
                let ids = encoding.get_ids().iter().copied().chain(pipeline.append);
                Ok(ids.map(i64::from).collect())
            }
        }
    }

    /// The text of some ids, as transformers' `tokenizer.decode(ids, skip_special_tokens=skip_special)`. An id outside
    /// the vocabulary is no text.
    pub fn decode(&self, ids: &[i64], skip_special: bool) -> Result<String, TokenizerError> {
        match &self.0 {
            Kind::Bytes(tokenizer) => Ok(tokenizer.decode(ids, skip_special)),
            Kind::Pipeline(pipeline) => {
                let ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
                let text = pipeline.tokenizer.decode(&ids, skip_special).map_err(|error| pipeline.failed(&*error))?;
                Ok(if pipeline.clean_up { cleaned_up(text) } else { text })
            }
        }
    }

    /// Whether tokens are bytes, so that tokenizer_config.json says everything.
    pub fn is_bytes(&self) -> bool {
        matches!(self.0, Kind::Bytes(_))
    }

    /// The vocabulary as SentencePiece has it. Errors: why this tokenizer is not one that GGUF can hold.
    pub fn vocabulary(&self) -> Result<&Vocabulary, &str> {
        match &self.0 {
            Kind::Bytes(_) => Err("ByT5's tokens are bytes, which llama.cpp's t5 tokenizer cannot express"),
            Kind::Pipeline(pipeline) => pipeline.vocabulary.as_ref().map_err(String::as_str),
        }
    }
}

impl Pipeline {
    fn failed(&self, error: &dyn std::error::Error) -> TokenizerError {
        TokenizerError::Failed { file: self.file.clone(), message: error.to_string() }
    }
}

/// `PreTrainedTokenizerBase.clean_up_tokenization` of transformers.
fn cleaned_up(mut text: String) -> String {
    for (from, to) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        text = text.replace(from, to);
    }
    text
}
