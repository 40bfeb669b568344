//! Tokens that stand for themselves wherever they are in a text.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tokenizers::AddedToken;

/// Part of a text.
pub(crate) enum Part<'t> {
    Token(u32),
    Text(&'t str),
}

/// Added tokens with their ids; none is empty.
#[derive(Debug, Default)]
pub(crate) struct Added {
    tokens: Vec<(AddedToken, u32)>,
    /// Places in `tokens`.
    by_content: HashMap<String, usize>,
    /// Of the first token with an id.
    by_id: HashMap<i64, usize>,
}

impl Added {
    pub(crate) fn push(&mut self, token: AddedToken, id: u32) {
        if token.content.is_empty() || self.by_content.contains_key(&token.content) {
            return;
        }
        self.by_content.insert(token.content.clone(), self.tokens.len());
        self.by_id.entry(i64::from(id)).or_insert(self.tokens.len());
        self.tokens.push((token, id));
    }

    /// The token of an id.
    pub(crate) fn get(&self, id: i64) -> Option<&AddedToken> {
        self.by_id.get(&id).map(|at| &self.tokens[*at].0)
    }

    /// The id of a token.
    pub(crate) fn id(&self, content: &str) -> Option<u32> {
        self.by_content.get(content).map(|at| self.tokens[*at].1)
    }

    /// The leftmost token first, and of two at one place the longer. A token that strips takes the spaces beside it.
    pub(crate) fn split<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        // Where each token comes next, so that the text is searched once for each and not once for each part.
        let next = |index: usize, from: usize| {
            let content = &self.tokens[index].0.content;
            text[from..].find(content).map(|at| Reverse((from + at, Reverse(content.len()), index)))
        };
        let mut coming: BinaryHeap<_> = (0..self.tokens.len()).filter_map(|index| next(index, 0)).collect();
        let mut parts = Vec::new();
        let mut from = 0;
        while let Some(Reverse((at, _, index))) = coming.pop() {
            if at < from {
                // Another token took its place, or it stood among the spaces that one took.
                coming.extend(next(index, from));
                continue;
            }
            let (token, id) = &self.tokens[index];
            let before = &text[from..at];
            let before = if token.lstrip { before.trim_end_matches(is_space) } else { before };
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
            parts.push(Part::Token(*id));
            let after = &text[at + token.content.len()..];
            let after = if token.rstrip { after.trim_start_matches(is_space) } else { after };
            from = text.len() - after.len();
            coming.extend(next(index, from));
        }
        if from < text.len() {
            parts.push(Part::Text(&text[from..]));
        }
        parts
    }
}

/// What Python's `str.isspace` and `\s` take for a space.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftmost_and_of_two_the_longer_token_is_cut_out_with_the_spaces_that_it_takes() {
        let mut added = Added::default();
        for (id, token) in (7..).zip([
            AddedToken::from("<a", true),
            AddedToken::from("<a>", true).lstrip(true),
            AddedToken::from(">b", true).rstrip(true),
            AddedToken::from(" c", true),
            AddedToken::from("<a", true),
        ]) {
            added.push(token, id);
        }
        let told = |text| {
            let parts = added.split(text).into_iter();
            parts.map(|part| match part {
                Part::Token(id) => id.to_string(),
                Part::Text(text) => format!("{text:?}"),
            })
        };
        let told = |text| told(text).collect::<Vec<_>>().join(" ");
        assert_eq!(told("x  <a>b<a >b  c <a"), "\"x\" 8 \"b\" 7 \" \" 9 \"c \" 7");
        assert_eq!(told(" c<a>b c"), "10 8 \"b\" 10");
        assert_eq!((told(""), told("x")), (String::new(), "\"x\"".to_owned()));
        assert_eq!((added.id("<a"), added.id("<"), added.get(9).is_some(), added.get(11)), (Some(7), None, true, None));
        // Every part but a few is a token, and none of the other tokens occurs.
        for other in 0..5000 {
            added.push(AddedToken::from(format!("<unused{other}>"), true), 100 + other);
        }
        assert_eq!(added.split(&"<a>x".repeat(1 << 15)).len(), 1 << 16);
    }
}
