//! Which tokenizer the files of a checkpoint describe, and its use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use checkpoint::limits::TEXT_BYTES;
use checkpoint::{Files, Overrides};

use crate::byte_pairs::BytePairs;
use crate::bytes::ByteTokenizer;
use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::framing::{Framing, Side};
use crate::languages::Languages;
use crate::pieces::{self, PieceTokenizer};
use crate::pipeline::Pipeline;
use crate::scored::{Joins, Sides};
use crate::vocabulary::Vocabulary;
use crate::words::WordTokenizer;
use crate::{byte_level, json, unigram, word_pieces};

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
    /// | vocab.txt | word pieces: BERT's, or the characters of Japanese models |
    /// | none | ByT5's bytes |
    ///
    /// The first row that fits counts. Which of two it is says `tokenizer_class` of tokenizer_config.json, else
    /// `model_type` of config.json.
    pub fn open(dir: &Path) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::of(&Files::open(dir)?)
    }

    /// The same of a checkpoint's files.
    pub fn of(files: &Files) -> Result<Tokenizer, TokenizerError> {
        let folder = Folder::open(files)?;
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
        } else if folder.has(word_pieces::FILE) {
            (word_pieces::FILE, pipeline(word_pieces::open(&folder)?))
        } else if class == "ByT5Tokenizer" {
            ("tokenizer_config.json", (Kind::Bytes(ByteTokenizer::open(&folder)?), None))
        } else {
            return Err(TokenizerError::Missing { dir: files.dir().to_owned() });
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

    /// Every language and the id of its token.
    pub fn known_languages(&self) -> impl Iterator<Item = (&str, u32)> {
        self.framing.iter().flat_map(|framing| &framing.known).map(|(name, id)| (name.as_str(), *id))
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

    /// The ids of a text with none around them, as `tokenizer(text, add_special_tokens=False).input_ids`. Errors: as
    /// [`Tokenizer::encode`].
    pub fn encode_alone(&self, text: &str) -> Result<Vec<i64>, TokenizerError> {
        let mut ids = self.ids(text, Side::Target, false)?;
        // The only tokenizer whose ids come with an end of their own.
        if let (Kind::Bytes(_), Some(_)) = (&self.kind, ids.last()) {
            ids.pop();
        }
        Ok(ids)
    }

    /// Tokens that were added to a vocabulary, with their ids, as `get_added_vocab`; none where they come in another file than
    /// tokenizer.json.
    pub fn added(&self) -> BTreeMap<String, u32> {
        match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.added(),
            Kind::Bytes(_) | Kind::Pieces(_) | Kind::Words(_) => BTreeMap::new(),
        }
    }

    fn encode_side(&self, text: &str, side: Side) -> Result<Vec<i64>, TokenizerError> {
        let ids = self.ids(text, side, self.framing.is_none())?;
        if let Kind::Bytes(_) = self.kind {
            return Ok(ids);
        }
        let around = self.framing.as_ref().map_or(Ok((vec![], vec![])), |framing| framing.around(side));
        let (before, after) =
            around.map_err(|message| TokenizerError::Language { file: self.file.clone(), message })?;
        let [before, after] = [before, after].map(|ids| ids.into_iter().map(i64::from));
        Ok(before.chain(ids).chain(after).collect())
    }

    /// Ids without what [`Framing`] puts around them; with `own`, what a pipeline's last step does.
    fn ids(&self, text: &str, side: Side, own: bool) -> Result<Vec<i64>, TokenizerError> {
        let failed = |message| TokenizerError::Failed { file: self.file.clone(), message };
        if text.len() > TEXT_BYTES {
            return Err(failed(format!("expected a text of at most {TEXT_BYTES} bytes, found {}", text.len())));
        }
        let ids = match &self.kind {
            Kind::Bytes(tokenizer) => return Ok(tokenizer.encode(text)),
            Kind::Pipeline(pipeline) => pipeline.encode(text, own).map_err(failed)?,
            Kind::Pieces(tokenizer) => tokenizer.encode(text, side).map_err(failed)?,
            Kind::Words(tokenizer) => tokenizer.encode(text).map_err(failed)?,
        };
        Ok(ids.into_iter().map(i64::from).collect())
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

    /// The tokens of the first `count` ids, as transformers' `convert_ids_to_tokens`: a space is `▁` or `Ġ` where the vocabulary has it
    /// so. `None` where an id has none. `is_target`: of targets, where the two sides have ids of their own.
    pub fn tokens(&self, count: usize, is_target: bool) -> Vec<Option<String>> {
        let ids = 0..u32::try_from(count).unwrap_or(u32::MAX);
        match &self.kind {
            Kind::Bytes(tokenizer) => ids.map(|id| tokenizer.token(id)).collect(),
            Kind::Pipeline(pipeline) => ids.map(|id| pipeline.token(id)).collect(),
            Kind::Pieces(tokenizer) => tokenizer.tokens(ids, if is_target { Side::Target } else { Side::Source }),
            Kind::Words(tokenizer) => ids.map(|id| tokenizer.token(id)).collect(),
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

    /// The byte pairs of the first `count` ids. Errors: why this tokenizer has none.
    pub fn byte_pairs(&self, count: usize) -> Result<BytePairs, String> {
        match &self.kind {
            Kind::Pipeline(pipeline) => pipeline.byte_pairs(count),
            Kind::Bytes(_) => Err("its tokens are bytes".to_owned()),
            Kind::Pieces(_) => Err("its tokens are SentencePiece's pieces".to_owned()),
            Kind::Words(_) => Err("its tokens are words in small letters".to_owned()),
        }
    }

    /// How both sides of Marian's tokenizer are cut. Errors: why this is none, or takes more than scores.
    pub fn sides(&self) -> Result<Sides, String> {
        match &self.kind {
            Kind::Pieces(tokenizer) => tokenizer.sides(),
            Kind::Pipeline(_) | Kind::Bytes(_) | Kind::Words(_) => Err("its ids are those of its pieces".to_owned()),
        }
    }

    /// The pieces that texts are joined to, by the first `count` ids, where a text stands between its language and the end as with
    /// M2M100 and NLLB. Errors: why this tokenizer is none of these.
    pub fn joins(&self, count: usize) -> Result<Joins, String> {
        if !self.framing.as_ref().is_some_and(Framing::is_language_first) {
            return Err("a text does not stand between its language and the end".to_owned());
        }
        match &self.kind {
            Kind::Pieces(tokenizer) => tokenizer.joins(count),
            Kind::Pipeline(pipeline) => pipeline.joins(count),
            Kind::Bytes(_) | Kind::Words(_) => Err("its tokens are not joined".to_owned()),
        }
    }
}
