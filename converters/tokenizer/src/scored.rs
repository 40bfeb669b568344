//! Pieces with scores whose ids another table gives, for engines that have both as lists.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tokenizers::ModelWrapper;

use crate::sentencepiece::{Algorithm, SPACE, SentencePiece};
use crate::vocabulary::{PieceType, Vocabulary};

/// Both sides of a tokenizer that takes the most probable pieces (Kudo, arXiv 1804.10959) and looks their ids up elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct Sides {
    /// How sources are cut.
    pub source: Vocabulary,
    /// How targets are.
    pub target: Vocabulary,
    /// The id of a piece that the table lacks.
    pub unknown: u32,
}

/// Pieces that neighbours are joined to, the best score first (Sennrich et al., arXiv 1508.07909).
#[derive(Clone, PartialEq, Debug)]
pub struct Joins {
    /// By id: the token and its score; `None` where an id has none. What no text is joined to has [`Joins::NEVER`].
    pub tokens: Vec<Option<(String, f32)>>,
    /// Pieces without an id, which stand for the unknown token unless they are joined further.
    pub without_id: Vec<(String, f32)>,
}

impl Joins {
    /// The score of tokens that are not made of text: worse than any piece.
    pub const NEVER: f32 = f32::MIN;

    /// Of a model and the ids of its pieces; `tokens`: what stands at each id. Errors: what scores alone cannot say.
    pub(crate) fn of_model(
        model: &SentencePiece,
        ids: &HashMap<String, u32>,
        tokens: Vec<Option<String>>,
    ) -> Result<Joins, String> {
        if model.algorithm != Algorithm::Bpe {
            return Err("its pieces are the most probable, and not joined".to_owned());
        }
        check(model)?;
        if !model.add_space_prefix {
            return Err("no space is put before a text".to_owned());
        }
        if model.types.contains(&PieceType::Unused) {
            return Err("some pieces are only there to be joined further".to_owned());
        }
        let score = |piece: &str| {
            let id = model.id(piece).filter(|id| model.is_text(*id));
            id.map_or(Joins::NEVER, |id| model.scores[id as usize])
        };
        let scored = |token: String| {
            let score = score(&token);
            (token, score)
        };
        let has_none = |piece: &&String| !ids.contains_key(*piece) && score(piece) > Joins::NEVER;
        let without_id = model.pieces.iter().filter(has_none).cloned().map(scored).collect();
        Ok(Joins { tokens: tokens.into_iter().map(|token| token.map(scored)).collect(), without_id })
    }

    /// Of a list of merges, which scores can say where they are all the ways to make one piece, then all those to make the next.
    /// Errors: they cannot.
    pub(crate) fn of_merges(tokenizer: &tokenizers::Tokenizer, count: usize) -> Result<Joins, String> {
        let model = tokenizer.get_model();
        let ModelWrapper::BPE(pairs) = model else {
            return Err("its tokens are no byte pairs".to_owned());
        };
        if pairs.byte_fallback {
            return Err("its unknown characters become bytes".to_owned());
        }
        if !puts_a_space_first(tokenizer) {
            return Err("it does not write ▁ for spaces and one before a text".to_owned());
        }
        // The crate shows the merges in no other way.
        let json = serde_json::to_value(model).map_err(|error| error.to_string())?;
        let merges: Vec<[String; 2]> =
            serde_json::from_value(json["merges"].clone()).map_err(|error| error.to_string())?;
        let scores = scores(&merges, |piece| tokenizer.token_to_id(piece).is_some())?;
        let scored = |token: String| {
            let score = scores.get(&token).copied().unwrap_or(Joins::NEVER);
            (token, score)
        };
        let ids = 0..u32::try_from(count).unwrap_or(u32::MAX);
        let tokens = ids.map(|id| tokenizer.id_to_token(id).map(scored)).collect();
        Ok(Joins { tokens, without_id: Vec::new() })
    }
}

impl Sides {
    /// Errors: what their scores alone cannot say.
    pub(crate) fn of_models(source: &SentencePiece, target: &SentencePiece, unknown: u32) -> Result<Sides, String> {
        for model in [source, target] {
            if model.algorithm != Algorithm::Unigram {
                return Err("its pieces are joined, and not the most probable".to_owned());
            }
            check(model)?;
        }
        Ok(Sides { source: source.vocabulary(), target: target.vocabulary(), unknown })
    }
}

/// Errors: what neither way of cutting has.
fn check(model: &SentencePiece) -> Result<(), String> {
    if model.byte_fallback {
        return Err("its unknown characters become bytes".to_owned());
    }
    match model.types.contains(&PieceType::UserDefined) {
        true => Err("some pieces are the user's, which stay whole wherever they stand".to_owned()),
        false => Ok(()),
    }
}

/// The score of each piece that merges make: minus its place among those pieces. Errors: another way to make one stands apart from
/// the others or is no merge, so that a score would do what the list does not.
fn scores(merges: &[[String; 2]], is_piece: impl Fn(&str) -> bool) -> Result<HashMap<String, f32>, String> {
    let known: HashSet<(&str, &str)> = merges.iter().map(|[left, right]| (&**left, &**right)).collect();
    let mut scores: HashMap<String, f32> = HashMap::new();
    let mut before = String::new();
    for [left, right] in merges {
        let piece = format!("{left}{right}");
        if piece == before {
            continue;
        }
        let place = scores.len() as f32; // at most 2^24, as pieces are
        if scores.insert(piece.clone(), -place).is_some() {
            return Err(format!("its merges to {piece:?} are not one after the other"));
        }
        let cuts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        if let Some((left, right)) =
            cuts.into_iter().find(|cut| is_piece(cut.0) && is_piece(cut.1) && !known.contains(cut))
        {
            return Err(format!("its merges do not join {left:?} and {right:?}, which make a piece"));
        }
        if piece.chars().skip(1).any(|c| c == SPACE) {
            return Err(format!("its piece {piece:?} goes beyond a word"));
        }
        before = piece;
    }
    Ok(scores)
}

fn puts_a_space_first(tokenizer: &tokenizers::Tokenizer) -> bool {
    let Ok(stage) = serde_json::to_value(tokenizer.get_pre_tokenizer()) else { return false };
    let steps = stage.get("pretokenizers").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![stage]);
    let puts = |step: &Value| {
        step["type"] == "Metaspace"
            && step["replacement"] == SPACE.to_string()
            && step["prepend_scheme"] != "never"
            && step["add_prefix_space"] != false
    };
    steps.iter().any(puts)
}
