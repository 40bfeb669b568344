//! SentencePiece's own file.

use checkpoint::limits::{PIECE_BYTES, PIECES};
use checkpoint::protobuf::{self, Field};
use prost::Message;

use crate::charsmap::Charsmap;
use crate::vocabulary::{PieceType, Vocabulary};

/// Fields of `ModelProto` in sentencepiece_model.proto, as far as they matter here.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
    #[prost(message, optional, tag = "5")]
    denormalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct PieceProto {
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
    #[prost(string, optional, tag = "44")]
    unk_surface: Option<String>,
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

/// Of `pieces`.
const PIECES_TAG: u64 = 1;

/// What stands for a space.
pub(crate) const SPACE: char = '▁';

/// How a normalized text is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// The most probable pieces (Kudo, arXiv 1804.10959).
    Unigram,
    /// Neighbours are joined, the best first (Sennrich et al., arXiv 1508.07909).
    Bpe,
}

/// A model file.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// By id; no two are equal, none is empty.
    pub pieces: Vec<String>,
    /// By id; finite.
    pub scores: Vec<f32>,
    /// By id; one is unknown.
    pub types: Vec<PieceType>,
    pub algorithm: Algorithm,
    pub charsmap: Vec<u8>,
    pub add_space_prefix: bool,
    pub remove_extra_whitespaces: bool,
    pub byte_fallback: bool,
    /// The text of the unknown piece.
    pub unknown_surface: String,
    /// What the normalizer replaces.
    pub map: Charsmap,
    /// ids in the order of their pieces.
    sorted: Vec<u32>,
    has_user_defined: bool,
}

impl SentencePiece {
    /// Reads a model. Errors: what the library refuses too, and settings that no published model has.
    pub(crate) fn read(bytes: &[u8]) -> Result<SentencePiece, String> {
        let (mut count, mut longest) = (0, 0);
        for (_, piece) in protobuf::fields(bytes).filter(|(tag, _)| *tag == PIECES_TAG) {
            let Field::Bytes(piece) = piece else { continue };
            (count, longest) = (count + 1, longest.max(piece.len()));
        }
        if count > PIECES || longest > PIECE_BYTES {
            return Err(format!(
                "expected at most {PIECES} pieces of {PIECE_BYTES} bytes, found {count} of up to {longest}"
            ));
        }
        let model = ModelProto::decode(bytes).map_err(|error| format!("not a SentencePiece model: {error}"))?;
        let (Some(trainer), Some(normalizer)) = (model.trainer, model.normalizer) else {
            return Err(
                "expected a trainer_spec and a normalizer_spec after the pieces; the file may be cut off".to_owned()
            );
        };
        let algorithm = match trainer.model_type.unwrap_or(1) {
            1 => Algorithm::Unigram,
            2 => Algorithm::Bpe,
            other => {
                return Err(format!("expected a Unigram or BPE model (model_type 1 or 2), found model_type {other}"));
            }
        };
        if trainer.treat_whitespace_as_suffix == Some(true) || normalizer.escape_whitespaces == Some(false) {
            return Err("treat_whitespace_as_suffix and escape_whitespaces = false are not supported".to_owned());
        }
        if model.denormalizer.and_then(|spec| spec.charsmap).is_some_and(|map| !map.is_empty()) {
            return Err("a denormalizer is not supported".to_owned());
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
            let text = piece.piece.unwrap_or_default();
            if text.is_empty() {
                return Err(format!("piece {id}: expected a text, found none"));
            }
            pieces.push(text);
            scores.push(score);
        }
        let mut sorted: Vec<u32> = (0..pieces.len() as u32).collect();
        sorted.sort_by_key(|id| &pieces[*id as usize]);
        if let Some([a, b]) = sorted.array_windows().find(|[a, b]| pieces[*a as usize] == pieces[*b as usize]) {
            return Err(format!("pieces {a} and {b} are both {:?}", pieces[*a as usize]));
        }
        let unknown = types.iter().filter(|kind| **kind == PieceType::Unknown).count();
        if unknown != 1 {
            return Err(format!("expected one piece of type UNKNOWN, found {unknown}"));
        }
        let charsmap = normalizer.charsmap.unwrap_or_default();
        Ok(SentencePiece {
            map: Charsmap::read(&charsmap)?,
            charsmap,
            add_space_prefix: normalizer.add_dummy_prefix.unwrap_or(true),
            remove_extra_whitespaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
            byte_fallback: trainer.byte_fallback.unwrap_or(false),
            unknown_surface: trainer.unk_surface.unwrap_or_else(|| " \u{2047} ".to_owned()),
            has_user_defined: types.contains(&PieceType::UserDefined),
            pieces,
            scores,
            types,
            algorithm,
            sorted,
        })
    }

    /// The pieces as a vocabulary of its own, whose ids have no end and no padding.
    pub(crate) fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            pieces: self.pieces.clone(),
            scores: self.scores.clone(),
            types: self.types.clone(),
            charsmap: self.charsmap.clone(),
            add_space_prefix: self.add_space_prefix,
            remove_extra_whitespaces: self.remove_extra_whitespaces,
            eos: None,
            pad: None,
        }
    }

    /// The id of a piece.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        let at = self.sorted.binary_search_by_key(&piece, |id| &self.pieces[*id as usize]).ok()?;
        Some(self.sorted[at])
    }

    /// Pieces that a text begins with and that may stand for text: length in bytes and id, the shortest first.
    pub(super) fn prefixes<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, u32)> + 't {
        let text = text.as_bytes();
        let byte = |id: &u32, at: usize| self.pieces[*id as usize].as_bytes().get(at).copied();
        let mut rest = &self.sorted[..];
        (0..text.len())
            .map_while(move |at| {
                // All of `rest` begin with `text[..at]`, so their next bytes are in order.
                let next = Some(text[at]);
                rest = &rest[rest.partition_point(|id| byte(id, at) < next)..];
                rest = &rest[..rest.partition_point(|id| byte(id, at) == next)];
                // The piece that ends here comes before those that go on.
                let first = rest.first()?;
                Some((at + 1, *first))
            })
            .filter(|(len, id)| self.pieces[*id as usize].len() == *len && self.is_text(*id))
    }

    /// Whether a piece may stand for text.
    pub(crate) fn is_text(&self, id: u32) -> bool {
        matches!(self.types[id as usize], PieceType::Normal | PieceType::UserDefined | PieceType::Unused)
    }

    /// Length of the longest piece of the user's that a text begins with.
    pub(super) fn user_defined(&self, text: &str) -> Option<usize> {
        let found = self.has_user_defined.then(|| self.prefixes(text))?;
        let is_users = |(_, id): &(usize, u32)| self.types[*id as usize] == PieceType::UserDefined;
        found.filter(is_users).map(|(len, _)| len).last()
    }
}

/// The byte that `<0x00>` to `<0xFF>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}
