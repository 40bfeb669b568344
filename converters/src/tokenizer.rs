//! Text to token ids and back, and the vocabulary that GGUF wants.

mod added;
mod byte_level;
mod bytes;
mod charsmap;
mod folder;
mod json;
mod languages;
mod pieces;
mod pipeline;
mod sentencepiece;
mod unigram;
mod words;

use std::io;
use std::path::{Path, PathBuf};

use bytes::ByteTokenizer;
use folder::Folder;
pub use languages::Languages;
use languages::{Framing, Side};
use pieces::PieceTokenizer;
use pipeline::Pipeline;
use words::WordTokenizer;

use crate::checkpoint::Overrides;
use crate::limits::TEXT_BYTES;

/// The files that tokenizers are read from, here and by the consumers of artifacts.
pub const FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "merges.txt",
    "normalizer.json",
];

/// The tokenizer of a checkpoint.
///
/// The files count: where transformers 5.23 builds a class anew and leaves out what a file says (mBART's character map,
/// T5's byte fallback, Blenderbot's `</s>`), the file is followed, as transformers 4.57 and SentencePiece do.
#[derive(Debug)]
pub struct Tokenizer {
    kind: Kind,
    /// What stands around a text; the pipeline's own last step when absent.
    framing: Option<Framing>,
    /// For messages.
    file: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Pipeline(Box<Pipeline>),
    Pieces(Box<PieceTokenizer>),
    Words(Box<WordTokenizer>),
    Bytes(ByteTokenizer),
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
        "{}: expected tokenizer.json, spiece.model, source.spm, sentencepiece.bpe.model, vocab.json, or a \
         tokenizer_config.json with tokenizer_class ByT5Tokenizer, found none", .dir.display()
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
    /// A language is needed, or is none of the tokenizer's.
    #[error("{}: {message}", .file.display())]
    Language {
        /// The tokenizer's file.
        file: PathBuf,
        /// Expected, found, and the nearest.
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

impl Tokenizer {
    /// Opens the tokenizer of a checkpoint folder, with the languages of tokenizer_config.json.
    ///
    /// | files | tokenizer |
    /// | --- | --- |
    /// | source.spm, target.spm, vocab.json | Marian's |
    /// | sentencepiece.bpe.model, vocab.json | M2M100's |
    /// | tokenizer.json | the pipeline that it describes |
    /// | spiece.model | T5's, or Pegasus' |
    /// | sentencepiece.bpe.model | mBART's, mBART-50's or PLBart's |
    /// | vocab.json, merges.txt | byte pairs: BART's, Blenderbot's, Whisper's; or Blenderbot-small's words |
    /// | none | ByT5's bytes |
    ///
    /// The first row that fits counts. Which of two it is says `tokenizer_class` of tokenizer_config.json, else
    /// `model_type` of config.json.
    pub fn open(dir: &Path) -> Result<Tokenizer, TokenizerError> {
        let folder = Folder::open(dir)?;
        let text = folder.bytes(json::FILE)?;
        let class = folder.class();
        let bpe = "sentencepiece.bpe.model";
        let pieces = |(pieces, framing)| (Kind::Pieces(Box::new(pieces)), Some(framing));
        let pipeline = |(pipeline, framing)| (Kind::Pipeline(Box::new(pipeline)), framing);
        let fixed = |(pipeline, framing)| (Kind::Pipeline(Box::new(pipeline)), Some(framing));
        // A tokenizer.json has one side only, and transformers reads these two from their own files.
        let (file, (kind, framing)) = if folder.has("source.spm") {
            ("source.spm", pieces(pieces::marian(&folder)?))
        } else if folder.has(bpe) && folder.has("vocab.json") {
            (bpe, pieces(pieces::m2m100(&folder)?))
        } else if let Some(text) = &text {
            (json::FILE, pipeline(json::open(text, &folder)?))
        } else if folder.has("spiece.model") {
            let open = if class == "PegasusTokenizer" { unigram::pegasus } else { unigram::t5 };
            ("spiece.model", fixed(open(&folder, "spiece.model")?))
        } else if folder.has(bpe) {
            let opened = match class {
                "MBartTokenizer" => fixed(unigram::mbart(&folder, bpe, false)?),
                "MBart50Tokenizer" => fixed(unigram::mbart(&folder, bpe, true)?),
                "PLBartTokenizer" => pieces(pieces::plbart(&folder)?),
                other => {
                    let known = "MBartTokenizer, MBart50Tokenizer or PLBartTokenizer";
                    let message = format!(
                        "tokenizer_class: expected {known} beside {bpe} without tokenizer.json, found {other:?}"
                    );
                    return Err(folder.malformed("tokenizer_config.json", message));
                }
            };
            (bpe, opened)
        } else if folder.has("vocab.json") {
            let opened = match class {
                "BartTokenizer" | "RobertaTokenizer" | "BlenderbotTokenizer" | "WhisperTokenizer" => {
                    pipeline(byte_level::open(&folder)?)
                }
                "BlenderbotSmallTokenizer" => (Kind::Words(Box::new(WordTokenizer::open(&folder)?)), None),
                other => {
                    let known = "BartTokenizer, BlenderbotTokenizer, BlenderbotSmallTokenizer or WhisperTokenizer";
                    let message = format!(
                        "tokenizer_class: expected {known} beside vocab.json without tokenizer.json, found {other:?}"
                    );
                    return Err(folder.malformed("tokenizer_config.json", message));
                }
            };
            ("vocab.json", opened)
        } else if class == "ByT5Tokenizer" {
            ("tokenizer_config.json", (Kind::Bytes(ByteTokenizer::open(&folder)?), None))
        } else {
            return Err(TokenizerError::Missing { dir: dir.to_owned() });
        };
        Ok(Tokenizer { kind, framing, file: folder.path(file) })
    }

    /// The same with other languages; what `languages` does not name stays. Errors: the tokenizer does not have one, or it
    /// would change nothing.
    pub fn with_languages(mut self, languages: &Languages) -> Result<Tokenizer, TokenizerError> {
        let none = Framing::fixed(vec![], vec![]);
        let checked = self.framing.as_ref().unwrap_or(&none).check(languages);
        checked.map_err(|message| TokenizerError::Language { file: self.file.clone(), message })?;
        if let Some(framing) = &mut self.framing {
            let Languages { source_lang, target_lang } = &mut framing.languages;
            *source_lang = languages.source_lang.clone().or(source_lang.take());
            *target_lang = languages.target_lang.clone().or(target_lang.take());
        }
        Ok(self)
    }

    /// The current languages.
    pub fn languages(&self) -> Languages {
        self.framing.as_ref().map_or_else(Languages::default, |framing| framing.languages.clone())
    }

    /// The id of a language's token: `en_XX`, `eng_Latn`, `en`; M2M100's `__en__` and the like work too, and for Whisper
    /// `english`.
    pub fn language_id(&self, name: &str) -> Option<u32> {
        self.framing.as_ref()?.id(name)
    }

    /// What languages mean for decoding: `forced_bos_token_id` where targets begin with their language,
    /// `decoder_start_token_id` where they end with it, Whisper's `language` of the speech. Marian's stands in the input.
    pub fn decoding(&self, languages: &Languages) -> Overrides {
        self.framing.as_ref().map_or_else(Overrides::default, |framing| framing.decoding(languages))
    }

    /// The ids of an input, with the tokens around it, as transformers' `tokenizer(text).input_ids`.
    ///
    /// Errors: the tokenizer has no token for some part and no unknown token; a language is needed or unknown; the text is
    /// longer than [`TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TokenizerError> {
        self.encode_side(text, Side::Source)
    }

    /// The ids of what is to come out, as transformers' `tokenizer(text_target=text).input_ids`. Errors: as
    /// [`Tokenizer::encode`].
    pub fn encode_target(&self, text: &str) -> Result<Vec<i64>, TokenizerError> {
        self.encode_side(text, Side::Target)
    }

    fn encode_side(&self, text: &str, side: Side) -> Result<Vec<i64>, TokenizerError> {
        let failed = |message| TokenizerError::Failed { file: self.file.clone(), message };
        if text.len() > TEXT_BYTES {
            return Err(failed(format!("expected a text of at most {TEXT_BYTES} bytes, found {}", text.len())));
        }
        let ids = match &self.kind {
            Kind::Bytes(tokenizer) => return Ok(tokenizer.encode(text)),
            Kind::Pipeline(pipeline) => pipeline.encode(text, self.framing.is_none()).map_err(failed)?,
            Kind::Pieces(tokenizer) => tokenizer.encode(text, side).map_err(failed)?,
            Kind::Words(tokenizer) => tokenizer.encode(text).map_err(failed)?,
        };
        let around = self.framing.as_ref().map_or(Ok((vec![], vec![])), |framing| framing.around(side));
        let (before, after) =
            around.map_err(|message| TokenizerError::Language { file: self.file.clone(), message })?;
        Ok(before.into_iter().chain(ids).chain(after).map(i64::from).collect())
    }

    /// The text of some ids, as transformers' `tokenizer.decode(ids, skip_special_tokens=skip_special)`. An id outside
    /// the vocabulary is no text.
    pub fn decode(&self, ids: &[i64], skip_special: bool) -> Result<String, TokenizerError> {
        match &self.kind {
            Kind::Bytes(tokenizer) => Ok(tokenizer.decode(ids, skip_special)),
            Kind::Pieces(tokenizer) => Ok(tokenizer.decode(ids, skip_special)),
            Kind::Words(tokenizer) => Ok(tokenizer.decode(ids, skip_special)),
            Kind::Pipeline(pipeline) => pipeline
                .decode(ids, skip_special)
                .map_err(|message| TokenizerError::Failed { file: self.file.clone(), message }),
        }
    }

    /// The vocabulary as SentencePiece has it. Errors: why this tokenizer is not one that GGUF can hold.
    pub fn vocabulary(&self) -> Result<&Vocabulary, &str> {
        match &self.kind {
            Kind::Bytes(_) => Err("ByT5's tokens are bytes, which llama.cpp's t5 tokenizer cannot express"),
            Kind::Pieces(_) => {
                Err("its ids come from a table beside the SentencePiece model, for which GGUF has no keys")
            }
            Kind::Words(_) => {
                Err("its tokens are words in small letters, which llama.cpp's t5 tokenizer cannot express")
            }
            Kind::Pipeline(pipeline) => pipeline.vocabulary(),
        }
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
