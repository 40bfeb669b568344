//! Viterbi over the pieces (`Model::EncodeOptimized`).

use super::model::SentencePiece;
use crate::vocabulary::PieceType;

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The best way to an offset of the text.
#[derive(Clone, Copy)]
struct Best {
    /// Summed up in f32, as the library does, so that near ties fall alike.
    score: f32,
    from: usize,
    id: Option<u32>,
}

/// The most probable pieces, with the id of those that are known.
pub(super) fn cut<'t>(model: &SentencePiece, text: &'t str) -> Vec<(&'t str, Option<u32>)> {
    let normal =
        || (0..model.types.len()).filter(|id| model.types[*id] == PieceType::Normal).map(|id| model.scores[id]);
    let worst = normal().fold(f32::MAX, f32::min);
    let highest = normal().fold(f32::MIN_POSITIVE, f32::max);
    let mut best: Vec<Option<Best>> = vec![None; text.len() + 1];
    let mut so_far = 0.0;
    for (at, first) in text.char_indices() {
        if at > 0 {
            so_far = best[at].expect("every character ends a path").score;
        }
        let mut reach = |len: usize, score: f64, id: Option<u32>| {
            let score = (score + f64::from(so_far)) as f32;
            let end = &mut best[at + len];
            if end.is_none_or(|end| score > end.score) {
                *end = Some(Best { score, from: at, id });
            }
        };
        let mut has_character = false;
        for (len, id) in model.prefixes(&text[at..]) {
            let score = match model.types[id as usize] {
                PieceType::Unused => continue,
                // Always chosen.
                PieceType::UserDefined => f64::from(len as f32 * highest) - 0.1,
                _ => f64::from(model.scores[id as usize]),
            };
            reach(len, score, Some(id));
            has_character |= len == first.len_utf8();
        }
        if !has_character {
            reach(first.len_utf8(), f64::from(worst - UNKNOWN_PENALTY), None);
        }
    }
    let mut pieces = Vec::new();
    let mut end = text.len();
    while let Some(Best { from, id, .. }) = best[end].filter(|_| end > 0) {
        pieces.push((&text[from..end], id));
        end = from;
    }
    pieces.reverse();
    pieces
}
