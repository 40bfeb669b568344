//! Joining neighbours (`bpe::Model::SampleEncode` without sampling).

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::model::SentencePiece;
use crate::vocabulary::PieceType;

/// A stretch of the text; empty once it is part of the one before it.
struct Symbol {
    range: Range<usize>,
    previous: Option<usize>,
    next: Option<usize>,
    /// One of the user's pieces, which is joined with nothing.
    is_whole: bool,
}

/// Two neighbours that make a piece.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Of both together when they were found.
    len: usize,
}

impl Ord for Pair {
    /// The best score first, and of equal ones the leftmost.
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// The pieces, with the id of those that are known.
pub(super) fn cut<'t>(model: &SentencePiece, text: &'t str) -> Vec<(&'t str, Option<u32>)> {
    let mut symbols = characters(model, text);
    let mut pairs = BinaryHeap::new();
    // The left half of a piece that exists only to be joined further, as it was joined last.
    let mut halves: HashMap<&str, usize> = HashMap::new();
    let mut consider = |symbols: &[Symbol], pairs: &mut BinaryHeap<Pair>, left: Option<usize>, right: Option<usize>| {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (a, b) = (&symbols[left], &symbols[right]);
        let range = a.range.start..b.range.end;
        let piece = &text[range.clone()];
        let Some(id) = model.id(piece).filter(|id| model.is_text(*id)) else { return };
        if a.is_whole || b.is_whole {
            return;
        }
        if model.types[id as usize] == PieceType::Unused {
            halves.insert(piece, a.range.len());
        }
        pairs.push(Pair { score: model.scores[id as usize], left, right, len: range.len() });
    };
    for right in 1..symbols.len() {
        consider(&symbols, &mut pairs, Some(right - 1), Some(right));
    }
    while let Some(Pair { left, right, len, .. }) = pairs.pop() {
        let (a, b) = (&symbols[left].range, &symbols[right].range);
        if a.is_empty() || b.is_empty() || a.len() + b.len() != len {
            continue;
        }
        let end = b.end;
        let next = symbols[right].next;
        symbols[right].range = end..end;
        symbols[left].range.end = end;
        symbols[left].next = next;
        if let Some(next) = next {
            symbols[next].previous = Some(left);
        }
        let previous = symbols[left].previous;
        consider(&symbols, &mut pairs, previous, Some(left));
        consider(&symbols, &mut pairs, Some(left), next);
    }

    let mut pieces = Vec::new();
    for symbol in symbols.iter().filter(|symbol| !symbol.range.is_empty()) {
        let mut open = vec![&text[symbol.range.clone()]];
        while let Some(piece) = open.pop() {
            match halves.get(piece) {
                Some(&half) => open.extend([&piece[half..], &piece[..half]]),
                None => pieces.push((piece, model.id(piece).filter(|id| model.is_text(*id)))),
            }
        }
    }
    pieces
}

/// A symbol a character; the user's pieces stay whole.
fn characters(model: &SentencePiece, text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let whole = model.user_defined(&text[start..]);
        let end = start + whole.unwrap_or(first.len_utf8());
        let at = symbols.len();
        let next = Some(at + 1).filter(|_| end < text.len());
        symbols.push(Symbol { range: start..end, previous: at.checked_sub(1), next, is_whole: whole.is_some() });
        start = end;
    }
    symbols
}
