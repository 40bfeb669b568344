//! SentencePiece Unigram models as pipelines of the `tokenizers` crate: T5, Pegasus, mBART.

use checkpoint::limits::ADDED_TOKENS;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, DecoderWrapper};

use crate::error::TokenizerError;
use crate::folder::Folder;
use crate::framing::{Framing, Style};
use crate::json;
use crate::languages;
use crate::pipeline::Pipeline;
use crate::sentencepiece::{Algorithm, SPACE, SentencePiece};
use crate::vocabulary::{PieceType, Vocabulary};

/// Sentinels that T5 adds after the pieces when tokenizer_config.json does not say (`T5Tokenizer` in transformers).
const EXTRA_IDS: u64 = 100;
/// Tokens that Pegasus puts before the pieces, less one (`PegasusTokenizer`).
const OFFSET: u64 = 103;

/// A vocabulary in the making.
#[derive(Default)]
struct Layout {
    pieces: Vec<String>,
    scores: Vec<f32>,
    types: Vec<PieceType>,
}

impl Layout {
    fn push(&mut self, piece: impl Into<String>, score: f32, kind: PieceType) {
        self.pieces.push(piece.into());
        self.scores.push(score);
        self.types.push(kind);
    }

    /// The pieces of a model from the one at `from` on.
    fn extend(&mut self, model: &SentencePiece, from: usize) {
        self.pieces.extend_from_slice(&model.pieces[from..]);
        self.scores.extend_from_slice(&model.scores[from..]);
        self.types.extend_from_slice(&model.types[from..]);
    }

    fn vocabulary(self, model: SentencePiece, folder: &Folder, file: &str) -> Result<Vocabulary, TokenizerError> {
        let Layout { pieces, scores, types } = self;
        let mut sorted: Vec<&String> = pieces.iter().collect();
        sorted.sort();
        if let Some([twice, _]) = sorted.array_windows().find(|[a, b]| a == b) {
            return Err(folder.malformed(file, format!("{twice:?} is a piece, and the tokenizer adds it too")));
        }
        let id_of = |text: &str| pieces.iter().position(|piece| piece == text).map(|id| id as u32);
        let eos = id_of(&folder.token("eos_token", "</s>"));
        let pad = id_of(&folder.token("pad_token", "<pad>"));
        let SentencePiece { charsmap, add_space_prefix, remove_extra_whitespaces, .. } = model;
        Ok(Vocabulary { pieces, scores, types, charsmap, add_space_prefix, remove_extra_whitespaces, eos, pad })
    }
}

fn read(folder: &Folder, file: &str) -> Result<SentencePiece, TokenizerError> {
    let bytes = folder.needed(file, "tokenizer_config.json")?;
    let model = SentencePiece::read(&bytes).map_err(|message| folder.malformed(file, message))?;
    let pieces = model.pieces.iter().map(String::as_str).collect();
    json::pieces::check_tree(pieces, bytes.len()).map_err(|message| folder.malformed(file, message))?;
    match model.algorithm {
        Algorithm::Unigram => Ok(model),
        Algorithm::Bpe => {
            Err(folder.malformed(file, "expected a Unigram model (model_type 1), found BPE (model_type 2)"))
        }
    }
}

/// A count of tokenizer_config.json.
fn count(folder: &Folder, key: &str, default: u64) -> Result<u64, TokenizerError> {
    let found = folder.setting(key).and_then(serde_json::Value::as_u64).unwrap_or(default);
    match found > ADDED_TOKENS {
        true => {
            Err(folder
                .malformed("tokenizer_config.json", format!("{key}: expected at most {ADDED_TOKENS}, found {found}")))
        }
        false => Ok(found),
    }
}

/// spiece.model as T5 has it: sentinels after the pieces.
pub(crate) fn t5(folder: &Folder, file: &str) -> Result<(Pipeline, Framing), TokenizerError> {
    let model = read(folder, file)?;
    let mut layout = Layout::default();
    layout.extend(&model, 0);
    // The last sentinel comes first: <extra_id_0> is the last id.
    for sentinel in (0..count(folder, "extra_ids", EXTRA_IDS)?).rev() {
        layout.push(format!("<extra_id_{sentinel}>"), 0.0, PieceType::Control);
    }
    ends_with_eos(layout, model, folder, file)
}

/// spiece.model as Pegasus has it: padding, the end, two masks and 101 unknown tokens before the pieces.
pub(crate) fn pegasus(folder: &Folder, file: &str) -> Result<(Pipeline, Framing), TokenizerError> {
    let model = read(folder, file)?;
    let [pad, eos] = [folder.token("pad_token", "<pad>"), folder.token("eos_token", "</s>")];
    if model.pieces.len() < 2 || model.pieces[..2] != [&*pad, &*eos] {
        return Err(folder.malformed(file, format!("expected {pad} and {eos} as the first pieces")));
    }
    let mut layout = Layout::default();
    layout.extend(&model, 0);
    let pieces = Layout {
        pieces: layout.pieces.split_off(2),
        scores: layout.scores.split_off(2),
        types: layout.types.split_off(2),
    };
    let offset = count(folder, "offset", OFFSET)?;
    if offset > 0 {
        layout.push(folder.token("mask_token_sent", "<mask_1>"), 0.0, PieceType::Control);
        layout.push(folder.token("mask_token", "<mask_2>"), 0.0, PieceType::Control);
    }
    for unknown in 2..offset {
        layout.push(format!("<unk_{unknown}>"), -100.0, PieceType::Control);
    }
    for ((piece, score), kind) in pieces.pieces.into_iter().zip(pieces.scores).zip(pieces.types) {
        layout.push(piece, score, kind);
    }
    ends_with_eos(layout, model, folder, file)
}

