//! spiece.model: SentencePiece's own file, as a pipeline of the `tokenizers` crate.

use prost::Message;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, DecoderWrapper};

use super::json::Opened;
use super::{PieceType, Settings, Vocabulary, charsmap};

/// Fields of `ModelProto` in sentencepiece_model.proto, as far as they matter here.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

/// `TrainerSpec.ModelType`: Unigram.
const UNIGRAM: i32 = 1;
/// Sentinels that T5 adds after the pieces when tokenizer_config.json does not say (`T5Tokenizer` in transformers).
const EXTRA_IDS: u64 = 100;
/// More sentinels than any vocabulary has.
const EXTRA_IDS_LIMIT: u64 = 1 << 16;

pub(super) fn read(bytes: &[u8], settings: &Settings) -> Result<Opened, String> {
    let vocabulary_and_fallback = vocabulary(bytes, settings)?;
    let (vocabulary, byte_fallback) = vocabulary_and_fallback;
    let tokenizer = pipeline(&vocabulary, byte_fallback).map_err(|error| error.to_string())?;
    Ok(Opened { tokenizer, append: None, vocabulary: Ok(vocabulary) })
}

/// The vocabulary with T5's sentinels, and whether unknown characters become bytes.
fn vocabulary(bytes: &[u8], settings: &Settings) -> Result<(Vocabulary, bool), String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("not a SentencePiece model: {error}"))?;
    let trainer = model.trainer.unwrap_or_default();
    let normalizer = model.normalizer.unwrap_or_default();
    let kind = trainer.model_type.unwrap_or(UNIGRAM);
    if kind != UNIGRAM {
        return Err(format!("expected a Unigram model (model_type {UNIGRAM}), found model_type {kind}"));
    }
    if trainer.treat_whitespace_as_suffix == Some(true) || normalizer.escape_whitespaces == Some(false) {
        return Err("treat_whitespace_as_suffix and escape_whitespaces = false are not supported".to_owned());
    }
    let extra_ids = settings.json.get("extra_ids").and_then(serde_json::Value::as_u64).unwrap_or(EXTRA_IDS);
    if extra_ids > EXTRA_IDS_LIMIT {
        return Err(format!("tokenizer_config.json: extra_ids: expected at most {EXTRA_IDS_LIMIT}, found {extra_ids}"));
    }

    let (mut pieces, mut scores, mut types) = (Vec::new(), Vec::new(), Vec::new());
    for (id, piece) in model.pieces.into_iter().enumerate() {
        let score = piece.score.unwrap_or(0.0);
        if !score.is_finite() {
            return Err(format!("piece {id}: expected a finite score, found {score}"));
        }
        types.push(match piece.kind.unwrap_or(1) {
            1 => PieceType::Normal,
            2 => PieceType::Unknown,
            3 => PieceType::Control,
            4 => PieceType::UserDefined,
            5 => PieceType::Unused,
            6 => PieceType::Byte,
            other => return Err(format!("piece {id}: expected a type of 1 to 6, found {other}")),
        });
        pieces.push(piece.piece.unwrap_or_default());
        scores.push(score);
    }
    // The last sentinel comes first: <extra_id_0> is the last id.
    pieces.extend((0..extra_ids).rev().map(|i| format!("<extra_id_{i}>")));
    scores.resize(pieces.len(), 0.0);
    types.resize(pieces.len(), PieceType::Control);
    let unknown = types.iter().filter(|kind| **kind == PieceType::Unknown).count();
    if unknown != 1 {
        return Err(format!("expected one piece of type UNKNOWN, found {unknown}"));
    }

    let charsmap = normalizer.charsmap.unwrap_or_default();
    if !charsmap.is_empty() {
        charsmap::check(&charsmap)?;
    }
    let id_of = |text: &str| pieces.iter().position(|piece| piece == text).map(|id| id as u32);
    let (eos, pad) = (id_of(&settings.token("eos_token", "</s>")), id_of(&settings.token("pad_token", "<pad>")));
    let vocabulary = Vocabulary {
        pieces,
        scores,
        types,
        charsmap,
        add_space_prefix: normalizer.add_dummy_prefix.unwrap_or(true),
        remove_extra_whitespaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
        eos,
        pad,
    };
    Ok((vocabulary, trainer.byte_fallback.unwrap_or(false)))
}

/// T5's pipeline: replace characters, split at spaces, put `▁` before each word, Unigram, append the end.
fn pipeline(vocabulary: &Vocabulary, byte_fallback: bool) -> tokenizers::Result<tokenizers::Tokenizer> {
    let scored = vocabulary.pieces.iter().cloned().zip(vocabulary.scores.iter().copied().map(f64::from)).collect();
    let unknown = vocabulary.unknown().map(|id| id as usize);
    let mut tokenizer = tokenizers::Tokenizer::new(Unigram::from(scored, unknown, byte_fallback)?);
    if !vocabulary.charsmap.is_empty() {
        tokenizer.with_normalizer(Some(Precompiled::from(&vocabulary.charsmap)?))?;
    }
    let words = Metaspace::new('▁', PrependScheme::Always, true);
    let prefix = if vocabulary.add_space_prefix { PrependScheme::First } else { PrependScheme::Never };
    tokenizer.with_pre_tokenizer(Some(match (vocabulary.remove_extra_whitespaces, vocabulary.add_space_prefix) {
        (true, true) => PreTokenizerWrapper::from(Sequence::new(vec![WhitespaceSplit.into(), words.clone().into()])),
        // A run of spaces is text here, and may be one piece, so the sentence stays whole.
        _ => Metaspace::new('▁', prefix, false).into(),
    }));
    let spaces = if vocabulary.add_space_prefix { words } else { Metaspace::new('▁', PrependScheme::Never, true) };
    tokenizer.with_decoder(Some(match byte_fallback {
        true => DecoderWrapper::from(Decoders::new(vec![ByteFallback::new().into(), spaces.into()])),
        false => spaces.into(),
    }));

    let added = |wanted: fn(PieceType) -> bool, special: bool| {
        let pieces = vocabulary.pieces.iter().zip(&vocabulary.types);
        let chosen = pieces.filter(move |(piece, kind)| wanted(**kind) && !piece.is_empty());
        chosen.map(move |(piece, _)| AddedToken::from(piece.clone(), special).normalized(false)).collect::<Vec<_>>()
    };
    tokenizer.add_special_tokens(added(|kind| matches!(kind, PieceType::Control | PieceType::Unknown), true))?;
    tokenizer.add_tokens(added(|kind| kind == PieceType::UserDefined, false))?;
    if let Some(eos) = vocabulary.eos {
        let text = &vocabulary.pieces[eos as usize];
        let template = TemplateProcessing::builder()
            .try_single(vec!["$A".to_owned(), text.clone()])?
            .special_tokens(vec![(text.clone(), eos)])
            .build()?;
        tokenizer.with_post_processor(Some(template));
    }
    Ok(tokenizer)
}
