//! Tokens that stand for themselves wherever they are in a text.

use std::cmp::Reverse;

use tokenizers::AddedToken;

/// Part of a text.
pub(super) enum Part<'t> {
    Token(u32),
    Text(&'t str),
}

/// Added tokens with their ids; none is empty.
#[derive(Debug, Default)]
pub(super) struct Added(Vec<(AddedToken, u32)>);

impl Added {
    pub(super) fn push(&mut self, token: AddedToken, id: u32) {
        if !token.content.is_empty() && !self.0.iter().any(|(known, _)| known.content == token.content) {
            self.0.push((token, id));
        }
    }

    /// The token of an id.
    pub(super) fn get(&self, id: i64) -> Option<&AddedToken> {
        self.0.iter().find(|(_, known)| i64::from(*known) == id).map(|(token, _)| token)
    }

    /// The id of a token.
    pub(super) fn id(&self, content: &str) -> Option<u32> {
        self.0.iter().find(|(token, _)| token.content == content).map(|(_, id)| *id)
    }

    /// The leftmost token first, and of two at one place the longer. A token that strips takes the spaces beside it.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let found = self.0.iter().filter_map(|(token, id)| Some((rest.find(&token.content)?, token, *id)));
            let Some((at, token, id)) = found.min_by_key(|(at, token, _)| (*at, Reverse(token.content.len()))) else {
                parts.push(Part::Text(rest));
                break;
            };
            let (before, after) = (&rest[..at], &rest[at + token.content.len()..]);
            let before = if token.lstrip { before.trim_end_matches(is_space) } else { before };
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
            parts.push(Part::Token(id));
            rest = if token.rstrip { after.trim_start_matches(is_space) } else { after };
        }
        parts
    }
}

/// What Python's `str.isspace` and `\s` take for a space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
