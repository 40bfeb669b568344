//! What a model makes of a text, and back.

use super::model::{Algorithm, SPACE, SentencePiece, byte_of};
use super::{bpe, unigram};
use crate::pipeline::check_length;
use crate::vocabulary::PieceType;

impl SentencePiece {
    /// Replaces characters, and writes `▁` for spaces.
    fn normalized(&self, text: &str) -> String {
        let mut normalized = String::with_capacity(text.len() + SPACE.len_utf8());
        let (mut rest, mut begins) = (text, true);
        // Whether a space that comes next is one too many.
        let mut after_space = self.remove_extra_whitespaces;
        while let Some(first) = rest.chars().next() {
            let whole = &rest[..first.len_utf8()];
            let (mut new, len) = match self.user_defined(rest) {
                Some(len) => (&rest[..len], len),
                None => self.map.replace_prefix(rest).unwrap_or((whole, whole.len())),
            };
            rest = &rest[len..];
            if begins && self.remove_extra_whitespaces && new == " " {
                continue;
            }
            if begins && self.add_space_prefix {
                normalized.push(SPACE);
            }
            begins = false;
            if after_space {
                new = new.trim_start_matches(' ');
            }
            if !new.is_empty() {
                normalized.extend(new.chars().map(|c| if c == ' ' { SPACE } else { c }));
                after_space = new.ends_with(' ') && self.remove_extra_whitespaces;
            }
        }
        if self.remove_extra_whitespaces {
            normalized.truncate(normalized.trim_end_matches(SPACE).len());
        }
        normalized
    }

    /// The pieces of a text. An unknown piece is the text that no other fits; with byte fallback, its bytes. Errors: the text
    /// is too long once characters are replaced.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<String>, String> {
        let normalized = self.normalized(text);
        check_length(normalized.len())?;
        let cuts = match self.algorithm {
            Algorithm::Unigram => unigram::cut(self, &normalized),
            Algorithm::Bpe => bpe::cut(self, &normalized),
        };
        let mut pieces: Vec<String> = Vec::new();
        let mut after_unknown = false;
        for (piece, id) in cuts {
            let unknown = id.is_none();
            match pieces.last_mut() {
                _ if unknown && self.byte_fallback => {
                    pieces.extend(piece.bytes().map(|byte| format!("<0x{byte:02X}>")));
                }
                Some(last) if unknown && after_unknown => last.push_str(piece),
                _ => pieces.push(piece.to_owned()),
            }
            after_unknown = unknown;
        }
        Ok(pieces)
    }

    /// The text of some pieces.
    pub(crate) fn decode(&self, pieces: &[&str]) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        // Whether the space that a text begins with is still to be dropped, and whether that has happened.
        let (mut begins, mut dropped) = (true, false);
        let drops = self.add_space_prefix || self.remove_extra_whitespaces;
        for piece in pieces {
            let id = self.id(piece);
            let kind = id.map_or(PieceType::Unknown, |id| self.types[id as usize]);
            if let (PieceType::Byte, Some(byte)) = (kind, byte_of(piece)) {
                bytes.push(byte);
                continue;
            }
            text.push_str(&lossy(&std::mem::take(&mut bytes)));
            begins &= !dropped && text.is_empty();
            dropped = false;
            match kind {
                PieceType::Control => {}
                PieceType::Unknown if id.is_some() => text.push_str(&self.unknown_surface),
                PieceType::Unknown => text.push_str(piece),
                _ => {
                    let bare = piece.strip_prefix(SPACE).filter(|_| begins && drops);
                    // Where runs of spaces are dropped, all at the beginning are.
                    dropped = bare.is_some() && !self.remove_extra_whitespaces;
                    text.extend(bare.unwrap_or(piece).chars().map(|c| if c == SPACE { ' ' } else { c }));
                }
            }
        }
        text.push_str(&lossy(&bytes));
        text
    }
}

/// Every byte that begins no character becomes U+FFFD.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}