fn ends_with_eos(
    layout: Layout,
    model: SentencePiece,
    folder: &Folder,
    file: &str,
) -> Result<(Pipeline, Framing), TokenizerError> {
    let byte_fallback = model.byte_fallback;
    let vocabulary = layout.vocabulary(model, folder, file)?;
    let framing = Framing::fixed(vec![], vocabulary.eos.into_iter().collect());
    let tokenizer = pipeline(&vocabulary, byte_fallback).map_err(|error| folder.malformed(file, error.to_string()))?;
    Ok((Pipeline::new(tokenizer, folder, Ok(vocabulary)), framing))
}

/// sentencepiece.bpe.model in fairseq's order: `<s> <pad> </s> <unk>`, the pieces after `<unk> <s> </s>`, the languages,
/// `<mask>`. Its name notwithstanding, the model is Unigram.
///
/// transformers 5.23 drops the model's character map for mBART (`MBartTokenizer` sets no normalizer); 4.57, fairseq and
/// tokenizer.json have it.
pub(crate) fn mbart(folder: &Folder, file: &str, is_50: bool) -> Result<(Pipeline, Framing), TokenizerError> {
    let model = read(folder, file)?;
    let begins: Vec<&str> = model.pieces.iter().take(3).map(String::as_str).collect();
    if begins != ["<unk>", "<s>", "</s>"] {
        return Err(folder.malformed(file, format!("expected <unk>, <s>, </s> first, found {}", begins.join(", "))));
    }
    let mut layout = Layout::default();
    for (token, kind) in [("<s>", PieceType::Control), ("<pad>", PieceType::Control), ("</s>", PieceType::Control)] {
        layout.push(token, 0.0, kind);
    }
    layout.push("<unk>", 0.0, PieceType::Unknown);
    layout.extend(&model, 3);
    let more = if is_50 { languages::MBART_50 } else { "" };
    let first = layout.pieces.len() as u32;
    let codes: Vec<&str> = languages::MBART.split_whitespace().chain(more.split_whitespace()).collect();
    for code in &codes {
        layout.push(*code, 0.0, PieceType::Control);
    }
    let mask = folder.token("mask_token", "<mask>");
    layout.push(mask.clone(), 0.0, PieceType::Control);

    let vocabulary = layout.vocabulary(model, folder, file)?;
    let failed = |error: tokenizers::Error| folder.malformed(file, error.to_string());
    let mut tokenizer = pipeline(&vocabulary, false).map_err(failed)?;
    tokenizer.add_special_tokens([AddedToken::from(mask, true).lstrip(true)]).map_err(failed)?;
    let eos = 2;
    let framing = Framing {
        style: if is_50 { Style::LanguageFirst { eos } } else { Style::LanguageLast { eos } },
        known: codes.into_iter().map(str::to_owned).zip(first..).collect(),
        languages: folder.languages(Some("en_XX")),
        optional: false,
    };
    let why = "its texts have a language token, which GGUF's tokenizers do not know".to_owned();
    Ok((Pipeline::new(tokenizer, folder, Err(why)), framing))
}

/// Replace characters, split at spaces, put `▁` before each word, Unigram.
fn pipeline(vocabulary: &Vocabulary, byte_fallback: bool) -> tokenizers::Result<tokenizers::Tokenizer> {
    let scored = vocabulary.pieces.iter().cloned().zip(vocabulary.scores.iter().copied().map(f64::from)).collect();
    let unknown = vocabulary.unknown().map(|id| id as usize);
    let mut tokenizer = tokenizers::Tokenizer::new(Unigram::from(scored, unknown, byte_fallback)?);
    if !vocabulary.charsmap.is_empty() {
        tokenizer.with_normalizer(Some(Precompiled::from(&vocabulary.charsmap)?))?;
    }
    let words = Metaspace::new(SPACE, PrependScheme::Always, true);
    let prefix = if vocabulary.add_space_prefix { PrependScheme::First } else { PrependScheme::Never };
    tokenizer.with_pre_tokenizer(Some(match (vocabulary.remove_extra_whitespaces, vocabulary.add_space_prefix) {
        (true, true) => PreTokenizerWrapper::from(Sequence::new(vec![WhitespaceSplit.into(), words.clone().into()])),
        // A run of spaces is text here, and may be one piece, so the sentence stays whole.
        _ => Metaspace::new(SPACE, prefix, false).into(),
    }));
    let spaces = if vocabulary.add_space_prefix { words } else { Metaspace::new(SPACE, PrependScheme::Never, true) };
    tokenizer.with_decoder(Some(match byte_fallback {
        true => DecoderWrapper::from(Decoders::new(vec![ByteFallback::new().into(), spaces.into()])),
        false => spaces.into(),
    }));

    let added = |wanted: fn(PieceType) -> bool, special: bool| {
        let pieces = vocabulary.pieces.iter().zip(&vocabulary.types);
        let chosen = pieces.filter(move |(_, kind)| wanted(**kind));
        chosen.map(move |(piece, _)| AddedToken::from(piece.clone(), special).normalized(false)).collect::<Vec<_>>()
    };
    tokenizer.add_special_tokens(added(|kind| matches!(kind, PieceType::Control | PieceType::Unknown), true))?;
    tokenizer.add_tokens(added(|kind| kind == PieceType::UserDefined, false))?;
    Ok(tokenizer)
}
